"""DeepLab-v2 on any backbone: four dilated 3x3 classifiers, summed (Chen et al., TPAMI 2018; the paper's Sec. 4.4)."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from subcam.errors import CheckpointError, SettingsError
from subcam.networks.backbones.build import Backbone, build_backbone
from subcam.networks.logit_grid import Grid
from subcam.networks.settings import NetworkSettings
from subcam.networks.weight_files import TORCH_SUFFIXES, load_into, load_state

DILATIONS = (6, 12, 18, 24)
"""Of the four branches; DeepLab-v2 calls their sum ASPP-L."""

CAFFE_MEAN = (122.675 / 255, 116.669 / 255, 104.008 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)
"""What DeepLab's published networks take off RGB in 0..1, and what they then divide by: they see 0..255."""

_STAGES_OF_LAYER = {"layer2": "layer1", "layer3": "layer2", "layer4": "layer3", "layer5": "layer4"}
_PARTS_OF_BLOCK = {
    "reduce.conv": "conv1",
    "reduce.bn": "bn1",
    "conv3x3.conv": "conv2",
    "conv3x3.bn": "bn2",
    "increase.conv": "conv3",
    "increase.bn": "bn3",
    "proj.conv": "downsample.0",
    "proj.bn": "downsample.1",
    "shortcut.conv": "downsample.0",
    "shortcut.bn": "downsample.1",
}


class DilatedClassifier(nn.Module):
    """Sum of 3x3 convolutions with different dilations: a cell is classified by what lies around it, near and far."""

    def __init__(self, num_features: int, channels: int, *, dilations: tuple[int, ...] = DILATIONS) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(num_features, channels, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )
        for name, parameter in self.branches.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(parameter, std=0.01)
            else:
                nn.init.zeros_(parameter)

    def forward(self, features: Float[Tensor, "batch dim h w"]) -> Float[Tensor, "batch channels h w"]:
        """Logits of each cell."""
        return torch.stack([branch(features) for branch in self.branches]).sum(0)


class DeepLabV2(nn.Module):
    """Any backbone and the dilated classifier.

    grid: of its logits. settings: those of the backbone, with the normalisation that belongs to its weights.
    caffe_layout: whether the backbone is laid out as DeepLab's published ResNet-101 (see `use_caffe_layout`).
    caffe_sizes: whether it takes images of any size unpadded, as that does (see `use_caffe_sizes`).
    """

    def __init__(
        self, settings: NetworkSettings, channels: int, *, caffe_layout: bool = False, caffe_sizes: bool = False
    ) -> None:
        """Build it with its initial weights; a file of published weights says both of Caffe, else they are given.

        Raises:
            SettingsError: no such backbone.
            CheckpointError: weights that cannot be had, read or fitted; all names that do not fit are listed.
        """
        super().__init__()
        # The neck belongs to the classification network (Section 4.1).
        settings = replace(settings, neck_channels=0)
        published = _published_state(settings.weights)
        if published is None:
            self.backbone: Backbone = build_backbone(settings)
        else:
            mean, std = settings.mean or CAFFE_MEAN, settings.std or CAFFE_STD
            self.backbone = build_backbone(replace(settings, weights="none", mean=mean, std=std))
            load_into(self.backbone.body, published, source=settings.weights)
        self.caffe_layout = caffe_layout or published is not None
        if self.caffe_layout:
            use_caffe_layout(self.backbone.body, name=settings.name)
        self.caffe_sizes = caffe_sizes or published is not None
        if self.caffe_sizes:
            use_caffe_sizes(self.backbone.body, name=settings.name)
        self.classifier = DilatedClassifier(self.backbone.num_features, channels)
        stride = self.backbone.stride
        self.grid = Grid(stride=stride, pad_multiple=1 if self.caffe_sizes else stride, least_side=stride)
        self.settings = replace(self.backbone.settings, weights=settings.weights)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels h w"]:
        """Logits of normalised images."""
        return self.classifier(self.backbone(x))

    def body_and_heads(self) -> tuple[nn.Module, list[nn.Module]]:
        """What was pretrained, and what is new and learns at the heads' rate."""
        return self.backbone.body, [self.classifier]


