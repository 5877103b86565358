"""The number of clusters by silhouette and stability: groups that are there are counted, small ones are merged."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

from subcam.discover import adaptive
from subcam.discover.adaptive import choose_clusters, finch_clusters, nearest_mean


def blobs(sizes: tuple[int, ...], *, spread: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Groups on the corners of a simplex of side 3 sqrt 2, and the group of each point."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    points = 3 * np.eye(max(len(sizes), 2))[group] + rng.normal(scale=spread, size=(len(group), max(len(sizes), 2)))
    order = rng.permutation(len(group))
    return points[order].astype(np.float32), group[order]


@pytest.mark.parametrize("method", ["kmeans", "finch", "auto"])
@pytest.mark.parametrize("sizes", [(20, 20), (40, 15, 25), (12, 30, 9, 25, 14)])
def test_groups_that_are_there_are_found(method: str, sizes: tuple[int, ...]) -> None:
    points, group = blobs(sizes)
    found = choose_clusters(points, method=method)
    assert found.chosen.clusters == len(sizes)
    assert adjusted_rand_score(group, found.cluster) == 1


@pytest.mark.parametrize("sizes", [(40, 15, 25), (30, 20, 25, 18)])
def test_stability_finds_them_too(sizes: tuple[int, ...]) -> None:
    points, group = blobs(sizes)
    found = choose_clusters(points, method="kmeans", criterion="stability", repeats=4, restarts=3, max_clusters=6)
    assert adjusted_rand_score(group, found.cluster) == 1
    assert found.chosen.score == pytest.approx(1)
    assert max(c.score for c in found.candidates if c.asked > len(sizes)) < 0.95


def test_the_score_is_the_silhouette_of_scikit_learn_and_the_best_is_chosen() -> None:
    points = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    found = choose_clusters(points, min_cluster_size=1)
    scores = [candidate.score for candidate in found.candidates]
    assert found.chosen.score == max(scores)
    assert found.chosen.score == pytest.approx(silhouette_score(points, found.cluster), abs=1e-6)
    asked = [(c.method, c.asked) for c in found.candidates if c.method == "kmeans"]
    assert sorted(asked) == [("kmeans", k) for k in range(2, 11)]
    assert any(candidate.method == "finch" for candidate in found.candidates)


def test_a_sample_of_the_silhouette_is_close_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = blobs((200, 150, 100), spread=0.8)
    whole = choose_clusters(points, method="kmeans", max_clusters=4, restarts=2)
    monkeypatch.setattr(adaptive, "SILHOUETTE_IMAGES", 150)
    sample = choose_clusters(points, method="kmeans", max_clusters=4, restarts=2)
    assert (sample.cluster == whole.cluster).all()
    assert sample.chosen.score != whole.chosen.score
    assert sample.chosen.score == pytest.approx(whole.chosen.score, abs=0.05)


def test_clusters_below_the_least_size_are_merged() -> None:
    points, group = blobs((30, 30, 3))
    assert choose_clusters(points, min_cluster_size=3).chosen.clusters == 3
    found = choose_clusters(points, min_cluster_size=4)
    assert found.chosen.clusters == 2
    assert np.bincount(found.cluster).min() >= 4
    large = group < 2
    assert adjusted_rand_score(group[large], found.cluster[large]) == 1
    assert all(candidate.clusters * 4 <= 63 for candidate in found.candidates)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_images_to_split_are_one_cluster(count: int) -> None:
    points = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    found = choose_clusters(points, min_cluster_size=3)
    assert found.cluster.tolist() == [0] * count
    assert found.chosen.clusters == 1
    assert np.isnan(found.chosen.score)


def test_equal_images_are_one_cluster() -> None:
    found = choose_clusters(np.full((20, 3), 0.3, np.float32))
    assert found.candidates == ()
    assert found.chosen.method == "one cluster"


def test_one_seed_one_result_and_moving_or_scaling_the_features_changes_nothing() -> None:
    points, _ = blobs((25, 20, 30), spread=1.0)
    first = choose_clusters(points, seed=3)
    for same in (points, 2 * points + 8):
        again = choose_clusters(same, seed=3)
        assert (again.cluster == first.cluster).all()
        assert again.chosen.score == pytest.approx(first.chosen.score, abs=1e-5)


def test_finch_at_a_wanted_number_of_clusters() -> None:
    points, group = blobs((20, 15, 25), spread=0.05)
    assert adjusted_rand_score(group, finch_clusters(points, count=3)) == 1
    for count in (1, 2, 7, 59, 60):
        assert finch_clusters(points, count=count).max() + 1 == count


def test_the_nearest_mean_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    points, means = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    expected = [min(range(5), key=lambda k: float(((p - means[k]) ** 2).sum())) for p in points]
    assert nearest_mean(points, means).tolist() == expected


@pytest.mark.parametrize("changes", [{"max_clusters": 0}, {"min_cluster_size": 0}])
def test_limits_of_at_least_one(changes: dict) -> None:
    with pytest.raises(ValueError, match="of 1 or more, got 3 images"):
        choose_clusters(np.eye(3), **changes)
