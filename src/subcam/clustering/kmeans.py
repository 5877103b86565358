"""K-means on some rows of a matrix that may be too large for memory (Eq. 2): Lloyd's algorithm, exact or in chunks.

Up to a number of rows scikit-learn clusters them all at once. Above it, scikit-learn clusters a random sample, and
Lloyd's algorithm goes on from there over all rows, a chunk at a time: the result is a fixed point over every row, as
that of K-means is, and memory grows with the rows by 24 bytes each. In: features, memory-mapped or not. Out: clusters.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64
from threadpoolctl import threadpool_limits

ROWS_AT_ONCE = 20_000
"""Rows that are clustered at once; of more, that many are the sample."""

CHUNK_BYTES = 1 << 20
"""What a chunk of rows takes in memory at most: it stays in a core's cache while it is used several times."""

ROWS_FOR_ORIGIN = 100
"""Of about so many rows, spread evenly, the mean is taken to lie in the midst of all rows."""

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

    A pass leaves out the rows whose cluster cannot have changed by what the centroids moved since they were last looked
    at (Hamerly, "Making k-means even faster", SDM 2010): the result is that of passes over all rows. A cluster that
    loses its last row takes the row that is farthest from its centroid.

    Args:
        features: one row an image.
        rows: which rows, rising.
        centroids: to begin with.
        tolerance: it ends when the squared moves of the centroids sum to at most this, or no row changes its cluster.
        max_iterations: passes over the rows at most, besides the last, which assigns them to the final centroids.
    """
    origin = features[rows[:: max(1, len(rows) // ROWS_FOR_ORIGIN)]].mean(0).astype(centroids.dtype)
    centroids = centroids - origin
    found = _Assigned(features, rows, origin=origin, k=len(centroids))
    for _ in range(max_iterations):
        found.assign(centroids)
        moved = found.means().astype(centroids.dtype)
        if not found.counts.all():
            moved[found.counts == 0] = features[rows[found.farthest(centroids)]] - origin
        shifts = np.sqrt(np.square(moved - centroids, dtype=np.float64).sum(1))
        found.follow(shifts)
        centroids = moved
        if float(shifts @ shifts) <= tolerance:  # no move at all, where no row changed its cluster
            break
    found.doubt_all()
    inertia = found.assign(centroids)
    return Clusters(found.assignments, centroids + origin, inertia)


class _Assigned:
    """The cluster of each row, sums and counts of the clusters, and within what the rows' distances lie.

    origin: what features and centroids are relative to here: the nearer they lie to it, the less is lost in distances
        that are differences of squares.
    nearest, others: each row's distance to its centroid is at most the one, to every other centroid at least the other.
    """

    def __init__(self, features: np.ndarray, rows: np.ndarray, *, origin: np.ndarray, k: int) -> None:
        self.features, self.rows, self.origin = features, rows, origin
        self.assignments = np.full(len(rows), -1, np.int64)
        self.sums, self.counts = np.zeros((k, features.shape[1])), np.zeros(k, np.int64)
        self.nearest, self.others = np.empty(len(rows)), np.empty(len(rows))
        self.doubt_all()

    def doubt_all(self) -> None:
        """Let the next pass look at every row."""
        self.nearest[:], self.others[:] = np.inf, 0.0

    def follow(self, shifts: Float64[np.ndarray, " k"]) -> None:
        """Widen the bounds by how far each centroid moved."""
        self.nearest += shifts[self.assignments]
        self.others -= shifts.max()

    def means(self) -> Float64[np.ndarray, "k dim"]:
        """The mean of each cluster; 0 of an empty one."""
        return self.sums / np.maximum(self.counts, 1)[:, None]

    def assign(self, centroids: Float[np.ndarray, "k dim"]) -> float:
        """Look at the rows that may be nearest to another centroid by now; the inertia of these rows."""
        doubtful = np.flatnonzero(self.nearest >= self.others)
        norms = np.square(centroids).sum(1)
        # What rounding may do to a sum of so many products, whatever their order.
        rounding = (centroids.shape[1] + 2) * float(np.finfo(centroids.dtype).eps)
        inertia = 0.0
        for places, own in self._parts(doubtful):
            distances = own @ centroids.T
            distances *= -2
            distances += norms
            each, cluster = np.arange(len(own)), distances.argmin(1)
            own_norms = np.einsum("nd,nd->n", own, own)
            squared = distances[each, cluster] + own_norms
            inertia += float(np.maximum(squared, 0).sum(dtype=np.float64))
            distances[each, cluster] = np.inf
            margin = rounding * (own_norms + norms.max()).astype(np.float64)
            self.nearest[places] = np.sqrt(np.maximum(squared + margin, 0))
            self.others[places] = np.sqrt(np.maximum(distances.min(1) + own_norms - margin, 0))
            self._move(places, own, cluster)
        return inertia

    def _move(self, places: np.ndarray, own: np.ndarray, cluster: np.ndarray) -> None:
        """Move rows to their clusters, and their features from sum to sum."""
        before = self.assignments[places]
        moving = np.flatnonzero(cluster != before)
        if moving.size:
            joined, left = cluster[moving, None], before[moving, None]
            clusters = np.arange(len(self.counts))
            change = (joined == clusters).astype(np.float64) - (left == clusters)  # -1, of no cluster yet, is none
            self.sums += change.T @ own[moving]
            self.counts += change.sum(0).astype(np.int64)
            self.assignments[places] = cluster

    def farthest(self, centroids: Float[np.ndarray, "k dim"]) -> int:
        """The place of the row that is farthest from its centroid."""
        distances = np.empty(len(self.rows))
        for places, own in self._parts(np.arange(len(self.rows))):
            apart = own - centroids[self.assignments[places]]
            distances[places] = np.einsum("nd,nd->n", apart, apart)
        return int(distances.argmax())

    def _parts(self, places: Int64[np.ndarray, " some"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Some places in `rows`, and their features from `origin`, a chunk at a time."""
        for part in chunks(places, dim=self.features.shape[1], itemsize=self.features.itemsize):
            rows = self.rows[places[part]]
            follow = rows[-1] - rows[0] == len(rows) - 1
            yield places[part], (self.features[rows[0] : rows[-1] + 1] if follow else self.features[rows]) - self.origin


def chunks(rows: Int64[np.ndarray, " rows"], *, dim: int, itemsize: int) -> Iterator[slice]:
    """Slices of `rows` whose features take `CHUNK_BYTES` at most."""
    step = max(1, CHUNK_BYTES // (dim * itemsize))
    for start in range(0, len(rows), step):
        yield slice(start, min(start + step, len(rows)))


def _sample(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    # Rising, so that a memory-mapped array is read from its beginning to its end.
    return np.sort(np.random.default_rng(seed).choice(rows, count, replace=False))
