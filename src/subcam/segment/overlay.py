"""A picture with its segmentation laid over it: class colours, contours, and a legend of the classes that are there."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from subcam.data.images import voc_palette
from subcam.data.records import BACKGROUND

PAPER = (255, 255, 255)
INK = (30, 30, 30)


def colour_over(
    image: UInt8[np.ndarray, "h w 3"], labels: UInt8[np.ndarray, "h w"], *, opacity: float = 0.5
) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with the colour of each class mixed in, and an outline of that colour inside each region.

    Args:
        image: RGB 0..255.
        labels: 0 background, which stays as it is; other values take their colour of PASCAL VOC's map.
        opacity: share of the class colour inside a region, 0..1; outlines have the full colour.
    """
    colours = voc_palette()[labels]
    share = np.where(labels == BACKGROUND, 0.0, opacity).astype(np.float32)
    share[outlines(labels, width=_outline_width(labels.shape))] = 1
    mixed = image + share[..., None] * (colours.astype(np.float32) - image)
    return np.rint(mixed).astype(np.uint8)


def outlines(labels: UInt8[np.ndarray, "h w"], *, width: int = 1) -> np.ndarray:
    """Where a pixel of a class (not background) has another label within `width` pixels above, below or beside it."""
    edge = np.zeros(labels.shape, bool)
    for distance in range(1, width + 1):
        for axis in (0, 1):
            near, far = (np.swapaxes(array, 0, axis) for array in (edge, labels))
            differs = far[distance:] != far[:-distance]
            near[distance:] |= differs
            near[:-distance] |= differs
    return edge & (labels != BACKGROUND)


def with_legend(image: UInt8[np.ndarray, "h w 3"], names: Mapping[int, str]) -> UInt8[np.ndarray, "h_and_legend w 3"]:
    """The picture with a strip below it that names the colours; it covers nothing of the picture.

    Args:
        image: RGB 0..255.
        names: what each label is called; entries are put in rows, as many as the width takes. None: no strip.
    """
    if not names:
        return image
    width = image.shape[1]
    font = _font(max(11, round(width / 40)))
    palette = voc_palette()
    line = round(font.size * 1.6)
    gap = line // 2
    places: list[tuple[int, int, int, str]] = []
    left, row = gap, 0
    for label, name in names.items():
        length = line + round(font.getlength(name)) + gap
        if left > gap and left + length > width:
            left, row = gap, row + 1
        places.append((left, row, label, name))
        left += length
    strip = Image.new("RGB", (width, (row + 1) * line + gap), PAPER)
    draw = ImageDraw.Draw(strip)
    swatch = round(line * 0.7)
    for left, row, label, name in places:
        top = gap // 2 + row * line
        colour = tuple(int(part) for part in palette[label])
        draw.rectangle((left, top, left + swatch - 1, top + swatch - 1), fill=colour, outline=INK)
        draw.text((left + line, top + swatch // 2), name, fill=INK, font=font, anchor="lm")
    return np.concatenate([image, np.asarray(strip)])


def _outline_width(size: tuple[int, ...]) -> int:
    return max(1, round(max(size) / 500))


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels bring FreeType"
    return font
