import numpy as np
import pytest
import torch

from subcam.cam.response import aggregate_response_maps, background_score, response_maps

CASES = ("A", "B", "C")
FLIPS = [False, True] * 4


def load(golden, case):
    with np.load(golden / "cam.npz", allow_pickle=False) as data:
        return {key[2:]: data[key] for key in data.files if key.startswith(f"{case}_")}


def test_equation_1_by_hand():
    features = torch.tensor([[[1.0, 2.0]], [[3.0, -1.0]]])
    weights = torch.tensor([[1.0, 1.0], [0.5, -1.0]])
    expected = [[[4.0, 1.0]], [[0.0, 2.0]]]
    assert response_maps(features, weights).tolist() == expected
    assert response_maps(features[None], weights).tolist() == [expected]


def test_pooled_map_is_the_logit():
    features, weights = torch.rand(2, 6, 5, 4), torch.rand(3, 6)
    maps = response_maps(features, weights)
    assert torch.allclose(maps.mean((2, 3)), features.mean((2, 3)) @ weights.T, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_golden_parent_maps(golden, case):
    data = load(golden, case)
    maps = [torch.from_numpy(data[f"raw_{i}"]) for i in range(8)]
    labels = torch.from_numpy(data["label"])
    found = aggregate_response_maps(maps, flips=FLIPS, size=tuple(data["size"].tolist()), labels=labels)
    present = labels.bool()
    assert np.abs(found[present].numpy() - data["norm_cam"]).max() <= 1e-5
    assert not found[~present].any()
    for alpha in (4, 16, 32):
        assert np.abs(background_score(found[present], alpha).numpy() - data[f"bg_a{alpha}"]).max() <= 1e-4
        scores = torch.cat([background_score(found[present], alpha)[None], found[present]])
        ids = np.array([0, *data["classes"]])
        assert (ids[scores.argmax(0).numpy()] == data[f"label_a{alpha}"]).all()


@pytest.mark.parametrize("case", CASES)
def test_golden_subcategory_maps(golden, case):
    data = load(golden, case)
    maps = [torch.from_numpy(data[f"rawsub_{i}"]) for i in range(8)]
    size, k = tuple(data["size"].tolist()), int(data["k"])
    found = aggregate_response_maps(maps, flips=FLIPS, size=size, group_size=k)
    assert np.abs(found[:, ::3, ::3].numpy() - data["norm_sub"]).max() <= 1e-5
    merged = found.view(-1, k, *size).amax(1)
    assert np.abs(merged.numpy() - data["merged_sub"]).max() <= 1e-5


def test_a_flipped_map_is_flipped_back():
    one = torch.rand(2, 4, 5)
    both = aggregate_response_maps([one, one.flip(-1)], flips=[False, True], size=(8, 10))
    alone = aggregate_response_maps([one], flips=[False], size=(8, 10))
    assert torch.allclose(both, alone, atol=1e-4)


def test_no_class_is_present():
    found = aggregate_response_maps([torch.rand(3, 2, 2)], flips=[False], size=(4, 4), labels=torch.zeros(3))
    assert found.shape == (3, 4, 4)
    assert not found.any()
    assert (background_score(found[:0], 4) == 1).all()


@pytest.mark.parametrize(
    ("maps", "flips", "group", "message"),
    [
        ([], [], 1, "maps: expected one or more"),
        ([torch.rand(3, 2, 2)], [], 1, "flips: expected one or more"),
        ([torch.rand(3, 2, 2)], [False], 2, "groups of 2"),
    ],
)
def test_wrong_arguments(maps, flips, group, message):
    with pytest.raises(ValueError, match=message):
        aggregate_response_maps(maps, flips=flips, size=(4, 4), group_size=group)
