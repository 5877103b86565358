"""The stage that lays masks that people corrected over those that a network learns from, or over ground truth."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from subcam.data.check import CheckedImages
from subcam.data.images import check_mask_size, read_indices, read_mask, voc_palette, write_mask
from subcam.data.readers.class_names import write_legend
from subcam.data.records import BACKGROUND, FORBIDDEN, IGNORE_INDEX, first_of
from subcam.errors import BadInputError
from subcam.export.mask_folder import open_masks
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

    files: dict[str, Path]
    class_names: tuple[str, ...]

    @property
    def key(self) -> list[str]:
        """What of them decides results: what the masks hold, and what their values mean."""
        return [files_digest(self.files), *self.class_names]

    def of(self, names: Iterable[str]) -> "Corrections":
        """Those of some images."""
        return replace(self, files={name: self.files[name] for name in names if name in self.files})


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
            f"{folder}: expected masks of the run's images, got {len(unknown)} of others: {first_of(unknown)}; take"
            " them away, or call them as the images are called"
        )
    return Corrections(files=masks.files, class_names=class_names)


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
    values = np.full(256, FORBIDDEN, np.int64)
    places = [image_set.class_names.index(name) for name in corrections.class_names]
    values[1 : len(places) + 1] = np.array(places, np.int64) + 1
    values[BACKGROUND], values[IGNORE_INDEX] = BACKGROUND, IGNORE_INDEX
    if distributed.is_first():
        write_legend(stage.path / CORRECTED, image_set.class_names)
    own = distributed.share(range(len(image_set)))
    for index in track(own, stage.name, len(own)):
        record, size = image_set.records[index], images.sizes[index]
        path = corrections.files.get(record.name)
        if path is not None:
            labels = read_mask(path, tuple(values.tolist()), size=size)
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
    stage.finish({"corrected": sorted(corrections.files)})
