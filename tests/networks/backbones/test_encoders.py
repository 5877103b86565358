"""Modern encoders against timm's own forward pass: at their own size, at others, with the last norm, from files."""

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tests.networks.encoders import CONVNEXTS, NAMES, TRANSFORMERS, Encoder, plan, shake
from timm.layers import QuickGELU
from torch import Tensor, nn

from subcam.affinity.network import AffinityConfig, AffinityNetwork
from subcam.networks.backbones.build import build_backbone
from subcam.networks.backbones.timm_models import normed_intermediates, plan_model
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.decoders.pyramid import feature_pyramid, plan_pyramid
from subcam.networks.segmenter import SegmentationNetwork
from subcam.networks.settings import NetworkSettings, SegmentationConfig

OPENAI_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "encoders.md"
SMALL_CLIP = {"embed_dim": 48, "num_heads": 3, "depth": 2, "img_size": 64}


def grid_of_tokens(model: Any, x: Tensor, *, prefix: int) -> Tensor:
    """All by timm's own parts: tokens, the norm that it has behind the pooling, prefix cut off, laid out row by row."""
    patch = model.patch_embed.patch_size[0]
    with torch.no_grad():
        tokens = model.fc_norm(model.forward_features(x))[:, prefix:]
    return tokens.reshape(len(x), x.shape[2] // patch, x.shape[3] // patch, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("encoder", TRANSFORMERS, ids=NAMES)
def test_at_its_own_size_a_transformer_gives_what_it_gives_in_timm(encoder: Encoder) -> None:
    found = plan(encoder)
    torch.manual_seed(0)
    model = shake(found.create(pretrained=False))
    plain: Any = timm.create_model(
        encoder.name, num_classes=0, depth=2, img_size=4 * encoder.patch, **encoder.model_args
    ).eval()
    plain.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 4 * encoder.patch, 4 * encoder.patch)
    expected = grid_of_tokens(plain, x, prefix=encoder.prefix)
    with torch.no_grad():
        mine = found.spatial_map.read(model, x)
    torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
    assert (found.spatial_map.stride, found.spatial_map.pad_multiple) == (encoder.patch, encoder.patch)
    # After the norm, every position has the same scale: that of LayerNorm, moved by its random weights.
    assert mine.var(1).min() > 0.2


