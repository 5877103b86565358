"""Several sets of masks on the same images: scores side by side, and how sure the differences are.

Of each image and class three counts are kept: pixels that are right, true and predicted. All scores follow from their
sums, so that a bootstrap over images (Efron) is one product of matrices: how often each image is drawn, times counts.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64, Int64, Real, UInt8

from subcam.metrics.confusion import confusion_matrix

HITS, TRUE, PREDICTED = range(3)
_AT_ONCE = 1 << 24
"""Numbers of draws that are in memory together: 128 MiB."""

LEVEL = 0.95
"""Share of resamplings that an interval holds."""


def class_counts(
    predicted: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"], *, num_classes: int
) -> Int64[np.ndarray, "3 classes"]:
    """Pixels of one image by class that are right, true and predicted; 255 in the truth is not counted.

    Raises:
        ValueError: a value beyond the classes.
    """
    matrix = confusion_matrix(predicted, truth, num_classes=num_classes)
    return np.stack([np.diag(matrix), matrix.sum(1), matrix.sum(0)])


def iou_of(counts: Real[np.ndarray, "*sets 3 classes"]) -> Float64[np.ndarray, "*sets classes"]:
    """IoU of each class from counts; not-a-number for a class that is not in the ground truth."""
    hits, true, predicted = (counts[..., part, :].astype(np.float64) for part in (HITS, TRUE, PREDICTED))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(true > 0, hits / (true + predicted - hits), np.nan)


def miou_of(iou: Float64[np.ndarray, "*sets classes"]) -> Float64[np.ndarray, "*sets"]:
    """Mean over the classes in the ground truth; not-a-number where there is none."""
    there = np.isfinite(iou)
    count = there.sum(-1)
    return np.where(count > 0, np.where(there, iou, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A difference and the limits between which it lies in 95 of 100 resamplings of the images."""

    value: float
    low: float
    high: float

    @property
    def is_sure(self) -> bool:
        """Whether 0 is outside of the limits."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Sets of masks on the same images against one ground truth.

    labels: what each set is called; the first is what the others are compared with.
    class_names: background first. images: names. counts: of `class_counts`, by set and image.
    resamples, seed: of the bootstrap.
    """

    labels: tuple[str, ...]
    class_names: tuple[str, ...]
    images: tuple[str, ...]
    counts: Int64[np.ndarray, "sets images 3 classes"]
    resamples: int = 2000
    seed: int = 0

    @cached_property
    def iou(self) -> Float64[np.ndarray, "sets classes"]:
        """IoU of each class over all images."""
        return iou_of(self.counts.sum(1))

    @property
    def miou(self) -> Float64[np.ndarray, " sets"]:
        """Mean IoU over the classes in the ground truth."""
        return miou_of(self.iou)

    @property
    def pixel_accuracy(self) -> Float64[np.ndarray, " sets"]:
        """Share of the pixels that are right."""
        return equal_pixels_of(self.counts)

    @cached_property
    def image_miou(self) -> Float64[np.ndarray, "sets images"]:
        """Mean IoU of each image over the classes that its own ground truth has."""
        return miou_of(iou_of(self.counts))

    @cached_property
    def resampled(self) -> Float64[np.ndarray, "resamples sets classes"]:
        """IoU of each class in resamplings: as many images, drawn with replacement, the same for all sets."""
        return iou_of(resampled_sums(self.counts, resamples=self.resamples, seed=self.seed))

    def difference(self, index: int) -> Interval:
        """In mIoU of a set to the first."""
        means = miou_of(self.resampled)
        return interval_of(self.miou[index] - self.miou[0], means[:, index] - means[:, 0])

    def class_difference(self, index: int, place: int) -> Interval:
        """In IoU of the class at this place, of a set to the first."""
        resampled = self.resampled[:, :, place]
        return interval_of(self.iou[index, place] - self.iou[0, place], resampled[:, index] - resampled[:, 0])

    def images_that_differ(self, index: int, *, most: int) -> list[tuple[str, float, float]]:
        """Names and mIoU in the first set and in this one, of the images in which it differs most; equal ones not."""
        first, other = self.image_miou[0], self.image_miou[index]
        apart = np.nan_to_num(np.abs(other - first))
        order = np.lexsort((np.arange(len(apart)), -apart))[:most]
        return [(self.images[i], float(first[i]), float(other[i])) for i in order if apart[i] > 0]


def equal_pixels_of(counts: Int64[np.ndarray, "sets images 3 classes"]) -> Float64[np.ndarray, " sets"]:
    """Share of the counted pixels that have the same label in both, by set."""
    total = counts.sum((1, 3)).astype(np.float64)
    return total[:, HITS] / total[:, TRUE]


def resampled_sums(
    counts: Int64[np.ndarray, "sets images 3 classes"], *, resamples: int, seed: int
) -> Float64[np.ndarray, "resamples sets 3 classes"]:
    """Sums of the counts over resamplings: as many images, drawn with replacement, the same for all sets."""
    sets, images, parts, classes = counts.shape
    flat = counts.transpose(1, 0, 2, 3).reshape(images, -1).astype(np.float64)
    generator = np.random.default_rng(seed)
    found = []
    for start in range(0, resamples, max(1, _AT_ONCE // images)):
        draws = min(max(1, _AT_ONCE // images), resamples - start)
        times = generator.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)
        found.append((times @ flat).reshape(draws, sets, parts, classes))
    return np.concatenate(found)


def interval_of(value: float, resampled: Float64[np.ndarray, " resamples"]) -> Interval:
    """Percentiles of the resamplings in which the score exists."""
    there = resampled[np.isfinite(resampled)]
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(there, [tail, 100 - tail]) if len(there) else (np.nan, np.nan)
    return Interval(value=float(value), low=float(low), high=float(high))
