"""Scores of several sets of masks on the same images, and intervals of their differences."""

import numpy as np
import pytest

from subcam.metrics import paired as module
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.paired import Paired, class_counts, iou_of, miou_of
from subcam.metrics.scores import scores

NAMES = ("background", "cat", "dog")


def random_masks(count: int, *, right: float, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Truths of three classes and 255, and predictions of which this share of the pixels is right."""
    rng = np.random.default_rng(seed)
    truths = [rng.choice(np.array([0, 1, 2, 255], np.uint8), size=(6, 7)) for _ in range(count)]
    noise = [rng.integers(0, 3, (6, 7)).astype(np.uint8) for _ in range(count)]
    kept = [(rng.random((6, 7)) < right) & (truth != 255) for truth in truths]
    return truths, [np.where(keep, truth, other) for keep, truth, other in zip(kept, truths, noise, strict=True)]


def paired_of(truths: list[np.ndarray], *sets: list[np.ndarray], **more: int) -> Paired:
    counts = np.array(
        [[class_counts(each, truth, num_classes=3) for each, truth in zip(one, truths, strict=True)] for one in sets]
    )
    names = tuple(f"image-{index}" for index in range(len(truths)))
    labels = tuple(f"set {index}" for index in range(len(sets)))
    return Paired(labels=labels, class_names=NAMES, images=names, counts=counts, **more)


def test_counts_of_an_image_by_hand() -> None:
    truth = np.array([[0, 0, 1, 255], [0, 1, 1, 2]], np.uint8)
    predicted = np.array([[0, 1, 1, 2], [0, 1, 0, 2]], np.uint8)
    counts = class_counts(predicted, truth, num_classes=4)
    assert counts.tolist() == [[2, 2, 1, 0], [3, 3, 1, 0], [3, 3, 1, 0]]
    assert iou_of(counts)[:3].tolist() == [0.5, 0.5, 1.0]
    assert np.isnan(iou_of(counts)[3])
    assert miou_of(iou_of(counts)) == pytest.approx(2 / 3)


def test_scores_are_those_of_the_whole_confusion_matrix() -> None:
    truths, predicted = random_masks(5, right=0.4, seed=0)
    paired = paired_of(truths, predicted, truths)
    matrix = sum(confusion_matrix(one, truth, num_classes=3) for one, truth in zip(predicted, truths, strict=True))
    expected = scores(matrix)
    assert paired.miou[0] == pytest.approx(expected.miou, abs=1e-15)
    assert paired.iou[0].tolist() == expected.iou.tolist()
    assert paired.pixel_accuracy[0] == expected.pixel_accuracy
    assert paired.miou[1] == paired.pixel_accuracy[1] == 1


def test_a_class_that_is_only_predicted_is_in_no_mean() -> None:
    truth, predicted = np.array([[0, 1]], np.uint8), np.array([[2, 1]], np.uint8)
    paired = paired_of([truth], [predicted])
    assert paired.miou[0] == scores(confusion_matrix(predicted, truth, num_classes=3)).miou == 0.5
    assert np.isnan(paired.iou[0, 2])


def test_resampling_is_a_sum_over_drawn_images() -> None:
    """Against a loop over the images of each draw."""
    truths, predicted = random_masks(7, right=0.5, seed=1)
    paired = paired_of(truths, predicted, random_masks(7, right=0.9, seed=1)[1], resamples=11, seed=5)
    times = np.random.default_rng(5).multinomial(7, np.full(7, 1 / 7), size=11)
    for draw, drawn in zip(times, paired.resampled, strict=True):
        for counts, iou in zip(paired.counts, drawn, strict=True):
            total = np.zeros((3, 3), np.int64)
            for image, often in enumerate(draw):
                for _ in range(often):
                    total += counts[image]
            np.testing.assert_array_equal(iou, iou_of(total))


def test_many_images_are_resampled_in_parts_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    truths, predicted = random_masks(7, right=0.5, seed=1)
    whole = paired_of(truths, predicted, truths, resamples=50).resampled
    monkeypatch.setattr(module, "_AT_ONCE", 7 * 8)
    np.testing.assert_array_equal(paired_of(truths, predicted, truths, resamples=50).resampled, whole)
    monkeypatch.setattr(module, "_AT_ONCE", 1)
    np.testing.assert_array_equal(paired_of(truths, predicted, truths, resamples=50).resampled, whole)


def test_the_seed_decides_the_interval() -> None:
    truths, predicted = random_masks(9, right=0.5, seed=2)
    other = random_masks(9, right=0.7, seed=2)[1]
    first, again, another = (paired_of(truths, predicted, other, seed=seed).difference(1) for seed in (0, 0, 1))
    assert first == again
    assert first.value == another.value
    assert (first.low, first.high) != (another.low, another.high)


def test_masks_that_are_equal_differ_by_nothing() -> None:
    truths, predicted = random_masks(9, right=0.5, seed=2)
    paired = paired_of(truths, predicted, predicted)
    interval = paired.difference(1)
    assert (interval.value, interval.low, interval.high, interval.is_sure) == (0, 0, 0, False)
    assert paired.images_that_differ(1, most=5) == []


def test_the_interval_is_that_of_the_difference_not_of_each() -> None:
    """Images of very different difficulty, on each of which the second is a little better: sure, since it is paired."""
    rng = np.random.default_rng(3)
    counts = np.zeros((2, 60, 3, 2), np.int64)
    for image, right in enumerate(rng.integers(100, 900, 60)):
        for index, hits in enumerate((right, right + 10)):
            counts[index, image] = [[hits, hits], [1000, 1000], [1000 - 0, 1000]]
    paired = Paired(labels=("a", "b"), class_names=("background", "cat"), images=tuple("x" * 60), counts=counts)
    interval = paired.difference(1)
    each = miou_of(paired.resampled)[:, 0]
    assert interval.is_sure
    assert interval.high - interval.low < 0.2 * (np.percentile(each, 97.5) - np.percentile(each, 2.5))
    assert paired.class_difference(1, 1).is_sure


def test_the_intervals_hold_the_true_difference_about_as_often_as_they_say() -> None:
    """Samples of 40 images of a population whose difference is known."""
    truths, predicted = random_masks(400, right=0.5, seed=4)
    population = paired_of(truths, predicted, random_masks(400, right=0.55, seed=4)[1])
    true, held = population.difference(1).value, 0
    rng = np.random.default_rng(0)
    for seed in range(60):
        drawn = rng.choice(400, 40)
        sample = Paired(
            labels=("a", "b"),
            class_names=NAMES,
            images=tuple(map(str, drawn)),
            counts=population.counts[:, drawn],
            resamples=200,
            seed=seed,
        )
        interval = sample.difference(1)
        held += interval.low <= true <= interval.high
    assert 51 <= held <= 60


def test_the_images_that_differ_most_come_first() -> None:
    truth = np.array([[0, 1, 1, 1]], np.uint8)
    worse = [truth, np.array([[0, 1, 1, 0]], np.uint8), np.array([[0, 0, 0, 0]], np.uint8)]
    paired = paired_of([truth] * 3, [truth] * 3, worse)
    assert [name for name, _, _ in paired.images_that_differ(1, most=5)] == ["image-2", "image-1"]
    ((name, first, other),) = paired.images_that_differ(1, most=1)
    assert (name, first, other) == ("image-2", 1.0, 0.125)