@pytest.mark.parametrize("encoder", TRANSFORMERS, ids=NAMES)
def test_at_another_size_it_gives_what_timms_model_of_that_size_gives(encoder: Encoder) -> None:
    """There timm resamples the position embeddings once, in its converter of checkpoints."""
    found = plan(encoder)
    torch.manual_seed(0)
    model = shake(found.create(pretrained=False))
    size = (5 * encoder.patch, 7 * encoder.patch)
    plain: Any = timm.create_model(encoder.name, num_classes=0, depth=2, img_size=size, **encoder.model_args).eval()
    state = model.state_dict()
    if "pos_embed" in state:  # DINOv3's positions are rotations alone
        state = timm.models.vision_transformer.checkpoint_filter_fn(state, plain)
    plain.load_state_dict(state)
    x = torch.randn(1, 3, *size)
    with torch.no_grad():
        mine = found.spatial_map.read(model, x)
    torch.testing.assert_close(mine, grid_of_tokens(plain, x, prefix=encoder.prefix), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("encoder", TRANSFORMERS, ids=NAMES)
def test_images_of_any_size(encoder: Encoder) -> None:
    found = plan(encoder, depth=1)
    model = found.create(pretrained=False).eval()
    for size in ((1, 1), (61, 83), (130, 33)):
        with torch.no_grad():
            out = found.spatial_map.read(model, torch.randn(1, 3, *size))
        assert out.shape[2:] == tuple(-(-side // encoder.patch) for side in size)
        assert out.isfinite().all()


def test_the_mean_of_the_map_is_timms_average_pooling() -> None:
    """Eq. 1 and 2 see DINOv3's own pooled feature, because its norm comes before the pooling."""
    encoder = next(found for found in TRANSFORMERS if found.name == "vit_small_patch16_dinov3")
    found = plan(encoder)
    model = shake(found.create(pretrained=False))
    x = torch.randn(2, 3, 80, 64)
    with torch.no_grad():
        torch.testing.assert_close(found.spatial_map.read(model, x).mean((2, 3)), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CONVNEXTS)
def test_a_convnext_is_normed_at_each_position(name: str) -> None:
    found = plan_model(name, output_stride=None, model_args={})
    torch.manual_seed(0)
    model: Any = shake(found.create(pretrained=False))
    x = torch.randn(2, 3, 75, 97)
    norm = model.head.norm
    with torch.no_grad():
        raw = model.forward_features(x)
        expected = F.layer_norm(raw.permute(0, 2, 3, 1), (320,), norm.weight, norm.bias, norm.eps).permute(0, 3, 1, 2)
        mine = found.spatial_map.read(model, x)
        last = x.contiguous(memory_format=torch.channels_last)
        turned = found.spatial_map.read(model.to(memory_format=torch.channels_last), last)
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(turned, expected, rtol=1e-3, atol=1e-4)
        # One position alone: pooling does nothing, and timm's whole network gives the map.
        one = torch.randn(2, 3, 32, 32)
        torch.testing.assert_close(found.spatial_map.read(model, one)[:, :, 0, 0], model(one), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mambaout_femto", "poolformerv2_s12", "convnext_atto_rms"])
def test_of_other_families_the_norm_behind_the_pooling_goes_over_channels_too(name: str) -> None:
    """Whether it takes channels first or last: of one position alone the pooling leaves what it is."""
    found = plan_model(name, output_stride=None, model_args={})
    torch.manual_seed(0)
    model: Any = shake(found.create(pretrained=False))
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.numel() == found.spatial_map.num_features
        expected = model.head.norm(features).flatten()
        torch.testing.assert_close(found.spatial_map.read(model, x).flatten(), expected, rtol=1e-4, atol=1e-4)
        assert found.spatial_map.read(model, torch.randn(1, 3, 64, 96)).shape[2:] == (2, 3)


@pytest.mark.parametrize(("name", "stride"), list(zip(CONVNEXTS, (8, 16), strict=True)))
def test_a_convnext_of_another_output_stride(name: str, stride: int) -> None:
    """Its downsampling lets go of the stride and its 7x7 convolutions are dilated; the weights are the same."""
    wide = plan_model(name, output_stride=None, model_args={}).create(pretrained=False)
    found = plan_model(name, output_stride=stride, model_args={})
    model = found.create(pretrained=False).eval()
    model.load_state_dict(wide.state_dict())
    with torch.no_grad():
        out = found.spatial_map.read(model, torch.randn(1, 3, 96, 64))
    assert out.shape == (1, 320, 96 // stride, 64 // stride)
    dilations = {module.dilation[0] for module in model.modules() if isinstance(module, nn.Conv2d)}
    assert dilations == {8: {1, 2, 4}, 16: {1, 2}}[stride]


@pytest.mark.parametrize("encoder", TRANSFORMERS, ids=NAMES)
def test_features_of_all_layers_are_normed(encoder: Encoder) -> None:
    """For AffinityNet: what each block gives, through the network's own last norm, prefix tokens cut off."""
    found = plan(encoder)
    torch.manual_seed(0)
    model: Any = shake(found.create(pretrained=False))
    heard: list[Tensor] = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, out: heard.append(out))
    x = torch.randn(1, 3, 2 * encoder.patch, 3 * encoder.patch)
    with torch.no_grad():
        mine = normed_intermediates(model, x)
        expected = [model.fc_norm(model.norm(tokens))[:, encoder.prefix :].mT.unflatten(2, (2, 3)) for tokens in heard]
        last = found.spatial_map.read(model, x)
    assert len(mine) == 2
    for features, want in zip(mine, expected, strict=True):
        torch.testing.assert_close(features, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine[-1], last, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [*CONVNEXTS, "swin_tiny_patch4_window7_224", "resnet18"])
def test_of_a_network_with_several_widths_the_last_features_are_the_map(name: str) -> None:
    small = {"embed_dim": 24} if name.startswith("swin") else {}
    backbone = build_backbone(NetworkSettings(name=name, weights="none", model_args=small))
    shake(backbone)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        pyramid = feature_pyramid(backbone, plan_pyramid(backbone), x)
        torch.testing.assert_close(pyramid[-1], backbone(x), rtol=1e-4, atol=1e-4)
    assert len({features.shape[1] for features in pyramid}) > 1


def settings_of(encoder: Encoder, **changes: Any) -> NetworkSettings:
    model_args = {**encoder.model_args, "depth": 2, "img_size": 4 * encoder.patch}
    return NetworkSettings(name=encoder.name, model_args=model_args, **{"weights": "none", **changes})


@pytest.mark.parametrize("encoder", TRANSFORMERS[::3], ids=NAMES[::3])
def test_a_classifier_comes_back_as_it_was_saved(encoder: Encoder, tmp_path: Path) -> None:
    network = ClassificationNetwork(ModelConfig(network=settings_of(encoder), class_names=("a", "b")))
    shake(network).save(tmp_path)
    images = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8)
    with torch.no_grad():
        expected = network(images).parent
        assert torch.equal(ClassificationNetwork.load(tmp_path).eval()(images).parent, expected)


@pytest.mark.parametrize("encoder", TRANSFORMERS[1::2], ids=NAMES[1::2])
def test_a_local_file_with_timms_names(encoder: Encoder, tmp_path: Path) -> None:
    """As the hub has them: with a classifier, which is left out, and a grid of another size, which is resampled."""
    model_args = {**encoder.model_args, "depth": 2}
    theirs: Any = timm.create_model(encoder.name, num_classes=7, img_size=6 * encoder.patch, **model_args)
    shake(theirs)
    path = tmp_path / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}, path)
    backbone = build_backbone(settings_of(encoder, weights=str(path)))
    x = torch.randn(1, 3, 4 * encoder.patch, 4 * encoder.patch)
    own = backbone.body.state_dict()
    assert all(torch.equal(own[name], value) for name, value in theirs.state_dict().items() if name.startswith("block"))
    same: Any = timm.create_model(encoder.name, num_classes=7, img_size=4 * encoder.patch, **model_args).eval()
    same.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(theirs.state_dict(), same))
    with torch.no_grad():
        torch.testing.assert_close(backbone(x), grid_of_tokens(same, x, prefix=encoder.prefix), rtol=1e-4, atol=1e-4)


