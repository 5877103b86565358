"""The confusion matrix as a figure, for any number of classes."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Integer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from subcam.report.figures.style import (
    GREY,
    ONE_COLUMN,
    SHARES,
    TEXT_SIZE,
    TWO_COLUMNS,
    laid_out,
    paper_style,
    set_title,
    shortened,
    text_width,
)

_WIDEST_NAME = 110.0
"""Points that a name may take beside its row."""


@paper_style()
def confusion_figure(
    matrix: Integer[np.ndarray, "channels channels"], class_names: Sequence[str], *, title: str = ""
) -> Figure:
    """A confusion matrix in per cent of the pixels of each true class, so that the diagonal is recall.

    The figure grows with the number of classes so that names stay legible. Cells show numbers where they fit; a class
    without pixels in the ground truth has a hatched row.

    Args:
        matrix: counts, rows ground truth and columns prediction, background first.
        class_names: of the classes without background.
        title: above the figure; none if empty.

    Raises:
        ValueError: the names do not fit the matrix.
    """
    names = ["background", *class_names]
    if len(names) != len(matrix):
        raise ValueError(f"expected {len(matrix) - 1} class names for {len(matrix)} channels, got {len(class_names)}")
    shares = _row_shares(matrix)
    names = [shortened(name, _WIDEST_NAME) for name in names]
    label_width = max(text_width(name) for name in names) + 30
    cell = min(36.0, max(10.0, (72 * TWO_COLUMNS - label_width - 60) / len(names)))
    side = cell * len(names) + label_width
    figure = Figure(figsize=(max(side + 60, 72 * ONE_COLUMN) / 72, side / 72))
    figure.set_layout_engine("compressed")  # the cells are square: white beside them is not wanted
    axes = figure.subplots()
    shown = axes.imshow(100 * shares, cmap=SHARES, vmin=0, vmax=100)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("prediction")
    axes.set_ylabel("ground truth")
    for row in np.flatnonzero(np.isnan(shares[:, 0])):
        axes.axhspan(row - 0.5, row + 0.5, facecolor="none", edgecolor=GREY, hatch="////", linewidth=0)
    if cell >= text_width("100", TEXT_SIZE - 1) + 3:
        _write_cells(axes, shares)
    bar = figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.02, label="% of the true class")
    bar.outline.set_visible(False)
    set_title(figure, title)
    return laid_out(figure)


def _row_shares(matrix: Integer[np.ndarray, "channels channels"]) -> Float64[np.ndarray, "channels channels"]:
    totals = matrix.sum(1, keepdims=True).astype(np.float64)
    return np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)


def _write_cells(axes: Axes, shares: Float64[np.ndarray, "channels channels"]) -> None:
    """Shares in whole per cent; those that round to 0 only on the diagonal."""
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.005 or (row == column and not np.isnan(share)):
            axes.text(
                column,
                row,
                f"{100 * share:.0f}",
                ha="center",
                va="center",
                size=TEXT_SIZE - 1,
                color="white" if share > 0.6 else "black",
            )
