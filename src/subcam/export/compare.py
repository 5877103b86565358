"""Folders of masks side by side on the same images: which images these are, and the counts of each against the truth.

In: folders as `open_masks` finds them, classes matched by name. Out: `Paired`. One image's masks are in memory at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from subcam.checks.arguments import takes_arrays
from subcam.data.readers.class_names import BACKGROUND_NAME
from subcam.data.records import FORBIDDEN, IGNORE_INDEX, mask_values_of, suggest
from subcam.errors import BadInputError, SettingsError
from subcam.export.mask_folder import MaskFolder, open_masks
from subcam.metrics.folders import first_of
from subcam.metrics.paired import Paired, class_counts
from subcam.runtime.progress import track


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Ground truth: a reader of each image's mask by name, and the classes of its values 1, 2, ...; None if unknown."""

    read: Mapping[str, Callable[[], UInt8[np.ndarray, "h w"]]]
    class_names: tuple[str, ...] | None

    @classmethod
    def of_folder(cls, masks: MaskFolder) -> "Truth":
        """The masks of a folder."""
        readers = {name: partial(masks.stored, path) for name, path in masks.files.items()}
        return cls(read=readers, class_names=masks.class_names)


@takes_arrays()
def compare(
    folders: Sequence[Path | str],
    *,
    truth: Path | str | Truth,
    names: Sequence[str] | None = None,
    classes: Sequence[str] = (),
    resamples: int = 2000,
    seed: int = 0,
) -> Paired:
    """`subcam.compare`: runs or folders of masks side by side, on the images that all of them and the truth have.

    Pixels that one of them gives no label (255) are left out for all, so that all are scored on the same pixels.

    Args:
        folders: each a run's folder, whose pseudo masks are meant, or a folder of masks; the first is what the others
            are compared with.
        truth: a folder of masks, or one in PASCAL VOC's layout.
        names: which images; None takes all.
        classes: names of the values 1, 2, ... for folders that do not say them.
        resamples: of the images, for intervals (bootstrap).
        seed: of its draws.

    Raises:
        BadInputError: no image that all have, a mask of another size than its truth or with a value that no class has.
        SettingsError: fewer than two folders, or folders of different classes.
    """
    if len(folders) < 2:
        raise SettingsError(f"expected two folders or more to compare, got {len(folders)}; name them")
    opened = [open_masks(Path(folder)) for folder in folders]
    true = truth if isinstance(truth, Truth) else Truth.of_folder(open_masks(Path(truth)))
    class_names = _classes(opened, folders, true, tuple(classes))
    tables = [np.array(mask_values_of(masks.class_names or class_names, class_names)) for masks in opened]
    true_table = np.array(mask_values_of(true.class_names or class_names, class_names))
    images = _images(opened, folders, true, names)
    counts = []
    for name in track(images, "comparing", len(images)):
        labels = _mapped(true.read[name](), true_table, where=f"the ground truth of {name}")
        found = [_read(masks, name, table, labels.shape) for masks, table in zip(opened, tables, strict=True)]
        open_ = np.any([each == IGNORE_INDEX for each in found], axis=0)
        labels = np.where(open_, np.uint8(IGNORE_INDEX), labels)
        counts.append([class_counts(each, labels, num_classes=len(class_names) + 1) for each in found])
    stacked = np.array(counts).transpose(1, 0, 2, 3)
    if not stacked[:, :, 1, 1:].any():
        raise BadInputError(
            f"expected pixels of {first_of(class_names)} in the ground truth of {len(images)} images, got none: there"
            " is nothing to score"
        )
    return Paired(
        labels=_labels(folders),
        class_names=(BACKGROUND_NAME, *class_names),
        images=tuple(images),
        counts=stacked,
        resamples=resamples,
        seed=seed,
    )


def _classes(
    opened: Sequence[MaskFolder], folders: Sequence[Path | str], truth: Truth, given: tuple[str, ...]
) -> tuple[str, ...]:
    """The classes of the comparison: those of the first folder that names them, else those given, or the truth's."""
    known = [(folder, masks.class_names) for folder, masks in zip(folders, opened, strict=True) if masks.class_names]
    for folder, names in known[1:]:
        if set(names) != set(known[0][1]):
            other = sorted(set(names) ^ set(known[0][1]))
            raise SettingsError(
                f"expected masks of the same classes, got others in {known[0][0]} than in {folder}: {first_of(other)}"
            )
    class_names = known[0][1] if known else given or truth.class_names
    if not class_names:
        raise SettingsError(
            "nothing says what the values of the masks mean; name the classes of 1, 2, ... with --classes"
        )
    if truth.class_names and not set(class_names) & set(truth.class_names):
        raise SettingsError(
            f"no class of the masks is one of the ground truth's: {class_names[0]!r},"
            f" {suggest(class_names[0], truth.class_names)} give the names with --classes"
        )
    return class_names


def _images(
    opened: Sequence[MaskFolder], folders: Sequence[Path | str], truth: Truth, names: Sequence[str] | None
) -> list[str]:
    """The names that the truth and every folder have, or those given, which all must have."""
    for name in names or ():
        for where, there in (("the ground truth", truth.read), *zip(folders, (m.files for m in opened), strict=True)):
            if name not in there:
                raise BadInputError(f"{where}: expected a mask of {name}, got none; take it off the list")
    images = [name for name in names or truth.read if all(name in masks.files for masks in opened)]
    if not images:
        firsts = ", ".join(next(iter(each), "none") for each in (truth.read, *(masks.files for masks in opened)))
        raise BadInputError(
            f"expected images that the ground truth and all folders have, got none; the first of each: {firsts}"
        )
    return images


def _read(masks: MaskFolder, name: str, table: np.ndarray, shape: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    path = masks.files[name]
    labels = masks.stored(path)
    if labels.shape != shape:
        raise BadInputError(
            f"{path}: expected a mask as large as its ground truth, {shape[1]} x {shape[0]} pixels (width x height), "
            f"got {labels.shape[1]} x {labels.shape[0]}"
        )
    return _mapped(labels, table, where=str(path))


def _mapped(labels: UInt8[np.ndarray, "h w"], table: np.ndarray, *, where: str) -> UInt8[np.ndarray, "h w"]:
    """The labels in the classes of the comparison."""
    mapped = table[labels]
    if (mapped == FORBIDDEN).any():
        raise BadInputError(
            f"{where}: expected values of the {int((table != FORBIDDEN).sum()) - 2} classes, got"
            f" {int(labels[mapped == FORBIDDEN][0])}; name all classes with --classes, or mend the masks"
        )
    return mapped.astype(np.uint8)


def _labels(folders: Sequence[Path | str]) -> tuple[str, ...]:
    """The last parts of the paths that tell the folders apart."""
    parts = [Path(folder).resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        short = tuple("/".join(each[-count:]) for each in parts)
        if len(set(short)) == len(short):
            return short
    return tuple(f"{index}: {folder}" for index, folder in enumerate(folders, start=1))
