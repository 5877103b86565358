"""Wide ResNet-38 as in AffinityNet: images in, the 4096-channel map at an eighth of their size out (paper, Sec. 4.1).

Every block normalises and rectifies *before* it convolves, and there is no pooling: three blocks of stride 2 bring the
stride to 8, and the later stages widen their view by dilation instead. Layers carry the names of AffinityNet's and
SC-CAM's checkpoints, so that those load without any renaming.
"""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STRIDE = 8
NUM_FEATURES = 4096

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Input normalisation (RGB, 0-1) of AffinityNet and SC-CAM; the ImageNet weights were used with it as well."""


def _conv(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)


def _norm_relu(norm: nn.Module, x: Tensor) -> Tensor:
    # In place: batch norm keeps its input for the backward pass, not its output, so nothing is lost but memory use.
    return F.relu(norm(x), inplace=True)


class ResBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; `first_dilation` is that of the first, `dilation` that of the second."""

    def __init__(
        self, inputs: int, middle: int, outputs: int, *, stride: int = 1, first_dilation: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = _conv(inputs, middle, stride=stride, dilation=first_dilation)
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = _conv(middle, outputs, dilation=dilation)
        self.conv_branch1 = None
        if inputs != outputs or stride != 1:
            self.conv_branch1 = _conv(inputs, outputs, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and its normalised and rectified input (what AffinityNet taps)."""
        active = _norm_relu(self.bn_branch2a, x)
        shortcut = x if self.conv_branch1 is None else self.conv_branch1(active)
        branch = self.conv_branch2a(active)
        branch = self.conv_branch2b1(_norm_relu(self.bn_branch2b1, branch))
        return shortcut + branch, active


class BottleneckBlock(nn.Module):
    """1x1, dilated 3x3 and 1x1 convolutions with dropout of whole channels; the shortcut is a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = _conv(inputs, outputs // 4, kernel=1)
        self.bn_branch2b1 = nn.BatchNorm2d(outputs // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = _conv(outputs // 4, outputs // 2, dilation=dilation)
        self.bn_branch2b2 = nn.BatchNorm2d(outputs // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = _conv(outputs // 2, outputs, kernel=1)
        self.conv_branch1 = _conv(inputs, outputs, kernel=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and its normalised and rectified input (what AffinityNet taps)."""
        active = _norm_relu(self.bn_branch2a, x)
        branch = self.conv_branch2a(active)
        branch = self.conv_branch2b1(self.dropout_2b1(_norm_relu(self.bn_branch2b1, branch)))
        branch = self.conv_branch2b2(self.dropout_2b2(_norm_relu(self.bn_branch2b2, branch)))
        return self.conv_branch1(active) + branch, active


class ResNet38Maps(NamedTuple):
    """The maps that AffinityNet reads, all at stride 8 and all after batch norm and ReLU.

    conv4: 512 channels, the input of block b5; conv5: 1024 channels, the input of b6; conv6: 4096 channels, ReLU(bn7).
    """

    conv4: Tensor
    conv5: Tensor
    conv6: Tensor


class ResNet38(nn.Module):
    """Wide ResNet-38 without a classifier: 105,070,912 parameters, output stride 8, 4096 channels.

    Convolutions start from He's normal initialisation; the paper starts from ImageNet weights (see `checkpoints`,
    `mxnet_params`). Batch norm has eps 1e-5, as the published PyTorch code has it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1a = _conv(3, 64)
        self.b2 = ResBlock(64, 128, 128, stride=2)
        self.b2_1 = ResBlock(128, 128, 128)
        self.b2_2 = ResBlock(128, 128, 128)
        self.b3 = ResBlock(128, 256, 256, stride=2)
        self.b3_1 = ResBlock(256, 256, 256)
        self.b3_2 = ResBlock(256, 256, 256)
        self.b4 = ResBlock(256, 512, 512, stride=2)
        self.b4_1 = ResBlock(512, 512, 512)
        self.b4_2 = ResBlock(512, 512, 512)
        self.b4_3 = ResBlock(512, 512, 512)
        self.b4_4 = ResBlock(512, 512, 512)
        self.b4_5 = ResBlock(512, 512, 512)
        self.b5 = ResBlock(512, 512, 1024, first_dilation=1, dilation=2)
        self.b5_1 = ResBlock(1024, 512, 1024, first_dilation=2, dilation=2)
        self.b5_2 = ResBlock(1024, 512, 1024, first_dilation=2, dilation=2)
        self.b6 = BottleneckBlock(1024, 2048, dilation=4, dropout=0.3)
        self.b7 = BottleneckBlock(2048, 4096, dilation=4, dropout=0.5)
        self.bn7 = nn.BatchNorm2d(NUM_FEATURES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 4096 h w"]:
        """ReLU(bn7) of normalised RGB images of any size; h, w = ceil(height / 8), ceil(width / 8); values >= 0."""
        return self.intermediate_maps(x).conv6

    def intermediate_maps(self, x: Float[Tensor, "batch 3 height width"]) -> ResNet38Maps:
        """All three maps of AffinityNet in one pass; gradients flow through each of them."""
        x = self.conv1a(x)
        for name in ("b2", "b2_1", "b2_2", "b3", "b3_1", "b3_2", "b4", "b4_1", "b4_2", "b4_3", "b4_4", "b4_5"):
            x, _ = self.get_submodule(name)(x)
        x, conv4 = self.b5(x)
        x, _ = self.b5_1(x)
        x, _ = self.b5_2(x)
        x, conv5 = self.b6(x)
        x, _ = self.b7(x)
        return ResNet38Maps(conv4=conv4, conv5=conv5, conv6=_norm_relu(self.bn7, x))
