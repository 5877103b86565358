"""Which masks there are in a folder, theirs or ours, and what their values mean. Files are read one at a time."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from subcam.checks.arguments import takes_arrays
from subcam.data.files import images_below, name_of
from subcam.data.readers.class_names import LEGEND_FILE, ClassList, listed_classes, read_class_list
from subcam.data.readers.colour_masks import read_stored
from subcam.data.readers.voc import VOC_MASK_FOLDERS, voc_classes
from subcam.data.records import IGNORE_INDEX, first_of, require_room
from subcam.errors import BadInputError
from subcam.metrics.folders import (
    VALUES,
    FolderScores,
    WhenMissing,
    WhenUnlabelled,
    names_of_values,
    refuse_values,
    score_folders,
)
from subcam.run_record import pseudo_masks_of
from subcam.runtime.documents.regular_file import is_there
from subcam.runtime.files import RECORD_FILE, below, files_digest
from subcam.runtime.progress import track
from subcam.runtime.run_folder import RECORD

logger = logging.getLogger(__name__)

MASK_FOLDER = "masks"
CLASS_FILES = ("classes.csv", LEGEND_FILE, "labelmap.txt")


@dataclass(frozen=True, kw_only=True)
class MaskFolder:
    """Indexed PNGs in a folder and its sub-folders.

    files: path by name, which is the path below the folder, POSIX, without suffix.
    class_names: class i has the value i + 1 (0 is background, 255 unlabelled); None where nothing says it.
    colours: the value of each colour of masks in colours, where the list of classes says other ones than PASCAL VOC's.
    """

    root: Path
    files: dict[str, Path]
    class_names: tuple[str, ...] | None = None
    colours: tuple[tuple[tuple[int, int, int], int], ...] = ()

    def only(self, names: Sequence[str]) -> "MaskFolder":
        """The masks of these names, in this order.

        Raises:
            BadInputError: some of them are not there; says how many and the first.
        """
        missing = [name for name in names if name not in self.files]
        if missing:
            raise BadInputError(
                f"{self.root}: expected a mask for each of {len(names)} names, got none for {len(missing)}: "
                f"{first_of(missing)}; make them or take their names off the list"
            )
        return replace(self, files={name: self.files[name] for name in names})

    def known_class_names(self) -> tuple[str, ...]:
        """The class names; where nothing says them, every mask is read and they are made of the values."""
        if self.class_names is not None:
            return self.class_names
        highest = 0
        for path in track(self.files.values(), "looking for classes", len(self.files)):
            values = self.stored(path)
            highest = max(highest, int(values[values != IGNORE_INDEX].max(initial=0)))
        return names_of_values(highest)

    def stored(self, path: Path | str) -> UInt8[np.ndarray, "h w"]:
        """The values in one of the files, whatever they mean; raises as `read_stored`."""
        return read_stored(Path(path), dict(self.colours))

    def read(self, name: str, *, num_classes: int) -> UInt8[np.ndarray, "h w"]:
        """One mask: 0 background, 1..num_classes the classes, 255 unlabelled.

        Raises:
            BadInputError: the file is no mask, or has another value.
        """
        labels = self.stored(self.files[name])
        allowed = np.zeros(VALUES, bool)
        allowed[: num_classes + 1] = allowed[IGNORE_INDEX] = True
        refuse_values(np.bincount(labels.ravel(), minlength=VALUES) > 0, allowed, self.files[name])
        return labels

    def labels(self, *, num_classes: int, title: str) -> Iterator[tuple[str, UInt8[np.ndarray, "h w"]]]:
        """Name and labels of each mask in turn, with a bar; raises as `read` does."""
        for name in track(self.files, title, len(self.files)):
            yield name, self.read(name, num_classes=num_classes)


@takes_arrays()
def open_masks(folder: Path, *, class_names: Sequence[str] = ()) -> MaskFolder:
    """Find the masks in a folder, in its sub-folder `masks`, or in that of a VOC folder; no mask is read.

    Of a run's folder these are the pseudo masks of the run that ended last in it, with its class names. Of others the
    names are those given, else those of `classes.csv` (columns index, name), `classes.txt` (one a line) or
    `labelmap.txt` in the folder or beside its `masks`, else VOC's in a VOC folder, else unknown. The table and the
    label map may say the colours of masks in RGB.

    Raises:
        BadInputError: no such folder, no PNG in it, a stage's folder of several kinds of masks, a run without pseudo
            masks, or a file of classes that cannot be understood.
        RunFolderError: a run's record is none; see `read_record`.
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder}: expected a folder of masks, got none; check the path")
    if (folder / RECORD).is_file():
        root, own_names = _of_run(folder)
        return MaskFolder(
            root=root,
            files=_masks_below(root),
            class_names=without_background(class_names, where="the given names") if class_names else own_names,
        )
    root = next((folder / name for name in (MASK_FOLDER, *VOC_MASK_FOLDERS) if (folder / name).is_dir()), folder)
    kinds = sorted(path.parent.name for path in root.glob(f"*/{LEGEND_FILE}"))
    if len(kinds) > 1 and (root / RECORD_FILE).is_file():
        raise BadInputError(
            f"{root}: expected a folder of masks, got one that holds several: {first_of(kinds)}; give one of these"
        )
    listed = _class_list(folder, root)
    names = without_background(class_names, where="the given names") if class_names else None
    return MaskFolder(
        root=root,
        files=_masks_below(root),
        class_names=names or (listed.names if listed else None),
        colours=listed.colours if listed else (),
    )


