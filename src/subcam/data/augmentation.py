"""Augmentation of training images (Section 4.1): random scale, crop, flip and colour jitter.

In: an image and a random generator. Out: a UInt8 crop. Chance and pixels are apart: `draw_augmentation` settles
every random number from the image's size alone, `apply_augmentation` is a pure function of the result, so that only
the pixels that are needed are ever decoded and resized.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, ImageEnhance
from torch import Tensor

from subcam.checks.arguments import takes_arrays
from subcam.data.decoded_cache import DecodedImages
from subcam.data.image_file import open_image, read_file
from subcam.data.images import decodes_reduced, upright_rgb, upright_size
from subcam.data.settings import AugmentationSettings

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
_ENHANCED = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """One drawn variation of one image.

    scaled: height and width of the whole image after scaling; it is never made as a whole.
    taken: top, left, height, width of the part of the scaled image that is seen.
    placed: top and left of that part on the crop; not 0 only where the scaled image is smaller than the crop.
    flip: whether the part is flipped left to right.
    jitter: colour adjustments and their factors, in the order in which they are applied.
    """

    crop: int
    scaled: tuple[int, int]
    taken: tuple[int, int, int, int]
    placed: tuple[int, int]
    flip: bool
    jitter: tuple[tuple[str, float], ...]
    resampling: Literal["bilinear", "bicubic"]


def scaled_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """Height and width times `scale`, rounded half to even as in AffinityNet, at least 1 pixel."""
    return max(1, round(height * scale)), max(1, round(width * scale))


def long_side_size(height: int, width: int, long_side: int) -> tuple[int, int]:
    """Height and width after scaling the longer of them to `long_side` pixels, at least 1 pixel."""
    if height >= width:
        return long_side, max(1, round(width * long_side / height))
    return max(1, round(height * long_side / width)), long_side


def draw_augmentation(rng: np.random.Generator, size: tuple[int, int], settings: AugmentationSettings) -> Augmentation:
    """Draw one variation of an upright image of (height, width) `size`.

    The long side is uniform over whole pixels; the crop is uniform over all positions inside the scaled image or,
    along a side that is shorter than the crop, the image is uniform over all positions inside the crop. The four
    colour factors are uniform and applied in a random order, as torchvision's ColorJitter does.
    """
    low, high = settings.scale_long_side
    scaled = long_side_size(*size, int(rng.integers(low, high, endpoint=True)))
    (top, height, placed_top), (left, width, placed_left) = (_draw_span(rng, side, settings.crop) for side in scaled)
    flip = bool(rng.random() < settings.flip)
    factors = {
        name: float(rng.uniform(max(0.0, 1 - spread), 1 + spread))
        for name, spread in (
            ("brightness", settings.brightness),
            ("contrast", settings.contrast),
            ("saturation", settings.saturation),
        )
    }
    factors["hue"] = float(rng.uniform(-settings.hue, settings.hue))
    unchanged = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
    order = [list(factors)[place] for place in rng.permutation(len(factors))]
    return Augmentation(
        crop=settings.crop,
        scaled=scaled,
        taken=(top, left, height, width),
        placed=(placed_top, placed_left),
        flip=flip,
        jitter=tuple((name, factors[name]) for name in order if factors[name] != unchanged[name]),
        resampling=settings.resampling,
    )


def apply_augmentation(
    image: Image.Image, augmentation: Augmentation, *, fill: tuple[int, ...]
) -> UInt8[Tensor, "3 crop crop"]:
    """Make the crop that `augmentation` describes, RGB 0-255.

    Only the part that is seen is resized, once, and only that part is jittered; so the mean brightness to which
    `contrast` refers is the part's, where the published code takes the whole image's.

    image: upright RGB at any resolution (a JPEG may have been decoded at a fraction of its size).
    fill: RGB 0-255 around an image smaller than the crop. The network's mean colour gives zeros after normalisation,
        the padding of the published code.
    """
    top, left, height, width = augmentation.taken
    down, across = image.height / augmentation.scaled[0], image.width / augmentation.scaled[1]
    part = image.resize(
        (width, height),
        _RESAMPLING[augmentation.resampling],
        # rounding may carry the last edge a hair over the image, which Pillow refuses
        box=(
            left * across,
            top * down,
            min((left + width) * across, image.width),
            min((top + height) * down, image.height),
        ),
    )
    if augmentation.flip:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    part = jitter_colours(part, augmentation.jitter)
    if (height, width) != (augmentation.crop, augmentation.crop):
        canvas = Image.new("RGB", (augmentation.crop, augmentation.crop), tuple(fill))
        canvas.paste(part, augmentation.placed[::-1])
        part = canvas
    return torch.from_numpy(np.array(part)).permute(2, 0, 1).contiguous()


@takes_arrays()
def augment(
    image: Image.Image | UInt8[np.ndarray, "h w 3"],
    rng: np.random.Generator,
    settings: AugmentationSettings,
    *,
    fill: tuple[int, ...] = (0, 0, 0),
) -> UInt8[Tensor, "3 crop crop"]:
    """Draw a variation of an upright RGB image and make it; see `draw_augmentation` and `apply_augmentation`."""
    pil_image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    augmentation = draw_augmentation(rng, (pil_image.height, pil_image.width), settings)
    return apply_augmentation(pil_image, augmentation, fill=fill)


def jitter_colours(image: Image.Image, jitter: tuple[tuple[str, float], ...]) -> Image.Image:
    """Adjust brightness, contrast, saturation and hue by given factors in the given order.

    Equal to torchvision v2's ColorJitter on a PIL image, whose import takes 180 MiB.
    """
    for name, factor in jitter:
        image = _turned_hue(image, factor) if name == "hue" else _ENHANCED[name](image).enhance(factor)
    return image


def _turned_hue(image: Image.Image, turn: float) -> Image.Image:
    """The hue turned by a share of the circle, in Pillow's 256 steps; the last is the same as the first."""
    hue, saturation, value = image.convert("HSV").split()
    steps = int(255 * turn)
    return Image.merge("HSV", (hue.point([(h + steps) % 256 for h in range(256)]), saturation, value)).convert("RGB")


