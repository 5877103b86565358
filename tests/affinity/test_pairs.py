"""Pairs of grid cells and the grid itself, against brute force and the golden indices."""

import itertools

import numpy as np
import pytest
import torch
from tests.affinity.dense_walk import is_pair

from subcam.affinity.grid import source_region, training_region
from subcam.affinity.pairs import pair_indices, pair_offsets, pool_to_grid, shifted, upsample_from_grid
from subcam.errors import SettingsError


def test_offsets_of_radius_two_by_hand():
    assert pair_offsets(1) == ()
    assert pair_offsets(2) == ((0, 1), (1, -1), (1, 0), (1, 1))


@pytest.mark.parametrize(("radius", "count"), [(3, 12), (5, 34)])
def test_number_of_offsets(radius, count):
    offsets = pair_offsets(radius)
    assert len(offsets) == len(set(offsets)) == count
    disc = {(y, x) for y, x in itertools.product(range(-9, 10), repeat=2) if 0 < y * y + x * x < radius**2}
    assert disc == set(offsets) | {(-y, -x) for y, x in offsets}


@pytest.mark.parametrize("radius", [0, -3, 2.5])
def test_radius_must_be_a_whole_number(radius):
    with pytest.raises((SettingsError, TypeError)):  # TypeError: beartype, where the run-time checks are on
        pair_offsets(radius)


@pytest.mark.parametrize("all_pairs", [False, True])
@pytest.mark.parametrize(("height", "width", "radius"), [(7, 12, 3), (5, 9, 5), (4, 20, 5), (1, 3, 4), (6, 6, 1)])
def test_regions_hold_each_pair_once(height, width, radius, all_pairs):
    cells = np.arange(height * width).reshape(height, width)
    found = []
    for offset in pair_offsets(radius):
        region = source_region(offset, height=height, width=width, radius=radius, all_pairs=all_pairs)
        found += zip(cells[region].flat, cells[shifted(region, offset)].flat, strict=True)
    grid = list(itertools.product(range(height), range(width)))
    expected = {
        (i, j)
        for (i, a), (j, b) in itertools.combinations(enumerate(grid), 2)
        if is_pair(a, b, height=height, width=width, radius=radius, all_pairs=all_pairs)
    }
    assert len(found) == len(set(found))
    assert set(found) == expected


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "height", "width"), [("h20w15", 20, 15), ("h9w13", 9, 13), ("h6w17", 6, 17), ("h5w9", 5, 9)]
)
def test_golden_indices(golden, name, height, width):
    reference = np.load(golden / "random_walk.npz")
    sources, targets = pair_indices(height=height, width=width, radius=5)
    np.testing.assert_array_equal(sources.numpy(), reference[f"ind_from_{name}"])
    np.testing.assert_array_equal(targets.flatten().numpy(), reference[f"ind_to_{name}"])


@pytest.mark.parametrize(("height", "width"), [(4, 9), (5, 8), (1, 1)])
def test_too_small_for_training(height, width):
    with pytest.raises(SettingsError, match="at least 5 x 9"):
        training_region(height=height, width=width, radius=5)


def test_pooling_by_hand():
    scores = torch.arange(6.0).reshape(1, 2, 3)
    expected = torch.tensor([[[(0 + 1 + 3 + 4) / 4, (2 + 5) / 4]]])  # the padding counts
    assert torch.equal(pool_to_grid(scores, stride=2), expected)


def test_pooling_keeps_leading_axes():
    scores = torch.rand(2, 3, 4, 21, 16, generator=torch.Generator().manual_seed(0))
    pooled = pool_to_grid(scores, stride=8)
    assert pooled.shape == (2, 3, 4, 3, 2)
    torch.testing.assert_close(pooled[1, 2, 3, 0, 1], scores[1, 2, 3, :8, 8:].mean())
    torch.testing.assert_close(pooled.sum() * 64, scores.sum())


def test_upsampling_by_hand():
    maps = torch.tensor([[[0.0, 1.0]]])
    upsampled = upsample_from_grid(maps, size=(2, 3), stride=2)
    assert torch.equal(upsampled, torch.tensor([[[0, 0.25, 0.75]] * 2]).reshape(1, 2, 3))


def test_upsampling_refuses_another_image():
    with pytest.raises(SettingsError, match="expected 3 x 2 cells"):
        upsample_from_grid(torch.zeros(1, 2, 2), size=(17, 16))
