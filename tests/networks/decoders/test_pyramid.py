"""Features of a backbone at several strides: which are chosen, and that they are the backbone's own."""

from typing import Any

import pytest
import torch

from subcam.errors import SettingsError
from subcam.networks.backbones.build import build_backbone
from subcam.networks.decoders.pyramid import PyramidPlan, feature_pyramid, plan_pyramid
from subcam.networks.settings import NetworkSettings


def backbone(name: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    return build_backbone(NetworkSettings(name=name, weights="none", **settings))


@pytest.mark.parametrize(
    ("name", "settings", "channels", "strides"),
    [
        ("tiny", {}, (128,), (4,)),
        ("resnet18", {}, (64, 128, 256, 512), (4, 8, 16, 32)),
        ("resnet18", {"output_stride": 8}, (64, 128, 256, 512), (4, 8, 8, 8)),
        ("mobilenetv2_100", {}, (24, 32, 96, 320), (4, 8, 16, 32)),
        ("vit_tiny_patch16_224", {}, (192,) * 4, (16,) * 4),
    ],
)
def test_the_last_four_features_of_stride_4_and_more(
    name: str, settings: dict, channels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    network = backbone(name, **settings)
    plan = plan_pyramid(network)
    assert (plan.channels, plan.strides) == (channels, strides)
    x = torch.randn(1, 3, 64, 96)
    for feature, count, stride in zip(feature_pyramid(network, plan, x), channels, strides, strict=True):
        assert feature.shape == (1, count, 64 // stride, 96 // stride)


def test_the_last_feature_is_the_backbones_map() -> None:
    for name in ("tiny", "resnet18"):
        network = backbone(name)
        x = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(feature_pyramid(network, plan_pyramid(network), x)[-1], network(x))


@pytest.mark.slow
def test_resnet38_gives_affinitynets_maps() -> None:
    """On the meta device the maps have shapes alone."""
    network = backbone("resnet38")
    plan = plan_pyramid(network)
    assert plan == PyramidPlan(indices=(0, 1, 2), channels=(512, 1024, 4096), strides=(8, 8, 8))
    maps = feature_pyramid(network.to("meta"), plan, torch.empty(1, 3, 67, 93, device="meta"))
    assert [tuple(feature.shape) for feature in maps] == [(1, c, 9, 12) for c in (512, 1024, 4096)]


@pytest.mark.parametrize("training", [True, False])
def test_planning_changes_nothing(training: bool) -> None:
    """Neither the mode, nor batch norm's statistics, nor chance."""
    network = backbone("tiny", freeze_batch_norm=False).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    plan_pyramid(network)
    assert torch.equal(torch.rand(3), expected)
    assert network.training is training
    assert network.body.norms[0].training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_gradient_flows_through_each_feature() -> None:
    network = backbone("resnet18")
    features = feature_pyramid(network, plan_pyramid(network), torch.randn(1, 3, 64, 64))
    for feature in features:
        network.zero_grad()
        feature.square().sum().backward(retain_graph=True)
        assert network.body.conv1.weight.grad.abs().sum() > 0


def test_a_network_without_intermediate_features_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = backbone("resnet18")
    monkeypatch.delattr(type(network.body), "forward_intermediates")
    with pytest.raises(SettingsError, match="'resnet18' does not give intermediate features; choose resnet38 or"):
        plan_pyramid(network)
