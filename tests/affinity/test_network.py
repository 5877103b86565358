"""AffinityNet as a whole: its grid for any image, published weights, saving, and what does not fit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tests.affinity.dense_walk import to_dense
from tests.networks.golden_weights import golden_state

from subcam.affinity.loss import AffinityHead, pair_affinity
from subcam.affinity.network import AffinityConfig, AffinityNetwork
from subcam.affinity.random_walk import pixel_affinity
from subcam.errors import CheckpointError
from subcam.networks.decoders.pyramid import feature_pyramid
from subcam.networks.settings import NetworkSettings

NETWORKS = ("tiny", "resnet18", "mobilenetv2_100", "vit_tiny_patch16_224")


def network(name: str = "tiny", **settings: Any) -> AffinityNetwork:
    torch.manual_seed(0)
    return AffinityNetwork(AffinityConfig(network=NetworkSettings(name=name, weights="none", **settings))).eval()


def image(height: int, width: int, *, seed: int = 0) -> torch.Tensor:
    """Smooth colours, uint8 [1, 3, height, width]."""
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return (255 * F.interpolate(coarse, size=(height, width), mode="bilinear")).to(torch.uint8)


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_grid_is_an_eighth_rounded_up(name: str) -> None:
    net = network(name)
    for height, width in ((67, 93), (64, 96), (1, 1), (9, 200)):
        assert net(image(height, width)).shape == (1, net.head.dim, -(-height // 8), -(-width // 8))


@pytest.mark.parametrize(
    ("name", "multiple"), [("tiny", 8), ("resnet18", 32), ("mobilenetv2_100", 32), ("vit_tiny_patch16_224", 16)]
)
@torch.no_grad()
def test_cells_lie_where_they_lie_when_the_padding_is_part_of_the_image(name: str, multiple: int) -> None:
    """The cells of every stride begin and end with those of the grid, so nothing is stretched towards the edges."""
    net = network(name, mean=(0.0, 0.0, 0.0))  # so that black is the padding
    small = image(67, 37)
    whole = F.pad(small, (0, -37 % multiple, 0, -67 % multiple))
    torch.testing.assert_close(net(small), net(whole)[:, :, :9, :5])


@torch.no_grad()
def test_images_are_normalised_as_the_backbone_wants_them() -> None:
    net = network("resnet18")
    x = image(64, 64)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (net.backbone.mean, net.backbone.std))
    expected = net.head(feature_pyramid(net.backbone, net.plan, (x / 255 - mean) / std), grid=(8, 8))
    torch.testing.assert_close(net(x), expected)
    assert net.fill_colour == (124, 116, 104)


def test_frozen_batch_norm_stays_so_in_training() -> None:
    frozen: Any = network("resnet18").train().backbone.body
    learning: Any = network("tiny", freeze_batch_norm=False).train().backbone.body
    assert not frozen.bn1.training
    assert learning.norms[0].training


# Saved and loaded


@pytest.mark.parametrize("name", ["tiny", "resnet18"])
@torch.no_grad()
def test_a_saved_network_comes_back_the_same(name: str, tmp_path: Path) -> None:
    """Its normalisation too, and without asking for the weights that it once started from."""
    torch.manual_seed(0)
    first = tmp_path / "body.safetensors"
    save_file(network(name).backbone.body.state_dict(), first, {"mean": "0.1,0.2,0.3", "std": "1,1,2"})
    settings = NetworkSettings(name=name, weights=str(first), freeze_batch_norm=False)
    net = AffinityNetwork(AffinityConfig(network=settings)).eval()
    net.save(tmp_path / "net")
    first.unlink()
    torch.manual_seed(7)
    found = AffinityNetwork.load(tmp_path / "net").eval()
    assert found.config == net.config
    assert found.config.network.mean == (0.1, 0.2, 0.3)
    x = image(60, 75)
    assert torch.equal(found(x), net(x))


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no saved AffinityNet: config\.json is missing"):
        AffinityNetwork.load(tmp_path)
    network().save(tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    state = load_file(weights)

    save_file({name: value for name, value in state.items() if name != "head.f9.weight"}, weights)
    with pytest.raises(CheckpointError, match=r"(?s)model\.safetensors does not fit.*lacks \(1\): head\.f9\.weight"):
        AffinityNetwork.load(tmp_path)
    save_file(state | {"head.f8_3.weight": state["head.f8_3.weight"][:, :7].clone()}, weights)
    with pytest.raises(CheckpointError, match=r"head\.f8_3\.weight \[16, 7, 1, 1\] in the file, \[16, 128, 1, 1\] in"):
        AffinityNetwork.load(tmp_path)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"there is no file .*model\.safetensors"):
        AffinityNetwork.load(tmp_path)

    plain = json.loads(config.read_text())
    for broken in ({}, {"network": plain["network"] | {"colour": 1}}):
        config.write_text(json.dumps(broken))
        with pytest.raises(CheckpointError, match=r"config\.json is not an AffinityNet's config of this version"):
            AffinityNetwork.load(tmp_path)


def test_a_published_checkpoint_needs_its_own_architecture(tmp_path: Path) -> None:
    """psa's names on another backbone: the layers of the body are listed, and nothing is taken."""
    torch.save({"conv1a.weight": torch.zeros(64, 3, 3, 3), "f9.weight": torch.zeros(1)}, tmp_path / "aff.pth")
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"(?s)aff\.pth does not fit TinyNetwork.*no place for \(1\): conv1a"):
        net.load_reference(str(tmp_path / "aff.pth"))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_published_checkpoint_with_another_head_is_listed(tmp_path: Path) -> None:
    net = network()
    torch.save(net.backbone.body.state_dict() | {"f8_3.weight": torch.zeros(64, 512, 1, 1)}, tmp_path / "aff.pth")
    with pytest.raises(CheckpointError, match=r"(?s)affinity head\) does not fit.*lacks \(1\): f9\.weight.*f8_3"):
        net.load_reference(str(tmp_path / "aff.pth"))


