"""Drafts of a run that people corrected in Label Studio or CVAT come back, as masks of the run's images.

In: an export of either, or a folder of masks. Out: a folder of indexed PNGs in the run's classes, which `--corrections`
takes. Masks that were there stay, unless the export has newer ones of the same images.
"""

import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from os.path import commonpath
from pathlib import Path

import numpy as np

from subcam.data.check import CheckedImages
from subcam.data.images import check_mask_size, read_indices, voc_palette, write_mask
from subcam.data.labels.masks_from_cvat import masks_from_cvat
from subcam.data.labels.masks_from_label_studio import masks_from_label_studio
from subcam.data.readers.class_names import LEGEND_FILE, read_class_list, write_legend
from subcam.data.records import IGNORE_INDEX, Skipped, first_of
from subcam.errors import BadInputError
from subcam.export.mask_folder import open_masks
from subcam.runtime.files import atomic_write, below, fault_of_name
from subcam.runtime.run_folder import RunFolder

CORRECTIONS_FOLDER = "corrections"
"""In a run's folder, where nothing else is said."""

MOST_BYTES = 16 << 30
"""What an archive may hold, unpacked."""

_ANNOTATIONS = "annotations.xml"


@dataclass(frozen=True, kw_only=True)
class TakenCorrections:
    """What came back.

    names: of the images whose masks were written. counts: in how many of them each class has pixels, by class.
    unchanged: images whose mask in the export is the draft itself, of which nobody knows whether a person looked at it.
    skipped: tasks that were left out, as nobody said what their images show.
    not_drawn: how many shapes there were of each type that has no area.
    """

    names: tuple[str, ...]
    counts: dict[str, int]
    unchanged: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
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
        not_drawn: Counter[str] = Counter()
        known, root = _known(images)
        fresh: Iterator[tuple[str, np.ndarray]]
        looked_at = source.suffix.lower() == ".json"
        if looked_at:
            written = masks_from_label_studio(
                source, root=root, out=work / "masks", class_names=class_names, known=known
            )
            skipped, not_drawn = written.skipped, Counter(written.not_drawn)
            fresh = _masks_in(work / "masks", images)
        elif source.suffix.lower() == ".xml":
            fresh = _masks_of_cvat(source, root, known, class_names, not_drawn)
        else:
            fresh = _masks_in(source, images)
        names, unchanged = [], []
        counts: Counter[int] = Counter()
        for name, mask in fresh:
            if not looked_at and name in drafts and np.array_equal(read_indices(drafts[name]), mask):
                unchanged.append(name)
                continue
            write_mask(below(out, name, ".png"), mask, palette=voc_palette(), durable=False)
            counts.update(np.unique(mask).tolist())
            names.append(name)
        if names:
            write_legend(out, class_names)
    return TakenCorrections(
        names=tuple(names),
        counts={name: counts[value] for value, name in enumerate(class_names, start=1)},
        unchanged=tuple(unchanged),
        skipped=skipped,
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
    masks = open_masks(folder)
    class_names, places = images.image_set.class_names, {}
    for place, record in enumerate(images.image_set.records):
        places[record.name] = place
    theirs = class_names if masks.class_names is None else masks.class_names
    if unknown := [name for name in masks.files if name not in places]:
        raise BadInputError(
            f"{folder}: expected masks of the run's {len(places)} images, got {len(unknown)} of others:"
            f" {first_of(unknown)}; call them as the images are called"
        )
    if others := [name for name in theirs if name not in class_names]:
        raise BadInputError(f"{folder}: expected the run's classes, {first_of(class_names)}, got {first_of(others)}")
    values = np.zeros(256, np.uint8)
    values[1 : len(theirs) + 1] = [class_names.index(name) + 1 for name in theirs]
    values[IGNORE_INDEX] = IGNORE_INDEX
    for name, path in masks.files.items():
        mask = values[masks.read(name, num_classes=len(theirs))]
        check_mask_size(path, mask.shape, images.sizes[places[name]])
        yield name, mask


def _masks_of_cvat(
    path: Path, root: Path, known: Mapping[Path, str], class_names: tuple[str, ...], not_drawn: Counter[str]
) -> Iterator[tuple[str, np.ndarray]]:
    for found in masks_from_cvat(path, root=root, known=known, class_names=class_names):
        not_drawn.update(found.not_drawn)
        yield found.name, found.mask


def _unpacked(archive: Path, folder: Path) -> Path:
    """What an archive holds: its annotations.xml or only JSON file, else the folder of its masks."""
    try:
        with zipfile.ZipFile(archive) as file:
            entries = [entry for entry in file.infolist() if not entry.is_dir()]
            size = sum(entry.file_size for entry in entries)
            fault = next((entry.filename for entry in entries if fault_of_name(entry.filename)), None)
            if fault is not None or size > MOST_BYTES:
                what = f"a file called {fault!r:.100}" if fault is not None else f"{size:,} bytes"
                raise BadInputError(f"{archive}: expected an export, got an archive with {what}; export it again")
            for entry in entries:
                target = below(folder, entry.filename)
                with file.open(entry) as packed, atomic_write(target, durable=False) as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise BadInputError(f"{archive} cannot be unpacked ({error}); export it again") from error
    names = [entry.filename for entry in entries]
    texts = [name for name in names if name.lower().endswith(".json")]
    if _ANNOTATIONS in names:
        return folder / _ANNOTATIONS
    return folder / texts[0] if len(texts) == 1 else folder
