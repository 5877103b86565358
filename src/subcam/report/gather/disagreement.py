"""How far two of a run's predictions of one image differ: where a person may look first, without ground truth.

Of the final segmentation and the pseudo mask that the run chose; without a network, of the pseudo mask and the response
maps of the last round.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from subcam.cam.map_files import read_response_maps
from subcam.data.records import IGNORE_INDEX
from subcam.report.gather.images import (
    ImageRecord,
    final_segmentation,
    mask_name,
    response_threshold,
    thresholded,
)
from subcam.report.gather.names import masks_name, round_name
from subcam.results import FinishedRun


def with_disagreement(image: ImageRecord, run: FinishedRun) -> ImageRecord:
    """The image with the share on which two predictions differ, and which two.

    Unchanged where it has no two, or where both find nothing: that they agree says nothing of the mask.
    """
    if not run.result.refined:
        return image
    refined = run.result.refined[-1]
    pseudo, network = mask_name(masks_name(refined), refined.variant), final_segmentation(image.masks)
    if pseudo not in image.masks:
        return image
    mask = image.read_own_mask(pseudo)
    if network:
        found, other = image.read_own_mask(network), network
    elif image.maps[-1] is None:
        return image
    else:
        maps, last = read_response_maps(image.maps[-1]), run.mapped[-1]
        found = thresholded(maps.full_size(), maps.classes, response_threshold(run, image.split, last))
        other = f"response maps of {round_name(last)}"
    share = disagreement(found, mask)
    return image if share is None else replace(image, disagreement=share, disagreeing=(other, pseudo))


def disagreement(first: UInt8[np.ndarray, "h w"], second: UInt8[np.ndarray, "h w"]) -> float | None:
    """Of the pixels that either mask calls an object, the share on which they differ, 0..1; None where there are none.

    Pixels that either leaves undecided (255) do not count.
    """
    objects = ((first > 0) | (second > 0)) & (first != IGNORE_INDEX) & (second != IGNORE_INDEX)
    return float((first != second)[objects].mean()) if objects.any() else None
