"""FINCH against hand cases, a slow version with sets of linked points, and what must hold for any partition."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from subcam.clustering.finch import cluster_means, finch, first_neighbours, link, merge_small, merge_to


def points(seed: int, count: int = 60, dim: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def blobs(sizes: tuple[int, ...], *, spread: float = 0.05, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Tight groups on the corners of a simplex, and the group of each point."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    return 3 * np.eye(len(sizes))[group] + rng.normal(scale=spread, size=(len(group), len(sizes))), group


def slow_partition(values: np.ndarray) -> set[frozenset[int]]:
    """Eq. 1 of the paper pair by pair: linked where one is the other's first neighbour or both share it."""
    count = len(values)
    first = [
        min((float(((values[i] - values[j]) ** 2).sum()), j) for j in range(count) if j != i)[1] for i in range(count)
    ]
    groups = [{i} for i in range(count)]
    for i in range(count):
        for j in range(i):
            if first[i] == j or first[j] == i or first[i] == first[j]:
                one = next(group for group in groups if i in group)
                other = next(group for group in groups if j in group)
                if one is not other:
                    groups.remove(other)
                    one |= other
    return {frozenset(group) for group in groups}


def slow_finch(values: np.ndarray) -> list[set[frozenset[int]]]:
    clusters = [frozenset({i}) for i in range(len(values))]
    partitions = []
    while len(clusters) > 1:
        means = np.stack([values[sorted(cluster)].mean(0) for cluster in clusters])
        clusters = [frozenset().union(*(clusters[i] for i in group)) for group in slow_partition(means)]
        if len(clusters) > 1:
            partitions.append(set(clusters))
    return partitions


def as_sets(cluster: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(cluster == k).tolist()) for k in np.unique(cluster)}


def test_two_pairs_and_a_follower_by_hand() -> None:
    """0 and 1 are mutual neighbours, 2 follows 1; 10 and 11 are mutual. Their means 1.1 and 10.5 are then one."""
    line = np.array([[0.0], [1.0], [2.3], [10.0], [11.0]])
    assert first_neighbours(line).tolist() == [1, 0, 1, 4, 3]
    assert [cluster.tolist() for cluster in finch(line)] == [[0, 0, 0, 1, 1]]


def test_sharing_a_neighbour_links() -> None:
    """Points 1 and 2 both have 0 as the first neighbour and lie far from each other."""
    assert link(np.array([1, 0, 0, 4, 3])).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("seed", range(8))
def test_the_hierarchy_is_that_of_the_slow_version(seed: int) -> None:
    values = points(seed, count=40 + 7 * seed).astype(np.float64)
    assert [as_sets(cluster) for cluster in finch(values)] == slow_finch(values)


@pytest.mark.parametrize("rows", [1, 7, 60, 1000])
def test_blocks_change_nothing_and_neighbours_are_those_of_scikit_learn(rows: int) -> None:
    values = points(3) + 1000  # far from the origin, where inner products lose digits
    _, expected = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(values.astype(np.float64)).kneighbors()
    assert (first_neighbours(values, block_bytes=8 * 60 * rows) == expected[:, 0]).all()


def test_the_hierarchy_nests_halves_and_ignores_order_scale_and_rotation() -> None:
    values = points(1, count=200).astype(np.float64)
    partitions = finch(values)
    assert len(partitions) >= 2
    sizes = [200, *(int(cluster.max()) + 1 for cluster in partitions)]
    assert all(coarse <= fine / 2 for fine, coarse in pairwise(sizes))
    for fine, coarse in pairwise(partitions):
        assert all(len(np.unique(coarse[fine == k])) == 1 for k in range(fine.max() + 1))
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    order = np.random.default_rng(1).permutation(200)
    for changed, back in ((3 * values @ rotation + 7, np.arange(200)), (values[order], np.argsort(order))):
        again = finch(changed)
        assert [as_sets(cluster[back]) for cluster in again] == [as_sets(cluster) for cluster in partitions]


def test_no_cluster_crosses_groups_that_stand_apart_until_one_of_them_is_whole() -> None:
    values, group = blobs((30, 12, 20))
    for cluster in finch(values):
        crossing = [k for k in range(cluster.max() + 1) if len(np.unique(group[cluster == k])) > 1]
        if crossing:
            break
        counts = [len(np.unique(cluster[group == g])) for g in range(3)]
    assert min(counts) == 1


def test_equal_points_are_one_cluster() -> None:
    twins = np.repeat(np.array([[0.1, 0.7], [0.3, 0.9], [5.0, 5.1]]), 4, axis=0)
    assert as_sets(finch(twins)[0]) == {frozenset(range(0, 4)), frozenset(range(4, 8)), frozenset(range(8, 12))}


def test_too_few_points() -> None:
    assert finch(np.zeros((1, 3))) == ()
    assert finch(np.array([[0.0], [1.0]])) == ()
    with pytest.raises(ValueError, match="needs two points or more, got 1"):
        first_neighbours(np.zeros((1, 3)))


def test_merging_takes_the_nearest_means_first() -> None:
    line = np.array([[0.0], [1.0], [2.5], [10.0]])
    assert merge_to(line, np.arange(4), count=3).tolist() == [0, 0, 1, 2]
    assert merge_to(line, np.arange(4), count=2).tolist() == [0, 0, 0, 1]
    assert merge_to(line, np.arange(4), count=9).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="1 cluster or more, got 0"):
        merge_to(line, np.arange(4), count=0)


def test_small_clusters_join_the_nearest() -> None:
    line = np.array([[0.0], [0.1], [4.0], [10.0], [10.1], [10.2]])
    assert merge_small(line, np.array([2, 2, 0, 1, 1, 1]), least=2).tolist() == [0, 0, 0, 1, 1, 1]
    assert merge_small(line, np.array([0, 0, 1, 2, 2, 2]), least=1).tolist() == [0, 0, 1, 2, 2, 2]
    assert merge_small(line, np.array([0, 0, 1, 2, 2, 2]), least=7).tolist() == [0] * 6


def test_means_are_those_of_a_loop() -> None:
    values, cluster = points(5), np.random.default_rng(0).permutation(np.arange(60) % 7)
    expected = [values[cluster == k].mean(0, dtype=np.float64) for k in range(7)]
    np.testing.assert_allclose(cluster_means(values, cluster), expected, rtol=1e-6)
