"""Layers before a coarse map do not learn, whatever the network is made of."""

from dataclasses import replace

import pytest

from subcam.networks.backbones.build import Backbone, build_backbone
from subcam.networks.settings import NetworkSettings


def build(name: str, *, frozen_below_stride: int = 1) -> Backbone:
    return build_backbone(NetworkSettings(name=name, weights="none", frozen_below_stride=frozen_below_stride))


def layers_that_learn(backbone: Backbone) -> set[str]:
    """The layers that learn, batch norm aside."""
    named = backbone.body.named_parameters()
    return {
        name.removesuffix(".weight") for name, p in named if p.requires_grad and name.endswith(".weight") and p.ndim > 1
    }


@pytest.mark.parametrize(
    ("name", "stride", "first", "frozen"),
    [
        ("mobilenetv2_100", 16, "blocks.3.0.conv_dw", 19),
        ("mobilenetv2_100", 4, "blocks.1.0.conv_dw", 4),
        ("resnet10t", 8, "layer2.0.conv1", 5),
        ("tiny", 4, "convs.2", 2),
        ("vit_tiny_patch16_224", 16, "patch_embed.proj", 0),
        ("tiny", 8, "convs.0", 0),  # its maps are all finer
        ("tiny", 1, "convs.0", 0),
    ],
)
def test_layers_before_a_coarse_map_do_not_learn(name: str, stride: int, first: str, frozen: int) -> None:
    everything = layers_that_learn(build(name))
    backbone = build(name, frozen_below_stride=stride)
    assert first in layers_that_learn(backbone)
    assert len(everything - layers_that_learn(backbone)) == frozen
    assert not backbone.training


def test_random_weights_learn_whole_and_saved_ones_stay_frozen() -> None:
    random = NetworkSettings(name="tiny", weights="none", frozen_below_stride=4)
    assert random.started_from(None).frozen_below_stride == 1
    trained = replace(random, weights="some.safetensors")
    assert trained.started_from("none") == replace(trained, weights="none")
    assert trained.started_from(None) == trained
