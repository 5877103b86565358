"""The pixels of what a person drew in Label Studio: brushes, polygons, rectangles and ellipses.

Places are in per cent of the image's sides. A pixel belongs to a polygon, rectangle or ellipse if its centre lies
inside; a polygon that crosses itself has holes (even-odd). Of two that share an edge, none takes the other's pixels.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float

from subcam.data.labels.brush_code import mask_of_brush
from subcam.errors import BadInputError

Shape = Literal["brush", "polygon", "ellipse", "rectangle"]

MOST_POINTS = 100_000
"""A polygon of more is refused."""

_LEAST, _MOST = -100.0, 200.0
"""Per cent: what is drawn may end outside of the image, but not far from it."""

_CROSSINGS = 1 << 20
"""Edges of a polygon are taken together as long as they cross no more rows."""

_KEY: dict[Shape, str] = {"brush": "rle", "polygon": "points", "ellipse": "radiusX", "rectangle": "height"}


def shape_of(value: Mapping[str, Any]) -> Shape | None:
    """What the value of a region describes; None for what has no area or is not known."""
    return next((shape for shape, key in _KEY.items() if key in value), None)


def drawn(value: Mapping[str, Any], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels of a region with a shape in an image of (height, width) `size`.

    Raises:
        BadInputError: it is damaged; names the key, and not the file.
    """
    shape = shape_of(value)
    if shape == "brush":
        try:
            return mask_of_brush(value["rle"], size)
        except BadInputError as error:
            raise BadInputError(f"rle: {error}") from error
    if shape == "polygon":
        return filled_polygon(_points(value["points"]) * (np.array(size[::-1]) / 100), size)
    height, width = size
    left, top = _number(value, "x") * width / 100, _number(value, "y") * height / 100
    turn = math.radians(_number(value, "rotation", default=0.0, least=-1e6, most=1e6))
    along, down = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
    if shape == "ellipse":
        radii = [_number(value, key, least=0.0) * side / 100 for key, side in (("radiusX", width), ("radiusY", height))]
        return _filled_ellipse((left, top), (radii[0], radii[1]), (along, down), size)
    # A rectangle is turned around its corner.
    along, down = (
        along * _number(value, "width", least=0.0) * width / 100,
        down * _number(value, "height", least=0.0) * height / 100,
    )
    corner = np.array([left, top])
    return filled_polygon(np.stack([corner, corner + along, corner + along + down, corner + down]), size)


def filled_polygon(points: Float[np.ndarray, "points 2"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels whose centres a polygon holds, by the even-odd rule.

    Each edge crosses the lines through the centres of some rows; from each crossing on, inside and outside change.

    Args:
        points: x and y in pixels from the image's corner; the last is joined to the first.
        size: height and width.
    """
    height, width = size
    changes = np.zeros((height, width + 1), np.uint8)
    ends = np.roll(points, -1, 0)
    upper, lower = np.where((points[:, 1] <= ends[:, 1])[:, None], [points, ends], [ends, points])
    first = np.clip(np.ceil(upper[:, 1] - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(lower[:, 1] - 0.5), 0, height).astype(np.int64)
    step = max(1, _CROSSINGS // height)
    for start in range(0, len(points), step):
        part = slice(start, start + step)
        counts = last[part] - first[part]
        edge = np.repeat(np.arange(len(counts)), counts)
        rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[part][edge]
        (x0, y0), (x1, y1) = upper[part][edge].T, lower[part][edge].T
        x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        np.add.at(changes, (rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)), 1)  # 256 changes are none
    return np.cumsum(changes[:, :-1], axis=1, dtype=np.uint8) % 2 == 1


def _filled_ellipse(
    centre: tuple[float, float],
    radii: tuple[float, float],
    axes: tuple[np.ndarray, np.ndarray],
    size: tuple[int, int],
) -> Bool[np.ndarray, "h w"]:
    if min(radii) <= 0:
        return np.zeros(size, bool)
    x = np.arange(size[1])[None] + 0.5 - centre[0]
    y = np.arange(size[0])[:, None] + 0.5 - centre[1]
    inside = sum(((x * axis[0] + y * axis[1]) / radius) ** 2 for axis, radius in zip(axes, radii, strict=True))
    return np.asarray(inside < 1)


def _points(value: Any) -> Float[np.ndarray, "points 2"]:
    if not isinstance(value, list) or len(value) > MOST_POINTS:
        got = f"{len(value):,}" if isinstance(value, list) else f"{value!r:.40}"
        raise BadInputError(f"points: expected a list of at most {MOST_POINTS:,} points, got {got}")
    for point in value:
        if not isinstance(point, list) or len(point) != 2:
            raise BadInputError(f"points: expected pairs of numbers, got {point!r:.40}")
    return np.array([[_checked(part, "points", _LEAST, _MOST) for part in point] for point in value]).reshape(-1, 2)


def _number(
    value: Mapping[str, Any], key: str, *, default: Any = None, least: float = _LEAST, most: float = _MOST
) -> float:
    return _checked(value.get(key, default), key, least, most)


def _checked(number: Any, key: str, least: float, most: float) -> float:
    good = isinstance(number, int | float) and not isinstance(number, bool) and least <= number <= most
    if not good:
        what = "per cent of the image's side" if most == _MOST else "degrees"
        raise BadInputError(f"{key}: expected a number from {least:g} to {most:g} ({what}), got {number!r:.40}")
    return float(number)
