"""Prototypes on features of known directions: which positions count, which clusters, which one is nearest."""

import numpy as np
import pytest

from subcam.prototypes.classifier import UNLABELLED
from subcam.prototypes.clustering import (
    CONTEXT,
    PositionSample,
    Prototypes,
    assign,
    confident_positions,
    directions,
    find_prototypes,
)

EAST, NORTH, UP, WEST = np.eye(4, dtype=np.float32)


def around(direction: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """Features that point nearly one way, of very different lengths."""
    rng = np.random.default_rng(seed)
    noisy = direction + 0.05 * rng.standard_normal((count, len(direction)))
    return (noisy * rng.uniform(0.1, 10, (count, 1))).astype(np.float32)


def test_a_position_is_confident_where_the_strongest_response_says_so() -> None:
    maps = np.array([[[0.9, 0.1, 0.3, 0.05]], [[0.2, 0.7, 0.31, 0.19]]], np.float32)
    shown = confident_positions(maps, np.array([2, 5]), object_above=0.4, context_below=0.2)
    assert shown.tolist() == [[2, 5, UNLABELLED, CONTEXT]]


def test_limits_themselves_are_not_confident() -> None:
    maps = np.array([[[0.5, 0.25]]], np.float32)
    assert confident_positions(maps, np.array([0]), object_above=0.5, context_below=0.25).tolist() == [
        [UNLABELLED, UNLABELLED]
    ]


def test_an_image_without_classes_says_nothing() -> None:
    shown = confident_positions(np.zeros((0, 2, 3), np.float32), np.zeros(0, int), object_above=0.4, context_below=0.2)
    assert shown.tolist() == [[UNLABELLED] * 3] * 2


def test_prototypes_are_the_directions_that_the_features_have() -> None:
    objects = [np.concatenate([around(EAST, 40), around(NORTH, 15, seed=1)]), around(UP, 20, seed=2)]
    prototypes = find_prototypes(objects, [around(WEST, 30, seed=3)] * 2, num_objects=2, num_context=1)
    nearest = (prototypes.objects[0] @ np.stack([EAST, NORTH]).T).max(0)
    assert (nearest > 0.99).all()
    assert (prototypes.context @ WEST > 0.99).all()
    np.testing.assert_allclose(np.linalg.norm(prototypes.together, axis=2), 1, rtol=1e-5)
    assert prototypes.together.shape == (2, 3, 4)


def test_fewer_directions_than_clusters_leave_rows_of_zeros() -> None:
    two = np.stack([EAST, 3 * EAST, NORTH])
    prototypes = find_prototypes([two, two[:0]], [two[:0], two[:1]], num_objects=4, num_context=2)
    assert prototypes.objects[0].any(1).sum() == 2
    assert not prototypes.objects[1].any()
    assert not prototypes.context[0].any()
    assert prototypes.context[1].any(1).tolist() == [True, False]


def test_one_seed_gives_one_result() -> None:
    features = np.random.default_rng(0).random((200, 8)).astype(np.float32)
    first, second = (
        find_prototypes([features], [features[:50]], num_objects=5, num_context=3, seed=7) for _ in range(2)
    )
    np.testing.assert_array_equal(first.together, second.together)


def sampled(images: list[int], size: int, *, seed: int = 0) -> list[float]:
    """A sample of images with 1, 2, 3, ... positions; a position's feature is its image's number."""
    sample = PositionSample(size, dim=1)
    for image in images:
        sample.add(np.full((image, 1), image, np.float32), np.random.default_rng((seed, image)))
    assert sample.seen == sum(images)
    return sample.features[:, 0].tolist()


def test_a_small_sample_is_everything() -> None:
    assert sorted(sampled([1, 2, 3], 10)) == [1, 2, 2, 3, 3, 3]


def test_a_sample_does_not_depend_on_the_order_of_images() -> None:
    assert sampled([1, 2, 3, 4], 5) == sampled([4, 2, 1, 3], 5)


def test_a_sample_holds_little_more_than_its_size() -> None:
    sample = PositionSample(40, dim=1)
    rng, most = np.random.default_rng(0), 0
    for image in range(300):
        sample.add(np.full((8, 1), image, np.float32), rng)
        most = max(most, sum(map(len, sample._features)))
    assert 40 < most <= 50 + 8
    keys = np.random.default_rng(0).random(2400)
    np.testing.assert_array_equal(sample.features[:, 0], np.argsort(keys)[:40] // 8)


def test_a_sample_keeps_half_precision_and_directions_are_computed_in_more() -> None:
    features = np.random.default_rng(0).normal(scale=100, size=(50, 1280)).astype(np.float32)
    features[0, 0] = 1e6
    sample = PositionSample(50, dim=1280)
    sample.add(features, np.random.default_rng(1))
    kept = sample.features
    assert kept.dtype == np.float16
    assert np.isfinite(kept).all()
    order = np.argsort(np.random.default_rng(1).random(50))
    expected = features[order].clip(-65504, 65504)
    np.testing.assert_allclose(kept, expected, rtol=5e-4, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(directions(kept), axis=1), 1, rtol=1e-6)
    found = find_prototypes([kept], [kept], num_objects=3, num_context=2).together
    np.testing.assert_allclose(
        found, find_prototypes([expected], [expected], num_objects=3, num_context=2).together, atol=2e-3
    )


def test_every_position_is_equally_likely() -> None:
    """Of 10 positions 3 are taken, 2000 times: each image's share is that of its positions, within 5 deviations."""
    counts = np.zeros(5)
    for seed in range(2000):
        taken = sampled([1, 2, 3, 4], 3, seed=seed)
        assert len(taken) == 3
        counts += np.bincount(np.array(taken, int), minlength=5)
    expected = 6000 * np.arange(5) / 10
    assert (np.abs(counts - expected) <= 5 * np.sqrt(expected)).all()


@pytest.fixture
def prototypes() -> Prototypes:
    """Class 0: east, north; context up. Class 1: east alone (its second is missing); context west."""
    return Prototypes(
        objects=np.stack([np.stack([EAST, NORTH]), np.stack([EAST, 0 * EAST])]), context=np.stack([[UP], [WEST]])
    )


def test_a_position_goes_to_the_nearest_of_its_own_group(prototypes: Prototypes) -> None:
    features = np.stack([[2 * NORTH, 5 * EAST, 0.3 * UP + 0.2 * EAST, WEST, NORTH]])
    shown = np.array([[0, 1, CONTEXT, CONTEXT, UNLABELLED]], np.int16)
    assert assign(features, shown, np.array([0, 1]), prototypes).tolist() == [[1, 3, 2, 5, UNLABELLED]]


def test_the_context_of_absent_classes_is_not_considered(prototypes: Prototypes) -> None:
    labels = assign(np.stack([[UP, WEST]]), np.full((1, 2), CONTEXT, np.int16), np.array([1]), prototypes)
    assert labels.tolist() == [[5, 5]]


def test_a_group_without_prototypes_stays_unlabelled() -> None:
    none = Prototypes(objects=np.zeros((1, 2, 4), np.float32), context=np.zeros((1, 1, 4), np.float32))
    labels = assign(np.stack([[EAST, UP]]), np.array([[0, CONTEXT]], np.int16), np.array([0]), none)
    assert labels.tolist() == [[UNLABELLED, UNLABELLED]]


def test_directions_have_length_1_and_zeros_stay() -> None:
    units = directions(np.stack([3 * EAST + 4 * NORTH, 0 * EAST]))
    np.testing.assert_allclose(units, [[0.6, 0.8, 0, 0], [0, 0, 0, 0]], rtol=1e-6)
