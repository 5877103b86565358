"""The stage that lays masks that people corrected over those that a network learns from, or over ground truth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from subcam.data.check import CheckedImages
from subcam.data.images import check_mask_size, read_indices, read_mask, voc_palette, write_mask
from subcam.data.readers.class_names import write_legend
from subcam.data.records import IGNORE_INDEX, first_of
from subcam.errors import BadInputError
from subcam.export.mask_folder import MaskFolder, open_masks
from subcam.refine.scores_and_masks import mask_path
from subcam.refine.variants import CORRECTED
from subcam.runtime import distributed
from subcam.runtime.files import files_digest
from subcam.runtime.progress import track
from subcam.runtime.run_folder import Keyed, Stage

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


@dataclass(frozen=True, kw_only=True)
class Corrections(Keyed):
    """Corrected masks by the name of their image; class i of `class_names` has the value i + 1."""

    masks: MaskFolder
    class_names: tuple[str, ...]

    @property
    def key(self) -> list[Any]:
        """What of them decides results: what the masks hold, and what their values and colours mean."""
        return [files_digest(self.masks.files), *self.class_names, *self.masks.colours]

    def of(self, names: Iterable[str]) -> "Corrections":
        """Those of some images."""
        return replace(self, masks=self.masks.only([name for name in names if name in self.masks.files]))

    def read(self, name: str, *, class_names: Sequence[str], size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
        """One mask in the values of `class_names`; 255 is no label.

        size: rows and columns of its image.

        Raises:
            BadInputError: it is of another size, is no mask, or has a value that is no class; names it.
        """
        values = np.zeros(256, np.uint8)
        values[1 : len(self.class_names) + 1] = [class_names.index(name) + 1 for name in self.class_names]
        values[IGNORE_INDEX] = IGNORE_INDEX
        mask = values[self.masks.read(name, num_classes=len(self.class_names))]
        check_mask_size(self.masks.files[name], mask.shape, size)
        return mask


def open_corrections(folder: Path, images: CheckedImages) -> Corrections:
    """The corrected masks in a folder.

    images: all of the run.

    Raises:
        BadInputError: one is of an image that the run does not have, or the classes are others; names it.
    """
    masks = open_masks(folder)
    known = images.image_set.class_names
    class_names = known if masks.class_names is None else masks.class_names
    if others := [name for name in class_names if name not in known]:
        raise BadInputError(
            f"{folder}: expected classes of the run, {first_of(known)}, got {first_of(others)}; correct the masks with"
            " the run's own classes"
        )
    names = {record.name for record in images.image_set.records}
    if unknown := [name for name in masks.files if name not in names]:
        raise BadInputError(
            f"{folder}: expected masks of the run's {len(names)} images, got {len(unknown)} of others:"
            f" {first_of(unknown)}; take them away, or call them as the images are called"
        )
    return Corrections(masks=masks, class_names=class_names)


def run(stage: Stage, *, corrections: Corrections, images: CheckedImages, masks: Stage | None, variant: str) -> None:
    """Write the mask of every image that has one: the corrected one, else the one that there was.

    Args:
        stage: where they are written.
        corrections: masks that people corrected.
        images: those whose masks are wanted.
        masks: the stage of the masks that there were; None for the images' ground truth.
        variant: which of its masks.

    Raises:
        BadInputError: a corrected mask is not as large as its image or has a value that is no class; names it.
    """
    image_set = images.image_set
    if distributed.is_first():
        write_legend(stage.path / CORRECTED, image_set.class_names)
    own = distributed.share(range(len(image_set)))
    for index in track(own, stage.name, len(own)):
        record, size = image_set.records[index], images.sizes[index]
        if record.name in corrections.masks.files:
            labels = corrections.read(record.name, class_names=image_set.class_names, size=size)
        elif masks is not None:
            there = mask_path(masks.path, variant, record.name)
            if not there.is_file():  # of given masks one may have none
                continue
            labels = read_indices(there)
            check_mask_size(there, labels.shape, size)
        elif record.mask is not None:
            labels = read_mask(record.mask, image_set.mask_values, size=size, turn=record.mask_turn)
        else:
            continue
        write_mask(mask_path(stage.path, CORRECTED, record.name), labels, palette=voc_palette(), durable=False)
    stage.finish({"corrected": sorted(corrections.masks.files)})
