"""Queries and keys that are heard make the very weights that timm's plain attention computes."""

from typing import Any

import pytest
import torch
from tests.networks.encoders import NAMES, TRANSFORMERS, Encoder, shake
from torch import Tensor

from subcam.errors import SettingsError
from subcam.networks.backbones.build import Backbone, build_backbone
from subcam.networks.backbones.vit_attention import attention_layers, check_attention, heard_attention
from subcam.networks.settings import NetworkSettings


def build(encoder: Encoder, *, depth: int = 3, **model_args: Any) -> Backbone:
    torch.manual_seed(0)
    arguments = {**encoder.model_args, "depth": depth, "img_size": 4 * encoder.patch, **model_args}
    backbone = build_backbone(NetworkSettings(name=encoder.name, weights="none", model_args=arguments))
    shake(backbone)
    return backbone


def timms_weights(backbone: Backbone, x: Tensor) -> list[Tensor]:
    """Of each block, what its attention multiplies the values with where timm does not fuse it."""
    body: Any = backbone.body
    weights: list[Tensor] = []
    hooks = []
    for block in body.blocks:
        block.attn.fused_attn = False
        hooks.append(block.attn.attn_drop.register_forward_hook(lambda _, __, out: weights.append(out)))
    with torch.no_grad():
        backbone(x)
    for hook in hooks:
        hook.remove()
    for block in body.blocks:
        block.attn.fused_attn = True
    return weights


@pytest.mark.parametrize("encoder", TRANSFORMERS, ids=NAMES)
def test_they_make_timms_own_weights(encoder: Encoder) -> None:
    backbone = build(encoder)
    x = torch.randn(2, 3, 2 * encoder.patch, 5 * encoder.patch - 3)
    with torch.no_grad(), heard_attention(backbone, layers=2) as heard:
        features = backbone(x)
    weights = timms_weights(backbone, x)
    assert len(heard) == 2
    for (queries, keys, scale), expected in zip(heard, weights[1:], strict=True):
        assert queries.shape[2] == encoder.prefix + features.shape[2] * features.shape[3]
        mine = (queries @ keys.mT * scale).softmax(-1)
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
        # The attention must be of the images: uniform weights would pass for any keys.
        assert expected.std(-1).mean() > 1e-3


def test_norms_of_queries_and_keys_count() -> None:
    backbone = build(TRANSFORMERS[0], qk_norm=True)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), heard_attention(backbone, layers=3) as heard:
        backbone(x)
    for (queries, keys, scale), expected in zip(heard, timms_weights(backbone, x), strict=True):
        torch.testing.assert_close((queries @ keys.mT * scale).softmax(-1), expected, rtol=1e-4, atol=1e-5)


def test_heads_that_share_keys() -> None:
    encoder = Encoder("vit_small_patch16_dinov3", {"embed_dim": 64, "num_heads": 4}, 16, 5)
    backbone = build(encoder, num_kv_heads=2, qkv_fused=False, attn_type="rope")
    x = torch.randn(1, 3, 48, 64)
    with torch.no_grad(), heard_attention(backbone, layers=1) as heard:
        backbone(x)
    (queries, keys, scale) = heard[0]
    assert queries.shape == keys.shape == (1, 4, 5 + 12, 16)
    torch.testing.assert_close((queries @ keys.mT * scale).softmax(-1), timms_weights(backbone, x)[-1])


def hooks_of(backbone: Backbone) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in backbone.modules())


def test_nothing_is_set_where_nothing_is_wanted_and_nothing_stays() -> None:
    backbone = build(TRANSFORMERS[0])
    with heard_attention(backbone, layers=0) as heard:
        assert hooks_of(backbone) == 0
        backbone(torch.randn(1, 3, 64, 64))
    assert heard == []
    with heard_attention(backbone, layers=2):
        assert hooks_of(backbone) == 8
    with pytest.raises(RuntimeError), heard_attention(backbone, layers=2):
        backbone.body(torch.randn(1, 5, 64, 64))
    assert hooks_of(backbone) == 0


def test_listening_changes_no_bit_of_the_map() -> None:
    backbone = build(TRANSFORMERS[6])
    x = torch.randn(1, 3, 80, 64)
    with torch.no_grad():
        expected = backbone(x)
        with heard_attention(backbone, layers=3):
            assert torch.equal(backbone(x), expected)


@pytest.mark.parametrize(
    ("name", "model_args"),
    [
        ("tiny", {}),
        ("resnet18", {}),
        ("vit_tiny_patch16_224", {"depth": 1, "attn_layer": "diff"}),
        ("xcit_nano_12_p16_224", {"depth": 1}),
    ],
)
def test_networks_without_such_attention_are_refused(name: str, model_args: dict) -> None:
    settings = NetworkSettings(name=name, weights="none", model_args=model_args)
    with pytest.raises(SettingsError, match=f"'{name}' has no self-attention between all positions"):
        check_attention(settings, layers=1)
    check_attention(settings, layers=0)


def test_more_layers_than_there_are() -> None:
    backbone = build(TRANSFORMERS[0])
    assert [id(found) for found in attention_layers(backbone, layers=2)] == [
        id(block.attn) for block in list(backbone.body.blocks)[-2:]
    ]
    with pytest.raises(SettingsError, match=r"has 3 layers of attention; got attention_layers=4"):
        check_attention(backbone.settings, layers=4)


def test_checking_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    check_attention(NetworkSettings(name="vit_tiny_patch16_224", weights="timm"), layers=12)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_mask_or_hidden_keys_are_refused() -> None:
    """What timm may do one day must not pass for attention."""
    backbone = build(TRANSFORMERS[0], depth=1)
    attention: Any = attention_layers(backbone, layers=1)[0]
    tokens = torch.randn(1, 5, 48)
    with pytest.raises(SettingsError, match="with a mask"), heard_attention(backbone, layers=1):
        attention(tokens, attn_mask=torch.zeros(5, 5))
    attention.forward = lambda x: x
    with pytest.raises(SettingsError, match="hides queries and keys"), heard_attention(backbone, layers=1):
        attention(tokens)
