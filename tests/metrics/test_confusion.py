import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from subcam.metrics.confusion import confusion_matrix


def test_hand_computed():
    truth = np.array([[0, 1, 1], [255, 2, 0]], np.uint8)
    prediction = np.array([[0, 1, 2], [9, 2, 1]], np.uint8)
    assert confusion_matrix(prediction, truth, num_classes=3).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_equals_scikit_learn():
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, 7, (2, 50, 60)).astype(np.uint8)
    expected = sklearn_confusion_matrix(truth.ravel(), prediction.ravel(), labels=range(7))
    assert (confusion_matrix(prediction, truth, num_classes=7) == expected).all()


def test_golden_counts(golden):
    with np.load(golden / "metrics.npz", allow_pickle=False) as data:
        total = sum(confusion_matrix(data[f"pred_{i:02d}"], data[f"gt_{i:02d}"], num_classes=21) for i in range(12))
        assert (total == data["confusion"]).all()
        assert (total.sum(1) == data["gt_count"]).all()
        assert (total.sum(0) == data["pred_count"]).all()


def test_everything_ignored_counts_nothing():
    truth = np.full((4, 4), 255, np.uint8)
    assert not confusion_matrix(truth, truth, num_classes=3).any()


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        confusion_matrix(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), num_classes=2)


@pytest.mark.parametrize(
    ("prediction", "truth", "named"), [(255, 0, "prediction"), (0, 7, "truth"), (3, 0, "prediction")]
)
def test_values_outside_the_classes_are_an_error(prediction, truth, named):
    # The published code counts such a prediction silently into another cell.
    with pytest.raises(ValueError, match=named):
        confusion_matrix(np.array([prediction]), np.array([truth]), num_classes=3)
