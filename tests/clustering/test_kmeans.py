"""K-means in chunks equals scikit-learn's on the same rows from the same start, on memory-mapped features too."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans

from subcam.clustering import kmeans
from subcam.clustering.kmeans import cluster_rows, lloyd
from subcam.clustering.subcategories import discover_subcategories, prepared


def blobs(count: int, *, dim: int = 6, centres: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = rng.normal(0, 6, (centres, dim))
    return (means[rng.integers(0, centres, count)] + rng.normal(0, 1, (count, dim))).astype(np.float32)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """17 rows of 6 numbers at a time."""
    monkeypatch.setattr(kmeans, "CHUNK_BYTES", 17 * 6 * 4)


@pytest.mark.usefixtures("small_chunks")
def test_lloyd_equals_scikit_learn_from_the_same_centroids() -> None:
    features, start = blobs(300), blobs(5, seed=1)
    rows = np.flatnonzero(np.arange(300) % 3)
    clusters = lloyd(features, rows, start, tolerance=0.0, max_iterations=100)
    expected = KMeans(5, init=start, n_init=1, max_iter=100, tol=0.0).fit(features[rows])
    assert (clusters.assignments == expected.labels_).all()
    np.testing.assert_allclose(clusters.centroids, expected.cluster_centers_, atol=1e-4)
    assert clusters.inertia == pytest.approx(expected.inertia_, rel=1e-5)


def plain_lloyd(features: np.ndarray, centroids: np.ndarray, *, passes: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Every distance in every pass, in float64."""
    features, centroids, before = features.astype(np.float64), centroids.astype(np.float64), None

    def squared() -> np.ndarray:
        return np.square(features[:, None] - centroids).sum(2)

    for _ in range(passes):
        nearest = squared().argmin(1)
        farthest = features[squared().min(1).argmax()]
        means = [features[nearest == k].mean(0) if (nearest == k).any() else farthest for k in range(len(centroids))]
        centroids = np.array(means)
        if before is not None and (nearest == before).all():
            break
        before = nearest
    return squared().argmin(1), centroids, squared().min(1).sum()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("passes", [1, 2, 5, 100])
@pytest.mark.parametrize("case", ["blobs", "noise", "far from 0", "one cluster", "empty clusters", "float64", "many"])
def test_lloyd_equals_a_plain_loop(case: str, passes: int) -> None:
    rng = np.random.default_rng(3)
    features = rng.random((200, 6), dtype=np.float32) if case in ("noise", "float64") else blobs(200)
    features = {"far from 0": features + np.float32(3000), "float64": features.astype(np.float64)}.get(case, features)
    features = rng.random((200, 2), dtype=np.float32) if case == "many" else features
    start = np.array(features[: {"one cluster": 1, "many": 30}.get(case, 7)])
    if case == "empty clusters":
        start[5] = 1e3
    found = lloyd(features, np.arange(200), start, tolerance=0.0, max_iterations=passes)
    assignments, centroids, inertia = plain_lloyd(features, start, passes=passes)
    assert (found.assignments == assignments).all()
    np.testing.assert_allclose(found.centroids, centroids, rtol=1e-6, atol=1e-4)
    assert found.inertia == pytest.approx(inertia, rel=1e-4)
    assert found.centroids.dtype == features.dtype


@pytest.mark.usefixtures("small_chunks")
def test_distances_lie_within_their_bounds_whatever_rounding_does() -> None:
    features = blobs(200) + np.float32(3000)
    centroids, new = features[:7], features[7:14]
    found = kmeans._Assigned(features, np.arange(200), origin=np.zeros(6, np.float32), k=7)
    found.assign(centroids)
    for now in (centroids, new):
        distances = np.linalg.norm(features[:, None].astype(np.float64) - now, axis=2)
        own = (np.arange(200), found.assignments)
        assert (distances[own] <= found.nearest).all()
        distances[own] = np.inf
        assert (distances.min(1) >= found.others).all()
        found.follow(np.linalg.norm(new.astype(np.float64) - centroids, axis=1))


def test_late_passes_look_at_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    parts = kmeans._Assigned._parts

    def counted(self: object, places: np.ndarray) -> object:
        looked.append(len(places))
        return parts(self, places)

    monkeypatch.setattr(kmeans._Assigned, "_parts", counted)
    features = blobs(3000, dim=30, centres=8)
    lloyd(features, np.arange(3000), np.array(features[:8]), tolerance=0.0, max_iterations=100)
    assert (looked[0], looked[-1]) == (3000, 3000)
    assert len(looked) > 5
    assert looked[-2] < 300


@pytest.mark.usefixtures("small_chunks")
def test_an_empty_cluster_takes_the_farthest_row() -> None:
    features = np.array([[0.0], [1.0], [10.0], [11.0], [30.0]], np.float32)
    start = np.array([[0.5], [10.5], [1000.0]], np.float32)
    clusters = lloyd(features, np.arange(5), start, tolerance=0.0, max_iterations=20)
    assert sorted(np.bincount(clusters.assignments, minlength=3)) == [1, 2, 2]
    assert clusters.inertia == pytest.approx(1.0, rel=1e-5)


@pytest.mark.usefixtures("small_chunks")
def test_a_sample_and_passes_over_all_rows_find_the_same_blobs() -> None:
    features, rows = blobs(2000), np.arange(2000)
    sampled = cluster_rows(features, rows, num_clusters=4, seed=0, restarts=5, rows_at_once=200)
    whole = cluster_rows(features, rows, num_clusters=4, seed=0, restarts=5)
    distances = np.square(features[:, None] - sampled.centroids).sum(2)
    assert (distances.argmin(1) == sampled.assignments).all()
    assert sampled.inertia == pytest.approx(distances.min(1).sum(), rel=1e-4)
    assert sampled.inertia == pytest.approx(whole.inertia, rel=1e-4)
    for cluster in range(4):
        assert len(np.unique(whole.assignments[sampled.assignments == cluster])) == 1


def test_memory_mapped_features_give_the_same_sub_categories(tmp_path: Path) -> None:
    features = blobs(400)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    labels = (np.random.default_rng(0).random((400, 2)) < 0.7).astype(np.uint8)
    for normalisation in ("none", "l2"):
        results = [
            discover_subcategories(each, labels, num_subcategories=3, normalisation=normalisation, rows_at_once=100)
            for each in (features, mapped)
        ]
        assert (results[0].assignments == results[1].assignments).all()
        np.testing.assert_array_equal(results[0].centroids, results[1].centroids)
        assert results[0].labels.sum() == labels.sum()


def test_scaled_rows_of_a_memory_mapped_array_stay_on_the_disk(tmp_path: Path) -> None:
    features = blobs(50)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    scaled = prepared(mapped, np.ones((50, 1), np.uint8), normalisation="l2")
    assert isinstance(scaled, np.memmap)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(mapped, features)
    assert [path.name for path in tmp_path.iterdir()] == ["features.npy"]
