"""Sub-categories with given members: the same as those of the clustering that found the members."""

import numpy as np
import pytest

from subcam.clustering.subcategories import (
    discover_subcategories,
    distances_to_centres,
    ranks_in_clusters,
    subcategories_of,
)
from subcam.errors import SettingsError


def test_discovered_members_give_the_discovered_sub_categories() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)).astype(np.float32)
    labels = (rng.random((40, 4)) < 0.5).astype(np.uint8)
    labels[:, 2] = 0
    labels[3:, 3] = 0
    labels[:3, 3] = 1
    expected = discover_subcategories(features, labels, num_subcategories=5, restarts=2)
    subcategories = subcategories_of(expected.assignments, features, num_subcategories=5)
    assert subcategories.num_clusters.tolist() == [5, 5, 0, 3]
    for name in ("assignments", "labels", "num_clusters"):
        np.testing.assert_array_equal(getattr(subcategories, name), getattr(expected, name))
    np.testing.assert_allclose(subcategories.centroids, expected.centroids, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(subcategories.inertia, expected.inertia, rtol=1e-5, atol=1e-6)


def test_columns_that_are_not_filled_are_zero() -> None:
    assignments = np.array([[0, -1], [1, 0], [0, 0]], np.int16)
    subcategories = subcategories_of(assignments, np.zeros((3, 2), np.float32), num_subcategories=3)
    assert subcategories.labels.tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0], [1, 0, 0, 1, 0, 0]]
    assert subcategories.num_clusters.tolist() == [2, 1]
    assert subcategories.num_subcategories == 3
    assert np.isnan(subcategories.centroids[[2, 4, 5]]).all()
    with pytest.raises(SettingsError, match=r"at most K = 1 .* got 2; merge some, or give --discover.num-subcat"):
        subcategories_of(assignments, np.zeros((3, 2), np.float32), num_subcategories=1)


def test_distances_and_ranks_by_hand() -> None:
    """Cluster 0 of the one parent is images 0, 1 and 3 at 0, 3 and 6 (centre 3); cluster 1 is image 2; 4 has none."""
    assignments = np.array([[0], [0], [1], [0], [-1]], np.int16)
    features = np.array([[0, 0], [3, 0], [9, 9], [6, 0], [1, 1]], np.float32)
    subcategories = subcategories_of(assignments, features, num_subcategories=2)
    distances = distances_to_centres(features, subcategories)
    np.testing.assert_array_equal(distances[:, 0], [3, 0, 0, 3, np.nan])
    assert ranks_in_clusters(distances, assignments)[:, 0].tolist() == [2, 1, 1, 3, 0]
    assert subcategories.inertia.tolist() == [18.0]


def test_columns_beyond_16_bits() -> None:
    """Column 2 * 20000 + 1 is far from what fits into the 16 bits of an assignment."""
    assignments = np.array([[0, 0, 0], [-1, -1, 1]], np.int16)
    features = np.array([[0.0], [5.0]], np.float32)
    subcategories = subcategories_of(assignments, features, num_subcategories=20000)
    assert np.flatnonzero(subcategories.labels[1]).tolist() == [40001]
    np.testing.assert_array_equal(distances_to_centres(features, subcategories), [[0, 0, 0], [np.nan, np.nan, 0]])
