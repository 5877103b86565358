"""Attention-guided maps: A^p M by hand, against plain loops, within memory, and through the whole stage."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.stages.given import stage_at
from torch import Tensor

from subcam.cam import attention as module
from subcam.cam.attention import guide_by_attention
from subcam.cam.map_files import maps_path, read_response_maps
from subcam.cam.multiscale import multiscale_response, resize_images, whole_patches
from subcam.cam.settings import CamSettings
from subcam.data.check import CheckedImages
from subcam.errors import SettingsError
from subcam.networks.backbones.vit_attention import LayerAttention
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder
from subcam.settings import RunSettings
from subcam.stages import cam, classify

VIT = NetworkSettings(
    name="vit_tiny_patch16_224",
    weights="none",
    model_args={"depth": 3, "embed_dim": 48, "num_heads": 3, "patch_size": 8, "img_size": 48, "reg_tokens": 2},
)
SCALES = (1.0, 0.6, 1.5)


def layer(batch: int, heads: int, tokens: int, dim: int, *, seed: int) -> LayerAttention:
    chance = torch.Generator().manual_seed(seed)
    queries, keys = (torch.randn(batch, heads, tokens, dim, generator=chance) for _ in range(2))
    return LayerAttention(queries, keys, dim**-0.5)


def lowered(weights: Tensor, maps: Tensor) -> Tensor:
    """Weights times maps, each map moved so that it begins where it began."""
    spread = torch.stack([(weights @ each.flatten()).view(each.shape) for each in maps])
    return torch.stack([after - after.min() + before.min() for before, after in zip(maps, spread, strict=True)])


def plain_guide(maps: Tensor, layers: list[LayerAttention], *, steps: int) -> Tensor:
    """The matrix A written down, one image, layer and head at a time."""
    height, width = maps.shape[2:]
    positions = height * width
    out = []
    for image in range(len(maps)):
        mean = torch.zeros(positions, positions)
        for queries, keys, scale in layers:
            for head in range(queries.shape[1]):
                weights = (queries[image, head] @ keys[image, head].T * scale).softmax(-1)
                patches = weights[-positions:, -positions:]
                mean += patches / patches.sum(1, keepdim=True) / (len(layers) * queries.shape[1])
        out.append(lowered(torch.linalg.matrix_power(mean, steps), maps[image]))
    return torch.stack(out)


def test_by_hand() -> None:
    """Two patches: the first attends to itself by 3 : 1, the second to both alike; a class token is left out.

    That makes 0.25 and 0.5 of a map of 0 and 1, then 0.3125 and 0.375.
    """
    queries = torch.tensor([[[[9.0], [1.0], [0.0]]]])
    keys = torch.tensor([[[[5.0], [float(np.log(3))], [0.0]]]])
    maps = torch.tensor([[[[0.0, 1.0]], [[0.8, 0.8]]]])
    once = guide_by_attention(maps, [LayerAttention(queries, keys, 1.0)])
    torch.testing.assert_close(once, torch.tensor([[[[0.0, 0.25]], [[0.8, 0.8]]]]))
    twice = guide_by_attention(maps, [LayerAttention(queries, keys, 1.0)], steps=2)
    torch.testing.assert_close(twice[0, 0], torch.tensor([[0.0, 0.0625]]))


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize(("count", "prefix"), [(1, 0), (3, 1), (16, 5), (37, 5)])
def test_equals_the_plain_loop(count: int, prefix: int, steps: int) -> None:
    """More maps than a head is wide, too."""
    maps = torch.rand(2, count, 4, 5, generator=torch.Generator().manual_seed(0))
    layers = [layer(2, 3, prefix + 20, 16, seed=seed) for seed in range(3)]
    guided = guide_by_attention(maps, layers, steps=steps)
    torch.testing.assert_close(guided, plain_guide(maps, layers, steps=steps), rtol=1e-4, atol=1e-6)
    lowest, highest = (getattr(maps.flatten(2), kind)(2)[:, :, None, None] for kind in ("amin", "amax"))
    assert ((guided >= lowest - 1e-6) & (guided < highest)).all()


def test_few_rows_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the weights no more are in memory than MOST_WEIGHTS even where no kernel is fused."""
    maps, layers = torch.rand(2, 3, 6, 7), [layer(2, 3, 43, 16, seed=4)]
    expected = guide_by_attention(maps, layers)
    weights: list[int] = []

    def counted(queries: Tensor, keys: Tensor, values: Tensor, **options: Any) -> Tensor:
        weights.append(queries[..., 0].numel() * keys.shape[2])
        return attend(queries, keys, values, **options)

    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(module.F, "scaled_dot_product_attention", counted)
    monkeypatch.setattr(module, "MOST_WEIGHTS", 2000)
    torch.testing.assert_close(guide_by_attention(maps, layers), expected)
    assert len(weights) == 6
    assert max(weights) <= 2000
    assert sum(weights) == 2 * 3 * 42 * 42


