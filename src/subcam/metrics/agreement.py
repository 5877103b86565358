"""How far several sets of masks agree on the same images, where there is no ground truth: nothing says which is right.

The counts are those of `metrics.paired`, of each set against the first, and so are the resamplings.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64

from subcam.metrics.paired import (
    HITS,
    PREDICTED,
    TRUE,
    Interval,
    equal_pixels_of,
    interval_of,
    miou_of,
    resampled_sums,
)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Sets of masks on the same images, each against the first; all properties are by set, from the second on.

    labels: what each set is called, the first too. class_names: background first. images: names.
    counts: of `class_counts` against the first, by set from the second on, and image.
    resamples, seed: of the bootstrap.
    """

    labels: tuple[str, ...]
    class_names: tuple[str, ...]
    images: tuple[str, ...]
    counts: Int64[np.ndarray, "others images 3 classes"]
    resamples: int = 2000
    seed: int = 0

    @cached_property
    def iou(self) -> Float64[np.ndarray, "others classes"]:
        """IoU of each class in both over all images; not-a-number for a class that neither has."""
        return _iou(self.counts.sum(1).astype(np.float64))

    @property
    def miou(self) -> Float64[np.ndarray, " others"]:
        """Mean IoU over the classes that either has."""
        return miou_of(self.iou)

    @property
    def equal_pixels(self) -> Float64[np.ndarray, " others"]:
        """Share of the pixels that have the same label in both."""
        return equal_pixels_of(self.counts)

    @cached_property
    def image_miou(self) -> Float64[np.ndarray, "others images"]:
        """Mean IoU of each image over the classes that either has in it."""
        return miou_of(_iou(self.counts.astype(np.float64)))

    @cached_property
    def resampled(self) -> Float64[np.ndarray, "resamples others classes"]:
        """IoU of each class in resamplings of the images."""
        return _iou(resampled_sums(self.counts, resamples=self.resamples, seed=self.seed))

    def interval(self, index: int) -> Interval:
        """The mean IoU of the set at `index` of the labels with the first."""
        return interval_of(self.miou[index - 1], miou_of(self.resampled)[:, index - 1])

    def class_interval(self, index: int, place: int) -> Interval:
        """The IoU of one class in that set and the first."""
        return interval_of(self.iou[index - 1, place], self.resampled[:, index - 1, place])

    def images_that_differ(self, index: int, *, most: int) -> list[tuple[str, float]]:
        """Names and mean IoU with the first, of the images in which they agree least; equal ones not."""
        shares = self.image_miou[index - 1]
        order = np.lexsort((np.arange(len(shares)), np.nan_to_num(shares, nan=1.0)))[:most]
        return [(self.images[i], float(shares[i])) for i in order if shares[i] < 1]


def _iou(counts: Float64[np.ndarray, "*sets 3 classes"]) -> Float64[np.ndarray, "*sets classes"]:
    """IoU of each class from counts; not-a-number for a class that neither has."""
    hits, true, predicted = (counts[..., part, :] for part in (HITS, TRUE, PREDICTED))
    union = true + predicted - hits
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(union > 0, hits / union, np.nan)
