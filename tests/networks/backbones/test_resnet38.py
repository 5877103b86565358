"""ResNet-38 against the golden keys and forward passes of AffinityNet's and SC-CAM's networks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.networks.golden_weights import golden_state
from torch import Tensor

from subcam.networks.backbones.resnet38 import MEAN, STD, BottleneckBlock, ResBlock, ResNet38
from subcam.networks.weight_files import CLASSIFIER_HEADS, load_into, reference_heads


@pytest.fixture(scope="module")
def keys(golden: Path) -> dict:
    return json.loads((golden / "resnet38_keys.json").read_text("utf-8"))["nets"]


@pytest.fixture(scope="module")
def forward(golden: Path) -> dict[str, np.ndarray]:
    with np.load(golden / "resnet38_forward.npz", allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def checkpoints(keys: dict) -> dict[str, dict[str, Tensor]]:
    """The formula's weights of two published networks; the shared backbone's tensors are made once."""
    first = golden_state(keys["psa_cls"]["state_dict"])
    second = dict(first)
    del second["fc8.weight"]
    heads = {name: shape for name, shape in keys["sccam_k10_round1"]["state_dict"].items() if name.startswith("fc8_")}
    order = sorted(name for name in keys["sccam_k10_round1"]["state_dict"] if not name.endswith("tracked"))
    for name, shape in heads.items():
        positions = {f"a{i:04d}.running_mean": (1,) for i in range(order.index(name))}
        second[name] = golden_state(positions | {name: shape})[name]
    return {"psa_cls": first, "sccam_k10_round1": second}


@pytest.fixture(scope="module")
def network(checkpoints: dict[str, dict[str, Tensor]]) -> ResNet38:
    net = ResNet38().eval()
    load_into(net, checkpoints["psa_cls"], drop=CLASSIFIER_HEADS)
    return net


@pytest.fixture(scope="module")
def meta_network() -> ResNet38:
    """Shapes without memory."""
    return ResNet38().to("meta")


@pytest.fixture(scope="module", params=["", "_odd"])
def passed(request: pytest.FixtureRequest, network: ResNet38, forward: dict[str, np.ndarray]) -> tuple[str, dict]:
    with torch.no_grad():
        maps = network.intermediate_maps(torch.from_numpy(forward["input" + request.param]))
    return request.param, {name: getattr(maps, name)[0] for name in maps._fields}


def assert_close(actual: Tensor, expected: np.ndarray) -> None:
    """The golden README's bound: 1e-5 of the largest value."""
    assert tuple(actual.shape) == expected.shape
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("net", ["psa_cls", "sccam_k10_round0", "sccam_k10_round1", "psa_aff"])
def test_names_and_shapes_are_those_of_the_published_networks(meta_network: ResNet38, keys: dict, net: str) -> None:
    own = {name: list(tensor.shape) for name, tensor in meta_network.state_dict().items()}
    published = {n: s for n, s in keys[net]["state_dict"].items() if not n.startswith(("fc8", "f8_", "f9"))}
    assert own == published
    assert list(own) == list(published)


def test_number_of_parameters(meta_network: ResNet38, keys: dict) -> None:
    count = sum(p.numel() for p in meta_network.parameters())
    assert count == 105_070_912
    assert count + 20 * 4096 == keys["psa_cls"]["n_parameters"] == 105_152_832


@pytest.mark.slow
@pytest.mark.parametrize("net", ["psa_cls", "sccam_k10_round1"])
def test_formula_gives_the_recorded_weights(keys: dict, checkpoints: dict, net: str) -> None:
    assert checkpoints[net].keys() == keys[net]["weights_check"].keys()
    for name, (_, first, last, total, absolute) in keys[net]["weights_check"].items():
        values = checkpoints[net][name].numpy().ravel()
        assert (values[0], values[-1]) == (np.float32(first), np.float32(last)), name
        got = values.sum(dtype=np.float64), np.abs(values).sum(dtype=np.float64)
        np.testing.assert_allclose(got, (total, absolute), rtol=1e-10, atol=1e-9, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "step"), [("conv4", 8), ("conv5", 16), ("conv6", 64)])
def test_maps_match_the_published_network(passed: tuple[str, dict], forward: dict, name: str, step: int) -> None:
    suffix, maps = passed
    assert_close(maps[name][::step], forward[f"psa_cls_{name}_s{step}{suffix}"])
    flat = maps[name].double().flatten(1)
    assert_close(flat.mean(1), forward[f"psa_cls_{name}_mean{suffix}"])
    assert_close(flat.std(1, correction=0), forward[f"psa_cls_{name}_std{suffix}"])


@pytest.mark.slow
def test_affinitynets_head_gives_its_maps_and_logits(
    passed: tuple[str, dict], forward: dict, checkpoints: dict
) -> None:
    suffix, maps = passed
    head = reference_heads(checkpoints["psa_cls"])["parent"]
    assert_close(torch.einsum("kc,chw->khw", head, maps["conv6"]).relu(), forward["psa_cls_cam" + suffix])
    assert_close(head @ maps["conv6"].mean((1, 2)), forward["psa_cls_logits" + suffix])


