"""Label maps and pair labels, by hand, against brute force and the golden data."""

import itertools

import numpy as np
import pytest
import torch

from subcam.affinity.labels import affinity_label_map, pair_labels
from subcam.affinity.pairs import pair_indices, pool_to_grid
from subcam.errors import SettingsError

MAPS = ["blobs", "mask", "noise", "all255", "allbg", "halves", "c56", "r3"]
KINDS = {"background": "bg_pos", "foreground": "fg_pos", "negative": "neg"}


@pytest.fixture(scope="module")
def reference(golden):
    return np.load(golden / "affinity_labels.npz")


def kind_of(one, other):
    """What a pair is, in words."""
    if 255 in (one, other):
        return None
    if one != other:
        return "negative"
    return "background" if one == 0 else "foreground"


def assert_equal_kinds(labels, reference, suffix):
    for kind, name in KINDS.items():
        found = getattr(labels, kind)
        assert found.dtype == torch.bool
        np.testing.assert_array_equal(found, reference[f"{name}_{suffix}"])


@pytest.mark.data
@pytest.mark.parametrize("name", MAPS)
def test_golden_pairs(reference, name):
    size, radius = reference[f"cropsize_radius_{name}"].tolist()
    label = torch.from_numpy(reference[f"label_{name}"])
    assert label.shape == (size, size)
    assert_equal_kinds(pair_labels(label, radius=radius), reference, name)


@pytest.mark.data
def test_golden_pairs_as_a_batch(reference):
    names = ["blobs", "mask", "noise"]
    batch = pair_labels(torch.stack([torch.from_numpy(reference[f"label_{name}"]) for name in names]))
    for kind, golden_name in KINDS.items():
        expected = np.stack([reference[f"{golden_name}_{name}"] for name in names])
        np.testing.assert_array_equal(getattr(batch, kind), expected)


@pytest.mark.data
@pytest.mark.parametrize("case", ["ds_A", "ds_B"])
def test_golden_label_maps(reference, case):
    top, left, size = reference[f"{case}_paste"].tolist()
    pooled = {}
    for alpha in ("la", "ha"):
        scores = torch.from_numpy(reference[f"{case}_{alpha}"])
        pasted = torch.zeros(3, size, size)
        pasted[:, top : top + scores.shape[1], left : left + scores.shape[2]] = scores
        pooled[alpha] = pool_to_grid(pasted)
        np.testing.assert_allclose(pooled[alpha], reference[f"{case}_pooled_{alpha}"], rtol=0, atol=1e-6)
    label = affinity_label_map(pooled["la"], pooled["ha"])
    np.testing.assert_array_equal(label, reference[f"{case}_label"])
    labels = pair_labels(label)
    for kind, name in KINDS.items():
        np.testing.assert_array_equal(getattr(labels, kind), reference[f"{case}_{name}"])


def test_label_map_by_hand():
    #        sure object 2, object vs background, unsure, sure background, off the image, tie
    low = [[0.1, 0.4, 0.9, 0.9, 0.0, 0.5], [0.2, 0.6, 0.1, 0.1, 0.0, 0.5], [0.7, 0.0, 0.0, 0.0, 9e-6, 0.0]]
    high = [[0.0, 0.8, 0.3, 0.7, 0.0, 0.0], [0.4, 0.2, 0.7, 0.3, 0.0, 1.0], [0.6, 0.0, 0.0, 0.0, 0.0, 0.0]]
    label = affinity_label_map(torch.tensor(low).reshape(3, 1, 6), torch.tensor(high).reshape(3, 1, 6))
    assert label.dtype == torch.uint8
    assert label.tolist() == [[2, 0, 255, 0, 255, 255]]


def test_label_map_of_a_batch():
    generator = torch.Generator().manual_seed(0)
    low, high = torch.rand(2, 2, 3, 4, 5, 6, generator=generator)
    batch = affinity_label_map(low, high)
    assert batch.shape == (2, 3, 5, 6)
    for i, j in itertools.product(range(2), range(3)):
        assert torch.equal(batch[i, j], affinity_label_map(low[i, j], high[i, j]))


def test_background_only():
    scores = torch.ones(1, 3, 3)
    assert not affinity_label_map(scores, scores).any()


@pytest.mark.parametrize(("height", "width", "radius"), [(7, 11, 3), (5, 9, 5), (6, 4, 2), (8, 14, 4)])
def test_pairs_equal_brute_force(height, width, radius):
    generator = torch.Generator().manual_seed(height)
    values = torch.tensor([0, 1, 2, 255])
    label = values[torch.randint(4, (height, width), generator=generator)]
    sources, targets = pair_indices(height=height, width=width, radius=radius)
    labels = pair_labels(label, radius=radius)
    cells = label.flatten().tolist()
    for o, p in itertools.product(range(len(targets)), range(len(sources))):
        expected = kind_of(cells[sources[p]], cells[targets[o, p]])
        for kind in KINDS:
            assert getattr(labels, kind)[o, p].item() == (kind == expected)


def test_label_numbers_do_not_matter():
    label = torch.tensor([0, 1, 2, 255])[torch.randint(4, (9, 12), generator=torch.Generator().manual_seed(3))]
    renamed = label.clone()
    renamed[label == 1], renamed[label == 2] = 13, 1
    one, other = pair_labels(label, radius=3), pair_labels(renamed, radius=3)
    for kind in KINDS:
        assert torch.equal(getattr(one, kind), getattr(other, kind))


def test_errors_say_what_to_do():
    with pytest.raises(SettingsError, match="at least 5 x 9 cells; got 4 x 9"):
        pair_labels(torch.zeros(4, 9, dtype=torch.uint8))
    with pytest.raises(SettingsError, match="at most 255 channels, got 256"):
        affinity_label_map(torch.zeros(256, 2, 2), torch.zeros(256, 2, 2))
