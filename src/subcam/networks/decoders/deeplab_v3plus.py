"""DeepLab-v3+ on any backbone: dilated views and the whole image, then finer features (Chen et al., ECCV 2018).

Our own, though segmentation-models-pytorch has one (the tests compare both): the import of that library takes twice as
long as all else that a prediction does, and it knows no ResNet-38. This one stands on any backbone that gives features
of several strides.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from subcam.networks.backbones.build import Backbone, build_backbone
from subcam.networks.decoders.pyramid import feature_pyramid, plan_pyramid
from subcam.networks.logit_grid import Grid
from subcam.networks.settings import NetworkSettings

WIDTH = 256
FINE_WIDTH = 48
"""Channels that the finer features are brought to: few, so that they do not outweigh the coarse ones (the paper)."""

DROPOUT = 0.5
REACH = 96
"""Pixels between the taps of the first dilated convolution; of the others twice and three times as many. In cells that
is 6, 12, 18 at stride 16 and 12, 24, 36 at stride 8, as in the paper."""


def conv_block(inputs: int, outputs: int, *, size: int = 1, dilation: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; a 3x3 one is split into one of each channel and a 1x1 one over channels."""
    layers: list[nn.Module] = []
    if size > 1:
        padding = dilation * (size // 2)
        layers.append(nn.Conv2d(inputs, inputs, size, padding=padding, dilation=dilation, groups=inputs, bias=False))
    layers += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class PooledContext(nn.Module):
    """What the whole image shows, at every cell."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, features: Float[Tensor, "batch dim h w"]) -> Float[Tensor, "batch outputs h w"]:
        """The mean over the image through a 1x1 convolution and ReLU; batch norm would need more than one value."""
        pooled = F.relu(self.conv(features.mean((2, 3), keepdim=True)))
        return pooled.expand(-1, -1, *features.shape[2:])


class Context(nn.Module):
    """The pyramid of dilated convolutions, "ASPP": each cell as it is, in three surroundings, and in the image."""

    def __init__(self, inputs: int, *, stride: int) -> None:
        super().__init__()
        rates = [max(1, times * REACH // stride) for times in (1, 2, 3)]
        self.branches = nn.ModuleList(
            [
                conv_block(inputs, WIDTH),
                *(conv_block(inputs, WIDTH, size=3, dilation=rate) for rate in rates),
                PooledContext(inputs, WIDTH),
            ]
        )
        self.project = nn.Sequential(conv_block(len(self.branches) * WIDTH, WIDTH), nn.Dropout(DROPOUT))
        self.refine = conv_block(WIDTH, WIDTH, size=3)

    def forward(self, features: Float[Tensor, "batch dim h w"]) -> Float[Tensor, "batch 256 h w"]:
        """Features of the same grid."""
        return self.refine(self.project(torch.cat([branch(features) for branch in self.branches], dim=1)))


class DeepLabV3Plus(nn.Module):
    """Any backbone, its coarsest features in their surroundings, joined with those of stride 4 (or its finest).

    grid: of its logits. settings: those of the backbone, with the normalisation that belongs to its weights.
    """

    def __init__(self, settings: NetworkSettings, channels: int) -> None:
        """Build it with its initial weights.

        Raises:
            SettingsError: no such backbone, or one that does not give features of several strides.
            CheckpointError: weights that cannot be had, read or fitted.
        """
        super().__init__()
        self.backbone: Backbone = build_backbone(replace(settings, neck_channels=0))
        self.plan = plan_pyramid(self.backbone)
        fine, coarse = self.plan.strides[0], self.plan.strides[-1]
        self.context = Context(self.plan.channels[-1], stride=coarse)
        self.fine = conv_block(self.plan.channels[0], FINE_WIDTH)
        self.join = conv_block(WIDTH + FINE_WIDTH, WIDTH, size=3)
        self.classifier = nn.Conv2d(WIDTH, channels, 1)
        multiple = math.lcm(coarse, self.backbone.stride, self.backbone.pad_multiple)
        self.grid = Grid(stride=fine, pad_multiple=multiple, least_side=multiple)
        self.settings = replace(self.backbone.settings, weights=settings.weights)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels h w"]:
        """Logits of normalised images."""
        features = feature_pyramid(self.backbone, self.plan, x)
        fine = self.fine(features[0])
        context = self.context(features[-1])
        context = F.interpolate(context, size=fine.shape[2:], mode="bilinear", align_corners=False)
        return self.classifier(self.join(torch.cat([context, fine], dim=1)))

    def body_and_heads(self) -> tuple[nn.Module, list[nn.Module]]:
        """What was pretrained, and what is new and learns at the heads' rate."""
        return self.backbone.body, [self.context, self.fine, self.join, self.classifier]