def openai_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A timm ViT's state as OpenAI's and open_clip's files have it, beside a text tower."""
    swaps = {"patch_embed.proj": "conv1", "norm_pre": "ln_pre", "norm.": "ln_post."}
    swaps |= {"blocks.": "transformer.resblocks.", "norm1": "ln_1", "norm2": "ln_2"}
    swaps |= {"attn.qkv.": "attn.in_proj_", "attn.proj": "attn.out_proj"}
    swaps |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    found = {"token_embedding.weight": torch.zeros(3, 4), "logit_scale": torch.tensor(1.0)}
    for name, tensor in state.items():
        for mine, theirs in swaps.items():
            name = name.replace(mine, theirs)
        found[f"visual.{name}"] = tensor
    found["visual.class_embedding"] = found.pop("visual.cls_token")[0, 0]
    found["visual.positional_embedding"] = found.pop("visual.pos_embed")[0]
    found["visual.proj"] = torch.zeros(48, 8)
    return found


def test_clips_own_files(tmp_path: Path) -> None:
    name = "vit_base_patch32_clip_quickgelu_224"
    theirs = shake(timm.create_model(name, num_classes=0, **SMALL_CLIP))
    path = tmp_path / "clip.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in openai_names(theirs.state_dict()).items()}, path)
    backbone = build_backbone(NetworkSettings(name=name, weights=str(path), model_args=SMALL_CLIP))
    own = backbone.body.state_dict()
    assert own.keys() == theirs.state_dict().keys()
    assert all(torch.equal(own[key], tensor) for key, tensor in theirs.state_dict().items())


def test_clips_activation_norm_and_colours_go_by_its_name() -> None:
    """OpenAI's weights want QuickGELU; most others' GELU; some of LAION's other colours."""
    plans = {
        name: plan_model(name, output_stride=None, model_args={"depth": 1})
        for name in (
            "vit_base_patch32_clip_quickgelu_224.openai",
            "vit_base_patch32_clip_224.laion2b",
            "vit_large_patch14_clip_224.laion2b",
        )
    }
    models = {name: found.create(pretrained=False) for name, found in plans.items() if "large" not in name}
    kinds = {name: [type(module) for module in model.modules()] for name, model in models.items()}
    assert [QuickGELU in found for found in kinds.values()] == [True, False]
    assert all(isinstance(model.norm_pre, nn.LayerNorm) for model in models.values())
    assert [found.mean for found in plans.values()] == [OPENAI_CLIP_MEAN, OPENAI_CLIP_MEAN, (0.5, 0.5, 0.5)]


@pytest.mark.parametrize("encoder", [TRANSFORMERS[0], TRANSFORMERS[5], TRANSFORMERS[6]], ids=lambda found: found.name)
def test_affinitynet_and_deeplab_on_a_transformer(encoder: Encoder) -> None:
    """Any size in, their own grids out, and gradients down to the patches' projection."""
    images = torch.randint(0, 256, (2, 3, 61, 83), dtype=torch.uint8)
    affinity = AffinityNetwork(AffinityConfig(network=settings_of(encoder)))
    assert affinity.plan.strides == (encoder.patch,) * 2
    features = affinity(images)
    assert features.shape[2:] == (8, 11)
    deeplab = SegmentationNetwork(SegmentationConfig(network=settings_of(encoder), class_names=("a", "b")))
    logits = deeplab(images)
    assert logits.shape == (2, 3, -(-61 // encoder.patch), -(-83 // encoder.patch))
    for network, out in ((affinity, features), (deeplab.model, logits)):
        out.square().mean().backward()
        assert network.backbone.body.get_parameter("patch_embed.proj.weight").grad.abs().sum() > 0


def test_timm_has_weights_of_the_names_on_the_page() -> None:
    rows = [row.split("|")[2] for row in PAGE.read_text("utf-8").splitlines() if row.startswith("| ")]
    names = [name for row in rows for name in re.findall(r"`([a-z0-9_.]+)`", row)]
    assert len(names) > 15
    known = timm.list_pretrained()
    for name in names:
        assert any(found == name or found.startswith(f"{name}.") for found in known), name