def masks_digest(folder: Path) -> str:
    """What the masks in a folder hold, and what their values are called: equal ones are equal masks.

    Raises:
        BadInputError: as `open_masks`, or a file cannot be read.
    """
    masks = open_masks(folder)
    return " ".join([files_digest(masks.files), *(masks.class_names or ()), *map(str, masks.colours)])


def _masks_below(root: Path) -> dict[str, Path]:
    """The PNGs in a folder and its sub-folders by name; images that are no PNGs are named.

    Raises:
        BadInputError: there is none, or two have one name.
    """
    files: dict[str, Path] = {}
    others: list[str] = []
    for path in images_below(root).images:
        name = name_of(path.relative_to(root))
        if path.suffix.lower() != ".png":
            others.append(path.relative_to(root).as_posix())
        elif files.setdefault(name, path) != path:
            raise BadInputError(f"{path}: it and {files[name]} are masks of one name; take one away")
    if not files:
        raise BadInputError(f"{root}: expected masks as PNG files, got none; check the path")
    if others:
        logger.warning("%s: %d images are no PNGs and not taken for masks: %s", root, len(others), first_of(others))
    return files


def _of_run(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Where the pseudo masks of a run lie that its segmentation network learned from, and its class names."""
    masks, record = pseudo_masks_of(folder)
    if not masks:
        raise BadInputError(
            f"{folder} is a run without pseudo masks (--refine.rounds none); run it again with refinement, or give"
            " a folder of masks"
        )
    return below(folder, masks), record.class_names


@takes_arrays()
def evaluate(
    *,
    predictions: Path | str,
    truth: Path | str,
    classes: Sequence[str] = (),
    truth_classes: Sequence[str] = (),
    names: Sequence[str] | None = None,
    num_classes: int | None = None,
    ignore: int = IGNORE_INDEX,
    missing: WhenMissing = "stop",
    unlabelled: WhenUnlabelled = "stop",
    two_valued: bool = False,
) -> FolderScores:
    """`subcam.evaluate`: score a folder of masks against a folder of ground truth, as `subcam evaluate` does.

    Args:
        predictions: a folder of masks, or one that `predict` wrote.
        truth: a folder of masks, or one in PASCAL VOC's layout.
        classes: names of the predicted values 1, 2, ...; none takes those that `open_masks` reads in the folder.
        truth_classes: the same for the ground truth.
        names: which masks of the ground truth are scored, by their names; None takes all.
        num_classes: background included, for classes without names; None takes the highest value that occurs.
        ignore: the true value that is not scored, and the predicted one that means "no label"; -1 for none.
        missing: what to do about masks without a prediction: stop, leave them out, or count them as background.
        unlabelled: what to do about predicted pixels without a label: the same.
        two_valued: the masks hold 0 and 255, and 255 is the one class.

    Raises:
        SubcamError: as `open_masks` and `score_folders`.
    """
    predicted = open_masks(Path(predictions), class_names=classes)
    true = open_masks(Path(truth), class_names=truth_classes)
    if names is not None:
        true = true.only(names)
    return score_folders(
        predicted.files,
        true.files,
        class_names=predicted.class_names,
        true_class_names=true.class_names,
        num_classes=num_classes,
        ignore=ignore,
        missing=missing,
        unlabelled=unlabelled,
        two_valued=two_valued,
        colours=dict(predicted.colours),
        true_colours=dict(true.colours),
    )


def _class_list(folder: Path, root: Path) -> ClassList | None:
    # A folder of masks may be given by itself: what lies beside it then says what is in it.
    homes = (folder, root, root.parent) if root.name == MASK_FOLDER else (folder, root)
    for path in (home / name for home in dict.fromkeys(homes) for name in CLASS_FILES):
        if is_there(path):
            return _in_order(read_class_list(path), where=str(path))
    if root.name not in VOC_MASK_FOLDERS:
        return None
    home = folder if folder != root else root.parent
    classes = voc_classes(home)
    return None if classes is None else _in_order(classes, where=str(home))


def class_names_in(words: Sequence[str]) -> tuple[str, ...]:
    """Class names as a command line gives them: the names, or one file that holds them."""
    if len(words) == 1 and Path(words[0]).suffix.lower() in (".csv", ".txt"):
        return read_class_names(Path(words[0]))
    return tuple(words)


def read_class_names(path: Path) -> tuple[str, ...]:
    """Class names of the values 1..C from a CSV with columns `index` and `name`, or a text file with one a line.

    Raises:
        BadInputError: the file cannot be read, or its values are not 1..C.
    """
    return _in_order(read_class_list(path), where=str(path)).names


def _in_order(classes: ClassList, *, where: str) -> ClassList:
    if replace(classes, colours=()) != ClassList.numbered(classes.names):
        raise BadInputError(
            f"{where}: expected classes of the values 1..{len(classes.names)}, got {classes}; renumber the masks"
        )
    require_room(classes.names, where=where)
    return classes


def without_background(names: Sequence[str], *, where: str) -> tuple[str, ...]:
    """The class names without a leading "background".

    Raises:
        BadInputError: there is none, more than 254, an empty one, or one twice.
    """
    class_names = listed_classes(names, where=where)
    if not class_names:
        raise BadInputError(f"{where}: expected the names of the classes, got none; give them")
    require_room(class_names, where=where)
    return class_names