# psa's whole network


@pytest.fixture(scope="module")
def published(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> AffinityNetwork:
    """AffinityNet on ResNet-38 with the golden weights, by way of a file in psa's layout."""
    shapes = json.loads((golden / "resnet38_keys.json").read_text("utf-8"))["nets"]["psa_aff"]["state_dict"]
    state = golden_state(shapes)
    # The published file also has batch norm's counters; torch's data parallel puts "module." before every name.
    counters = {name: torch.tensor(0) for name in shapes if name.endswith("num_batches_tracked")}
    assert {name: list(value.shape) for name, value in (state | counters).items()} == shapes
    path = tmp_path_factory.mktemp("published") / "aff.pth"
    torch.save({f"module.{name}": value for name, value in (state | counters).items()}, path)
    net = network("resnet38")
    net.load_reference(str(path))
    path.unlink()
    own = net.backbone.body.state_dict() | net.head.state_dict()
    assert own.keys() == shapes.keys()
    assert all(torch.equal(own[name], value) for name, value in state.items())
    return net


@pytest.mark.slow
@pytest.mark.data
@torch.no_grad()
def test_published_network_gives_the_golden_affinities(golden: Path, published: AffinityNetwork) -> None:
    reference = np.load(golden / "resnet38_forward.npz")
    before_elu: list[torch.Tensor] = []
    with published.head.f9.register_forward_hook(lambda module, inputs, output: before_elu.append(output[0])):
        features = published(torch.from_numpy(reference["image"]).permute(2, 0, 1)[None])
    (pre,) = before_elu
    tolerance = 1e-5 * pre.abs().max().item()
    np.testing.assert_allclose(pre[::7], reference["psa_aff_f9_pre_s7"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(pair_affinity(features)[0], reference["psa_aff_aff"], rtol=0, atol=5e-6)
    np.testing.assert_allclose(to_dense(pixel_affinity(features[0])), reference["psa_aff_dense"], rtol=0, atol=5e-6)


@pytest.mark.slow
@pytest.mark.data
@torch.no_grad()
def test_published_network_on_an_odd_size(golden: Path, published: AffinityNetwork) -> None:
    """The golden pass of 67 x 93 pixels has no padding; psa's inference, and ours, pads to 72 x 96 first."""
    reference = np.load(golden / "resnet38_forward.npz")
    normalised = torch.from_numpy(reference["input_odd"])
    bare = published.head(feature_pyramid(published.backbone, published.plan, normalised), grid=(9, 12))
    np.testing.assert_allclose(pair_affinity(bare)[0], reference["psa_aff_aff_odd"], rtol=0, atol=5e-6)

    features = published(torch.from_numpy(reference["image_odd"]).permute(2, 0, 1)[None])
    body: Any = published.backbone.body
    padded = published.head(list(body.intermediate_maps(F.pad(normalised, (0, 3, 0, 5)))))
    torch.testing.assert_close(pair_affinity(features), pair_affinity(padded), rtol=0, atol=5e-6)
    assert (pair_affinity(features) - pair_affinity(bare)).abs().max() > 1e-3


def test_head_of_another_backbone_has_a_reducer_for_each_feature() -> None:
    net = network("mobilenetv2_100")
    assert isinstance(net.head, AffinityHead)
    assert net.head.reducer_names == ("f8_3", "f8_4", "f8_5", "f8_6")
    assert net.head.dim == 16 + 16 + 16 + 40
