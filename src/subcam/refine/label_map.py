"""From scores of background and classes to a pseudo mask, and where the masks of each variant lie."""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Integer, UInt8

from subcam.data.records import IGNORE_INDEX

Variant = Literal["crf", "walk", "walk-crf"]
VARIANTS: tuple[Variant, ...] = ("crf", "walk", "walk-crf")


def mask_path(folder: Path, variant: str, name: str) -> Path:
    """Where the pseudo mask of the image called `name` lies in a stage's folder."""
    return folder / variant / f"{name}.png"


def label_map(
    scores: Float[np.ndarray, "channels h w"],
    classes: Integer[np.ndarray, " present"],
    *,
    ignore_margin: float = 0.0,
) -> UInt8[np.ndarray, "h w"]:
    """The best channel at each pixel: 0 for the background in front, class + 1, 255 where the best two are too close.

    The first of equals wins.
    """
    labels = np.array([0, *(classes + 1)], np.uint8)[scores.argmax(0)]
    if ignore_margin and len(scores) > 1:
        second, best = np.partition(scores, len(scores) - 2, axis=0)[-2:]
        labels[best - second < ignore_margin] = IGNORE_INDEX
    return labels