def varied_crop(
    path: Path,
    augmentation: AugmentationSettings,
    *,
    seed: tuple[int, ...],
    fill: tuple[int, ...],
    decoded: DecodedImages | None = None,
) -> tuple[UInt8[Tensor, "3 crop crop"], Augmentation, tuple[int, int]]:
    """The crop, what was drawn for it, and (height, width) of the upright image.

    Args:
        path: the image.
        augmentation: how it is varied.
        seed: settles the variation: `np.random.default_rng(seed)`.
        fill: RGB 0-255 around an image smaller than the crop.
        decoded: where images are kept decoded; None decodes it. The crop is the same.

    Raises:
        BadInputError: the image cannot be used; names it.
    """
    if decoded is not None:
        pixels = decoded.read(path)
        size = (pixels.shape[0], pixels.shape[1])
        drawn = draw_augmentation(np.random.default_rng(seed), size, augmentation)
        # A JPEG that is far too large is decoded at a fraction of its size, which gives other pixels.
        if not decodes_reduced(size, drawn.scaled):
            return apply_augmentation(Image.fromarray(pixels), drawn, fill=fill), drawn, size
    with open_image(path, data=read_file(path)) as image:
        size = upright_size(image)
        drawn = draw_augmentation(np.random.default_rng(seed), size, augmentation)
        return apply_augmentation(upright_rgb(image, path, at_least=drawn.scaled), drawn, fill=fill), drawn, size


def _draw_span(rng: np.random.Generator, side: int, crop: int) -> tuple[int, int, int]:
    """Along one axis: where the part starts in the image, how long it is, and where it lies on the crop."""
    offset = int(rng.integers(0, abs(side - crop), endpoint=True))
    return (offset, crop, 0) if side >= crop else (0, side, offset)
