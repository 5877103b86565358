import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score
from torchmetrics.classification import MulticlassF1Score, MulticlassJaccardIndex

from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import class_average_precision, mean_average_precision, scores


def test_hand_computed():
    found = scores(np.array([[3, 1], [2, 4]]))
    assert found.iou == pytest.approx([3 / 6, 4 / 7])
    assert found.precision == pytest.approx([3 / 5, 4 / 5])
    assert found.recall == pytest.approx([3 / 4, 4 / 6])
    assert found.class_f_score == pytest.approx([6 / 9, 8 / 11])
    assert found.miou == pytest.approx((3 / 6 + 4 / 7) / 2)
    assert found.f_score == pytest.approx((6 / 9 + 8 / 11) / 2)
    assert found.pixel_accuracy == pytest.approx(0.7)


def test_golden_official_scores(golden):
    with np.load(golden / "metrics.npz", allow_pickle=False) as data:
        found = scores(data["confusion"])
        official = [found.pixel_accuracy, found.mean_accuracy, found.frequency_weighted_iou, found.miou]
        assert official == pytest.approx(data["official_scores"].tolist(), abs=1e-12)
        assert np.allclose(found.iou, data["official_class_iou"], atol=1e-12, equal_nan=True)
        assert np.allclose(found.class_f_score, data["class_f1"], atol=1e-12, equal_nan=True)
        assert found.miou == pytest.approx(float(data["miou_gt_present"]), abs=1e-12)
        for i in range(12):
            one = scores(confusion_matrix(data[f"pred_{i:02d}"], data[f"gt_{i:02d}"], num_classes=21))
            assert np.allclose(one.iou, data["per_image_class_iou"][i], atol=1e-12, equal_nan=True)


def test_equals_scikit_learn_and_torchmetrics_where_all_classes_occur():
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 5, 4000)
    prediction = np.where(rng.random(4000) < 0.6, truth, rng.integers(0, 5, 4000))
    found = scores(confusion_matrix(prediction, truth, num_classes=5))
    assert found.iou == pytest.approx(jaccard_score(truth, prediction, average=None))
    assert found.f_score == pytest.approx(f1_score(truth, prediction, average="macro"))
    pair = torch.from_numpy(prediction), torch.from_numpy(truth)
    assert found.miou == pytest.approx(MulticlassJaccardIndex(5)(*pair).item(), abs=1e-6)
    assert found.f_score == pytest.approx(MulticlassF1Score(5, average="macro")(*pair).item(), abs=1e-6)


def test_absent_classes():
    # Class 1 is predicted but never true, class 2 neither: the mean is over class 0 alone.
    found = scores(np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]]))
    assert found.iou[:2] == pytest.approx([6 / 8, 0])
    assert np.isnan(found.iou[2])
    assert found.miou == pytest.approx(6 / 8)


def test_sums_of_great_counts_do_not_overflow():
    found = scores(np.array([[2**62, 2**62], [0, 2**62]]))
    assert found.iou == pytest.approx([1 / 2, 1 / 2])
    assert found.pixel_accuracy == pytest.approx(2 / 3)


def test_nothing_scored_is_nan():
    found = scores(np.zeros((3, 3), np.int64))
    assert np.isnan([found.miou, found.f_score, found.pixel_accuracy, found.frequency_weighted_iou]).all()


def test_a_class_that_is_never_predicted_has_no_precision_but_counts_as_zero_in_the_mean():
    found = scores(np.array([[4, 0], [2, 0]]))
    assert np.isnan(found.precision[1])
    assert found.mean_precision == pytest.approx((4 / 6) / 2)


@pytest.mark.parametrize("matrix", [np.zeros((2, 3), int), np.array([[1, -1], [0, 0]])])
def test_not_a_confusion_matrix(matrix):
    with pytest.raises(ValueError, match="square matrix of counts"):
        scores(matrix)


def test_average_precision_by_hand() -> None:
    """Ranked by logit, class 0 has its images in places 1 and 3: (1/1 + 2/3) / 2; no image has class 1."""
    logits = np.array([[4.0, 0.0], [3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    labels = np.array([[1, 0], [0, 0], [1, 0], [0, 0]])
    values = class_average_precision(logits, labels)
    assert values[0] == pytest.approx(5 / 6)
    assert np.isnan(values[1])
    assert mean_average_precision(logits, labels) == pytest.approx(5 / 6)
    assert np.isnan(mean_average_precision(logits, np.zeros_like(labels)))
