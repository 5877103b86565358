"""The strip below an image that names the colours of its classes."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from subcam.data.images import voc_palette

PAPER = (255, 255, 255)
INK = (30, 30, 30)


def with_legend(image: UInt8[np.ndarray, "h w 3"], names: Mapping[int, str]) -> UInt8[np.ndarray, "h_and_legend w 3"]:
    """The image with a strip below it that names the colours; it covers nothing of the image.

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


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow's wheels bring FreeType"
    return font
