"""Training crops for AffinityNet: a varied image and the label map of the same crop, from its CRF marginals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from subcam.affinity.labels import affinity_label_map
from subcam.affinity.marginals import marginals_path, read_marginals
from subcam.affinity.pairs import pool_to_grid
from subcam.data.augmentation import Augmentation, apply_augmentation, draw_augmentation
from subcam.data.decoded_cache import DecodedImages
from subcam.data.images import read_image
from subcam.data.records import Record
from subcam.data.settings import AugmentationSettings


class AffinityImages(Dataset[tuple[Tensor, Tensor]]):
    """Crops and label maps, addressed by (epoch, index); chance depends on seed, epoch and index alone.

    Args:
        records: the images.
        marginals: folder of the stage that wrote their CRF marginals.
        augmentation: how images are varied; the crop is a multiple of 8.
        seed: with epoch and index it settles the variation, and the order of the images.
        fill: RGB 0-255 around images smaller than the crop.
        decoded: where images are kept decoded; None decodes them each time.
    """

    def __init__(
        self,
        records: Sequence[Record],
        marginals: Path,
        augmentation: AugmentationSettings,
        *,
        seed: int,
        fill: tuple[int, ...],
        decoded: DecodedImages | None = None,
    ) -> None:
        self.records = tuple(records)
        self.marginals = marginals
        self.augmentation = augmentation
        self.seed = seed
        self.fill = fill
        self.read = decoded.read if decoded else read_image

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> tuple[UInt8[Tensor, "3 crop crop"], UInt8[Tensor, "grid grid"]]:
        """The crop of image `index` in `epoch`, and its label map (see `affinity_label_map`)."""
        epoch, index = key
        record = self.records[index]
        rng = np.random.default_rng((self.seed, epoch, index))
        image = Image.fromarray(self.read(record.image))
        drawn = draw_augmentation(rng, (image.height, image.width), self.augmentation)
        crop = apply_augmentation(image, drawn, fill=self.fill)
        scores = read_marginals(marginals_path(self.marginals, record.name))
        low, high = (
            pool_to_grid(torch.from_numpy(apply_geometry(maps, drawn)))
            for maps in (scores.low_alpha, scores.high_alpha)
        )
        return crop, affinity_label_map(low, high)


def apply_geometry(
    maps: UInt8[np.ndarray, "channels h w"], augmentation: Augmentation
) -> Float[np.ndarray, "channels crop crop"]:
    """Scale, crop and flip maps as `apply_augmentation` does the image; values 0..1, zero outside the image."""
    top, left, height, width = augmentation.taken
    down, across = maps.shape[1] / augmentation.scaled[0], maps.shape[2] / augmentation.scaled[1]
    box = (
        left * across,
        top * down,
        min((left + width) * across, maps.shape[2]),
        min((top + height) * down, maps.shape[1]),
    )
    placed_top, placed_left = augmentation.placed
    out = np.zeros((len(maps), augmentation.crop, augmentation.crop), np.float32)
    for channel, values in zip(out, maps, strict=True):
        part = np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR, box=box))
        part = part[:, ::-1] if augmentation.flip else part
        channel[placed_top : placed_top + height, placed_left : placed_left + width] = part / np.float32(255)
    return out
