"""The stage that takes masks of another program in the place of pseudo masks: checked, in the data set's values."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from subcam.data.check import CheckedImages
from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.class_names import write_legend
from subcam.data.records import BACKGROUND, IGNORE_INDEX, first_of
from subcam.errors import BadInputError
from subcam.export.mask_folder import class_names_in, open_masks
from subcam.refine.scores_and_masks import mask_path
from subcam.refine.variants import GIVEN
from subcam.runtime import distributed
from subcam.runtime.progress import track, warn
from subcam.runtime.run_folder import Stage
from subcam.stages.settings.given import GivenMasksSettings

VERSION = 1
"""Of what this stage computes; raise it when that changes."""

_SHOWN = 3


def run(stage: Stage, *, settings: GivenMasksSettings, images: CheckedImages, needed: CheckedImages) -> None:
    """Write the mask of every image that has one.

    Args:
        stage: where they are written.
        settings: where they are.
        images: those whose masks are wanted.
        needed: those that must have one.

    Raises:
        BadInputError: a mask is missing, not as large as its image, or has a value that is no class; names it.
    """
    masks = open_masks(Path(settings.folder), class_names=class_names_in(settings.classes))
    names = [record.name for record in needed.image_set.records]
    missing = [name for name in names if name not in masks.files]
    if missing:
        raise BadInputError(
            f"{masks.root}: expected a mask NAME.png of each of {len(names)} training images, got none for"
            f" {len(missing)}: {first_of(missing, shown=_SHOWN)}; make them, or train on a split whose images have some"
            " (--dataset.train-split)"
        )
    class_names = images.image_set.class_names
    known = masks.class_names or class_names
    values = _values(known, class_names)
    if distributed.is_first():
        write_legend(stage.path / GIVEN, class_names)
    own = distributed.share(range(len(images.image_set)))
    there = [index for index in own if images.image_set.records[index].name in masks.files]
    left = [i for i in there if not mask_path(stage.path, GIVEN, images.image_set.records[i].name).is_file()]
    passed_over: set[str] = set()
    for index in track(left, stage.name, len(left)):
        name = images.image_set.records[index].name
        path = masks.files[name]
        stored = masks.stored(path)
        if stored.shape != images.sizes[index]:
            (height, width), (own_height, own_width) = images.sizes[index], stored.shape
            raise BadInputError(
                f"{path}: expected a mask as large as its image, {width} x {height} pixels (width x height), got"
                f" {own_width} x {own_height}; make it at the size of the upright image"
            )
        passed_over |= _check(stored, path, known=known, values=values, ignore=settings.unknown == "ignore")
        labels = values[stored].astype(np.uint8)
        write_mask(mask_path(stage.path, GIVEN, name), labels, palette=voc_palette(), durable=False)
    if passed_over:
        warn(f"pixels of {first_of(sorted(passed_over))} are not learned from: these are no classes of the data set")
    stage.finish({"images": len(there), "classes": known})


def _values(known: tuple[str, ...], class_names: tuple[str, ...]) -> np.ndarray:
    """What each stored value is in the set: -1 for one that is no class of the masks, 255 for no class of the set."""
    values = np.full(256, -1, np.int64)
    values[1 : len(known) + 1] = [
        class_names.index(name) + 1 if name in class_names else IGNORE_INDEX for name in known
    ]
    values[BACKGROUND], values[IGNORE_INDEX] = BACKGROUND, IGNORE_INDEX
    return values


def _check(
    stored: UInt8[np.ndarray, "h w"], path: Path, *, known: tuple[str, ...], values: np.ndarray, ignore: bool
) -> set[str]:
    """The classes in a mask that the set does not have.

    Raises:
        BadInputError: there is one and they are not to be ignored, or a value that is no class; names them.
    """
    present = np.flatnonzero(np.bincount(stored.ravel(), minlength=256))
    nameless = [str(value) for value in present if values[value] < 0]
    if nameless:
        raise BadInputError(
            f"{path}: expected the values 0..{len(known)} and 255, got {first_of(nameless)}; say what all values are"
            " called with classes.txt in the folder or --masks-classes"
        )
    others = {known[value - 1] for value in present if value not in (0, 255) and values[value] == IGNORE_INDEX}
    if others and not ignore:
        raise BadInputError(
            f"{path}: has pixels of {first_of(sorted(others))}, which the data set does not know; give its names with"
            " --masks-classes, or --masks-unknown ignore to learn nothing from such pixels"
        )
    return others
