"""DeepLab-v2: the summed classifier, ResNet's layout in timm and in DeepLab's files, and what does not fit."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subcam.errors import CheckpointError, SettingsError
from subcam.networks.backbones.timm_models import plan_model
from subcam.networks.decoders.deeplab import DeepLabV2, DilatedClassifier, published_resnet_state, use_caffe_layout
from subcam.networks.settings import NetworkSettings


@torch.no_grad()
def test_a_cell_sees_the_nine_cells_of_each_dilation() -> None:
    """One channel in, all weights 1: the logit of a cell is the sum of what lies at 0 and at the four distances."""
    classifier = DilatedClassifier(1, 1)
    for branch in classifier.branches:
        nn.init.ones_(branch.weight)  # type: ignore[arg-type]
    x = torch.rand(1, 1, 50, 60)
    around = F.pad(x, (24, 24, 24, 24))[0, 0]
    expected = sum(
        around[24 + dy * d + 30, 24 + dx * d + 25] for d in (6, 12, 18, 24) for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    )
    torch.testing.assert_close(classifier(x)[0, 0, 30, 25], expected)


def test_the_classifier_starts_small_and_without_bias() -> None:
    torch.manual_seed(0)
    for branch in DilatedClassifier(256, 21).branches:
        assert branch.weight.std().item() == pytest.approx(0.01, rel=0.02)  # type: ignore[operator]
        assert not branch.bias.any()  # type: ignore[operator]


def test_resnet101_has_output_stride_8_by_dilation() -> None:
    """The last two stages are dilated by 2 and 4; timm's first block of each by what the stage before has."""
    plan = plan_model("resnet101", output_stride=8, model_args={})
    assert (plan.spatial_map.stride, plan.spatial_map.num_features) == (8, 2048)
    with torch.device("meta"):
        body: Any = plan.create(pretrained=False)
    middle = [[block.conv2 for block in stage] for stage in (body.layer2, body.layer3, body.layer4)]
    assert [{conv.dilation[0] for conv in stage[1:]} for stage in middle] == [{1}, {2}, {4}]
    assert [stage[0].dilation[0] for stage in middle] == [1, 1, 2]
    assert [stage[0].stride[0] for stage in middle] == [2, 1, 1]
    use_caffe_layout(body)
    assert [stage[0].dilation[0] for stage in middle] == [1, 2, 4]
    assert [stage[0].stride[0] for stage in middle] == [1, 1, 1]
    assert [body.layer2[0].conv1.stride, body.layer3[0].conv1.stride] == [(2, 2), (1, 1)]


@torch.no_grad()
def test_every_backbone_of_ours_carries_it() -> None:
    net = DeepLabV2(NetworkSettings(name="tiny", weights="none", neck_channels=32), 5)
    assert net.backbone.neck is None  # the neck is the classifier's
    assert net.grid.stride == 4
    assert net(torch.rand(2, 3, 32, 48)).shape == (2, 5, 8, 12)


# Published files. The reference below reads the file's own names, in BGR, as DeepLab's Caffe networks compute.


def published_state(stages: tuple[int, ...] = (2, 2, 2, 2)) -> dict[str, Tensor]:
    """Random weights under the names of PyTorch conversions of DeepLab's Caffe models."""
    state: dict[str, Tensor] = {}

    def unit(name: str, inputs: int, outputs: int, side: int) -> None:
        state[f"{name}.conv.weight"] = torch.randn(outputs, inputs, side, side) / (side * inputs**0.5)
        state[f"{name}.bn.weight"] = torch.rand(outputs) + 0.5
        state[f"{name}.bn.bias"] = torch.randn(outputs) * 0.1
        state[f"{name}.bn.running_mean"] = torch.randn(outputs) * 0.1
        state[f"{name}.bn.running_var"] = torch.rand(outputs) + 0.5

    unit("layer1.conv1", 3, 64, 7)
    channels = 64
    for stage, (blocks, width) in enumerate(zip(stages, (64, 128, 256, 512), strict=True), start=2):
        for block in range(1, blocks + 1):
            name = f"layer{stage}.block{block}"
            unit(f"{name}.reduce", channels, width, 1)
            unit(f"{name}.conv3x3", width, width, 3)
            unit(f"{name}.increase", width, 4 * width, 1)
            if block == 1:
                unit(f"{name}.shortcut", channels, 4 * width, 1)
            channels = 4 * width
    state["aspp.c0.weight"] = torch.randn(21, channels, 3, 3)
    return state


