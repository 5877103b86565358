"""The grid of cells on which a segmentation network gives its logits."""

from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Grid:
    """How a network's logits lie on its images.

    stride: pixels to one cell, each way. pad_multiple: sides of images must be multiples of it, and at least
    `least_side`.
    """

    stride: int
    pad_multiple: int
    least_side: int

    def pad(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 padded_h padded_w"]:
        """Normalised images with zeros (the mean colour) at the bottom and the right, to a size that will do."""
        bottom, right = (max(-side % self.pad_multiple, self.least_side - side) for side in images.shape[2:])
        return F.pad(images, (0, right, 0, bottom))

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of cells that cover an image of (height, width) `size`."""
        return -(-size[0] // self.stride), -(-size[1] // self.stride)

    def crop(
        self, logits: Float[Tensor, "batch channels rows columns"], size: tuple[int, int]
    ) -> Float[Tensor, "batch channels h w"]:
        """The logits of the cells that cover an image of (height, width) `size`, of those of the padded image."""
        rows, columns = self.cells(size)
        return logits[:, :, :rows, :columns]
