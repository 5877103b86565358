import numpy as np
import pytest

from subcam.clustering.subcategories import discover_subcategories
from subcam.errors import SettingsError


def load(golden, problem):
    with np.load(golden / "kmeans.npz", allow_pickle=False) as data:
        return {key[4:]: data[key] for key in data.files if key.startswith(f"{problem}_")}


def partition(assignment):
    """The clusters as a set of sets, so that their numbers do not matter."""
    return {frozenset(np.flatnonzero(assignment == k)) for k in range(assignment.max() + 1)}


def test_golden_unambiguous_partition(golden):
    data = load(golden, "sep")
    subcategories = discover_subcategories(data["features"], data["labels20"], num_subcategories=int(data["k"]), seed=0)
    for position, parent in enumerate(data["parents"]):
        assert partition(subcategories.assignments[:, parent]) == partition(data["assign"][:, parent])
        assert subcategories.inertia[parent] == pytest.approx(data["inertia"][position], rel=1e-4)
    assert (subcategories.num_clusters[np.setdiff1d(np.arange(20), data["parents"])] == 0).all()


def test_golden_overlapping_clusters_are_as_tight(golden):
    data = load(golden, "ovl")
    subcategories = discover_subcategories(data["features"], data["labels20"], num_subcategories=int(data["k"]), seed=0)
    assert (subcategories.inertia[data["parents"]] <= 1.05 * data["inertia"]).all()


def test_golden_labels_match_the_published_merging(golden):
    data = load(golden, "sep")
    subcategories = discover_subcategories(data["features"], data["labels20"], num_subcategories=int(data["k"]), seed=0)
    ours, theirs = subcategories.labels[data["train_order"]], data["train_label_sub"]
    assert (ours.reshape(-1, 20, 10).sum(2) == data["train_label_20"]).all()
    for parent in data["parents"]:
        columns = slice(10 * parent, 10 * parent + 10)
        matches = ours[:, columns].T.astype(int) @ theirs[:, columns]
        assert ((matches > 0).sum(0) == 1).all()  # each of their clusters is one of ours


def test_labels_are_zero_where_the_parent_is_absent_and_one_hot_where_it_is_present():
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 3)) < 0.6).astype(np.uint8)
    subcategories = discover_subcategories(rng.random((60, 5)).astype(np.float32), labels, num_subcategories=4)
    assert (subcategories.labels.reshape(60, 3, 4).sum(2) == labels).all()
    assert ((subcategories.assignments >= 0) == labels.astype(bool)).all()
    assert (subcategories.sizes.sum(1) == labels.sum(0)).all()


def test_classes_with_few_or_no_images(caplog):
    features = np.array([[0.0], [1.0], [1.0], [5.0]], np.float32)
    labels = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]], np.uint8)
    subcategories = discover_subcategories(features, labels, num_subcategories=10)
    assert subcategories.num_clusters.tolist() == [2, 0, 1]  # two distinct images, none, one
    assert "no images" in caplog.text
    assert "fewer than K = 10" in caplog.text
    assert np.isnan(subcategories.centroids[2:20]).all()


def test_one_subcategory_is_the_parent():
    labels = np.array([[1, 0], [1, 1], [0, 1]], np.uint8)
    subcategories = discover_subcategories(np.random.default_rng(0).random((3, 4)), labels, num_subcategories=1)
    assert (subcategories.labels == labels).all()


def test_one_seed_gives_one_result_and_a_class_does_not_depend_on_the_others():
    rng = np.random.default_rng(0)
    features, labels = rng.random((80, 6)), np.ones((80, 2), np.uint8)
    first = discover_subcategories(features, labels, num_subcategories=5, seed=3)
    again = discover_subcategories(features, labels, num_subcategories=5, seed=3)
    alone = discover_subcategories(features, labels[:, :1], num_subcategories=5, seed=3)
    assert (first.assignments == again.assignments).all()
    assert (first.assignments[:, :1] == alone.assignments).all()


def test_l2_normalisation_ignores_length():
    rng = np.random.default_rng(0)
    features = rng.random((40, 3))
    stretched = features * rng.uniform(0.1, 10, (40, 1))
    labels = np.ones((40, 1), np.uint8)
    plain = discover_subcategories(features, labels, num_subcategories=3, normalisation="l2")
    other = discover_subcategories(stretched, labels, num_subcategories=3, normalisation="l2")
    assert partition(plain.assignments[:, 0]) == partition(other.assignments[:, 0])


def test_assignments_are_to_the_nearest_centroid():
    rng = np.random.default_rng(0)
    features, labels = rng.random((50, 4)), np.ones((50, 1), np.uint8)
    subcategories = discover_subcategories(features, labels, num_subcategories=6)
    distances = ((features[:, None] - subcategories.centroids[None]) ** 2).sum(2)
    assert (distances.argmin(1) == subcategories.assignments[:, 0]).all()
    assert subcategories.inertia[0] == pytest.approx(distances.min(1).sum())


@pytest.mark.parametrize(
    ("features", "labels", "k", "message"),
    [
        (np.zeros((3, 2)), np.zeros((4, 1), int), 2, "3 rows and labels 4"),
        (np.array([[0.0], [np.nan]]), np.ones((2, 1), int), 1, "not finite, the first is row 1"),
    ],
)
def test_wrong_arguments(features, labels, k, message):
    with pytest.raises(ValueError, match=message):
        discover_subcategories(features, labels, num_subcategories=k)
    with pytest.raises(SettingsError, match="num_subcategories: expected a whole number from 1 to 10000, got 0"):
        discover_subcategories(np.zeros((3, 2)), np.zeros((3, 1), int), num_subcategories=0)
