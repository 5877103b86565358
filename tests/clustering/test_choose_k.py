"""The number of clusters by silhouette and stability: groups that are there are counted, small ones are merged."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, silhouette_score

from subcam.clustering import choose_k
from subcam.clustering.choose_k import choose_clusters, discover_adaptive_subcategories, finch_clusters, nearest_mean
from subcam.clustering.options import Candidates


def blobs(sizes: tuple[int, ...], *, spread: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Groups on the corners of a simplex of side 3 sqrt 2, and the group of each point."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(sizes)), sizes)
    points = 3 * np.eye(max(len(sizes), 2))[group] + rng.normal(scale=spread, size=(len(group), max(len(sizes), 2)))
    order = rng.permutation(len(group))
    return points[order].astype(np.float32), group[order]


@pytest.mark.parametrize("candidates", ["kmeans", "both"])
@pytest.mark.parametrize("sizes", [(20, 20), (40, 15, 25), (12, 30, 9, 25, 14)])
def test_groups_that_are_there_are_found(candidates: Candidates, sizes: tuple[int, ...]) -> None:
    points, group = blobs(sizes)
    choice = choose_clusters(points, candidates=candidates)
    assert choice.chosen.clusters == len(sizes)
    assert adjusted_rand_score(group, choice.cluster) == 1


@pytest.mark.parametrize("sizes", [(40, 15, 25), (30, 20, 25, 18)])
def test_stability_finds_them_too(sizes: tuple[int, ...]) -> None:
    points, group = blobs(sizes)
    choice = choose_clusters(points, candidates="kmeans", criterion="stability", repeats=4, restarts=3, max_clusters=6)
    assert adjusted_rand_score(group, choice.cluster) == 1
    assert choice.chosen.score == pytest.approx(1)
    assert max(c.score for c in choice.candidates if c.asked > len(sizes)) < 0.95


def test_the_score_is_the_silhouette_of_scikit_learn_and_the_best_is_chosen() -> None:
    points = np.random.default_rng(0).normal(size=(80, 6)).astype(np.float32)
    choice = choose_clusters(points, min_cluster_size=1)
    scores = [candidate.score for candidate in choice.candidates]
    assert choice.chosen.score == max(scores)
    assert choice.chosen.score == pytest.approx(silhouette_score(points, choice.cluster), abs=1e-6)
    asked = [(c.method, c.asked) for c in choice.candidates if c.method == "kmeans"]
    assert sorted(asked) == [("kmeans", k) for k in range(2, 11)]
    assert any(candidate.method == "finch" for candidate in choice.candidates)


def test_a_sample_of_the_silhouette_is_close_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    points, _ = blobs((200, 150, 100), spread=0.8)
    whole = choose_clusters(points, candidates="kmeans", max_clusters=4, restarts=2)
    monkeypatch.setattr(choose_k, "SILHOUETTE_IMAGES", 150)
    sample = choose_clusters(points, candidates="kmeans", max_clusters=4, restarts=2)
    assert (sample.cluster == whole.cluster).all()
    assert sample.chosen.score != whole.chosen.score
    assert sample.chosen.score == pytest.approx(whole.chosen.score, abs=0.05)


def test_clusters_below_the_least_size_are_merged() -> None:
    points, group = blobs((30, 30, 3))
    assert choose_clusters(points, min_cluster_size=3).chosen.clusters == 3
    choice = choose_clusters(points, min_cluster_size=4)
    assert choice.chosen.clusters == 2
    assert np.bincount(choice.cluster).min() >= 4
    large = group < 2
    assert adjusted_rand_score(group[large], choice.cluster[large]) == 1
    assert all(candidate.clusters * 4 <= 63 for candidate in choice.candidates)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_too_few_images_to_split_are_one_cluster(count: int) -> None:
    points = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    choice = choose_clusters(points, min_cluster_size=3)
    assert choice.cluster.tolist() == [0] * count
    assert choice.chosen.clusters == 1
    assert np.isnan(choice.chosen.score)


def test_equal_images_are_one_cluster() -> None:
    choice = choose_clusters(np.full((20, 3), 0.3, np.float32))
    assert choice.candidates == ()
    assert choice.chosen.method == "one cluster"


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


def test_classes_get_their_own_number_of_clusters() -> None:
    """Class 0 has two groups, class 1 three, class 2 no images; ten images have both classes."""
    points, group = blobs((20, 15, 25))
    labels = np.stack([group < 2, np.ones(60), np.zeros(60)], 1).astype(np.uint8)
    subcategories, choices = discover_adaptive_subcategories(points, labels, restarts=3)
    assert subcategories.num_clusters.tolist() == [2, 3, 0]
    assert subcategories.labels.shape == (60, 9)
    assert adjusted_rand_score(group, subcategories.assignments[:, 1]) == 1
    assert (subcategories.labels.reshape(60, 3, 3).sum(2) == labels).all()
    assert not subcategories.labels[:, [2, 6, 7, 8]].any()
    assert choices[2] is None
    assert [choice.chosen.clusters for choice in choices if choice] == [2, 3]
    alone, _ = discover_adaptive_subcategories(points, labels[:, :1], restarts=3)
    assert (alone.assignments[:, 0] == subcategories.assignments[:, 0]).all()


def test_normalised_features_are_those_that_are_clustered() -> None:
    points, _ = blobs((20, 25))
    labels = np.ones((45, 1), np.uint8)
    stretched = points * np.random.default_rng(0).uniform(1, 30, (45, 1)).astype(np.float32)
    subcategories, _ = discover_adaptive_subcategories(stretched, labels, normalisation="l2", restarts=3)
    plain, _ = discover_adaptive_subcategories(points, labels, normalisation="l2", restarts=3)
    assert (subcategories.assignments == plain.assignments).all()
    np.testing.assert_allclose(np.linalg.norm(subcategories.centroids, axis=1), 1, atol=0.1)
