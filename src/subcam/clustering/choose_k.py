"""How many sub-categories a parent class has, found from its images' features: the K that the paper leaves open.

In: features of one class's images. Out: clusters, and every candidate's score so that the choice can be looked at.
Candidates are K-means at each K and FINCH's partitions; clusters below a least size are merged before they are judged.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64, Integer
from threadpoolctl import threadpool_limits

from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Count, Seed
from subcam.clustering.finch import cluster_means, finch, in_order_of_appearance, merge_small, merge_to
from subcam.clustering.options import Candidates, Criterion, Normalisation
from subcam.clustering.subcategories import Subcategories, prepared, subcategories_of

log = logging.getLogger(__name__)


SILHOUETTE_IMAGES = 2000
"""Silhouettes of larger classes are those of so many images drawn at random: the distances take 32 MB."""

Clusterer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One clustering of a class: how it was made, its clusters after small ones were merged, its score (NaN if 1)."""

    method: str
    asked: int
    clusters: int
    score: float


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The clusters of one class: 0..K-1 by image, which candidate they are, and all candidates."""

    cluster: Int64[np.ndarray, " images"]
    chosen: Candidate
    candidates: tuple[Candidate, ...]


@takes_arrays()
def discover_adaptive_subcategories(
    features: Float[np.ndarray, "images dim"],
    labels: Integer[np.ndarray, "_ classes"],
    *,
    candidates: Candidates = "both",
    criterion: Criterion = "silhouette",
    max_subcategories: Count = 10,
    min_cluster_size: Count = 5,
    seed: Seed = 0,
    normalisation: Normalisation = "none",
    restarts: Count = 10,
    max_iterations: Count = 300,
) -> tuple[Subcategories, tuple[Choice | None, ...]]:
    """Cluster the images of each parent class (Eq. 2) with a K of its own.

    All parents have as many columns in the labels as the largest K; a parent's columns beyond its own K are zero for
    every image. Adding a class changes no other's clusters.

    Args:
        features: pooled image features f = E(I), one row an image.
        labels: multi-hot parent labels.
        candidates: see `Candidates`.
        criterion: see `Criterion`.
        max_subcategories: largest K.
        min_cluster_size: smaller clusters are merged into the nearest.
        seed: the same for each class.
        normalisation: what is done to the features first.
        restarts: initialisations of K-means.
        max_iterations: limit of one run of K-means.

    Returns:
        The sub-categories, and by parent how they were chosen; None for a class without images.

    Raises:
        ValueError: rows differ in number, a limit is below 1, or a feature is not finite (says which image).
    """
    features = prepared(features, labels, normalisation=normalisation)
    assignments = np.full(labels.shape, -1, np.int16)
    choices: list[Choice | None] = []
    for parent in range(labels.shape[1]):
        members = np.flatnonzero(labels[:, parent])
        if not members.size:
            log.warning("class %d has no images: no sub-categories", parent)
            choices.append(None)
            continue
        choice = choose_clusters(
            features[members],
            candidates=candidates,
            criterion=criterion,
            max_clusters=max_subcategories,
            min_cluster_size=min_cluster_size,
            seed=seed,
            restarts=restarts,
            max_iterations=max_iterations,
        )
        assignments[members, parent] = choice.cluster
        choices.append(choice)
    largest = max(int(assignments.max(initial=-1)) + 1, 1)
    return subcategories_of(assignments, features, num_subcategories=largest), tuple(choices)


def choose_clusters(
    features: Float[np.ndarray, "images dim"],
    *,
    candidates: Candidates = "both",
    criterion: Criterion = "silhouette",
    max_clusters: int = 10,
    min_cluster_size: int = 5,
    seed: int = 0,
    restarts: int = 10,
    max_iterations: int = 300,
    repeats: int = 10,
) -> Choice:
    """Cluster one class's images into the number of clusters that the criterion likes best.

    The first of equal candidates is chosen: the one of fewer clusters, K-means before FINCH. Images that cannot be
    split into two clusters of the least size stay in one, whose score is not a number.

    Args:
        features: of at least one image.
        candidates: see `Candidates`.
        criterion: see `Criterion`.
        max_clusters: largest K.
        min_cluster_size: smaller clusters are merged into the nearest.
        seed: of K-means, halves and samples.
        restarts: initialisations of K-means.
        max_iterations: limit of one run of K-means.
        repeats: pairs of halves for stability.

    Raises:
        ValueError: no images, or a limit below 1.
    """
    if not len(features) or min(max_clusters, min_cluster_size) < 1:
        raise ValueError(
            "expected images, and max_clusters and min_cluster_size of 1 or more, "
            f"got {len(features)} images, {max_clusters} and {min_cluster_size}"
        )
    from sklearn.cluster import KMeans  # takes a second to import, which only what clusters should wait for

    points = features.astype(np.float64)
    most = min(max_clusters, len(np.unique(features, axis=0)))

    def kmeans(count: int) -> Clusterer:
        def clusters(some: np.ndarray) -> np.ndarray:
            return KMeans(count, random_state=seed, n_init=restarts, max_iter=max_iterations).fit_predict(some)

        return clusters

    def first_neighbours(count: int) -> Clusterer:
        return lambda some: finch_clusters(some, count=count)

    ways: list[tuple[str, int, Clusterer]] = []
    if candidates != "finch":
        ways += [("kmeans", count, kmeans(count)) for count in range(2, most + 1)]
    if candidates != "kmeans":
        ways += [("finch", count, first_neighbours(count)) for count in _finch_counts(points, most)]

    whole = np.zeros(len(points), np.int64)
    one = Candidate(method="one cluster", asked=1, clusters=1, score=float("nan"))
    judge = _Silhouette(points, seed=seed) if criterion == "silhouette" else _Stability(points, seed, repeats)
    scored: list[tuple[Candidate, np.ndarray]] = []
    # A second thread makes K-means on few rows many times slower, not faster.
    with threadpool_limits(1):
        for name, count, clusterer in ways:
            cluster = merge_small(points, clusterer(points), least=min_cluster_size)
            size = int(cluster.max()) + 1
            score = judge(cluster, clusterer) if size > 1 else float("nan")
            scored.append((Candidate(method=name, asked=count, clusters=size, score=score), cluster))
    scored.sort(key=lambda entry: (entry[0].clusters, entry[0].method != "kmeans", entry[0].asked))
    chosen, cluster = max(
        (entry for entry in scored if np.isfinite(entry[0].score)),
        key=lambda entry: entry[0].score,
        default=(one, whole),
    )
    return Choice(cluster=cluster, chosen=chosen, candidates=tuple(entry[0] for entry in scored))


def finch_clusters(points: Float[np.ndarray, "points dim"], *, count: int) -> Int64[np.ndarray, " points"]:
    """FINCH at a wanted number of clusters: its coarsest partition with that many or more, merged to `count`."""
    fine = [np.arange(len(points)), *finch(points)]
    enough = [cluster for cluster in fine if cluster.max() + 1 >= count]
    return merge_to(points, enough[-1] if enough else fine[0], count=count)


def _finch_counts(points: np.ndarray, most: int) -> list[int]:
    """Clusters of FINCH's own partitions, from 2 to `most`; `most` where all of them are finer."""
    sizes = [int(cluster.max()) + 1 for cluster in finch(points)]
    return [size for size in sizes if size <= most] or ([most] if most > 1 else [])


