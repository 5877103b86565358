"""Response maps drawn over their image, as arrays: RGB in, RGB out."""

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8

from subcam.data.overlay import blend, outlines
from subcam.report.figures.style import SEQUENTIAL


def colour_map(response: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A response map in 0..1 (values outside are clipped) in the colours of viridis, 0-255."""
    return matplotlib.colormaps[SEQUENTIAL](response, bytes=True)[..., :3]


def overlay_map(
    image: UInt8[np.ndarray, "h w 3"],
    response: Float[np.ndarray, "h w"],
    *,
    opacity: float = 0.6,
    threshold: float | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The colours of a response map in 0..1 over the image in grey, so that each colour has one meaning.

    Args:
        image: RGB, 0-255.
        response: as large as the image.
        opacity: of the map, 0..1.
        threshold: where given, a white line surrounds what is above it.
    """
    grey = np.rint(image @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    drawn = blend(grey[..., None].repeat(3, 2), colour_map(response), opacity)
    if threshold is not None:
        drawn[outlines((response > threshold).astype(np.uint8))] = 255
    return drawn
