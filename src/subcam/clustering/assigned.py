"""Sub-categories whose members are given: labels, centres and inertia, and how near each image is to its centre."""

import numpy as np
from jaxtyping import Float, Float64, Int16, Int64

from subcam.clustering.subcategories import Subcategories
from subcam.errors import SettingsError


def distances_to_centres(
    features: Float[np.ndarray, "images dim"], found: Subcategories
) -> Float64[np.ndarray, "images classes"]:
    """Euclidean distance of each image to the centre of its cluster in each parent; NaN where it lacks the parent."""
    distances = np.full(found.assignments.shape, np.nan)
    for c in range(found.assignments.shape[1]):
        members = np.flatnonzero(found.assignments[:, c] >= 0)
        columns = c * found.num_subcategories + found.assignments[members, c].astype(np.int64)
        centres = found.centroids[columns]
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
