"""How timm's families give their maps, against the models' own outputs; and what is refused before a weight is made."""

import math

import pytest
import timm
import torch
from torch import Tensor, nn

from subcam.errors import SettingsError
from subcam.networks.backbones.timm_models import convert_state, plan_model

# name, further arguments, and what the map must be like: layout, channels, stride
CONVOLUTIONAL = {
    "mobilenetv2_100": (1280, 32),
    "resnet18": (512, 32),
    "convnext_atto": (320, 32),
    "resnetv2_18": (512, 32),
}
SHALLOW = {"depth": 2}
TRANSFORMERS = {
    "vit_tiny_patch16_224": (SHALLOW, 192, 16, 1),
    "vit_small_patch14_reg4_dinov2": (SHALLOW, 384, 14, 5),
    "vit_tiny_r_s16_p8_224": (SHALLOW, 192, 32, 1),
    "deit_tiny_distilled_patch16_224": (SHALLOW, 192, 16, 2),
    "vit_base_patch16_gap_224": ({"depth": 1, "embed_dim": 192, "num_heads": 3}, 192, 16, 0),
    "eva02_tiny_patch14_224": (SHALLOW, 192, 14, 1),
}


def build(name: str, model_args: dict | None = None, output_stride: int | None = None) -> tuple:
    plan = plan_model(name, output_stride=output_stride, model_args=model_args or {})
    torch.manual_seed(0)
    return plan, plan.create(pretrained=False).eval()


@torch.no_grad()
def read(plan, model: nn.Module, x: Tensor) -> Tensor:
    return plan.spatial_map.read(model, x)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_map_is_what_forward_features_gives(name: str) -> None:
    plan, model = build(name)
    assert (plan.spatial_map.num_features, plan.spatial_map.stride) == CONVOLUTIONAL[name]
    assert (plan.spatial_map.layout, plan.spatial_map.pad_multiple) == ("nchw", 1)
    x = torch.randn(2, 3, 97, 133)
    with torch.no_grad():
        expected = model.forward_features(x)
        if name == "convnext_atto":  # its norm comes after the pooling, see test_encoders
            expected = model.head.norm(expected)
    assert torch.equal(read(plan, model, x), expected)
    assert expected.shape[1] == plan.spatial_map.num_features
    sides = [(math.floor(n / 32), math.ceil(n / 32)) for n in (97, 133)]
    assert all(side in bounds for side, bounds in zip(expected.shape[2:], sides, strict=True))


def test_a_norm_behind_a_layer_of_the_head_is_none_of_the_map() -> None:
    """Of InceptionNeXt: it works on three times as many channels."""
    plan, model = build("inception_next_atto")
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(read(plan, model, x), model.forward_features(x))


@pytest.mark.parametrize("name", ["deepseek_vit_412m", "qwen3_vit_88m"])
def test_the_norm_of_a_classifier_around_an_encoder_is_applied(name: str) -> None:
    plan, model = build(name, {"depth": 2, "embed_dim": 64, "num_heads": 2})
    with torch.no_grad():
        if hasattr(model.encoder, "norm"):
            model.encoder.norm.weight.uniform_(0.5, 3)  # as trained: with ones the second norm would change nothing
        x = torch.randn(1, 3, 6 * plan.spatial_map.stride, 4 * plan.spatial_map.stride)
        features = model.forward_features(x)
        found = read(plan, model, x)
        torch.testing.assert_close(found, model.norm(features).permute(0, 3, 1, 2))
        assert not torch.allclose(found, features.permute(0, 3, 1, 2), rtol=1e-3)
        pooled = model.norm(features.mean((1, 2)))
        assert torch.nn.functional.cosine_similarity(found.mean((2, 3)), pooled).item() > 0.9


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_tokens_are_put_back_on_their_grid(name: str) -> None:
    """Prefix tokens cut off by hand, the rest laid out row by row."""
    model_args, channels, stride, prefix = TRANSFORMERS[name]
    plan, model = build(name, model_args)
    assert (plan.spatial_map.layout, plan.spatial_map.num_features, plan.spatial_map.stride) == (
        "tokens",
        channels,
        stride,
    )
    rows, columns = 3, 5
    x = torch.randn(2, 3, rows * stride, columns * stride)
    with torch.no_grad():
        tokens = model.fc_norm(model.forward_features(x))
    assert tokens.shape == (2, prefix + rows * columns, channels)
    expected = tokens[:, prefix:].reshape(2, rows, columns, channels).permute(0, 3, 1, 2)
    torch.testing.assert_close(read(plan, model, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_take_images_that_are_no_multiple_of_the_patch(name: str) -> None:
    model_args, channels, stride, _ = TRANSFORMERS[name]
    plan, model = build(name, model_args)
    height, width = 3 * stride + 1, 5 * stride - 1
    x = torch.randn(1, 3, height, width)
    out = read(plan, model, x)
    assert out.shape == (1, channels, 4, 5)
    padded = torch.zeros(1, 3, 4 * stride, 5 * stride)
    padded[:, :, :height, :width] = x
    assert torch.equal(out, read(plan, model, padded))


def test_positions_of_the_trained_size_are_used_as_they_are() -> None:
    """Taking any size must not change what a model gives for its own size."""
    plan, model = build("vit_tiny_patch16_224", SHALLOW)
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=2).eval()
    plain.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = plain.forward_features(x)[:, 1:].reshape(1, 14, 14, 192).permute(0, 3, 1, 2)
    torch.testing.assert_close(read(plan, model, x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "swinv2_tiny_window8_256"])
def test_channels_last_families_are_turned_and_padded(name: str) -> None:
    small = {"depths": (1, 1), "embed_dim": 24, "num_heads": (2, 4)} if name.startswith("swin_") else {}
    plan, model = build(name, small)
    found = plan.spatial_map
    assert found.layout == "nhwc"
    assert found.pad_multiple == found.stride == (8 if small else 32)
    side = int(plan.name.rpartition("_")[2])
    plain = timm.create_model(name, num_classes=0, **small).eval()
    plain.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, side, side)
    with torch.no_grad():
        expected = plain.forward_features(x)
    assert expected.shape == (1, side // found.stride, side // found.stride, found.num_features)
    torch.testing.assert_close(read(plan, model, x), expected.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)
    out = read(plan, model, torch.randn(1, 3, 101, 75))
    assert out.shape == (1, found.num_features, math.ceil(101 / found.stride), math.ceil(75 / found.stride))


@pytest.mark.parametrize(
    ("name", "model_args", "first"),
    [
        ("resnet18", {}, "conv1.weight"),
        ("vit_tiny_patch16_224", SHALLOW, "patch_embed.proj.weight"),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1), "num_heads": (2, 4)}, "patch_embed.proj.weight"),
    ],
)
def test_gradient_reaches_the_first_layer_in_training(name: str, model_args: dict, first: str) -> None:
    plan, model = build(name, model_args)
    model.train()
    plan.spatial_map.read(model, torch.randn(2, 3, 70, 90)).square().mean().backward()
    assert model.get_parameter(first).grad.abs().sum() > 0


