"""Confidence of a mask's regions: by hand, beside a slow version that goes through the pixels, and what is refused."""

import numpy as np
import pytest

from subcam.metrics.confidence import RegionConfidence, image_confidence, region_confidences, what_lowers

MASK = np.array([[0, 0, 2], [0, 2, 255]], np.uint8)
CLASSES = np.array([1, 3])
"""The image is labelled with the classes of the values 2 and 4; the mask has no pixel of the second."""


def slow(mask, classes, scores, stages, network) -> list[tuple[float, float, float, float]]:
    """Area, decided, stages, network of each region, pixel by pixel."""
    found = []
    pixels = [(row, column) for row in range(mask.shape[0]) for column in range(mask.shape[1])]
    for channel, value in enumerate([0, *(c + 1 for c in classes)]):
        inside = [pixel for pixel in pixels if mask[pixel] == value]
        shares = [
            scores[(channel, *pixel)] / total if (total := scores[(slice(None), *pixel)].sum()) else 0
            for pixel in inside
        ]

        def iou(one, other, value=value):
            either = [pixel for pixel in pixels if one[pixel] == value or other[pixel] == value]
            both = [pixel for pixel in either if one[pixel] == other[pixel]]
            return len(both) / len(either) if either else 0

        mean = sum(shares) / len(shares) if shares else 0
        found.append((len(inside) / len(pixels), mean, iou(*stages), iou(mask, network)))
    return found


def test_equals_the_slow_version() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        classes = np.sort(rng.choice(6, rng.integers(0, 4), replace=False))
        values = np.array([0, *(classes + 1)], np.uint8)
        size = tuple(rng.integers(1, 9, 2))
        mask, network = rng.choice(np.append(values, 255), size), rng.choice(np.arange(7), size).astype(np.uint8)
        stages = tuple(rng.choice(values, size) for _ in range(2))
        scores = rng.random((len(values), *size)).astype(np.float32) * (rng.random(size) > 0.1)
        got = region_confidences(
            mask.astype(np.uint8), classes, scores=scores, before=stages[0], after=stages[1], network=network
        )
        assert [region.value for region in got] == values.tolist()
        expected = slow(mask, classes, scores, stages, network)
        parts = [(region.area, region.decided, region.stages, region.network) for region in got]
        np.testing.assert_allclose(np.array(parts, float), expected, rtol=1e-6)


def test_by_hand() -> None:
    scores = np.zeros((3, 2, 3))
    scores[0], scores[1] = 0.2, 0.3  # the second class has no score anywhere
    background, dog, absent = region_confidences(MASK, CLASSES, scores=scores)
    assert (background.area, dog.area) == (3 / 6, 2 / 6)
    assert background.decided == pytest.approx(0.4)
    assert dog.confidence == pytest.approx(0.6)
    assert (absent.confidence, absent.cause) == (0, "is labelled and has no pixel")
    assert image_confidence([background, dog, absent]) == pytest.approx((0.4 + 0.6 + 0) / 3)
    assert what_lowers([background, dog, absent], ("a", "b", "c", "d")) == "d: is labelled and has no pixel"


def region(value: int = 1, *, decided: float | None = None, stages: float | None = None, network: float | None = None):
    return RegionConfidence(value=value, area=0.5, decided=decided, stages=stages, network=network)


@pytest.mark.parametrize(
    ("parts", "confidence", "cause"),
    [
        ({"decided": 0.5, "stages": 0.8}, 0.65, "its scores are undecided"),
        ({"decided": 0.5, "stages": 0.2, "network": 0.8}, 0.5, "the stages disagree"),
        ({"network": 0.1}, 0.1, "the network sees it otherwise"),
        ({}, 1.0, "nothing is known of it"),
    ],
)
def test_the_mean_of_what_is_known_and_the_least_of_it(parts: dict, confidence: float, cause: str) -> None:
    assert region(**parts).confidence == pytest.approx(confidence)
    assert region(**parts).cause == cause


def test_nothing_lowers_what_is_sure() -> None:
    regions = [region(0, decided=0.95), region(1, decided=0.9)]
    assert what_lowers(regions, ("cat",)) == ""
    assert what_lowers([*regions, region(2, decided=0.89)], ("cat", "dog")) == "dog: its scores are undecided"
    assert what_lowers([region(0, decided=0.3)], ()) == "background: its scores are undecided"


@pytest.mark.parametrize(
    "given",
    [{"scores": np.zeros((3, 3, 2))}, {"network": MASK.T.copy()}, {"before": MASK, "after": MASK[:, :2].copy()}],
    ids=["scores", "network", "stages"],
)
def test_other_sizes(given: dict) -> None:
    with pytest.raises(ValueError, match=r"scores|network|after"):
        region_confidences(MASK, CLASSES, **given)


def test_a_value_that_is_not_labelled() -> None:
    with pytest.raises(ValueError, match=r"expected the values \[0, 4\] and 255 in the mask, got \[2\]"):
        region_confidences(MASK, np.array([3]))
