"""A sheet of images and lines of text at given places, in points from its upper left corner.

One pair of axes holds all of them: a pair for each image takes ten times as long to make, to lay out and to draw.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subcam.report.figures.style import PADDING, TITLE_SIZE, TWO_COLUMNS, legend_below, set_title

WIDTH = 72 * TWO_COLUMNS
_GAP = 36 * PADDING
"""Points that an image keeps from each side of its cell."""

_ABOVE_LEGEND = 6.0


class Sheet(Figure):
    """A figure `WIDTH` points wide whose images and texts are put where they belong; to be made inside `paper_style`.

    Args:
        height: of what is put on it, in points.
        title: above it. handles: of a legend below it. below: further points kept free below it.
    """

    def __init__(self, height: float, *, title: str = "", handles: Sequence[Artist] = (), below: float = 0.0) -> None:
        below += _ABOVE_LEGEND if handles else 0.0
        super().__init__(figsize=(TWO_COLUMNS, (height + below) / 72))
        self.set_layout_engine("none")
        set_title(self, title)
        top = 72 * self.get_figheight() - height - below
        legend_below(self, handles)
        self._whole = 72 * self.get_figheight()
        if title:
            x, y = PADDING / TWO_COLUMNS, 1 - 0.4 * TITLE_SIZE / self._whole
            self.suptitle(self.get_suptitle(), x=x, y=y, ha="left", va="top", weight="bold")
        place = (0, 1 - (top + height) / self._whole, 1, height / self._whole)
        self._plane = self.add_axes(place, xlim=(0, WIDTH), ylim=(height, 0))
        self._plane.set_axis_off()

    def image(self, image: UInt8[np.ndarray, "_ _ 3"], *, left: float, top: float, width: float, height: float) -> None:
        """An image in the middle of a cell, as large as fits."""
        scale = min((width - 2 * _GAP) / image.shape[1], (height - 2 * _GAP) / image.shape[0])
        across, down = scale * image.shape[1], scale * image.shape[0]
        x, y = left + (width - across) / 2, top + (height - down) / 2
        self._plane.imshow(image, extent=(x, x + across, y + down, y), aspect="auto", interpolation="antialiased")

    def line(self, text: str, *, left: float, top: float, **look: Any) -> None:
        """Text whose place is its upper left corner, unless `look`, as matplotlib knows it, says otherwise."""
        self._plane.text(left, top, text, **{"va": "top", "ha": "left", **look})

    def axes_below(self, *, width: float, height: float, bottom: float) -> Axes:
        """Further axes in the middle of what is free below, `bottom` points above the lower edge."""
        left = (WIDTH - width) / 2 / WIDTH
        return self.add_axes((left, bottom / self._whole, width / WIDTH, height / self._whole))
