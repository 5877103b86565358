"""How well the classifier names what is in an image: mean average precision over the parent classes."""

import numpy as np
from jaxtyping import Float, Integer
from sklearn.metrics import average_precision_score


def class_average_precision(
    logits: Float[np.ndarray, "images classes"], labels: Integer[np.ndarray, "images classes"]
) -> Float[np.ndarray, " classes"]:
    """Average precision of each class (area under precision-recall, not interpolated); NaN where no image has it."""
    return np.array(
        [
            average_precision_score(labels[:, c], logits[:, c]) if labels[:, c].any() else np.nan
            for c in range(labels.shape[1])
        ]
    )


def mean_average_precision(
    logits: Float[np.ndarray, "images classes"], labels: Integer[np.ndarray, "images classes"]
) -> float:
    """Mean of `class_average_precision` over the classes that some image has, in 0..1; NaN if there is none."""
    values = class_average_precision(logits, labels)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
