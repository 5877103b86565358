"""The confusion matrix: by hand, as scikit-learn's and as a loop's, for regions and for noise, in any integers."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
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


def counted_one_by_one(prediction, truth, *, num_classes, ignore_index):
    counts = np.zeros((num_classes, num_classes), int)
    for row, column in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if row != ignore_index:
            if not (0 <= row < num_classes and 0 <= column < num_classes):
                return None
            counts[row, column] += 1
    return counts


@st.composite
def masks(draw, *, highest):
    """A mask as regions of random lengths in a row, or as noise."""
    bounds = sorted(draw(st.lists(st.integers(0, 60), max_size=8)))
    values = draw(st.lists(st.integers(0, highest), min_size=64, max_size=64))
    mask = np.array(values)
    if draw(st.booleans()):
        for value, (start, stop) in zip(values, pairwise([0, *bounds, 64]), strict=False):
            mask[start:stop] = value
    mask[draw(st.integers(0, 64)) :] = draw(st.sampled_from([0, highest, 255]))
    return mask.reshape(8, 8)


@given(
    prediction=masks(highest=6),
    truth=masks(highest=5),
    types=st.sampled_from([(np.uint8, np.uint8), (np.int64, np.uint8), (np.uint8, np.int64), (np.uint16, np.uint16)]),
    num_classes=st.sampled_from([4, 6, 7, 256, 300]),
    ignore_index=st.sampled_from([255, 2, -1]),
)
def test_equals_a_loop(prediction, truth, types, num_classes, ignore_index):
    masks = (prediction.astype(types[0]), truth.astype(types[1]))
    expected = counted_one_by_one(*masks, num_classes=num_classes, ignore_index=ignore_index)
    given = {"num_classes": num_classes, "ignore_index": ignore_index}
    if expected is None:
        with pytest.raises(ValueError, match=f"on scored pixels; expected 0..{num_classes - 1} "):
            confusion_matrix(*masks, **given)
    else:
        assert np.array_equal(confusion_matrix(*masks, **given), expected)


def test_all_pairs_of_bytes_have_their_own_cell():
    truth, prediction = np.divmod(np.arange(256**2), 256)
    counted = confusion_matrix(prediction.astype(np.uint8), truth.astype(np.uint8), num_classes=256, ignore_index=-1)
    assert (counted == 1).all()
    regions = [np.repeat(mask, 20).astype(np.uint8) for mask in (prediction, truth)]
    assert (confusion_matrix(*regions, num_classes=256, ignore_index=-1) == 20).all()


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


@pytest.mark.parametrize("kind", [np.uint8, np.int64])
@pytest.mark.parametrize(
    ("prediction", "truth", "named"), [(255, 0, "prediction"), (0, 7, "truth"), (3, 0, "prediction")]
)
def test_values_outside_the_classes_are_an_error(prediction, truth, named, kind):
    # The published code counts such a prediction silently into another cell.
    with pytest.raises(ValueError, match=named):
        confusion_matrix(np.array([prediction], kind), np.array([truth], kind), num_classes=3)
