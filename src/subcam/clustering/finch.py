"""FINCH: clusters by first neighbours alone, with no number of clusters and no threshold to set (the paper's [33]).

In: points. Out: a hierarchy of partitions, from fine to coarse. Sarfraz, Sharma, Stiefelhagen, CVPR 2019.
"""

import numpy as np
from jaxtyping import Float, Int64, Integer
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BLOCK_BYTES = 64 << 20
"""How much of the matrix of distances is held at a time."""

SAME_POINT = 1e-12
"""Squared distances below this share of the largest squared norm are taken for 0: rounding must not order twins."""


def first_neighbours(
    points: Float[np.ndarray, "points dim"], *, block_bytes: int = BLOCK_BYTES
) -> Int64[np.ndarray, " points"]:
    """The index of the nearest other point of each point, by Euclidean distance; the lowest index of equals.

    Exact: all distances are computed, `block_bytes` of them at a time.

    Raises:
        ValueError: there are fewer than two points.
    """
    count = len(points)
    if count < 2:
        raise ValueError(f"a first neighbour needs two points or more, got {count}")
    # Distances by way of inner products lose digits far from the origin.
    centred = points.astype(np.float64) - points.mean(0, dtype=np.float64)
    norms = (centred**2).sum(1)
    rows = max(1, block_bytes // (8 * count))
    nearest = np.empty(count, np.int64)
    for start in range(0, count, rows):
        own = np.arange(start, min(start + rows, count))
        squared = norms[own, None] - 2 * (centred[own] @ centred.T) + norms
        squared[squared < SAME_POINT * norms.max()] = 0
        squared[own - start, own] = np.inf
        nearest[own] = squared.argmin(1)
    return nearest


def link(neighbours: Integer[np.ndarray, " points"]) -> Int64[np.ndarray, " points"]:
    """Clusters 0, 1, ... of points that first-neighbour links connect, numbered by their first point.

    Two points are linked where one is the other's first neighbour or both have the same one (the paper's Eq. 1). The
    last needs no link of its own: both hang on that neighbour.
    """
    count = len(neighbours)
    links = coo_array((np.ones(count, np.int8), (np.arange(count), neighbours)), shape=(count, count))
    return in_order_of_appearance(connected_components(links, directed=False)[1])


def finch(
    points: Float[np.ndarray, "points dim"], *, block_bytes: int = BLOCK_BYTES
) -> tuple[Int64[np.ndarray, " points"], ...]:
    """The hierarchy of partitions: points linked by first neighbours, then the clusters' means, and so on.

    Each partition has at most half as many clusters as the one before and is a union of its clusters. The trivial
    partition, all points in one cluster, is left out; so there may be none.
    """
    partitions: list[np.ndarray] = []
    means, cluster = points.astype(np.float64), np.arange(len(points))
    while len(means) > 1:
        cluster = link(first_neighbours(means, block_bytes=block_bytes))[cluster]
        means = cluster_means(points, cluster)
        if len(means) > 1:
            partitions.append(cluster)
    return tuple(partitions)


def merge_to(
    points: Float[np.ndarray, "points dim"], cluster: Integer[np.ndarray, " points"], *, count: int
) -> Int64[np.ndarray, " points"]:
    """Merge the two clusters whose means are nearest until `count` are left (the paper's Algorithm 2).

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"expected to keep 1 cluster or more, got {count}")
    cluster = in_order_of_appearance(cluster)
    while cluster.max(initial=-1) >= count:
        means = cluster_means(points, cluster)
        nearest = first_neighbours(means)
        distance = np.linalg.norm(means - means[nearest], axis=1)
        first = int(distance.argmin())
        cluster = in_order_of_appearance(np.where(cluster == first, nearest[first], cluster))
    return cluster


def merge_small(
    points: Float[np.ndarray, "points dim"], cluster: Integer[np.ndarray, " points"], *, least: int
) -> Int64[np.ndarray, " points"]:
    """Merge the smallest cluster into the one of nearest mean until each has `least` points or one is left."""
    cluster = in_order_of_appearance(cluster)
    while cluster.max(initial=0) > 0 and np.bincount(cluster).min() < least:
        means = cluster_means(points, cluster)
        smallest = int(np.bincount(cluster).argmin())
        distance = np.linalg.norm(means - means[smallest], axis=1)
        distance[smallest] = np.inf
        cluster = in_order_of_appearance(np.where(cluster == smallest, distance.argmin(), cluster))
    return cluster


def cluster_means(
    points: Float[np.ndarray, "points dim"], cluster: Integer[np.ndarray, " points"]
) -> Float[np.ndarray, "clusters dim"]:
    """The mean of the points of each cluster 0, 1, ..., of which none is empty."""
    sizes = np.bincount(cluster)
    count = len(cluster)
    members = coo_array((1 / sizes[cluster], (cluster, np.arange(count))), shape=(len(sizes), count))
    return members.tocsr() @ points.astype(np.float64)


def in_order_of_appearance(cluster: Integer[np.ndarray, " points"]) -> Int64[np.ndarray, " points"]:
    """The same clusters, numbered 0, 1, ... by their first point."""
    _, first, inverse = np.unique(cluster, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)