class _Silhouette:
    """Mean silhouette of at most 2,000 images."""

    def __init__(self, points: Float64[np.ndarray, "points dim"], *, seed: int) -> None:
        rng = np.random.default_rng(seed)
        count = len(points)
        self.sample = np.sort(rng.permutation(count)[:SILHOUETTE_IMAGES])
        own = points[self.sample] - points.mean(0)
        norms = (own**2).sum(1)
        self.distance = np.sqrt(np.maximum(norms[:, None] - 2 * own @ own.T + norms, 0))
        np.fill_diagonal(self.distance, 0)

    def __call__(self, cluster: np.ndarray, _: Clusterer) -> float:
        from sklearn.metrics import silhouette_score

        labels = cluster[self.sample]
        if not 1 < len(np.unique(labels)) < len(labels):
            return float("nan")
        return float(silhouette_score(self.distance, labels, metric="precomputed"))


class _Stability:
    """Mean adjusted Rand index between clusterings of two halves, each carried over to all images by nearest mean."""

    def __init__(self, points: Float64[np.ndarray, "points dim"], seed: int, repeats: int) -> None:
        rng = np.random.default_rng(seed)
        self.points = points
        self.orders = [rng.permutation(len(points)) for _ in range(repeats)]

    def __call__(self, cluster: np.ndarray, clusterer: Clusterer) -> float:
        from sklearn.metrics import adjusted_rand_score

        half = len(self.points) // 2
        if half <= cluster.max() + 1:
            return float("nan")
        rand = []
        for order in self.orders:
            first, second = (self._carried_over(part, clusterer) for part in (order[:half], order[half:]))
            rand.append(adjusted_rand_score(first, second))
        return float(np.mean(rand))

    def _carried_over(self, part: np.ndarray, clusterer: Clusterer) -> np.ndarray:
        own = self.points[part]
        return nearest_mean(self.points, cluster_means(own, in_order_of_appearance(clusterer(own))))


def nearest_mean(
    points: Float[np.ndarray, "points dim"], means: Float[np.ndarray, "clusters dim"]
) -> Integer[np.ndarray, " points"]:
    """Index of the nearest mean of each point, by Euclidean distance."""
    return ((means**2).sum(1) - 2 * points @ means.T).argmin(1)
