"""A mask drawn over its image, as arrays: RGB in, RGB out."""

import numpy as np
from jaxtyping import Bool, UInt8

from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Share
from subcam.data.images import voc_palette
from subcam.data.records import BACKGROUND, IGNORE_INDEX

_HATCH = np.array([[255, 255, 255], [150, 150, 150]], np.uint8)
"""Ground and stripes where a mask says nothing."""


@takes_arrays()
def overlay_mask(
    image: UInt8[np.ndarray, "h w 3"], mask: UInt8[np.ndarray, "h w"], *, opacity: Share = 0.6
) -> UInt8[np.ndarray, "h w 3"]:
    """A mask in PASCAL VOC's colours over the image, with a white line around each region.

    The background (0) lets the image through unchanged; 255 is striped.

    Args:
        image: RGB, 0-255.
        mask: class indices, as large as the image.
        opacity: of the colours, 0..1.
    """
    drawn = np.where((mask == BACKGROUND)[..., None], image, blend(image, colour_mask(mask), opacity))
    drawn[outlines(mask)] = 255
    return drawn


def colour_mask(mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """A mask in PASCAL VOC's colours, black where it is background, striped white and grey where it is 255."""
    colours = voc_palette()[mask]
    rows, columns = np.nonzero(mask == IGNORE_INDEX)
    period = 4 * line_width(mask.shape)
    colours[rows, columns] = _HATCH[((rows + columns) % period < period // 4).astype(np.intp)]
    return colours


def outlines(mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where two labels meet, as lines of `line_width` pixels, half on each side; none along 255 or at the edge."""
    lines = np.zeros(mask.shape, bool)
    for distance in range(1, line_width(mask.shape) // 2 + 1):
        for axis in (0, 1):
            near, far = (np.swapaxes(array, 0, axis) for array in (lines, mask))
            after, before = far[distance:], far[:-distance]
            differs = (after != before) & (after != IGNORE_INDEX) & (before != IGNORE_INDEX)
            near[distance:] |= differs
            near[:-distance] |= differs
    return lines


def line_width(size: tuple[int, ...]) -> int:
    """Width in pixels, even, of a line that is seen in an image of this height and width: about one for each 300."""
    return 2 * max(1, round(max(size) / 600))


def blend(
    under: UInt8[np.ndarray, "h w 3"], over: UInt8[np.ndarray, "h w 3"], opacity: float
) -> UInt8[np.ndarray, "h w 3"]:
    """One image over another, which shows through by 1 - `opacity` (0..1)."""
    mixed = np.float32(1 - opacity) * under + np.float32(opacity) * over
    return np.rint(mixed).astype(np.uint8)
