"""Scores of a confusion matrix (Tables 1 to 4): mIoU, F-score, precision, recall, accuracy; the classifier's mAP."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Integer

from subcam.checks.arguments import takes_arrays


@dataclass(frozen=True)
class Scores:
    """All scores of one confusion matrix (rows: ground truth, columns: prediction), in 0..1.

    A class that is in neither ground truth nor prediction has no score (NaN). Means are taken over the classes that
    occur in the ground truth, as in PASCAL VOC's devkit; a class that is only predicted costs the others recall.
    """

    matrix: Int64[np.ndarray, "classes classes"]

    @cached_property
    def _hits(self) -> Float64[np.ndarray, " classes"]:
        return np.diag(self.matrix).astype(np.float64)

    @cached_property
    def _true(self) -> Float64[np.ndarray, " classes"]:
        return self.matrix.sum(1, dtype=np.float64)

    @cached_property
    def _predicted(self) -> Float64[np.ndarray, " classes"]:
        return self.matrix.sum(0, dtype=np.float64)

    @property
    def present(self) -> Bool[np.ndarray, " classes"]:
        """Classes that occur in the ground truth."""
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
        """Share of a class's pixels that are predicted as it (its accuracy)."""
        return _divide(self._hits, self._true)

    @property
    def class_f_score(self) -> Float64[np.ndarray, " classes"]:
        """F1 (Dice) of each class: the harmonic mean of precision and recall."""
        return _divide(2 * self._hits, self._true + self._predicted)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes in the ground truth, background included."""
        return self._mean(self.iou)

    @property
    def f_score(self) -> float:
        """Mean F1 over the classes in the ground truth (Table 2; the paper gives no formula, this is the usual one)."""
        return self._mean(self.class_f_score)

    @property
    def mean_accuracy(self) -> float:
        """Mean recall over the classes in the ground truth."""
        return self._mean(self.recall)

    @property
    def mean_precision(self) -> float:
        """Mean precision over the classes in the ground truth; a class that is never predicted counts as 0."""
        return self._mean(np.nan_to_num(self.precision))

    @property
    def pixel_accuracy(self) -> float:
        """Share of all scored pixels that are right."""
        return float(_divide(self._hits.sum(), self._true.sum()))

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU weighted by how many pixels each class has in the ground truth."""
        if not self._true.sum():
            return float("nan")
        return float((self._true * np.nan_to_num(self.iou)).sum() / self._true.sum())

    def _mean(self, values: Float64[np.ndarray, " classes"]) -> float:
        return float(values[self.present].mean()) if self.present.any() else float("nan")


@takes_arrays()
def scores(matrix: Integer[np.ndarray, "..."]) -> Scores:
    """All scores of a confusion matrix as made by `confusion_matrix`, summed over the data set.

    Raises:
        ValueError: the matrix is not square or has negative counts.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or (matrix < 0).any():
        raise ValueError(f"expected a square matrix of counts, got shape {matrix.shape}, minimum {matrix.min()}")
    return Scores(matrix.astype(np.int64))


@takes_arrays()
def class_average_precision(
    logits: Float[np.ndarray, "images classes"], labels: Integer[np.ndarray, "images classes"]
) -> Float[np.ndarray, " classes"]:
    """Average precision of each class (area under precision-recall, not interpolated); NaN where no image has it."""
    from sklearn.metrics import average_precision_score  # slow to import, and most scores do without

    return np.array(
        [
            average_precision_score(labels[:, c], logits[:, c]) if labels[:, c].any() else np.nan
            for c in range(labels.shape[1])
        ]
    )


@takes_arrays()
def mean_average_precision(
    logits: Float[np.ndarray, "images classes"], labels: Integer[np.ndarray, "images classes"]
) -> float:
    """Mean of `class_average_precision` over the classes that some image has, in 0..1; NaN if there is none."""
    values = class_average_precision(logits, labels)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _divide(numerator: np.ndarray | float, denominator: np.ndarray | float) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(np.asarray(denominator) > 0, np.divide(numerator, denominator), np.nan)
