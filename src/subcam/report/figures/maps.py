"""Figures 3 and 7: response maps and segmentations beside their image and its ground truth, a row for each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from subcam.data.overlay import colour_mask, overlay_mask
from subcam.data.records import IGNORE_INDEX
from subcam.report.figures.overlays import overlay_map
from subcam.report.figures.style import (
    GREY,
    SEQUENTIAL,
    TEXT_SIZE,
    TWO_COLUMNS,
    broken,
    class_colour,
    laid_out,
    legend_below,
    paper_style,
    set_close,
    set_title,
)

_HIGHEST = 1.5
"""Greatest height of an image, in widths; a taller one has white beside it."""


@dataclass(frozen=True, kw_only=True)
class ResponseRow:
    """One image of Figure 3, of one class.

    image: RGB, 0-255. plain, ours: response maps in 0..1. truth: ground truth as class indices, where known.
    label: text beside the row. threshold: a line surrounds the region above it.
    compared: name -> response map of another method and its own threshold; the same names in all rows.
    """

    image: UInt8[np.ndarray, "h w 3"]
    plain: Float[np.ndarray, "h w"]
    ours: Float[np.ndarray, "h w"]
    truth: UInt8[np.ndarray, "h w"] | None = None
    label: str = ""
    threshold: float | None = None
    compared: Mapping[str, tuple[Float[np.ndarray, "h w"], float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SegmentationRow:
    """One image of Figure 7: RGB 0-255, and masks of class indices, each None where missing."""

    image: UInt8[np.ndarray, "h w 3"]
    truth: UInt8[np.ndarray, "h w"] | None = None
    pseudo: UInt8[np.ndarray, "h w"] | None = None
    prediction: UInt8[np.ndarray, "h w"] | None = None
    label: str = ""


@paper_style()
def response_figure(
    rows: Sequence[ResponseRow], *, title: str = "", plain_name: str = "plain CAM", ours_name: str = "ours"
) -> Figure:
    """Figure 3: image, plain CAM, response maps of other methods, ours and ground truth side by side.

    Maps are drawn in viridis over the image in grey, ground truth in PASCAL VOC's colours over the image. The column of
    ground truth is absent where no row has any.

    Raises:
        ValueError: there is no row.
    """
    images = [
        [
            row.image,
            overlay_map(row.image, row.plain, threshold=row.threshold),
            *(overlay_map(row.image, one, threshold=threshold) for one, threshold in row.compared.values()),
            overlay_map(row.image, row.ours, threshold=row.threshold),
            None if row.truth is None else overlay_mask(row.image, row.truth),
        ]
        for row in rows
    ]
    columns = ["image", plain_name, *(rows[0].compared if rows else ()), ours_name, "ground truth"]
    figure, grid = _grid(columns, images, [row.label for row in rows], title=title)
    figure.set_figheight(figure.get_figheight() + 0.35)
    colours = ScalarMappable(cmap=SEQUENTIAL)
    colours.set_clim(0, 1)
    bar = figure.colorbar(
        colours, ax=grid, location="bottom", label="response", ticks=[0, 0.5, 1], shrink=0.5, aspect=60, pad=0.01
    )
    bar.outline.set_visible(False)
    return laid_out(figure)


@paper_style()
def segmentation_figure(rows: Sequence[SegmentationRow], class_names: Sequence[str], *, title: str = "") -> Figure:
    """Figure 7: image, ground truth, pseudo mask and prediction side by side, with the names of the classes shown.

    Masks are in PASCAL VOC's colours on black, striped where they are 255. A column is absent where no row has it.

    Args:
        rows: images with their masks.
        class_names: without background; class i is i + 1 in the masks.
        title: above the figure; none if empty.

    Raises:
        ValueError: there is no row.
    """
    images = [
        [row.image, *(None if mask is None else colour_mask(mask) for mask in (row.truth, row.pseudo, row.prediction))]
        for row in rows
    ]
    columns = ["image", "ground truth", "pseudo mask", "prediction"]
    figure, _ = _grid(columns, images, [row.label for row in rows], title=title)
    masks = [mask for row in rows for mask in (row.truth, row.pseudo, row.prediction) if mask is not None]
    labels = sorted(set().union(*(np.unique(mask).tolist() for mask in masks)))
    names = {label: f"label {label}" for label in labels} | dict(enumerate(["background", *class_names]))
    patches = [Patch(color=class_colour(label), label=names[label]) for label in labels if label != IGNORE_INDEX]
    if IGNORE_INDEX in labels:
        patches.append(Patch(facecolor="white", edgecolor=GREY, hatch="//////", label="ignored (255)"))
    legend_below(figure, patches)
    return laid_out(figure)


def _grid(
    columns: list[str],
    images: list[list[UInt8[np.ndarray, "_ _ 3"] | None]],
    labels: list[str],
    *,
    title: str,
) -> tuple[Figure, list[Axes]]:
    """Images in rows as high as needed, below the names of the columns; columns without any image are left out."""
    if not images:
        raise ValueError("expected one row of images or more, got none")
    kept = [place for place in range(len(columns)) if any(row[place] is not None for row in images)]
    beside = TEXT_SIZE * 2 if any(labels) else 0
    width = (72 * TWO_COLUMNS - beside) / len(kept)
    heights = [min(_HIGHEST, max(one.shape[0] / one.shape[1] for one in row if one is not None)) for row in images]
    figure = Figure(figsize=(TWO_COLUMNS, (width * sum(heights) + 16) / 72))
    axes = figure.subplots(len(images), len(kept), squeeze=False, height_ratios=heights)
    set_close(figure)
    for row, label, height, line in zip(images, labels, heights, axes, strict=True):
        for place, axis in zip(kept, line, strict=True):
            image = row[place]
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            axis.grid(False)
            if image is not None:
                axis.imshow(image, interpolation="antialiased")
            else:
                axis.text(0.5, 0.5, "none", transform=axis.transAxes, ha="center", va="center", color=GREY)
        if label:
            line[0].set_ylabel("\n".join(broken(label, width * height - 6)[:2]), size=TEXT_SIZE)
    for place, axis in zip(kept, axes[0], strict=True):
        axis.set_title(columns[place], loc="center", size=TEXT_SIZE + 0.5)
    set_title(figure, title)
    return figure, list(axes.ravel())
