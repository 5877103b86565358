"""What the page shows first without ground truth, and three numbers of many."""

import pytest

from subcam.report.figures.style import SCREEN_COLOURS, screen_colour
from subcam.report.page.first_look import confidence_tiles, main_tiles, worst_fifth
from subcam.report.page.headline import Tile


def tile(name: str, note: str = "") -> Tile:
    return Tile(name=name, value="1", unit="%", note=note)


def test_three_numbers_are_plain_cam_the_masks_and_the_network_that_learned_from_them() -> None:
    names = ("Plain CAM", "Round 2", "Pseudo masks", "Segmentation, pseudo", "Segmentation, pseudo + CRF")
    tiles = [*map(tile, names), tile("Segmentation, truth", "an upper bound")]
    assert [one.name for one in main_tiles(tiles)] == ["Plain CAM", "Pseudo masks", "Segmentation, pseudo + CRF"]
    assert main_tiles(tiles[:2]) == tiles[:2]


def test_without_truth_the_numbers_are_of_confidence() -> None:
    tiles = confidence_tiles([0.2, None, 0.6, 0.9])
    assert [one.value for one in tiles] == ["3", "0.60", "1"]
    assert tiles[-1].unit == "of 3 masks"
    assert confidence_tiles([None]) == []


@pytest.mark.parametrize(("count", "worst"), [(0, 0), (1, 1), (5, 1), (6, 2), (60, 12), (1000, 50)])
def test_a_fifth_is_to_be_looked_at_first(count: int, worst: int) -> None:
    """However sure the run is of all of them: confidence is a rank."""
    confidences = [None, *(0.9 + place / 10**5 for place in reversed(range(count)))]
    assert worst_fifth(confidences) == set(range(count + 1 - worst, count + 1))


@pytest.mark.parametrize("red_seen", [0.11238, 0.29275])
def test_colours_of_a_page_differ_for_people_who_confuse_red_and_green(red_seen: float) -> None:
    """Of the first seven classes, for eyes without cones for red or for green, by Viénot's approximation (1999)."""
    colours = [bytes.fromhex(screen_colour(index)[1:]) for index in range(1, 8)]
    seen = [(red_seen * red + (1 - red_seen) * green, blue) for red, green, blue in colours]
    pairs = [(one, other) for place, one in enumerate(seen) for other in seen[:place]]
    assert min(abs(a - c) + abs(b - d) for (a, b), (c, d) in pairs) > 30
    assert len(set(SCREEN_COLOURS)) == len(SCREEN_COLOURS)