def published_forward(state: dict[str, Tensor], x: Tensor, stages: tuple[int, ...] = (2, 2, 2, 2)) -> Tensor:
    """The body of DeepLab-v2 on a BGR image less its mean: strides in 1x1 convolutions, dilations 1, 1, 2, 4."""

    def unit(name: str, x: Tensor, **where: int) -> Tensor:
        x = F.conv2d(x, state[f"{name}.conv.weight"], **where)  # type: ignore[arg-type]
        norm = [state[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *norm)

    x = F.max_pool2d(F.relu(unit("layer1.conv1", x, stride=2, padding=3)), 3, 2, 1, ceil_mode=True)
    for stage, blocks in enumerate(stages, start=2):
        dilation = {4: 2, 5: 4}.get(stage, 1)
        for block in range(1, blocks + 1):
            name, stride = f"layer{stage}.block{block}", 2 if (stage, block) == (3, 1) else 1
            inner = F.relu(unit(f"{name}.reduce", x, stride=stride))
            inner = F.relu(unit(f"{name}.conv3x3", inner, padding=dilation, dilation=dilation))
            inner = unit(f"{name}.increase", inner)
            x = F.relu(inner + (unit(f"{name}.shortcut", x, stride=stride) if block == 1 else x))
    return x


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return published_state()


@pytest.mark.parametrize(("side", "cells"), [(64, 9), (65, 9), (71, 10), (72, 10), (73, 10)])
@torch.no_grad()
def test_a_published_network_computes_here_what_it_computes_there(
    published: dict[str, Tensor], tmp_path: Path, side: int, cells: int
) -> None:
    """Names, BGR, mean, strides, dilations, sizes. ResNet-26 of timm has the plain stem of ResNet-101.

    At any size: the published networks see 321 pixels, and not the 328 to which other networks' images are padded.
    """
    torch.save({f"base.{name}": tensor for name, tensor in published.items()}, tmp_path / "deeplab.pth")
    settings = NetworkSettings(name="resnet26", weights=str(tmp_path / "deeplab.pth"), output_stride=8)
    body = timm.create_model("resnet26", num_classes=0)
    assert isinstance(body.conv1, nn.Conv2d)
    assert body.conv1.kernel_size == (7, 7)
    net = DeepLabV2(settings, 21).eval()
    assert net.caffe_layout
    assert net.settings.mean is not None
    assert net.settings.std is not None
    assert net.caffe_sizes
    rgb = torch.randint(0, 256, (1, 3, side, 96)).float()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (net.settings.mean, net.settings.std))
    bgr = rgb.flip(1) - torch.tensor([104.008, 116.669, 122.675]).view(1, 3, 1, 1)
    expected = published_forward(published, bgr)
    assert expected.shape == (1, 2048, cells, 13)
    padded = net.grid.pad((rgb / 255 - mean) / std)
    torch.testing.assert_close(net.backbone(padded), expected, rtol=1e-4, atol=1e-3)


def test_both_families_of_names_mean_the_same(published: dict[str, Tensor]) -> None:
    first = published_resnet_state(published)
    assert first is not None
    theirs = {f"Scale.{name}": tensor for name, tensor in first.items()}
    theirs["Scale.conv1.weight"] = first["conv1.weight"].flip(1)
    theirs["Scale.layer5.conv2d_list.0.weight"] = torch.zeros(21, 2048, 3, 3)
    second = published_resnet_state(theirs)
    assert second is not None
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(first["conv1.weight"][:, 0], published["layer1.conv1.conv.weight"][:, 2])


def test_torchvisions_names_are_left_to_the_backbone(tmp_path: Path) -> None:
    state = timm.create_model("resnet26").state_dict()
    assert published_resnet_state(state) is None
    torch.save(state, tmp_path / "resnet26.pth")
    net = DeepLabV2(NetworkSettings(name="resnet26", weights=str(tmp_path / "resnet26.pth"), output_stride=8), 3)
    assert not net.caffe_layout
    assert torch.equal(net.backbone.body.state_dict()["layer4.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_a_published_file_for_another_network_is_listed(published: dict[str, Tensor], tmp_path: Path) -> None:
    short = {name: tensor for name, tensor in published.items() if "layer5.block2.increase" not in name}
    torch.save(short | {"layer5.block2.gate.conv.weight": torch.zeros(1)}, tmp_path / "deeplab.pth")
    settings = NetworkSettings(name="resnet26", weights=str(tmp_path / "deeplab.pth"), output_stride=8)
    message = (
        r"(?s)deeplab\.pth does not fit.*lacks \(5\): layer4\.1\.conv3\.weight.*place for \(1\): layer5\.block2\.gate"
    )
    with pytest.raises(CheckpointError, match=message):
        DeepLabV2(settings, 21)


def test_only_resnets_have_deeplabs_layout() -> None:
    with pytest.raises(SettingsError, match=r"expected a ResNet with bottlenecks such as resnet101.*got 'resnet18'"):
        use_caffe_layout(timm.create_model("resnet18"), name="resnet18")


def test_a_file_without_a_first_convolution_is_refused() -> None:
    with pytest.raises(CheckpointError, match="there is no first convolution"):
        published_resnet_state({"layer2.block1.reduce.conv.weight": torch.zeros(1)})
    twice = {"layer2.block1.proj.conv.weight": torch.zeros(1), "layer2.block1.shortcut.conv.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"two tensors of the file are called layer1\.0\.downsample\.0\.weight"):
        published_resnet_state({"layer2.block1.reduce.conv.weight": torch.zeros(1), **twice})
