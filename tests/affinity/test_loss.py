"""AffinityNet's head, pair affinities and loss: by hand, against autograd, and the golden network."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.affinity.dense_walk import random_features, to_dense
from tests.networks.golden_weights import golden_state

from subcam.affinity.labels import PairLabels
from subcam.affinity.loss import AffinityHead, affinity_loss, pair_affinity
from subcam.affinity.pairs import pair_indices
from subcam.affinity.random_walk import pixel_affinity
from subcam.errors import SettingsError
from subcam.networks.backbones.resnet38 import ResNet38

HEAD_LAYERS = ("f8_3", "f8_4", "f8_5", "f9")


def golden_labels(reference, case):
    kinds = {"background": "bg_pos", "foreground": "fg_pos", "negative": "neg"}
    return PairLabels(**{kind: torch.from_numpy(reference[f"loss_{case}_{name}"]) for kind, name in kinds.items()})


@pytest.mark.data
@pytest.mark.parametrize("case", ["batch3", "nofg", "ds"])
def test_golden_loss_and_gradient(golden, case):
    reference = np.load(golden / "affinity_labels.npz")
    affinity = torch.from_numpy(reference[f"loss_{case}_aff"]).requires_grad_()
    loss = affinity_loss(affinity, golden_labels(reference, case))
    parts = [loss.total.item(), loss.background.item(), loss.foreground.item(), loss.negative.item()]
    np.testing.assert_allclose(parts, reference[f"loss_{case}_values"][:4], rtol=0, atol=1e-5)
    loss.total.backward()
    np.testing.assert_allclose(affinity.grad, reference[f"loss_{case}_grad"], rtol=2e-3, atol=1e-12)


def test_loss_by_hand():
    affinity = torch.tensor([[0.5, 0.25, 1.0, 0.75, 0.1]])
    labels = PairLabels(
        background=torch.tensor([[True, True, False, False, False]]),
        foreground=torch.tensor([[False, False, True, False, False]]),
        negative=torch.tensor([[False, False, False, True, False]]),
    )
    loss = affinity_loss(affinity, labels)
    assert loss.background.item() == pytest.approx(math.log(8) / 2, abs=1e-4)
    assert loss.foreground.item() == pytest.approx(0, abs=1e-4)
    assert loss.negative.item() == pytest.approx(math.log(4), abs=1e-4)
    assert loss.total.item() == pytest.approx(math.log(8) / 8 + math.log(4) / 2, abs=1e-4)


def test_loss_in_float32_is_that_of_float64_at_affinity_one():
    nothing, everything = torch.zeros(1, 2, 1, dtype=torch.bool), torch.ones(1, 2, 1, dtype=torch.bool)
    labels = PairLabels(background=nothing, foreground=nothing, negative=everything)
    results = []
    for dtype in (torch.float32, torch.float64):
        affinity = torch.tensor([[[1.0], [0.5]]], dtype=dtype, requires_grad=True)
        loss = affinity_loss(affinity, labels)
        loss.total.backward()
        results.append((loss.total.item(), affinity.grad.double()))
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-6)
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=0)


def test_no_labelled_pair_costs_nothing():
    affinity = torch.rand(2, 34, 6, requires_grad=True)
    nothing = torch.zeros(2, 34, 6, dtype=torch.bool)
    loss = affinity_loss(affinity, PairLabels(background=nothing, foreground=nothing, negative=nothing))
    loss.total.backward()
    assert loss.total.item() == 0
    assert not affinity.grad.any()


def by_index(features, radius):
    """Pair affinities from an index of all pairs, differentiated by autograd."""
    sources, targets = pair_indices(height=features.shape[2], width=features.shape[3], radius=radius)
    cells = features.flatten(2)
    return torch.exp(-(cells[:, :, targets] - cells[:, :, None, sources]).abs().mean(1))


@pytest.mark.parametrize(("height", "width", "radius"), [(5, 9, 5), (7, 12, 4), (6, 6, 2)])
def test_pair_affinity_equals_indexing(height, width, radius):
    features = random_features(2, 6, height, width).double().requires_grad_()
    twin = features.detach().clone().requires_grad_()
    affinity, expected = pair_affinity(features, radius=radius), by_index(twin, radius)
    torch.testing.assert_close(affinity, expected)
    weights = torch.rand(affinity.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (affinity * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(features.grad, twin.grad)


def test_gradient_by_differences():
    features = random_features(1, 3, 5, 7).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pair_affinity(x, radius=3), (features,))


def test_pair_affinity_of_equal_features_has_no_slope():
    features = torch.ones(1, 4, 6, 10, requires_grad=True)
    affinity = pair_affinity(features)
    assert torch.equal(affinity, torch.ones(1, 34, 4))
    affinity.sum().backward()
    assert not features.grad.any()


def test_training_and_inference_see_the_same_affinities():
    features = random_features(2, 16, 8, 13)
    affinity = pair_affinity(features)
    sources, targets = pair_indices(height=8, width=13)
    for b in range(2):
        matrix = torch.from_numpy(to_dense(pixel_affinity(features[b]))).float()
        torch.testing.assert_close(affinity[b], matrix[sources, targets])


def test_half_precision_features():
    features = random_features(1, 8, 6, 10).bfloat16().requires_grad_()
    affinity = pair_affinity(features)
    assert affinity.dtype == torch.float32
    affinity.sum().backward()
    assert features.grad.dtype == torch.bfloat16


def test_small_crop_is_refused():
    with pytest.raises(SettingsError, match="at least 5 x 9"):
        pair_affinity(torch.zeros(1, 2, 4, 20))


@pytest.mark.data
def test_parameters_bear_psa_names(golden):
    shapes = json.loads((golden / "resnet38_keys.json").read_text())["nets"]["psa_aff"]["state_dict"]
    expected = {name: tuple(shape) for name, shape in shapes.items() if name.split(".")[0] in HEAD_LAYERS}
    head = AffinityHead()
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == expected
    assert head.dim == 448


def test_head_by_plain_formula():
    head = AffinityHead((3, 5), widths=(2, 4))
    assert [name for name, _ in head.named_parameters()] == ["f8_3.weight", "f8_4.weight", "f9.weight"]
    one, other = random_features(2, 3, 4, 6), random_features(2, 5, 4, 6, seed=1)
    w3, w4, w9 = (weight[:, :, 0, 0] for weight in head.parameters())
    reduced = [torch.einsum("oc,bchw->bohw", w, x) for w, x in ((w3, one), (w4, other))]
    expected = F.elu(torch.einsum("oc,bchw->bohw", w9, F.elu(torch.cat(reduced, 1))))
    torch.testing.assert_close(head([one, other]), expected)


def test_head_brings_other_strides_to_the_grid():
    head = AffinityHead((3, 3, 3), strides=(4, 8, 16), widths=(2, 2, 2))
    x4, x8, x16 = random_features(1, 3, 14, 10), random_features(1, 3, 7, 5), random_features(1, 3, 4, 3)
    resized = [F.interpolate(x, size=(7, 5), mode="bilinear", align_corners=False) for x in (x4, x8, x16)]
    same_stride = AffinityHead((3, 3, 3), widths=(2, 2, 2))
    same_stride.load_state_dict(head.state_dict())
    torch.testing.assert_close(head([x4, x8, x16]), same_stride(resized))
    assert head([x4, x8, x16], grid=(3, 4)).shape == (1, 6, 3, 4)


def test_gradient_reaches_every_feature():
    head = AffinityHead((8, 16), strides=(8, 32))
    features = [random_features(1, 8, 6, 10).requires_grad_(), random_features(1, 16, 2, 3).requires_grad_()]
    pair_affinity(head(features)).sum().backward()
    assert all(feature.grad.abs().sum() > 0 for feature in features)


def test_head_errors_say_what_to_do():
    with pytest.raises(SettingsError, match="as many strides"):
        AffinityHead((8, 16), strides=(8,))
    with pytest.raises(SettingsError, match="at least one"):
        AffinityHead(())
    head = AffinityHead((8, 16), strides=(16, 32))
    with pytest.raises(SettingsError, match="no feature has stride 8"):
        head([torch.zeros(1, 8, 4, 4), torch.zeros(1, 16, 2, 2)])
    with pytest.raises(SettingsError, match=r"expected features of \(8, 16\) channels, got \(8,\)"):
        head([torch.zeros(1, 8, 4, 4)])


@pytest.fixture(scope="module")
def affinity_net(golden):
    """psa's whole network with the golden weights: backbone and head, each loaded with nothing missing or left."""
    shapes = json.loads((golden / "resnet38_keys.json").read_text())["nets"]["psa_aff"]["state_dict"]
    state = golden_state(shapes)
    parts = {True: {}, False: {}}
    for name, value in state.items():
        parts[name.split(".")[0] in HEAD_LAYERS][name] = value
    with torch.device("meta"):
        backbone, head = ResNet38(), AffinityHead()
    counters = {name: torch.tensor(0) for name in backbone.state_dict() if name.endswith("num_batches_tracked")}
    backbone.load_state_dict(parts[False] | counters, assign=True)
    head.load_state_dict(parts[True], assign=True)
    return backbone.eval(), head.eval()


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("suffix", ["", "_odd"])
@torch.no_grad()
def test_golden_network(golden, affinity_net, suffix):
    reference = np.load(golden / "resnet38_forward.npz")
    backbone, head = affinity_net
    before_elu = []
    hook = head.f9.register_forward_hook(lambda module, inputs, output: before_elu.append(output[0]))
    features = head(backbone.intermediate_maps(torch.from_numpy(reference[f"input{suffix}"])))
    hook.remove()

    pre = before_elu[0]
    tolerance = 1e-5 * pre.abs().max().item()
    np.testing.assert_allclose(pre[::7], reference[f"psa_aff_f9_pre_s7{suffix}"], rtol=0, atol=tolerance)
    for name, values in (("mean", pre.mean((1, 2))), ("std", pre.std((1, 2), correction=0))):
        np.testing.assert_allclose(values, reference[f"psa_aff_f9_pre_{name}{suffix}"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(pair_affinity(features)[0], reference[f"psa_aff_aff{suffix}"], rtol=0, atol=5e-6)
    dense = to_dense(pixel_affinity(features[0]))
    np.testing.assert_allclose(dense, reference[f"psa_aff_dense{suffix}"], rtol=0, atol=5e-6)
