"""Alphas chosen without masks: in proportion to a threshold, and by the area of what is object."""

import math

import numpy as np
import pytest

from subcam.cam.threshold import alpha_of_threshold
from subcam.refine.alphas import AlphasOfMaps, alpha_of, alpha_of_area, alpha_text, settled


def of(threshold: float) -> AlphasOfMaps:
    return AlphasOfMaps(threshold=threshold, area=0.3, images=1)


def test_at_affinitynets_threshold_its_alphas_come_out() -> None:
    assert of(0.2).low == pytest.approx(4.0)
    assert of(0.2).high == pytest.approx(24.0)
    assert of(0.2).crf == pytest.approx(math.log(0.2) / math.log(0.8))


@pytest.mark.parametrize("threshold", [0.05, 0.28, 0.36, 0.7])
def test_at_others_they_keep_their_proportion(threshold: float) -> None:
    found = of(threshold)
    assert found.crf == alpha_of_threshold(threshold)
    assert (1 - threshold) ** found.crf == pytest.approx(threshold)
    assert found.high / found.low == pytest.approx(6.0)
    assert found.low / found.crf == pytest.approx(4.0 / of(0.2).crf)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.28, 0.36, 0.7])
def test_confident_positions_are_the_sure_regions_of_a_single_class(threshold: float) -> None:
    found = of(threshold)
    assert found.context_below < threshold < found.object_above
    for limit, alpha in ((found.object_above, found.low), (found.context_below, found.high)):
        assert (1 - limit) ** alpha == pytest.approx(limit)


def test_limits_at_affinitynets_threshold() -> None:
    assert of(0.2).object_above == pytest.approx(0.2755, abs=1e-4)
    assert of(0.2).context_below == pytest.approx(0.0939, abs=1e-4)


@pytest.mark.parametrize("threshold", [0.0, 0.01, 0.99, 1.0])
def test_maps_that_are_all_alike_have_alphas_that_a_setting_may_have(threshold: float) -> None:
    found = of(threshold)
    assert 0 < found.low < found.high <= 1000
    assert 0 < found.crf <= 1000
    assert alpha_of(threshold) == found.crf
    assert 0 < found.context_below < found.object_above < 1


def test_the_alpha_is_the_one_whose_area_is_nearest_by_its_quotient() -> None:
    alphas, areas = (1.0, 2.0, 4.0), (0.1, 0.2, 0.4)
    assert [alpha_of_area(alphas, areas, area) for area in (0.0, 0.12, 0.15, 0.27, 0.29, 0.9)] == [1, 1, 2, 2, 4, 4]
    # By its difference 0.27 and 0.15 would have been nearest to others, at 0.3 and 0.15.
    assert alpha_of_area((4.0, 1.0, 2.0), (0.4, 0.1, 0.2), 0.27) == 2.0


def test_of_equals_the_lowest_is_taken() -> None:
    assert alpha_of_area((8.0, 2.0, 4.0), (0.3, 0.3, 0.3), 0.3) == 2.0
    assert alpha_of_area((2.0, 4.0), (0.0, 0.0), 0.5) == 2.0


def test_against_a_slow_version() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        alphas = sorted(rng.uniform(0.1, 50, 7).tolist())
        areas = sorted(rng.uniform(0.01, 0.9, 7).tolist())
        area = float(rng.uniform(0.01, 0.9))
        slow = min(zip(alphas, areas, strict=True), key=lambda pair: max(pair[1] / area, area / pair[1]))
        assert alpha_of_area(alphas, areas, area) == slow[0]


@pytest.mark.parametrize(("alphas", "areas"), [((), ()), ((1.0, 2.0), (0.1,))])
def test_an_area_for_each_alpha_is_needed(alphas: tuple[float, ...], areas: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="an area for each alpha"):
        alpha_of_area(alphas, areas, 0.1)


def test_a_number_counts_as_it_is() -> None:
    assert settled(3.0, None) == 3.0
    assert settled(3.0, 5.0) == 3.0
    assert settled("auto", 5.0) == 5.0
    assert alpha_text(3.0, None) == "3"
    assert alpha_text("auto", 3.8765) == "3.88 (chosen without masks)"
    assert alpha_text("auto", None) == "chosen without masks"
