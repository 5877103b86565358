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


@pytest.mark.usefixtures("small_chunks")
def test_an_empty_cluster_takes_the_farthest_row() -> None:
    features = np.array([[0.0], [1.0], [10.0], [11.0], [30.0]], np.float32)
    start = np.array([[0.5], [10.5], [1000.0]], np.float32)
    clusters = lloyd(features, np.arange(5), start, tolerance=0.0, max_iterations=20)
    assert sorted(np.bincount(clusters.assignments, minlength=3)) == [1, 2, 2]
    assert clusters.inertia == pytest.approx(1.0)


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
