"""Response maps and masks drawn over their picture, as arrays: RGB in, RGB out."""

import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import maximum_filter, minimum_filter

from subcam.data.images import voc_palette
from subcam.data.records import IGNORE_INDEX
from subcam.report.style import SEQUENTIAL

_HATCH = np.array([[255, 255, 255], [150, 150, 150]], np.uint8)
"""Ground and stripes where a mask says nothing."""


def colour_map(response: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A response map in 0..1 (values outside are cut off) in the colours of viridis, 0-255."""
    return matplotlib.colormaps[SEQUENTIAL](response, bytes=True)[..., :3]


def colour_mask(mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A mask in PASCAL VOC's colours, black where it is background, striped white and grey where it is 255."""
    colours = voc_palette()[mask]
    rows, columns = np.nonzero(mask == IGNORE_INDEX)
    period = 4 * line_width(mask.shape)
    colours[rows, columns] = _HATCH[((rows + columns) % period < period // 4).astype(np.intp)]
    return colours


def overlay_map(
    image: UInt8[np.ndarray, "h w 3"],
    response: Float[np.ndarray, "h w"],
    *,
    opacity: float = 0.6,
    threshold: float | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """The colours of a response map in 0..1 over the picture in grey, so that each colour has one meaning.

    Args:
        image: RGB, 0-255.
        response: as large as the picture.
        opacity: of the map, 0..1.
        threshold: where given, a white line surrounds what is above it.
    """
    grey = np.broadcast_to((image @ np.array([0.299, 0.587, 0.114]))[..., None], image.shape)
    drawn = _blend(grey, colour_map(response), opacity)
    if threshold is not None:
        drawn[outlines((response > threshold).astype(np.uint8))] = 255
    return drawn


def overlay_mask(
    image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], *, opacity: float = 0.6
) -> UInt8[np.ndarray, "h w 3"]:
    """A mask in PASCAL VOC's colours over the picture, with a white line around each region.

    The background (0) lets the picture through unchanged; 255 is striped.

    Args:
        image: RGB, 0-255.
        mask: class indices, as large as the picture.
        opacity: of the colours, 0..1.
    """
    drawn = np.where((mask == 0)[..., None], image, _blend(image, colour_mask(mask), opacity))
    drawn[outlines(mask)] = 255
    return drawn


def outlines(mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where two labels meet, as lines of `line_width` pixels across both sides; none along 255 or at the edge."""
    window = line_width(mask.shape) + 1
    lowest = minimum_filter(mask, window, mode="nearest")  # 255 is the greatest of labels and so is not found here
    highest = maximum_filter(np.where(mask == IGNORE_INDEX, 0, mask), window, mode="nearest")
    return highest > lowest


def line_width(size: tuple[int, ...]) -> int:
    """Width in pixels of a line that is seen in a picture of this height and width: one for each 300, two at least."""
    return max(2, round(max(size) / 300))


def _blend(under: np.ndarray, over: np.ndarray, opacity: float) -> UInt8[np.ndarray, "h w 3"]:
    return np.rint((1 - opacity) * under + opacity * over).astype(np.uint8)