def test_reduced_precision_is_left_at_the_door() -> None:
    maps, layers = torch.rand(1, 2, 4, 4), [layer(1, 3, 17, 16, seed=1)]
    half = [LayerAttention(each.queries.bfloat16(), each.keys.bfloat16(), each.scale) for each in layers]
    guided = guide_by_attention(maps, half)
    assert guided.dtype == torch.float32
    torch.testing.assert_close(guided, guide_by_attention(maps, layers), rtol=0.02, atol=0.01)


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [((375, 500), 14, (378, 504)), ((375, 500), 1, (375, 500)), ((3, 40), 16, (16, 32)), ((24, 8), 16, (32, 16))],
)
def test_nearest_whole_patches(size: tuple[int, int], multiple: int, expected: tuple[int, int]) -> None:
    assert whole_patches(size, multiple) == expected


@pytest.fixture(scope="module")
def network() -> ClassificationNetwork:
    torch.manual_seed(0)
    network = ClassificationNetwork(ModelConfig(network=VIT, class_names=("a", "b", "c"), num_subcategories=2))
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return network.eval()


def timms_attention(network: ClassificationNetwork, images: Tensor, *, layers: int) -> list[Tensor]:
    """Weights of the last layers between patches, from timm's plain path, made to sum to 1."""
    body: Any = network.backbone.body
    attention: list[Tensor] = []
    hooks = []
    for block in body.blocks[-layers:]:
        block.attn.fused_attn = False
        hooks.append(block.attn.attn_drop.register_forward_hook(lambda _, __, out: attention.append(out[:, :, 3:, 3:])))
    network.feature_map(images)
    for hook, block in zip(hooks, body.blocks[-layers:], strict=True):
        hook.remove()
        block.attn.fused_attn = True
    return [weights / weights.sum(-1, keepdim=True) for weights in attention]


def plain_response(
    network: ClassificationNetwork, image: Tensor, *, layers: int, steps: int, subcategories: bool
) -> Tensor:
    """All maps of one image, one scale and one mirror image at a time."""
    head = network.subcategory_head if subcategories else network.parent_head
    assert head is not None
    height, width = image.shape[1:]
    total = torch.zeros(len(head.weight), height, width)
    for scale in SCALES:
        size = [max(1, round(round(side * scale) / 8)) * 8 for side in (height, width)]
        for mirrored in (False, True):
            pixels = resize_images(image[None], (size[0], size[1]))
            pixels = pixels.flip(-1) if mirrored else pixels
            raw = F.conv2d(network.feature_map(pixels), head.weight[:, :, None, None]).clamp(min=0)
            if layers:
                weights = torch.stack(timms_attention(network, pixels, layers=layers)).mean((0, 2))[0]
                raw = lowered(torch.linalg.matrix_power(weights, steps), raw[0])[None]
            full = F.interpolate(raw, size=(height, width), mode="bilinear", align_corners=False)[0]
            total += full.flip(-1) if mirrored else full
    groups = total.view(3, -1, height, width)
    return (groups / (groups.amax((1, 2, 3), keepdim=True) + 1e-5)).flatten(0, 1)


