"""Confusion matrix over a data set: count first, divide later. Masks in, integer counts out."""

from typing import Annotated

import numpy as np
from jaxtyping import Int64, Integer

from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Range
from subcam.data.records import IGNORE_INDEX


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
    scored = truth != ignore_index
    rows = truth[scored].astype(np.int64)
    columns = prediction[scored].astype(np.int64)
    for name, values in (("truth", rows), ("prediction", columns)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(
                f"{name} holds values {values.min()}..{values.max()} on scored pixels; expected 0..{num_classes - 1}"
                f" (and {ignore_index} in truth for pixels that do not count)"
            )
    counts = np.bincount(rows * num_classes + columns, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)
