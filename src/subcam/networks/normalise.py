"""The first step of every network here: images as they are stored in, images as its weights know them out."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn


class Normalise(nn.Module):
    """(image / 255 - mean) / std, channel by channel.

    Mean and std are buffers that go where the network goes, so that no forward pass sends them to the device anew. They
    are in no file of weights: a network's settings have them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Shaped[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h w"]:
        """Normalised images.

        Args:
            images: RGB 0..255 of any dtype.
        """
        return (images.float() / 255 - self.mean) / self.std