@pytest.mark.slow
def test_sc_cams_heads_give_its_maps_and_probabilities(
    passed: tuple[str, dict], forward: dict, checkpoints: dict
) -> None:
    suffix, maps = passed
    heads = reference_heads(checkpoints["sccam_k10_round1"])
    feature = maps["conv6"].mean((1, 2))
    assert_close(feature, forward["sccam_k10_round1_feature" + suffix])
    for role, count in (("parent", 20), ("subcategory", 200)):
        expected = {what: forward[f"sccam_k10_round1_{what}{count}{suffix}"] for what in ("cam", "logits", "prob")}
        assert_close(torch.einsum("kc,chw->khw", heads[role], maps["conv6"]).relu(), expected["cam"])
        assert_close(heads[role] @ feature, expected["logits"])
        assert_close((heads[role] @ feature).sigmoid(), expected["prob"])


@pytest.mark.slow
def test_both_checkpoints_give_the_same_network(network: ResNet38, checkpoints: dict) -> None:
    other = ResNet38()
    load_into(other, checkpoints["sccam_k10_round1"], drop=CLASSIFIER_HEADS)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_golden_input_is_the_image_in_our_normalisation(forward: dict) -> None:
    image = torch.from_numpy(forward["image"]).permute(2, 0, 1) / 255
    expected = (image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    np.testing.assert_allclose(forward["input"][0], expected.numpy(), atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (67, 93), (1, 9), (33, 8)])
def test_map_is_an_eighth_rounded_up(meta_network: ResNet38, height: int, width: int) -> None:
    out = meta_network.eval()(torch.empty(2, 3, height, width, device="meta"))
    assert out.shape == (2, 4096, -(-height // 8), -(-width // 8))


def test_res_block_by_plain_operations() -> None:
    """The formula of a pre-activation block, written out with the block's own weights."""
    torch.manual_seed(0)
    block = ResBlock(4, 6, 8, stride=2, first_dilation=1, dilation=2).eval()
    for norm in (block.bn_branch2a, block.bn_branch2b1):
        norm.running_mean.uniform_(-1, 1)
        norm.running_var.uniform_(0.5, 2)
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.uniform_(norm.bias, -1, 1)

    def rectified(x: Tensor, norm: torch.nn.BatchNorm2d) -> Tensor:
        scale = norm.weight / (norm.running_var + 1e-5).sqrt()
        return (
            (x - norm.running_mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
        ).relu()

    x = torch.randn(2, 4, 9, 7)
    before = x.clone()
    with torch.no_grad():
        out, active = block(x)
        expected_active = rectified(x, block.bn_branch2a)
        middle = F.conv2d(expected_active, block.conv_branch2a.weight, stride=2, padding=1)
        branch = F.conv2d(rectified(middle, block.bn_branch2b1), block.conv_branch2b1.weight, padding=2, dilation=2)
        expected = branch + F.conv2d(expected_active, block.conv_branch1.weight, stride=2)
    torch.testing.assert_close(active, expected_active, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(x, before), "the block changed its input"


def test_a_silent_branch_leaves_the_shortcut() -> None:
    block = ResBlock(5, 7, 5).eval()
    torch.nn.init.zeros_(block.conv_branch2b1.weight)
    x = torch.randn(1, 5, 4, 4)
    assert torch.equal(block(x)[0], x)


def test_dropout_of_the_paper_is_there_and_only_in_training(meta_network: ResNet38) -> None:
    rates = {n: m.p for n, m in meta_network.named_modules() if isinstance(m, torch.nn.Dropout2d)}
    assert rates == {"b6.dropout_2b1": 0.3, "b6.dropout_2b2": 0.3, "b7.dropout_2b1": 0.5, "b7.dropout_2b2": 0.5}
    torch.manual_seed(0)
    block = BottleneckBlock(8, 16, dilation=4, dropout=0.5)
    for norm in (block.bn_branch2a, block.bn_branch2b1, block.bn_branch2b2):
        norm.eval()
    x = torch.randn(2, 8, 6, 6)
    assert not torch.equal(block(x)[0], block(x)[0])
    block.eval()
    assert torch.equal(block(x)[0], block(x)[0])


def test_gradient_reaches_every_parameter() -> None:
    """In-place rectifying must not spoil the backward pass."""
    torch.manual_seed(0)
    block = ResBlock(4, 4, 6, dilation=2)
    bottleneck = BottleneckBlock(6, 8, dilation=2, dropout=0.3)
    out, active = bottleneck(block(torch.randn(2, 4, 8, 8))[0])
    (out.square().sum() + active.sum()).backward()
    for part in (block, bottleneck):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
