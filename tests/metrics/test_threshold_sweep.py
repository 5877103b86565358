import numpy as np
import pytest

from subcam.cam.threshold import THRESHOLDS
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import scores
from subcam.metrics.threshold_sweep import ThresholdSweep


def plain_sweep(images, num_classes):
    """One argmax a threshold, as one would write it first."""
    matrices = []
    for threshold in THRESHOLDS:
        total = np.zeros((num_classes, num_classes), np.int64)
        for maps, classes, truth in images:
            stack = np.concatenate([np.full((1, *truth.shape), threshold), maps.astype(np.float64)])
            prediction = np.array([0, *(classes + 1)])[stack.argmax(0)]
            total += confusion_matrix(prediction, truth, num_classes=num_classes)
        matrices.append(total)
    return np.array(matrices)


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    found = []
    for present in ([0, 2], [1], [], [0, 1, 2, 3]):
        maps = rng.random((len(present), 9, 11)).astype(np.float32)
        truth = rng.choice([0, 1, 2, 3, 4, 255], (9, 11)).astype(np.uint8)
        found.append((maps, np.array(present, np.int16), truth))
    return found


def test_equals_one_argmax_a_threshold(images):
    sweep = ThresholdSweep(5)
    for image in images:
        sweep.add(*image)
    assert (sweep.matrices == plain_sweep(images, 5)).all()


def test_best_is_the_highest_of_the_curve(images):
    sweep = ThresholdSweep(5)
    for image in images:
        sweep.add(*image)
    best = sweep.best()
    assert best.scores.miou == pytest.approx(np.nanmax(sweep.curve()))
    assert sweep.at(best.threshold).miou == pytest.approx(best.scores.miou)
    assert sweep.at(0.15).miou == pytest.approx(scores(plain_sweep(images, 5)[15]).miou)


def test_a_response_equal_to_the_threshold_is_background():
    sweep = ThresholdSweep(2, thresholds=np.array([0.25, 0.5]))
    sweep.add(np.full((1, 1, 1), 0.5, np.float32), np.array([0]), np.ones((1, 1), np.uint8))
    assert sweep.matrices.tolist() == [[[0, 0], [0, 1]], [[0, 0], [1, 0]]]


def test_no_image_at_all():
    best = ThresholdSweep(3).best()
    assert best.threshold == 0
    assert np.isnan(best.scores.miou)


def test_golden_label_maps(golden):
    with np.load(golden / "cam.npz", allow_pickle=False) as data:
        for case in "ABC":
            maps, ids = data[f"{case}_norm_cam"], data[f"{case}_classes"]
            for name, threshold in (("th015", 0.15), ("th020", 0.20)):
                truth = data[f"{case}_label_{name}"]
                sweep = ThresholdSweep(21)
                sweep.add(maps, ids - 1, truth)
                assert sweep.at(threshold).miou == 1.0


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="one size"):
        ThresholdSweep(2).add(np.zeros((1, 2, 2), np.float32), np.array([0]), np.zeros((3, 2), np.uint8))


def test_a_threshold_for_each_class_is_that_of_the_strongest_class():
    rng = np.random.default_rng(3)
    sweep, total = ThresholdSweep(4), np.zeros((4, 4), np.int64)
    by_class = np.array([0.2, 0.55, 0.9])
    for classes in (np.array([0, 2]), np.array([1]), np.array([0, 1, 2]), np.zeros(0, int)):
        maps = rng.random((len(classes), 9, 7), dtype=np.float32)
        truth = rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (9, 7))
        sweep.add(maps, classes, truth)
        prediction = np.zeros((9, 7), int)
        for row, column in np.ndindex(9, 7):
            if len(classes):
                strongest = classes[maps[:, row, column].argmax()]
                if maps[:, row, column].max() > by_class[strongest]:
                    prediction[row, column] = strongest + 1
        total += confusion_matrix(prediction, truth, num_classes=4)
    assert (sweep.at_classes(by_class).matrix == total).all()
    for threshold in (0.0, 0.4, 1.0):
        assert (sweep.at_classes([threshold] * 3).matrix == sweep.at(threshold).matrix).all()
    with pytest.raises(ValueError, match="by_class: expected 3 thresholds, one a class, got 2"):
        sweep.at_classes([0.1, 0.2])