def use_caffe_layout(body: nn.Module, *, name: str = "resnet101") -> None:
    """Lay a timm ResNet with bottlenecks out as DeepLab's published networks are.

    Their strides are in a block's first 1x1 convolution, where torchvision and timm have them in the 3x3 one; and a
    dilated stage dilates all its blocks, where timm dilates the first as much as the stage before.

    Raises:
        SettingsError: the network is no such ResNet.
    """
    stages = [getattr(body, f"layer{index}", None) for index in (1, 2, 3, 4)]
    if any(stage is None or not hasattr(stage[0], "conv3") for stage in stages):
        raise SettingsError(f"expected a ResNet with bottlenecks such as resnet101 for DeepLab's weights, got '{name}'")
    for stage in stages:
        blocks: Any = stage
        first = blocks[0]
        first.conv1.stride, first.conv2.stride = first.conv2.stride, (1, 1)
        first.conv2.dilation = first.conv2.padding = blocks[1].conv2.dilation


def use_caffe_sizes(body: nn.Module, *, name: str = "resnet101") -> None:
    """Have a timm ResNet's pooling round up, as Caffe does, so that images need not be padded to whole cells.

    An image of 321 x 321 pixels then has the 41 x 41 cells of DeepLab's published networks, one of 320 x 320 too: the
    last cell lies beyond the edge there and is left out. There are never fewer than side / 8, rounded up.

    Raises:
        SettingsError: the network has no such pooling.
    """
    pooling = getattr(body, "maxpool", None)
    if not isinstance(pooling, nn.MaxPool2d):
        raise SettingsError(f"expected a ResNet with max pooling such as resnet101 for DeepLab's weights, got '{name}'")
    pooling.ceil_mode = True


def published_resnet_state(state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """A published DeepLab-v2's ResNet under torchvision's names, for RGB; None where the names are of no such file.

    Two families of conversions of DeepLab's Caffe models are known: "layer2.block1.reduce.conv.weight", with "base."
    before it in multi-scale ones, and torchvision's names with "layer5.conv2d_list" as the classifier, with "Scale."
    before it. Their classifiers are left out. They read BGR: the first convolution's channels are turned round.

    Raises:
        CheckpointError: two names mean the same layer, or there is no first convolution.
    """
    plain = {re.sub(r"^(base|Scale)\.", "", name): tensor for name, tensor in state.items()}
    blocks = any(re.match(r"layer\d\.block\d+\.reduce\.", name) for name in plain)
    if not blocks and not any(name.startswith("layer5.conv2d_list.") for name in plain):
        return None
    heads = ("aspp.", "fc.") if blocks else ("layer5.", "fc.")
    renamed: dict[str, Tensor] = {}
    for name, tensor in plain.items():
        if name.startswith(heads):
            continue
        target = _torchvision_name(name) if blocks else name
        if target in renamed:
            raise CheckpointError(f"two tensors of the file are called {target} in torchvision's ResNet; one is {name}")
        renamed[target] = tensor
    if "conv1.weight" not in renamed:
        raise CheckpointError(
            f"expected DeepLab-v2 with a ResNet; there is no first convolution in {sorted(renamed)[:5]}"
        )
    return renamed | {"conv1.weight": renamed["conv1.weight"].flip(1)}


def _torchvision_name(name: str) -> str:
    """`layer2.block3.reduce.conv.weight` as `layer1.2.conv1.weight`; names of another form come back as they are."""
    if match := re.fullmatch(r"layer1\.conv1\.(conv|bn)\.(\w+)", name):
        return f"{'conv1' if match[1] == 'conv' else 'bn1'}.{match[2]}"
    match = re.fullmatch(r"(layer[2-5])\.block(\d+)\.(\w+\.\w+)\.(\w+)", name)
    if match is None or match[3] not in _PARTS_OF_BLOCK:
        return name
    return f"{_STAGES_OF_LAYER[match[1]]}.{int(match[2]) - 1}.{_PARTS_OF_BLOCK[match[3]]}.{match[4]}"


def _published_state(weights: str) -> dict[str, Tensor] | None:
    """The ResNet of the file if it is a published DeepLab-v2; None for anything else."""
    if Path(weights).suffix not in (".safetensors", *TORCH_SUFFIXES):
        return None
    return published_resnet_state(load_state(weights))
