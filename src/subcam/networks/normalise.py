"""The first step of every network here: images as they are stored in, images as its weights know them out."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn


class Normalise(nn.Module):
    """(image / 255 - mean) / std, channel by channel, as one scale and shift.

    They are buffers that go where the network goes, so that no forward pass sends them to the device anew. They are in
    no file of weights: a network's settings have mean and std.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        super().__init__()
        means, deviations = (torch.tensor(three, dtype=torch.float64).view(1, 3, 1, 1) for three in (mean, std))
        self.register_buffer("scale", (1 / (255 * deviations)).float(), persistent=False)
        self.register_buffer("shift", (-means / deviations).float(), persistent=False)

    def forward(self, images: Shaped[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch 3 h w"]:
        """Normalised images.

        Args:
            images: RGB 0..255 of any dtype.
        """
        return torch.addcmul(self.shift, images.float(), self.scale)
