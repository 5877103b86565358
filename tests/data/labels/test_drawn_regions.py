"""Polygons, rectangles and ellipses against a plain test of each pixel's centre, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest

from subcam.data.labels.drawn_regions import MOST_POINTS, drawn, filled_polygon, shape_of
from subcam.errors import BadInputError


def even_odd(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each centre by itself: how many edges lie left of it."""
    inside = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y = column + 0.5, row + 0.5
            for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
                if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x:
                    inside[row, column] ^= True
    return inside


@pytest.mark.parametrize("seed", range(6))
def test_polygons_have_the_pixels_whose_centres_they_hold(seed: int) -> None:
    """Among them polygons that cross themselves, and that lead out of the image on each side."""
    points = np.random.default_rng(seed).uniform(-20, 120, (3 + 2 * seed, 2)).round(1)
    value = {"points": points.tolist(), "closed": True}
    expected = even_odd(points * [0.23, 0.17], (17, 23))
    assert expected.any()
    assert (drawn(value, (17, 23)) == expected).all()


def test_neighbours_share_no_pixel() -> None:
    """Edges that go through centres: left and upper ones take the pixel, right and lower ones do not."""
    left = {"points": [[0, 0], [37.5, 0], [37.5, 100], [0, 100]]}
    right = {"x": 37.5, "y": 0, "width": 62.5, "height": 100, "rotation": 0}
    one, other = drawn(left, (4, 4)), drawn(right, (4, 4))
    assert one.tolist() == [[True, False, False, False]] * 4
    assert (one ^ other).all()
    assert not (one & other).any()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_points_hold_nothing(count: int) -> None:
    assert not drawn({"points": [[0, 0], [100, 100]][:count]}, (5, 5)).any()


def test_many_points_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(0).uniform(0, 20, (50, 2))
    whole = filled_polygon(points, (20, 20))
    monkeypatch.setattr("subcam.data.labels.drawn_regions._CROSSINGS", 40)
    assert (filled_polygon(points, (20, 20)) == whole).all()


def test_a_rectangle_turns_around_its_corner() -> None:
    """By hand: 8 x 3 pixels turned by 90 degrees clockwise about (10, 4) are 3 x 8 pixels left of and below it."""
    value = {"x": 50, "y": 20, "width": 40, "height": 15, "rotation": 90}
    expected = np.zeros((20, 20), bool)
    expected[4:12, 7:10] = True
    assert (drawn(value, (20, 20)) == expected).all()
    upright = np.zeros((20, 20), bool)
    upright[4:7, 10:18] = True
    assert (drawn(value | {"rotation": 0}, (20, 20)) == upright).all()


@pytest.mark.parametrize("degrees", [0, 30, 90])
def test_ellipses(degrees: float) -> None:
    value = {"x": 50, "y": 40, "radiusX": 30, "radiusY": 10, "rotation": degrees}
    rows, columns = np.indices((30, 40))
    x, y, turn = columns + 0.5 - 20, rows + 0.5 - 12, math.radians(degrees)
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    assert (drawn(value, (30, 40)) == ((along / 12) ** 2 + (across / 3) ** 2 < 1)).all()
    assert not drawn(value | {"radiusX": 0}, (30, 40)).any()


def test_what_has_no_area_has_no_shape() -> None:
    assert [shape_of(value) for value in ({"x": 1, "y": 2, "width": 1}, {"vertices": []}, {"choices": []}, {})] == (
        [None] * 4
    )


BOX = {"x": 1, "y": 2, "width": 3, "height": 4}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"points": None}, "points: expected a list"),
        ({"points": [1, 2, 3]}, "points: expected pairs"),
        ({"points": [[1, 2, 3]]}, "points: expected pairs"),
        ({"points": [[1, "2"]]}, "points: expected a number"),
        ({"points": [[1, math.nan]]}, "points: expected a number"),
        ({"points": [[0, 0]] * (MOST_POINTS + 1)}, "points: expected a list of at most 100,000 points, got 100,001"),
        (BOX | {"x": math.inf}, "x: expected a number from -100 to 200"),
        (BOX | {"y": 640}, "y: expected a number .* got 640"),
        (BOX | {"width": -1}, "width: expected a number from 0"),
        (BOX | {"height": None}, "height: expected a number"),
        (BOX | {"rotation": "much"}, r"rotation: expected a number .*\(degrees\)"),
        ({"x": 1, "y": 2, "radiusX": 3}, "radiusY: expected a number .* got None"),
        ({"y": 2, "radiusX": 3, "radiusY": True, "x": 1}, "radiusY: expected a number .* got True"),
        ({"rle": [1, 2]}, "rle: expected a brush"),
    ],
)
def test_damaged_regions_name_the_key(value: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        drawn(value, (8, 8))
