"""Drafts of a run that people corrected in Label Studio or CVAT come back, as masks of the run's images.

In: an export of either, or a folder of masks. Out: a folder of indexed PNGs in the run's classes, which `--corrections`
takes. Masks that were there stay, unless the export has newer ones of the same images.
"""

import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path

import numpy as np

from subcam.data.check import CheckedImages
from subcam.data.images import read_indices, voc_palette, write_mask
from subcam.data.labels.masks_from_cvat import masks_from_cvat
from subcam.data.labels.masks_from_label_studio import masks_from_label_studio
from subcam.data.readers.class_names import LEGEND_FILE, read_class_list, write_legend
from subcam.data.records import Skipped, first_of
from subcam.download.archives import Limits, Origin, unpack
from subcam.errors import BadInputError
from subcam.runtime.files import below
from subcam.runtime.run_folder import RunFolder
from subcam.stages.given.corrections import open_corrections

_LIMITS = Limits(members=1_000_000, bytes=16 << 30)
_EXPORT = Origin(refused="export it again", damaged="export it again", portable=False)

_ANNOTATIONS = "annotations.xml"


@dataclass(frozen=True, kw_only=True)
class TakenCorrections:
    """What came back.

    names: of the images whose masks were written. counts: in how many of them each class has pixels, by class.
    unchanged: images whose mask in the export is the draft itself, of which nobody knows whether a person looked at it.
    waiting: how many tasks nobody has annotated yet. skipped: other tasks that were left out, as nobody said what their
        images show.
    lacking: by image, the classes that its labels name and its corrected mask has no pixel of.
    not_drawn: how many shapes there were of each type that has no area.
    """

    names: tuple[str, ...]
    counts: dict[str, int]
    unchanged: tuple[str, ...] = ()
    waiting: int = 0
    skipped: tuple[Skipped, ...] = ()
    lacking: dict[str, tuple[str, ...]] = field(default_factory=dict)
    not_drawn: dict[str, int] = field(default_factory=dict)


def take_corrections(export: Path, out: Path, *, images: CheckedImages, drafts: Mapping[str, Path]) -> TakenCorrections:
    """Write the corrected masks of an export into the folder `out`, beside those that are there.

    Of Label Studio every submitted annotation counts, changed or not. CVAT and folders of masks do not say which images
    somebody looked at: there a mask that equals its draft is left out.

    Args:
        export: Label Studio's JSON, CVAT's XML, an archive (zip) of either or of CVAT's "Segmentation mask", or a
            folder of masks with the names of its classes.
        out: the folder.
        images: those of the run.
        drafts: the run's own masks, by the name of their image.

    Raises:
        BadInputError: the export is of another kind or damaged, has another image, or a class that the run does not
            know; names it.
        RunFolderError: another process writes into the folder, or it cannot be written.
    """
    class_names = images.image_set.class_names
    _require_same_classes(out, class_names)
    with tempfile.TemporaryDirectory(prefix="subcam-corrections-") as made, RunFolder(path=out).lock(leave=False):
        work = Path(made)
        source = _unpacked(export, work / "unpacked") if export.is_file() and zipfile.is_zipfile(export) else export
        skipped: tuple[Skipped, ...] = ()
        waiting = 0
        not_drawn: Counter[str] = Counter()
        known, root = _known(images)
        fresh: Iterator[tuple[str, np.ndarray]]
        looked_at = source.suffix.lower() == ".json"
        if looked_at:
            written = masks_from_label_studio(
                source, root=root, out=work / "masks", class_names=class_names, known=known
            )
            waiting, not_drawn = len(written.waiting), Counter(written.not_drawn)
            untouched = {*written.waiting}
            skipped = tuple(skip for skip in written.skipped if skip not in untouched)
            fresh = _masks_in(work / "masks", images)
        elif source.suffix.lower() == ".xml":
            fresh = _masks_of_cvat(source, root, known, class_names, not_drawn)
        else:
            fresh = _masks_in(source, images)
        names, unchanged = [], []
        labelled = {record.name: record.labels for record in images.image_set.records}
        lacking: dict[str, tuple[str, ...]] = {}
        counts: Counter[int] = Counter()
        for name, mask in fresh:
            if not looked_at and name in drafts and np.array_equal(read_indices(drafts[name]), mask):
                unchanged.append(name)
                continue
            write_mask(below(out, name, ".png"), mask, palette=voc_palette(), durable=False)
            drawn = np.unique(mask).tolist()
            if absent := tuple(class_names[label] for label in labelled[name] if label + 1 not in drawn):
                lacking[name] = absent
            counts.update(drawn)
            names.append(name)
        if names:
            write_legend(out, class_names)
    return TakenCorrections(
        names=tuple(names),
        counts={name: counts[value] for value, name in enumerate(class_names, start=1)},
        unchanged=tuple(unchanged),
        waiting=waiting,
        skipped=skipped,
        lacking=lacking,
        not_drawn=dict(not_drawn),
    )


def _require_same_classes(out: Path, class_names: tuple[str, ...]) -> None:
    """Raise `BadInputError` where a folder holds masks of other classes: their values would mean something else."""
    legend = out / LEGEND_FILE
    if legend.is_file() and read_class_list(legend).names != class_names:
        raise BadInputError(
            f"{legend}: expected the run's classes, {first_of(class_names)}, got others; give another --out"
        )


def _known(images: CheckedImages) -> tuple[dict[Path, str], Path]:
    """The run's images and what their masks are called, and the folder below which all of them lie."""
    known = {record.image.absolute(): record.name for record in images.image_set.records}
    return known, Path(commonpath([path.parent for path in known]))


def _masks_in(folder: Path, images: CheckedImages) -> Iterator[tuple[str, np.ndarray]]:
    """The masks in a folder, in the values of the run."""
    corrections = open_corrections(folder, images)
    sizes = {record.name: size for record, size in zip(images.image_set.records, images.sizes, strict=True)}
    for name in corrections.masks.files:
        yield name, corrections.read(name, class_names=images.image_set.class_names, size=sizes[name])


def _masks_of_cvat(
    path: Path, root: Path, known: Mapping[Path, str], class_names: tuple[str, ...], not_drawn: Counter[str]
) -> Iterator[tuple[str, np.ndarray]]:
    for found in masks_from_cvat(path, root=root, known=known, class_names=class_names):
        not_drawn.update(found.not_drawn)
        yield found.name, found.mask


def _unpacked(archive: Path, folder: Path) -> Path:
    """What an archive holds: its annotations.xml or only JSON file, else the folder of its masks."""
    unpack(archive, folder, limits=_LIMITS, origin=_EXPORT)
    texts = [path for path in folder.rglob("*") if path.suffix.lower() == ".json"]
    if (folder / _ANNOTATIONS).is_file():
        return folder / _ANNOTATIONS
    return texts[0] if len(texts) == 1 else folder
