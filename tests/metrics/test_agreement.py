"""How far masks agree: by hand, symmetric, and with intervals that hold what they are of."""

import numpy as np
import pytest

from subcam.metrics.agreement import Agreement
from subcam.metrics.paired import class_counts

FIRST = np.array([[[0, 0, 1, 1]], [[0, 2, 2, 255]], [[0, 0, 0, 0]]], np.uint8)
OTHER = np.array([[[0, 1, 1, 1]], [[0, 2, 0, 2]], [[0, 0, 0, 0]]], np.uint8)


def agreement(first: np.ndarray, *others: np.ndarray, resamples: int = 50, classes: int = 4) -> Agreement:
    counts = [[class_counts(b, a, num_classes=classes) for a, b in zip(first, other, strict=True)] for other in others]
    return Agreement(
        labels=("first", *(f"other {index}" for index in range(len(others)))),
        class_names=("background", *(f"class {index}" for index in range(1, classes))),
        images=tuple("abcdefgh"[: len(first)]),
        counts=np.array(counts),
        resamples=resamples,
    )


def test_by_hand() -> None:
    """Background is 6 of 8 pixels that either has, class 1 is 2 of 3, class 2 is 1 of 2; none has class 3."""
    found = agreement(FIRST, OTHER)
    assert found.iou[0, :3] == pytest.approx([6 / 8, 2 / 3, 1 / 2])
    assert np.isnan(found.iou[0, 3])
    assert found.miou[0] == pytest.approx((6 / 8 + 2 / 3 + 1 / 2) / 3)
    assert found.equal_pixels[0] == pytest.approx(9 / 11)
    assert found.image_miou[0] == pytest.approx([(1 / 2 + 2 / 3) / 2, (1 / 2 + 1 / 2) / 2, 1.0])
    assert found.images_that_differ(1, most=9) == [("b", pytest.approx(0.5)), ("a", pytest.approx(7 / 12))]
    assert found.images_that_differ(1, most=1) == [("b", pytest.approx(0.5))]


def test_a_class_that_one_alone_has_is_no_agreement() -> None:
    found = agreement(np.zeros((1, 2, 2), np.uint8), np.full((1, 2, 2), 3, np.uint8))
    assert found.iou[0].tolist()[0] == found.iou[0, 3] == 0
    assert np.isnan(found.iou[0, 1:3]).all()
    assert found.miou[0] == found.equal_pixels[0] == 0


def test_whoever_is_first() -> None:
    rng = np.random.default_rng(0)
    first, other = rng.integers(0, 4, (2, 8, 6, 5), dtype=np.uint8)
    one, back = agreement(first, other), agreement(other, first)
    assert one.iou == pytest.approx(back.iou)
    assert one.interval(1) == back.interval(1)
    assert agreement(first, first).miou.tolist() == [1.0]
    assert agreement(first, first).images_that_differ(1, most=5) == []


def test_intervals_hold_the_value_and_end_where_there_is_one_image() -> None:
    rng = np.random.default_rng(0)
    first, *others = rng.integers(0, 3, (3, 8, 6, 5), dtype=np.uint8)
    others[1][:] = first
    found = agreement(first, *others, resamples=200)
    assert found.interval(1).low < found.interval(1).value == found.miou[0] < found.interval(1).high
    assert found.class_interval(1, 1).low < found.class_interval(1, 1).value == found.iou[0, 1]
    assert (found.interval(2).low, found.interval(2).high) == (1.0, 1.0)
    single = agreement(first[:1], others[0][:1]).interval(1)
    assert single.low == single.value == single.high
