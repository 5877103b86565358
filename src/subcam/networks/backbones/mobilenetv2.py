"""MobileNetV2 at width 1.0 (Sandler et al. 2018) under timm's names: its weights give the same numbers here.

A saved network is built on it without timm, whose import takes longer than all else that a prediction does.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

NAME = "mobilenetv2_100"
STRIDE = 32
NUM_FEATURES = 1280
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

STEM = 32
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Of each stage: how much its blocks widen inside, their channels, their number, and the stride of the first."""

LAST_OF_STRIDE = (0, 1, 2, 4, 6)
"""The stages after which the published network halves the map, and the last."""


class MobileNetV2(nn.Module):
    """The network without its classifier; strides beyond `output_stride` (8, 16 or 32) become dilations, as in timm.

    pad_same: pad strided convolutions as TensorFlow does (timm's pad_type=same), with the larger part at the end.
    """

    def __init__(self, *, output_stride: int = STRIDE, pad_same: bool = False) -> None:
        super().__init__()
        strided = Conv2dSame if pad_same else partial(nn.Conv2d, padding=1)
        self.conv_stem = strided(3, STEM, 3, stride=2, bias=False)
        self.bn1 = NormAndReLU6(STEM)
        self.blocks = nn.ModuleList()
        inputs, reached, dilation = STEM, 2, 1
        for widening, outputs, count, first_stride in STAGES:
            stage = nn.ModuleList()
            for stride in (first_stride, *[1] * (count - 1)):
                dilates = reached * stride > output_stride
                stage.append(
                    Block(
                        inputs,
                        outputs,
                        widening=widening,
                        stride=1 if dilates else stride,
                        dilation=dilation,
                        strided=strided,
                    )
                )
                # The block that would have halved the map still reads adjacent positions; those after it are dilated.
                dilation, reached = (dilation * stride, reached) if dilates else (dilation, reached * stride)
                inputs = outputs
            self.blocks.append(stage)
        self.conv_head = nn.Conv2d(inputs, NUM_FEATURES, 1, bias=False)
        self.bn2 = NormAndReLU6(NUM_FEATURES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                outgoing = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=(2 / outgoing) ** 0.5)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 1280 h w"]:
        """Features of normalised images of any size; h, w = ceil(height / stride), ceil(width / stride)."""
        return self.bn2(self.conv_head(self.intermediate_maps(x)[-1]))

    def intermediate_maps(self, x: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
        """The maps of the stages `LAST_OF_STRIDE`, which are timm's intermediate features."""
        x = self.bn1(self.conv_stem(x))
        maps: list[Tensor] = []
        for index, stage in enumerate(self.blocks):
            for block in stage.children():
                x = block(x)
            if index in LAST_OF_STRIDE:
                maps.append(x)
        return maps


class NormAndReLU6(nn.BatchNorm2d):
    """Batch norm and ReLU6; timm's file of weights knows it as batch norm."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.act = nn.ReLU6(inplace=True)

    def forward(self, input: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h w"]:
        """The normalised map, cut to 0..6."""
        return self.act(super().forward(input))


class Conv2dSame(nn.Conv2d):
    """A strided convolution whose map has ceil(size / stride) cells; an odd zero goes to the bottom and the right."""

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs h w"]:
        """The convolution of the padded map."""
        return super().forward(F.pad(x, same_pads(self, (x.shape[2], x.shape[3]))))


def same_pads(convolution: nn.Conv2d, size: tuple[int, int]) -> list[int]:
    """Zeros left, right, above and below, by which a map of this size gives ceil(size / stride) cells."""
    pads: list[int] = []
    for side, kernel, stride, dilation in zip(
        size[::-1], convolution.kernel_size[::-1], convolution.stride[::-1], convolution.dilation[::-1], strict=True
    ):
        missing = max((-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
        pads += [missing // 2, missing - missing // 2]
    return pads


class Block(nn.Module):
    """Widen by a 1x1 convolution (not in the first block), filter each channel, narrow; add the input where it fits."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        widening: int,
        stride: int,
        dilation: int,
        strided: Callable[..., nn.Conv2d],
    ) -> None:
        super().__init__()
        width = widening * inputs
        self.widens = widening > 1
        self.adds = stride == 1 and inputs == outputs
        self.conv_dw = (
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, groups=width, bias=False)
            if stride == 1
            else strided(width, width, 3, stride=stride, groups=width, bias=False)
        )
        narrow = nn.Conv2d(width, outputs, 1, bias=False)
        # timm calls the narrowing convolution conv_pw where it is the only 1x1 convolution, else conv_pwl.
        self.bn1 = NormAndReLU6(width)
        self.bn2 = NormAndReLU6(width) if self.widens else nn.BatchNorm2d(outputs)
        if self.widens:
            self.conv_pw, self.conv_pwl = nn.Conv2d(inputs, width, 1, bias=False), narrow
            self.bn3 = nn.BatchNorm2d(outputs)
        else:
            self.conv_pw = narrow

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs h w"]:
        """The block's map."""
        if self.widens:
            y = self.bn1(self.conv_pw(x))
            y = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(y))))
        else:
            y = self.bn2(self.conv_pw(self.bn1(self.conv_dw(x))))
        return x + y if self.adds else y
