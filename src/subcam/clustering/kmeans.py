"""K-means on some rows of a matrix that may be too large for memory (Eq. 2): Lloyd's algorithm, exact or in chunks.

Up to a number of rows scikit-learn clusters them all at once. Above it, scikit-learn clusters a random sample, and
Lloyd's algorithm goes on from there over all rows, a chunk at a time: the result is a fixed point over every row, as
that of K-means is, and memory does not grow with the rows. In: features, memory-mapped or not. Out: clusters.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64
from threadpoolctl import threadpool_limits

ROWS_AT_ONCE = 20_000
"""Rows that are clustered at once; of more, that many are the sample."""

CHUNK_BYTES = 32 << 20
"""What a chunk of rows takes in memory at most."""

TOLERANCE = 1e-4
"""Lloyd's algorithm ends when the centroids move, squared, by less than this share of the features' mean variance."""


class Clusters(NamedTuple):
    """Cluster of each row in their order, centroids, and the sum of squared distances to the nearest centroid."""

    assignments: Int64[np.ndarray, " rows"]
    centroids: Float[np.ndarray, "k dim"]
    inertia: float


def cluster_rows(
    features: Float[np.ndarray, "all dim"],
    rows: Int64[np.ndarray, " rows"],
    *,
    num_clusters: int,
    seed: int,
    restarts: int = 10,
    max_iterations: int = 300,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Clusters:
    """K-means on `features[rows]`, on one thread: on few rows a second one makes it many times slower.

    Args:
        features: one row an image; a memory-mapped array is read a chunk at a time.
        rows: which rows, each once, rising.
        num_clusters: K; fewer where there are fewer distinct rows.
        seed: of the seeds of K-means, and of the sample.
        restarts: initialisations, of which the one of least inertia counts.
        max_iterations: limit of one run, and of the passes over all rows.
        rows_at_once: rows that are clustered at once; of more, a sample is, and all rows follow in passes.
    """
    from sklearn.cluster import KMeans  # takes a second to import, which only what clusters should wait for

    sampled = len(rows) > rows_at_once
    chosen = _sample(rows, rows_at_once, seed) if sampled else rows
    own = features[chosen]
    k = min(num_clusters, len(np.unique(own, axis=0)))
    kmeans = KMeans(k, random_state=seed, n_init=restarts, max_iter=max_iterations)
    with threadpool_limits(1):
        kmeans.fit(own)
        if not sampled:
            return Clusters(kmeans.labels_.astype(np.int64), kmeans.cluster_centers_, float(kmeans.inertia_))
        tolerance = TOLERANCE * float(own.var(0, dtype=np.float64).mean())
        return lloyd(features, rows, kmeans.cluster_centers_, tolerance=tolerance, max_iterations=max_iterations)


def lloyd(
    features: Float[np.ndarray, "all dim"],
    rows: Int64[np.ndarray, " rows"],
    centroids: Float[np.ndarray, "k dim"],
    *,
    tolerance: float,
    max_iterations: int,
) -> Clusters:
    """Lloyd's algorithm on `features[rows]` from given centroids, reading a chunk of rows at a time.

    A cluster that loses its last row takes the row that is farthest from its centroid.

    Args:
        features: one row an image.
        rows: which rows, rising.
        centroids: to begin with.
        tolerance: it ends when the squared moves of the centroids sum to at most this, or no row changes its cluster.
        max_iterations: passes over the rows at most, besides the last, which assigns them to the final centroids.
    """
    assignments = np.full(len(rows), -1, np.int64)
    for _ in range(max_iterations):
        before = assignments
        assignments, sums, counts, farthest, _ = _pass(features, rows, centroids)
        moved = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], features[rows[farthest]])
        moved = moved.astype(centroids.dtype)
        shift = float(np.square(moved - centroids, dtype=np.float64).sum())
        centroids = moved
        if shift <= tolerance or (assignments == before).all():
            break
    assignments, *_, inertia = _pass(features, rows, centroids)
    return Clusters(assignments, centroids, inertia)


def chunks(rows: Int64[np.ndarray, " rows"], *, dim: int, itemsize: int) -> Iterator[slice]:
    """Slices of `rows` whose features take `CHUNK_BYTES` at most."""
    step = max(1, CHUNK_BYTES // (dim * itemsize))
    for start in range(0, len(rows), step):
        yield slice(start, min(start + step, len(rows)))


def _pass(
    features: np.ndarray, rows: np.ndarray, centroids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, float]:
    """Assignments, sums and counts of each cluster, the position of the row farthest from its centroid, and inertia."""
    k, dim = centroids.shape
    assignments = np.empty(len(rows), np.int64)
    sums, counts = np.zeros((k, dim)), np.zeros(k, np.int64)
    norms = np.square(centroids).sum(1)
    inertia, farthest, largest = 0.0, 0, -1.0
    for part in chunks(rows, dim=dim, itemsize=features.itemsize):
        own = features[rows[part]]
        distances = own @ centroids.T
        distances *= -2
        distances += norms
        nearest = distances.argmin(1)
        assignments[part] = nearest
        squared = distances[np.arange(len(own)), nearest] + np.einsum("nd,nd->n", own, own)
        inertia += float(np.maximum(squared, 0).sum(dtype=np.float64))
        if squared.max() > largest:
            largest, farthest = float(squared.max()), part.start + int(squared.argmax())
        one_hot = (nearest[:, None] == np.arange(k)).astype(own.dtype)
        sums += one_hot.T @ own
        counts += np.bincount(nearest, minlength=k)
    return assignments, sums, counts, farthest, inertia


def _sample(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    # Rising, so that a memory-mapped array is read from its beginning to its end.
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
