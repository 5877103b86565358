"""Training crops for segmentation: a varied image and the mask of the same crop, pseudo or true."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset

from subcam.data.augmentation import Augmentation, varied_crop
from subcam.data.decoded_cache import DecodedImages
from subcam.data.images import read_mask
from subcam.data.records import IGNORE_INDEX, ImageSet, Record, mask_values_of
from subcam.data.settings import AugmentationSettings
from subcam.errors import BadInputError


class SegmentationImages(Dataset[tuple[Tensor, Tensor]]):
    """Crops and their masks, addressed by (epoch, index); chance depends on seed, epoch and index alone.

    Args:
        image_set: images with the masks to learn from.
        augmentation: how images are varied.
        seed: with epoch and index it settles the variation, and the order of the images.
        fill: RGB 0-255 around images smaller than the crop; the mask is 255 (ignored) there.
        decoded: where images are kept decoded; None decodes them each time.

    Raises:
        BadInputError: an image has no mask.
    """

    def __init__(
        self,
        image_set: ImageSet,
        augmentation: AugmentationSettings,
        *,
        seed: int,
        fill: tuple[int, ...],
        decoded: DecodedImages | None = None,
    ) -> None:
        self.pairs: list[tuple[Path, Path, int]] = []
        for record in image_set.records:
            if record.mask is None:
                raise BadInputError(f"{record.image}: expected a mask to learn from, got none; leave the image out")
            self.pairs.append((record.image, record.mask, record.mask_turn))
        self.mask_values = image_set.mask_values
        self.augmentation = augmentation
        self.seed = seed
        self.fill = fill
        self.decoded = decoded

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[UInt8[Tensor, "3 crop crop"], UInt8[Tensor, "crop crop"]]:
        """The crop of image `index` in `epoch`, and its mask: 0 background, c + 1 class c, 255 ignored.

        Raises:
            BadInputError: a file cannot be used, or the mask is not as large as its image; names it.
        """
        epoch, index = key
        path, mask_path, turn = self.pairs[index]
        crop, drawn, size = varied_crop(
            path, self.augmentation, seed=(self.seed, epoch, index), fill=self.fill, decoded=self.decoded
        )
        mask = read_mask(mask_path, self.mask_values, size=size, turn=turn)
        return crop, torch.from_numpy(augment_mask(mask, drawn))


def augment_mask(mask: UInt8[np.ndarray, "h w"], augmentation: Augmentation) -> UInt8[np.ndarray, "crop crop"]:
    """Scale, crop and flip a mask as `apply_augmentation` does its image: nearest pixel, 255 outside the image."""
    top, left, height, width = augmentation.taken
    down, across = (side / scaled for side, scaled in zip(mask.shape, augmentation.scaled, strict=True))
    # the pixel in which the centre of each pixel of the crop lies
    rows = ((top + np.arange(height) + 0.5) * down).astype(np.int64).clip(max=mask.shape[0] - 1)
    columns = ((left + np.arange(width) + 0.5) * across).astype(np.int64).clip(max=mask.shape[1] - 1)
    part = mask[np.ix_(rows, columns[::-1] if augmentation.flip else columns)]
    placed_top, placed_left = augmentation.placed
    out = np.full((augmentation.crop, augmentation.crop), IGNORE_INDEX, np.uint8)
    out[placed_top : placed_top + height, placed_left : placed_left + width] = part
    return out


def with_masks(image_set: ImageSet, path_of: Callable[[Record], Path]) -> ImageSet:
    """The same images with masks of this system's own, such as pseudo masks.

    path_of: an image's mask; it stores 0 for background, c + 1 for class c of the set, 255 for ignored.
    """
    return replace(
        image_set,
        records=tuple(replace(record, mask=path_of(record), mask_turn=1) for record in image_set.records),
        mask_values=mask_values_of(image_set.class_names, image_set.class_names),
    )


def only_masked(image_set: ImageSet) -> ImageSet:
    """Only the images that have a ground-truth mask.

    Raises:
        BadInputError: none has.
    """
    masked = image_set.where([record.mask is not None for record in image_set.records])
    if not masked.records:
        raise BadInputError(
            f"expected ground-truth masks of the training images, got none of {len(image_set)}; train on pseudo masks,"
            " or give images that have some (of COCO: --dataset.train-masks)"
        )
    return masked
