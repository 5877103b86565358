"""Scores of response maps at every background threshold in one pass: the fixed one beside the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from jaxtyping import Float, Int64, Integer, UInt8

from subcam.cam.threshold import THRESHOLDS
from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Range
from subcam.data.records import IGNORE_INDEX
from subcam.metrics.scores import Scores, scores


class ThresholdSweep:
    """Confusion matrices at all thresholds of a grid, accumulated image by image.

    A pixel is the class of its strongest response if that is greater than the threshold, background otherwise, as in
    an argmax over [threshold, maps] where the first of equals wins. Each pixel is put once into a histogram over
    (truth, strongest class, number of thresholds below its response); the matrices are its cumulative sums.
    """

    @takes_arrays()
    def __init__(
        self, num_classes: Annotated[int, Range(1, 65_536)], thresholds: Float[np.ndarray, " thresholds"] = THRESHOLDS
    ) -> None:
        if not np.all(np.diff(thresholds) > 0):
            raise ValueError(f"thresholds must rise strictly, got {thresholds}")
        self.num_classes = num_classes
        self.thresholds = thresholds.astype(np.float64)
        self._counts = np.zeros((num_classes, num_classes, len(thresholds) + 1), np.int64)

    @takes_arrays(may_be_empty=("maps", "classes"))
    def add(
        self,
        maps: Float[np.ndarray, "present h w"],
        classes: Integer[np.ndarray, " present"],
        truth: UInt8[np.ndarray, "_ _"],
    ) -> None:
        """Count one image.

        Args:
            maps: response maps in 0..1 of the classes that are present.
            classes: their indices 0..C-1 (class c is c + 1 in `truth`).
            truth: 0 background, 1..C classes, 255 not scored.

        Raises:
            ValueError: maps and truth differ in size.
        """
        if maps.shape[1:] != truth.shape:
            raise ValueError(f"maps {maps.shape[1:]} and truth {truth.shape} must have one size")
        scored = truth != IGNORE_INDEX
        rows = truth[scored].astype(np.int64)
        if len(maps):
            strongest = maps.argmax(0)[scored]
            response = maps.max(0)[scored]
            columns = np.asarray(classes, np.int64)[strongest] + 1
            level = np.searchsorted(self.thresholds, response, side="left")
        else:
            columns = np.zeros_like(rows)
            level = np.zeros_like(rows)
        flat = (rows * self.num_classes + columns) * self._counts.shape[2] + level
        self._counts += np.bincount(flat, minlength=self._counts.size).reshape(self._counts.shape)

    @property
    def matrices(self) -> Int64[np.ndarray, "thresholds classes classes"]:
        """The confusion matrix at each threshold (rows: truth)."""
        above = self._counts[:, :, ::-1].cumsum(2)[:, :, ::-1][:, :, 1:]
        matrices = np.moveaxis(above, 2, 0).copy()
        matrices[:, :, 0] = 0
        matrices[:, :, 0] = self._counts.sum((1, 2)) - matrices.sum(2)
        return matrices

    def at(self, threshold: float) -> Scores:
        """Scores at the threshold of the grid nearest to `threshold`."""
        return scores(self.matrices[int(np.abs(self.thresholds - threshold).argmin())])

    @takes_arrays(may_be_empty=("by_class",))
    def at_classes(self, by_class: Sequence[float] | Float[np.ndarray, " classes"]) -> Scores:
        """Scores where each class 0..C-1 has a threshold of its own: that of a pixel's strongest class counts.

        Raises:
            ValueError: there is not one threshold for each class.
        """
        if len(by_class) != self.num_classes - 1:
            raise ValueError(f"by_class: expected {self.num_classes - 1} thresholds, one a class, got {len(by_class)}")
        matrix = np.zeros((self.num_classes, self.num_classes), np.int64)
        for column, threshold in enumerate(by_class, start=1):
            nearest = int(np.abs(self.thresholds - threshold).argmin())
            matrix[:, column] = self._counts[:, column, nearest + 1 :].sum(1)
        matrix[:, 0] = self._counts.sum((1, 2)) - matrix.sum(1)
        return scores(matrix)

    def best(self) -> "BestThreshold":
        """The threshold of highest mIoU. It is chosen by looking at the masks, and says so."""
        curve = self.curve()
        index = int(np.nanargmax(curve)) if np.isfinite(curve).any() else 0
        return BestThreshold(threshold=float(self.thresholds[index]), scores=scores(self.matrices[index]))

    def curve(self) -> Float[np.ndarray, " thresholds"]:
        """The mIoU at each threshold."""
        return np.array([scores(matrix).miou for matrix in self.matrices])


@dataclass(frozen=True, kw_only=True)
class BestThreshold:
    """The best threshold of a sweep and its scores. Choosing it used masks: never report it as if it were fixed."""

    threshold: float
    scores: Scores
    used_masks: bool = True