@torch.no_grad()
@pytest.mark.parametrize(("layers", "steps"), [(0, 1), (1, 1), (3, 2)])
def test_over_scales_and_flips_they_equal_a_plain_loop(network: ClassificationNetwork, layers: int, steps: int) -> None:
    """In company, of a size that is no multiple of the patch; sub-categories' maps are guided alike."""
    images = torch.randint(0, 256, (3, 3, 45, 58), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.uint8)
    responses = multiscale_response(
        network,
        images,
        labels,
        scales=SCALES,
        subcategories=True,
        attention_layers=layers,
        attention_steps=steps,
    )
    for image, row, response in zip(images, labels.bool(), responses, strict=True):
        parents = plain_response(network, image, layers=layers, steps=steps, subcategories=False)
        torch.testing.assert_close(response.maps, parents[row], atol=1e-4, rtol=0)
        parts = plain_response(network, image, layers=layers, steps=steps, subcategories=True)
        assert response.subcategory_maps is not None
        expected = parts.view(3, 2, 45, 58)[row].flatten(0, 1)
        torch.testing.assert_close(response.subcategory_maps, expected, atol=1e-4, rtol=0)
        whole = resize_images(image[None], (48, 56))
        torch.testing.assert_close(response.logits, network(whole).parent[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_map_keeps_its_place_whatever_the_size() -> None:
    """A cell of the map lies over the image's part that it saw, also where the side is no multiple of the patch.

    The patches' projection is the mean colour, all layers after it do nothing, and the class is brightness.
    """
    args = {**VIT.model_args, "depth": 1, "reg_tokens": 0}
    network = ClassificationNetwork(
        ModelConfig(network=replace(VIT, model_args=args, mean=(0.0,) * 3, std=(1.0,) * 3), class_names=("a",))
    ).eval()
    body: Any = network.backbone.body
    for parameter in network.parameters():
        parameter.zero_()
    body.patch_embed.proj.weight[0] = 1 / (3 * 64)
    body.norm = torch.nn.Identity()
    network.parent_head.weight[0, 0] = 1
    image = torch.zeros(1, 3, 43, 43, dtype=torch.uint8)
    image[..., 32:, :] = 255
    (response,) = multiscale_response(network, image, torch.ones(1, 1, dtype=torch.uint8), scales=(1.0,))
    edge = np.interp(0.5, response.maps[0, :, 0].numpy(), np.arange(43))
    assert edge == pytest.approx(31.5, abs=1)  # padded to 48 pixels, it would lie at 28


def test_the_whole_way_on_generated_images(
    tiny_run: RunSettings, toy_train: CheckedImages, device: Device, tmp_path: Path
) -> None:
    """A small transformer learns, and its guided maps come in the same files, resumed as any others."""
    folder = RunFolder(path=tmp_path)
    model = folder.stage("classify")
    classify.run(
        model,
        settings=replace(tiny_run.classify, epochs=1),
        images=toy_train,
        network=VIT,
        round_index=0,
        seed=0,
        device=device,
    )
    stored = []
    for layers in (0, 2):
        settings = CamSettings(scales=(1.0, 0.5), attention_layers=layers)
        stage = folder.stage("cam", inputs={"settings": settings})
        cam.run(stage, settings=settings, images=toy_train, model=model, device=device)
        stored.append(
            [read_response_maps(maps_path(stage.path, record.name)) for record in toy_train.image_set.records]
        )
    for plain, guided in zip(*stored, strict=True):
        assert plain.maps.shape == guided.maps.shape
        assert plain.classes.tolist() == guided.classes.tolist()
        np.testing.assert_array_equal(plain.logits, guided.logits)
        assert guided.maps.max() <= 255
    changed = [np.abs(a.maps.astype(int) - b.maps).max() for a, b in zip(*stored, strict=True) if a.maps.any()]
    assert len(changed) > 12
    assert min(changed) > 5


def test_a_network_without_attention_is_refused(
    tiny_run: RunSettings, toy_train: CheckedImages, device: Device, tmp_path: Path
) -> None:
    names = toy_train.image_set.class_names
    ClassificationNetwork(ModelConfig(network=tiny_run.network, class_names=names)).save(tmp_path / "model")
    stage = RunFolder(path=tmp_path).stage("cam")
    with pytest.raises(SettingsError, match="'tiny' has no self-attention between all positions"):
        cam.run(
            stage,
            settings=CamSettings(attention_layers=1),
            images=toy_train,
            model=stage_at(tmp_path / "model"),
            device=device,
        )


@pytest.mark.parametrize("changes", [{"attention_layers": -1}, {"attention_steps": 0}])
def test_settings_that_cannot_be(changes: dict) -> None:
    with pytest.raises(SettingsError, match=rf"^{next(iter(changes))}: expected a whole number from"):
        CamSettings(**changes)
