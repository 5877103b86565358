"""AffinityNet's grid of cells: its limits, and which cells are the source of a pair (Section 3.3, after [1], psa)."""

from typing import Annotated

from subcam.checks.fields import Range
from subcam.errors import SettingsError

RADIUS = 5
Radius = Annotated[int, Range(1, 32)]
STRIDE = 8
"""Pixels of the image to one cell, in both directions."""

MAX_LOG_STEPS = 20
"""Of the random walk, whose steps are 2^log_steps."""

WalkExponent = Annotated[float, Range(0.001, 1000.0)]


def source_region(
    offset: tuple[int, int], *, height: int, width: int, radius: int = RADIUS, all_pairs: bool = False
) -> tuple[slice, slice]:
    """Rows and columns of the cells that are the source of a pair at this offset; the targets are `shifted` by it.

    By psa's rule only rows 0 .. height - radius and columns radius - 1 .. width - radius are sources, for every offset.
    Pairs among the last rows, or from the outer columns, are therefore absent though both cells lie on the grid, and a
    grid of fewer than `radius` rows or 2 * radius - 1 columns has no pair. With `all_pairs` each cell whose target lies
    on the grid is a source.
    """
    dy, dx = offset
    if all_pairs:
        top, bottom, left, right = 0, height - dy, max(0, -dx), width - max(0, dx)
    else:
        top, bottom, left, right = 0, height - radius + 1, radius - 1, width - radius + 1
    if bottom <= top or right <= left:
        return slice(0, 0), slice(0, 0)
    return slice(top, bottom), slice(left, right)


def training_region(*, height: int, width: int, radius: int = RADIUS) -> tuple[slice, slice]:
    """The source cells of a training crop, the same for every offset (psa's rule).

    Raises:
        SettingsError: the crop is too small to hold a pair, so that nothing could be learned from it.
    """
    rows, columns = source_region((0, 0), height=height, width=width, radius=radius)
    if rows.stop == rows.start:
        raise SettingsError(
            f"pairs within radius {radius} need a grid of at least {radius} x {2 * radius - 1} cells; "
            f"got {height} x {width}. Use a larger crop or a smaller radius."
        )
    return rows, columns
