"""A varied crop of an image: decoded as small as it may be, or taken from where it is kept decoded."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from subcam.data.augmentation import Augmentation, AugmentationSettings, apply_augmentation, draw_augmentation
from subcam.data.decoded_cache import DecodedImages
from subcam.data.images import decodes_reduced, open_image, read_file, upright_rgb, upright_size


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
