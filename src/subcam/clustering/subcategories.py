"""Sub-category discovery (Eq. 2): K-means on image features inside each parent class."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float, Float64, Int16, Int64, Integer, UInt8

from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Count, Range, Seed
from subcam.clustering.kmeans import ROWS_AT_ONCE, chunks, cluster_rows
from subcam.clustering.options import Normalisation
from subcam.errors import SettingsError
from subcam.runtime.files import atomic_write, open_arrays

log = logging.getLogger(__name__)

ARRAYS_FILE = "clusters.npz"


@dataclass(frozen=True, kw_only=True)
class Subcategories:
    """The clusters of every parent class.

    assignments: cluster 0..K-1 of image i within parent c; -1 where the image lacks the parent.
    labels: multi-hot sub-category labels; column c * K + k is cluster k of parent c.
    num_clusters: clusters found in each parent: K, fewer where a class has fewer distinct images, 0 where it has none.
    inertia: sum of squared distances to the nearest centroid, by parent.
    centroids: one row a sub-category, in the order of the columns of `labels`; NaN where there is no such cluster.
    """

    assignments: Int16[np.ndarray, "images classes"]
    labels: UInt8[np.ndarray, "images subcategories"]
    num_clusters: Int64[np.ndarray, " classes"]
    inertia: Float64[np.ndarray, " classes"]
    centroids: Float[np.ndarray, "subcategories dim"]

    @property
    def num_subcategories(self) -> int:
        """K, the columns each parent has in `labels`."""
        return self.labels.shape[1] // self.assignments.shape[1]

    @property
    def sizes(self) -> Int64[np.ndarray, "classes k"]:
        """Images in each cluster of each parent."""
        return self.labels.sum(0, dtype=np.int64).reshape(self.assignments.shape[1], -1)


def write_subcategories(folder: Path, subcategories: Subcategories) -> None:
    """Write the clusters into `folder`, atomically."""
    with atomic_write(folder / ARRAYS_FILE) as file:
        np.savez(file, **vars(subcategories))


def read_subcategories(folder: Path) -> Subcategories:
    """Read what `write_subcategories` wrote.

    Raises:
        BadInputError: missing, truncated or of another format; names the file.
    """
    with open_arrays(folder / ARRAYS_FILE, what="clusters") as arrays:
        return Subcategories(**{name: arrays[name] for name in arrays.files})


@takes_arrays()
def discover_subcategories(
    features: Float[np.ndarray, "images dim"],
    labels: Integer[np.ndarray, "_ classes"],
    *,
    num_subcategories: Annotated[int, Range(1, 10_000)] = 10,
    seed: Seed = 0,
    normalisation: Normalisation = "none",
    restarts: Count = 10,
    max_iterations: Count = 300,
    rows_at_once: Count = ROWS_AT_ONCE,
) -> Subcategories:
    """Cluster the images of each parent class by their features (Eq. 2).

    An image with several parents takes part in the clustering of each. A class with fewer distinct images than K gets
    as many clusters as it has, one with none gets none; both are logged. Lloyd's algorithm from k-means++ seeds, the
    best of `restarts`; one seed gives one result, and adding a class changes no other's clusters. A class of very many
    images is clustered in memory that does not grow with them (`subcam.clustering.kmeans`).

    Args:
        features: pooled image features f = E(I), one row an image; may be memory-mapped.
        labels: multi-hot parent labels.
        num_subcategories: K.
        seed: of K-means, the same for each class.
        normalisation: see `Normalisation`.
        restarts: number of initialisations.
        max_iterations: limit of one run.
        rows_at_once: images of one class that are clustered at once; of more, a random sample is, and Lloyd's algorithm
            goes on over all of them.

    Raises:
        SettingsError: K or another number is out of its range.
        ValueError: rows differ in number, or a feature is not finite (says which image).
    """
    features = prepared(features, labels, normalisation=normalisation)
    if labels.size and not 0 <= labels.min() <= labels.max() <= 1:
        raise ValueError(f"labels: expected 0 and 1, got values from {labels.min()} to {labels.max()}")

    num_images, num_classes = labels.shape
    assignments = np.full((num_images, num_classes), -1, np.int16)
    one_hot = np.zeros((num_images, num_classes, num_subcategories), np.uint8)
    num_clusters = np.zeros(num_classes, np.int64)
    inertia = np.zeros(num_classes)
    centroids = np.full((num_classes, num_subcategories, features.shape[1]), np.nan, features.dtype)
    for parent in range(num_classes):
        members = np.flatnonzero(labels[:, parent])
        if not members.size:
            log.warning("class %d has no images: no sub-categories", parent)
            continue
        clusters = cluster_rows(
            features,
            members,
            num_clusters=num_subcategories,
            seed=seed,
            restarts=restarts,
            max_iterations=max_iterations,
            rows_at_once=rows_at_once,
        )
        k = len(clusters.centroids)
        if k < num_subcategories:
            log.warning("class %d has %d distinct images, fewer than K = %d", parent, k, num_subcategories)
        assignments[members, parent] = clusters.assignments
        one_hot[members, parent, clusters.assignments] = 1
        num_clusters[parent] = k
        inertia[parent] = clusters.inertia
        centroids[parent, :k] = clusters.centroids
    return Subcategories(
        assignments=assignments,
        labels=one_hot.reshape(num_images, -1),
        num_clusters=num_clusters,
        inertia=inertia,
        centroids=centroids.reshape(num_classes * num_subcategories, -1),
    )


def prepared(
    features: Float[np.ndarray, "images dim"],
    labels: Integer[np.ndarray, "_ classes"],
    *,
    normalisation: Normalisation,
) -> Float[np.ndarray, "images dim"]:
    """The features as they are clustered; those of a memory-mapped array stay on the disk.

    Raises:
        ValueError: rows differ in number, or a feature is not finite (says which image).
    """
    if len(features) != len(labels):
        raise ValueError(f"features have {len(features)} rows and labels {len(labels)}; expected one row an image")
    rows = np.arange(len(features))
    parts = tuple(chunks(rows, dim=features.shape[1], itemsize=features.itemsize))
    bad = np.concatenate([rows[:0], *(rows[part][~np.isfinite(features[part]).all(1)] for part in parts)])
    if bad.size:
        raise ValueError(f"features of {bad.size} images are not finite, the first is row {bad[0]}")
    if normalisation == "none":
        return features
    scaled = _like(features)
    for part in parts:
        scaled[part] = features[part] / np.maximum(np.linalg.norm(features[part], axis=1, keepdims=True), 1e-12)
    return scaled


def _like(features: np.ndarray) -> np.ndarray:
    """Room for as much again: in memory, or for a memory-mapped array in a file that goes when nothing uses it."""
    if not isinstance(features, np.memmap) or features.filename is None:
        return np.empty_like(features)
    with tempfile.TemporaryFile(dir=Path(features.filename).parent) as file:
        return np.memmap(file, dtype=features.dtype, mode="w+", shape=features.shape)


def distances_to_centres(
    features: Float[np.ndarray, "images dim"], subcategories: Subcategories
) -> Float64[np.ndarray, "images classes"]:
    """Euclidean distance of each image to the centre of its cluster in each parent; NaN where it lacks the parent."""
    distances = np.full(subcategories.assignments.shape, np.nan)
    for c in range(subcategories.assignments.shape[1]):
        members = np.flatnonzero(subcategories.assignments[:, c] >= 0)
        columns = c * subcategories.num_subcategories + subcategories.assignments[members, c].astype(np.int64)
        centres = subcategories.centroids[columns]
        distances[members, c] = np.linalg.norm(features[members].astype(np.float64) - centres, axis=1)
    return distances


def ranks_in_clusters(
    distances: Float64[np.ndarray, "images classes"], assignments: Int16[np.ndarray, "images classes"]
) -> Int64[np.ndarray, "images classes"]:
    """Place of each image in its cluster by distance, from 1; 0 where it lacks the parent. Ties keep their order."""
    ranks = np.zeros(assignments.shape, np.int64)
    for c in range(assignments.shape[1]):
        for k in np.unique(assignments[assignments[:, c] >= 0, c]):
            members = np.flatnonzero(assignments[:, c] == k)
            ranks[members[np.argsort(distances[members, c], kind="stable")], c] = np.arange(1, len(members) + 1)
    return ranks


def subcategories_of(
    assignments: Int16[np.ndarray, "images classes"],
    features: Float[np.ndarray, "images dim"],
    *,
    num_subcategories: int,
) -> Subcategories:
    """Sub-categories with given clusters, as discovery would return them: labels, centres and inertia.

    Each parent keeps K = `num_subcategories` columns. Those that its clusters do not fill are zero for every image, as
    they are for a class with fewer images than K.

    Raises:
        SettingsError: a parent has more clusters than K.
    """
    num_images, num_classes = assignments.shape
    num_clusters = assignments.max(0, initial=-1).astype(np.int64) + 1
    if num_clusters.max(initial=0) > num_subcategories:
        raise SettingsError(
            f"expected at most K = {num_subcategories} clusters in each parent, got {num_clusters.max()}; merge some, "
            f"or give --discover.num-subcategories {num_clusters.max()}"
        )
    one_hot = (assignments[:, :, None] == np.arange(num_subcategories)).astype(np.uint8)
    centroids = np.full((num_classes, num_subcategories, features.shape[1]), np.nan, features.dtype)
    inertia = np.zeros(num_classes)
    for c in range(num_classes):
        for k in np.unique(assignments[assignments[:, c] >= 0, c]):
            own = features[assignments[:, c] == k]
            centroids[c, k] = own.mean(0)
            inertia[c] += float(np.square(own.astype(np.float64) - own.mean(0)).sum())
    return Subcategories(
        assignments=assignments,
        labels=one_hot.reshape(num_images, -1),
        num_clusters=num_clusters,
        inertia=inertia,
        centroids=centroids.reshape(num_classes * num_subcategories, -1),
    )
