"""Scores of a confusion matrix: mIoU, F-score, precision, recall, accuracy (Tables 1 to 4 of the paper)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer


@dataclass(frozen=True)
class Scores:
    """Everything that follows from one confusion matrix (rows: truth, columns: prediction). All values lie in 0..1.

    A class that is in neither truth nor prediction has no score (NaN). Means are taken over the classes that occur in
    the truth, as in PASCAL VOC's devkit; a class that is only predicted costs the true classes recall.
    """

    matrix: Int64[np.ndarray, "classes classes"]

    @cached_property
    def _hits(self) -> Float64[np.ndarray, " classes"]:
        return np.diag(self.matrix).astype(np.float64)

    @cached_property
    def _true(self) -> Float64[np.ndarray, " classes"]:
        return self.matrix.sum(1).astype(np.float64)

    @cached_property
    def _predicted(self) -> Float64[np.ndarray, " classes"]:
        return self.matrix.sum(0).astype(np.float64)

    @property
    def present(self) -> Bool[np.ndarray, " classes"]:
        """Classes that occur in the truth."""
        return self._true > 0

    @property
    def iou(self) -> Float64[np.ndarray, " classes"]:
        """Intersection over union of each class."""
        return _divide(self._hits, self._true + self._predicted - self._hits)

    @property
    def precision(self) -> Float64[np.ndarray, " classes"]:
        """Share of the pixels predicted as a class that are it."""
        return _divide(self._hits, self._predicted)

    @property
    def recall(self) -> Float64[np.ndarray, " classes"]:
        """Share of a class's pixels that are found (its accuracy)."""
        return _divide(self._hits, self._true)

    @property
    def class_f_score(self) -> Float64[np.ndarray, " classes"]:
        """F1 (Dice) of each class: the harmonic mean of precision and recall."""
        return _divide(2 * self._hits, self._true + self._predicted)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes in the truth, background included."""
        return self._mean(self.iou)

    @property
    def f_score(self) -> float:
        """Mean F1 over the classes in the truth (Table 2; the paper gives no formula, this is the usual one)."""
        return self._mean(self.class_f_score)

    @property
    def mean_accuracy(self) -> float:
        """Mean recall over the classes in the truth."""
        return self._mean(self.recall)

    @property
    def mean_precision(self) -> float:
        """Mean precision over the classes in the truth; a class that is never predicted counts as 0."""
        return self._mean(np.nan_to_num(self.precision))

    @property
    def pixel_accuracy(self) -> float:
        """Share of all scored pixels that are right."""
        return float(_divide(self._hits.sum(), self._true.sum()))

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU weighted by how many pixels each class has in the truth."""
        if not self._true.sum():
            return float("nan")
        return float((self._true * np.nan_to_num(self.iou)).sum() / self._true.sum())

    def _mean(self, values: Float64[np.ndarray, " classes"]) -> float:
        return float(values[self.present].mean()) if self.present.any() else float("nan")


def scores(matrix: Integer[np.ndarray, "..."]) -> Scores:
    """All scores of a confusion matrix as made by `confusion_matrix`, summed over the data set.

    Raises:
        ValueError: the matrix is not square or has negative counts.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or (matrix < 0).any():
        raise ValueError(f"expected a square matrix of counts, got shape {matrix.shape}, minimum {matrix.min()}")
    return Scores(matrix.astype(np.int64))


def _divide(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(denominator) > 0, np.divide(numerator, denominator), np.nan)
