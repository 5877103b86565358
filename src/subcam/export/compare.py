"""Folders of masks side by side on the same images: which images these are, and the counts of each against the truth.

In: folders as `open_masks` finds them, classes matched by name. Out: `Paired`, or `Agreement` where there is no truth.
One image's masks are in memory at once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from subcam.checks.arguments import takes_arrays
from subcam.data.readers.class_names import BACKGROUND_NAME
from subcam.data.records import FORBIDDEN, IGNORE_INDEX, mask_values_of, suggest
from subcam.errors import BadInputError, SettingsError
from subcam.export.mask_folder import MaskFolder, open_masks
from subcam.metrics.agreement import Agreement
from subcam.metrics.folders import first_of
from subcam.metrics.paired import TRUE, Paired, class_counts
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


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """Folders of masks that are compared, on the images that all of them, and the truth if there is one, have.

    labels: what tells them apart. class_names: background first. truth: None where there is none.
    """

    labels: tuple[str, ...]
    class_names: tuple[str, ...]
    images: tuple[str, ...]
    masks: tuple[MaskFolder, ...]
    truth: Truth | None

    def read(self, name: str) -> tuple[list[UInt8[np.ndarray, "h w"]], UInt8[np.ndarray, "h w"] | None]:
        """The masks of an image in the classes of the comparison, and its ground truth.

        Raises:
            BadInputError: a mask of another size than the truth, or than the first, or with a value that no class has.
        """
        true, like = None, "its ground truth"
        if self.truth is not None:
            table = self._table(self.truth.class_names)
            true = _mapped(self.truth.read[name](), table, where=f"the ground truth of {name}")
        shape, found = None if true is None else true.shape, []
        for masks in self.masks:
            found.append(_read(masks, name, self._table(masks.class_names), shape, like=like))
            if shape is None:
                shape, like = found[0].shape, f"that of {self.labels[0]}"
        return found, true

    def _table(self, class_names: tuple[str, ...] | None) -> np.ndarray:
        own = self.class_names[1:]
        return np.array(mask_values_of(class_names or own, own))


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
    side = open_folders(folders, truth=truth, names=names, classes=classes)
    return scored(side, resamples=resamples, seed=seed)


def open_folders(
    folders: Sequence[Path | str],
    *,
    truth: Path | str | Truth | None,
    names: Sequence[str] | None = None,
    classes: Sequence[str] = (),
) -> SideBySide:
    """Find what is compared; no mask is read. Arguments and errors are those of `compare`; the truth may be None."""
    if len(folders) < 2:
        raise SettingsError(f"expected two folders or more to compare, got {len(folders)}; name them")
    opened = tuple(open_masks(Path(folder)) for folder in folders)
    true = truth if isinstance(truth, Truth | None) else Truth.of_folder(open_masks(Path(truth)))
    class_names = _classes(opened, folders, true, tuple(classes))
    return SideBySide(
        labels=_labels(folders),
        class_names=(BACKGROUND_NAME, *class_names),
        images=tuple(_images(opened, folders, true, names)),
        masks=opened,
        truth=true,
    )


def scored(side: SideBySide, *, resamples: int = 2000, seed: int = 0) -> Paired:
    """Scores of each against the truth.

    Raises:
        BadInputError: a mask cannot be used, or the truth has none of the classes.
    """
    counts = _counted(side)
    if not counts[:, :, TRUE, 1:].any():
        raise BadInputError(
            f"expected pixels of {first_of(side.class_names[1:])} in the ground truth of {len(side.images)} images, got"
            " none: there is nothing to score"
        )
    return Paired(
        labels=side.labels,
        class_names=side.class_names,
        images=side.images,
        counts=counts,
        resamples=resamples,
        seed=seed,
    )


def agreeing(side: SideBySide, *, resamples: int = 2000, seed: int = 0) -> Agreement:
    """How far each agrees with the first, on the pixels that all give a label.

    Raises:
        BadInputError: a mask cannot be used, or no pixel has a label in all.
    """
    counts = _counted(side)
    if not counts.any():
        raise BadInputError(f"expected pixels with a label in all folders, got none in {len(side.images)} images")
    return Agreement(
        labels=side.labels,
        class_names=side.class_names,
        images=side.images,
        counts=counts,
        resamples=resamples,
        seed=seed,
    )


def _counted(side: SideBySide) -> Int64[np.ndarray, "sets images 3 classes"]:
    """Counts of each set of masks against the truth, or without one of each other set against the first."""
    counts = []
    for name in track(side.images, "comparing", len(side.images)):
        found, true = side.read(name)
        labels, others = (found[0], found[1:]) if true is None else (true, found)
        labels = _without_open(labels, others)
        counts.append([class_counts(each, labels, num_classes=len(side.class_names)) for each in others])
    return np.array(counts).transpose(1, 0, 2, 3)


def _without_open(labels: UInt8[np.ndarray, "h w"], others: Sequence[UInt8[np.ndarray, "h w"]]) -> np.ndarray:
    """The labels, 255 where one of the others has none."""
    return np.where(np.any([each == IGNORE_INDEX for each in others], axis=0), np.uint8(IGNORE_INDEX), labels)


def _classes(
    opened: Sequence[MaskFolder], folders: Sequence[Path | str], truth: Truth | None, given: tuple[str, ...]
) -> tuple[str, ...]:
    """The classes of the comparison: those of the first folder that names them, else those given, or the truth's."""
    known = [(folder, masks.class_names) for folder, masks in zip(folders, opened, strict=True) if masks.class_names]
    for folder, names in known[1:]:
        if set(names) != set(known[0][1]):
            other = sorted(set(names) ^ set(known[0][1]))
            raise SettingsError(
                f"expected masks of the same classes, got others in {known[0][0]} than in {folder}: {first_of(other)}"
            )
    of_truth = truth.class_names if truth else None
    class_names = known[0][1] if known else given or of_truth
    if not class_names:
        raise SettingsError(
            "nothing says what the values of the masks mean; name the classes of 1, 2, ... with --classes"
        )
    if of_truth and not set(class_names) & set(of_truth):
        raise SettingsError(
            f"no class of the masks is one of the ground truth's: {class_names[0]!r},"
            f" {suggest(class_names[0], of_truth)} give the names with --classes"
        )
    return class_names


def _images(
    opened: Sequence[MaskFolder], folders: Sequence[Path | str], truth: Truth | None, names: Sequence[str] | None
) -> list[str]:
    """The names that the truth and every folder have, or those given, which all must have."""
    there: list[tuple[str, Collection[str]]] = [("the ground truth", truth.read)] if truth else []
    there += [(str(folder), masks.files) for folder, masks in zip(folders, opened, strict=True)]
    for name in names or ():
        for where, own in there:
            if name not in own:
                raise BadInputError(f"{where}: expected a mask of {name}, got none; take it off the list")
    images = [name for name in names or there[0][1] if all(name in own for _, own in there)]
    if not images:
        firsts = ", ".join(next(iter(own), "none") for _, own in there)
        raise BadInputError(
            f"expected images that {'the ground truth and ' if truth else ''}all folders have, got none; the first of"
            f" each: {firsts}"
        )
    return images


def _read(
    masks: MaskFolder, name: str, table: np.ndarray, shape: tuple[int, ...] | None, *, like: str
) -> UInt8[np.ndarray, "h w"]:
    path = masks.files[name]
    labels = masks.stored(path)
    if shape is not None and labels.shape != shape:
        raise BadInputError(
            f"{path}: expected a mask as large as {like}, {shape[1]} x {shape[0]} pixels (width x height), "
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
