"""A small plain convolutional network for the built-in pictures: trained from nothing, on a CPU, in under a minute."""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STRIDE = 8
NUM_FEATURES = 128
MEAN = STD = (0.5, 0.5, 0.5)

WIDTHS = (3, 32, 32, 64, 64, 128, 128, 128, NUM_FEATURES)
STRIDES = (2, 1, 2, 1, 2, 1, 1, 1)


class TinyNetwork(nn.Module):
    """Eight 3x3 convolutions, each with group norm and ReLU: 0.58 M parameters, stride 8, a view of 75 pixels.

    Group norm, because there are no pretrained statistics to keep, and the recipes freeze batch norm.
    """

    def __init__(self) -> None:
        super().__init__()
        convs = [
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
            for (inputs, outputs), stride in zip(pairwise(WIDTHS), STRIDES, strict=True)
        ]
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in WIDTHS[1:])

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 128 h w"]:
        """Features >= 0 of normalised pictures of any size; h, w = ceil(height / 8), ceil(width / 8)."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return x