@pytest.mark.parametrize(("name", "stride"), [("mobilenetv2_100", 16), ("resnet18", 8), ("convnext_atto", 16)])
def test_output_stride_of_families_that_can_change_it(name: str, stride: int) -> None:
    plan, model = build(name, output_stride=stride)
    assert plan.spatial_map.stride == stride
    assert read(plan, model, torch.randn(1, 3, 64, 96)).shape[2:] == (64 // stride, 96 // stride)


def test_output_stride_that_a_model_has_anyway_is_taken() -> None:
    assert build("vit_tiny_patch16_224", SHALLOW, output_stride=16)[0].spatial_map.stride == 16


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mobilenetv3_small_050", "swin_tiny_patch4_window7_224"])
def test_output_stride_that_a_family_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=f"'{name}' has no output stride 8: its map has stride (16|32)"):
        plan_model(name, output_stride=8, model_args={})


def test_output_stride_that_a_family_refuses_itself() -> None:
    with pytest.raises(SettingsError, match=r"timm cannot build 'vgg11' with .*output_stride=8"):
        plan_model("vgg11", output_stride=8, model_args={})


@pytest.mark.parametrize(
    ("name", "close"), [("mobilnetv2_100", "mobilenetv2_100"), ("resnet83", "resnet38"), ("tinny", "tiny")]
)
def test_unknown_name_is_answered_with_close_ones(name: str, close: str) -> None:
    with pytest.raises(SettingsError, match=rf"no network is called '{name}'.*Did you mean .*\b{close}\b"):
        plan_model(name, output_stride=None, model_args={})


def test_name_like_no_other() -> None:
    with pytest.raises(SettingsError, match=r"no network is called '/etc/passwd'; .*list_models"):
        plan_model("/etc/passwd", output_stride=None, model_args={})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gmlp_s16_224", "only takes images of 224x224"),
        ("beit_base_patch16_224", "only takes images of 224x224"),
        ("mobilenetv5_300m", "no map that grows"),
        ("gemma4_vit_167m", "no spatial feature map"),
    ],
)
def test_models_without_a_map_for_any_size_are_refused(name: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"'{name}' .*{reason}"):
        plan_model(name, output_stride=None, model_args={})


@pytest.mark.parametrize(
    ("name", "model_args"), [("resnet18", {"no_such": 1}), ("resnet18.no_such_weights", {}), ("resnet18", {"block": 3})]
)
def test_arguments_that_a_model_does_not_take(name: str, model_args: dict) -> None:
    with pytest.raises(SettingsError, match=f"timm cannot build '{name}'"):
        plan_model(name, output_stride=None, model_args=model_args)


def test_planning_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    plan = plan_model("convnext_atto", output_stride=None, model_args={})
    assert torch.equal(torch.get_rng_state(), before)
    weights = [plan.create(pretrained=False).state_dict()["stem.0.weight"] for _ in range(2)]
    torch.manual_seed(3)
    assert torch.equal(plan.create(pretrained=False).state_dict()["stem.0.weight"], weights[0])
    assert not torch.equal(*weights)


def test_input_normalisation_is_the_records() -> None:
    plan = plan_model("vit_tiny_patch16_224", output_stride=None, model_args=SHALLOW)
    assert plan.mean == plan.std == (0.5, 0.5, 0.5)
    assert plan_model("resnet18", output_stride=None, model_args={}).mean == (0.485, 0.456, 0.406)


def test_an_original_authors_names_are_converted() -> None:
    """ConvNeXt's authors call the stem downsample_layers.0; timm's converter knows."""
    model = build("convnext_atto")[1]
    theirs = {"downsample_layers.0.0.weight": torch.rand(40, 3, 4, 4), "norm.weight": torch.rand(320)}
    converted = convert_state(model, theirs)
    assert torch.equal(converted["stem.0.weight"], theirs["downsample_layers.0.0.weight"])
    assert "downsample_layers.0.0.weight" in theirs


def test_a_state_that_no_converter_understands_comes_back() -> None:
    state = {"stem.0.weight": torch.zeros(1), "blocks": torch.zeros(1)}
    for name in ("convnext_atto", "mobilenetv2_100", "resnet18"):
        assert convert_state(build(name)[1], state).keys() == state.keys()
