"""Confusion matrix over a data set: count first, divide later. Masks in, integer counts out."""

from typing import Annotated

import numpy as np
from jaxtyping import Int64, Integer, UInt8

from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Range
from subcam.data.records import IGNORE_INDEX

RUNS_FROM = 6
"""Pixels of a mean run from which counting runs is faster than counting pixels."""


@takes_arrays(may_be_empty=("prediction", "truth"))
def confusion_matrix(
    prediction: Integer[np.ndarray, "*pixels"],
    truth: Integer[np.ndarray, "..."],
    *,
    num_classes: Annotated[int, Range(1, 65_536)],
    ignore_index: int = IGNORE_INDEX,
) -> Int64[np.ndarray, "{num_classes} {num_classes}"]:
    """Count pixels by true class (rows) and predicted class (columns).

    Add the matrices of all images before computing scores: the benchmark's mIoU is that of the summed matrix, not a
    mean over images.

    Args:
        prediction: class indices 0..num_classes-1, any shape. Ignored pixels do not count.
        truth: class indices 0..num_classes-1, or `ignore_index` for pixels that do not count.
        num_classes: how many classes there are, background included.
        ignore_index: the value in `truth` that means "not scored".

    Raises:
        ValueError: the shapes differ, or a value outside 0..num_classes-1 stands on a scored pixel.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f"prediction {prediction.shape} and truth {truth.shape} must have one shape; resize the prediction first"
        )
    small = [_as_bytes(mask) for mask in (prediction, truth)]
    if small[0] is not None and small[1] is not None:
        counts = counts_of_bytes(small[0], small[1])
        if 0 <= ignore_index < len(counts):
            counts[ignore_index] = 0
        if not counts[num_classes:].any() and not counts[:, num_classes:].any():
            matrix = np.zeros((num_classes, num_classes), np.int64)
            own = counts[:num_classes, :num_classes]
            matrix[: own.shape[0], : own.shape[1]] = own
            return matrix
    scored = truth != ignore_index
    rows = truth[scored].astype(np.int64)
    columns = prediction[scored].astype(np.int64)
    for name, values in (("truth", rows), ("prediction", columns)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(
                f"{name} holds values {values.min()}..{values.max()} on scored pixels; expected 0..{num_classes - 1}"
                f" (and {ignore_index} in truth for pixels that do not count)"
            )
    return np.bincount(rows * num_classes + columns, minlength=num_classes**2).reshape(num_classes, num_classes)


def _as_bytes(mask: Integer[np.ndarray, "*pixels"]) -> UInt8[np.ndarray, "*pixels"] | None:
    """The mask in bytes, where all its values are; None where some is none, or there is no pixel."""
    if not mask.size or mask.dtype == np.uint8:
        return mask if mask.size else None
    return mask.astype(np.uint8) if 0 <= mask.min() <= mask.max() < 256 else None


def counts_of_bytes(
    prediction: UInt8[np.ndarray, "*pixels"], truth: UInt8[np.ndarray, "*pixels"]
) -> Int64[np.ndarray, "true_values predicted_values"]:
    """Pixels by true and predicted value, up to the greatest value that occurs on each side; there must be pixels.

    Masks are regions, so that along a row most pairs of values equal the one before: runs are counted, by their
    lengths. Pairs that change too often are counted one by one.
    """
    predicted, true = prediction.ravel(), truth.ravel()
    rows, columns = int(true.max()) + 1, int(predicted.max()) + 1
    changes = predicted[1:] != predicted[:-1]
    changes |= true[1:] != true[:-1]
    if RUNS_FROM * np.count_nonzero(changes) < len(true):
        last = np.append(changes.nonzero()[0], len(true) - 1)
        lengths = np.append(last[:1] + 1, last[1:] - last[:-1])
        pairs = true[last].astype(np.intp) * columns + predicted[last]
        counts = np.bincount(pairs, weights=lengths, minlength=rows * columns).astype(np.int64)
    else:
        pairs = true.astype(np.uint16) * np.uint16(columns)  # at most 255 * 256 + 255, the greatest 16-bit number
        pairs += predicted
        counts = np.bincount(pairs, minlength=rows * columns)
    return counts.reshape(rows, columns)
