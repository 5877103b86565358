"""A small plain convolutional network for the built-in images: trained from nothing, on a CPU, in under a minute."""

from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STRIDE = 4
NUM_FEATURES = 128
MEAN = STD = (0.5, 0.5, 0.5)

WIDTHS = (3, 24, 24, 48, 48, 96, 96, NUM_FEATURES)
STRIDES = (2, 1, 2, 1, 1, 1, 1)


class TinyNetwork(nn.Module):
    """Seven 3x3 convolutions, each with batch norm and ReLU: 0.27 M parameters, stride 4, a view of 43 pixels.

    Batch norm learns the built-in classes in a third of the epochs that group norm takes, so it must not be frozen
    here: set `freeze_batch_norm` to False.
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
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in WIDTHS[1:])

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 128 h w"]:
        """Features >= 0 of normalised images of any size; h, w = ceil(height / 4), ceil(width / 4)."""
        return self.intermediate_maps(x)[-1]

    def intermediate_maps(self, x: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """The last map of each stride: 2 and 4."""
        maps: list[Tensor] = []
        for conv, norm, stride in zip(self.convs, self.norms, STRIDES, strict=True):
            if stride > 1 and x.shape[1] > WIDTHS[0]:
                maps.append(x)
            x = F.relu(norm(conv(x)))
        return [*maps, x]
