"""The stage that scores the masks of a segmentation network: mIoU, F-score and IoU of each class (Tables 3 and 4)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subcam.data.images import read_indices, read_mask
from subcam.data.records import ImageSet
from subcam.errors import BadInputError
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import scores
from subcam.refine.label_map import mask_path
from subcam.runtime import distributed
from subcam.runtime.progress import track
from subcam.runtime.run_folder import Stage
from subcam.stages.evaluate import summary


@dataclass(frozen=True, kw_only=True)
class SegmentationInputs:
    """masks: folder of the stage that wrote the masks. variants: the folders in it that are scored."""

    image_set: ImageSet
    masks: Path
    variants: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SegmentationScores:
    """Scores of a network's masks on one split, as shares in 0..1, by variant ("masks", "masks-crf")."""

    images: int
    variants: dict[str, dict[str, Any]]


def run(inputs: SegmentationInputs, *, stage: Stage) -> SegmentationScores:
    """Score the images that have masks.

    Raises:
        BadInputError: a mask is missing or does not fit its image or the classes; names it.
    """
    if not stage.done:
        stage.finish(_scored(inputs, title=stage.name) if distributed.is_first() else None)
    return SegmentationScores(**stage.record["outputs"])


def _scored(inputs: SegmentationInputs, *, title: str) -> dict[str, Any]:
    masked = sum(record.mask is not None for record in inputs.image_set.records)
    matrices = _count(inputs, title=title)
    return {"images": masked, "variants": {name: summary(scores(matrix)) for name, matrix in matrices.items()}}


def _count(inputs: SegmentationInputs, *, title: str) -> dict[str, np.ndarray]:
    """The confusion matrix of each variant, summed over the data set."""
    image_set = inputs.image_set
    num_classes = image_set.num_classes + 1
    matrices = {variant: np.zeros((num_classes, num_classes), np.int64) for variant in inputs.variants}
    masked = [(record, record.mask) for record in image_set.records if record.mask is not None]
    for record, mask in track(masked, title, len(masked)):
        for variant, matrix in matrices.items():
            path = mask_path(inputs.masks, variant, record.name)
            found = read_indices(path)
            truth = read_mask(mask, image_set.mask_values, size=(found.shape[0], found.shape[1]))
            try:
                matrix += confusion_matrix(found, truth, num_classes=num_classes)
            except ValueError as error:
                raise BadInputError(f"{path}: {error}; predict it again") from error
    return matrices
