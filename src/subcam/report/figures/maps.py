"""Figures 3 and 7: response maps and segmentations beside their image and its ground truth, a row for each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.artist import Artist
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from subcam.data.overlay import colour_mask, overlay_mask
from subcam.data.records import IGNORE_INDEX
from subcam.report.figures.overlays import overlay_map
from subcam.report.figures.sheet import WIDTH, Sheet
from subcam.report.figures.style import (
    GREY,
    SEQUENTIAL,
    TEXT_SIZE,
    broken,
    class_colour,
    paper_style,
)

_HIGHEST = 1.5
"""Greatest height of an image, in widths; a taller one has white beside it."""

_HEAD, _BAR = 14.0, 32.0
"""Points for the names of the columns, and for the bar of colours below."""


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
    sheet = _grid(columns, images, [row.label for row in rows], title=title, below=_BAR)
    colours = ScalarMappable(cmap=SEQUENTIAL)
    colours.set_clim(0, 1)
    place = sheet.axes_below(width=WIDTH / 2, height=3.5, bottom=_BAR - 5)
    bar = sheet.colorbar(colours, cax=place, orientation="horizontal", label="response", ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    return sheet


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
    masks = [mask for row in rows for mask in (row.truth, row.pseudo, row.prediction) if mask is not None]
    labels = sorted(set().union(*(np.unique(mask).tolist() for mask in masks)))
    names = {label: f"label {label}" for label in labels} | dict(enumerate(["background", *class_names]))
    patches = [Patch(color=class_colour(label), label=names[label]) for label in labels if label != IGNORE_INDEX]
    if IGNORE_INDEX in labels:
        patches.append(Patch(facecolor="white", edgecolor=GREY, hatch="//////", label="ignored (255)"))
    return _grid(columns, images, [row.label for row in rows], title=title, handles=patches)


def _grid(
    columns: list[str],
    images: list[list[UInt8[np.ndarray, "_ _ 3"] | None]],
    labels: list[str],
    *,
    title: str,
    handles: Sequence[Artist] = (),
    below: float = 0.0,
) -> Sheet:
    """Images in rows as high as needed, below the names of the columns; columns without any image are left out."""
    if not images:
        raise ValueError("expected one row of images or more, got none")
    kept = [place for place in range(len(columns)) if any(row[place] is not None for row in images)]
    beside = TEXT_SIZE * 3 if any(labels) else 0.0
    width = (WIDTH - beside) / len(kept)
    heights = [
        width * min(_HIGHEST, max(one.shape[0] / one.shape[1] for one in row if one is not None)) for row in images
    ]
    sheet = Sheet(_HEAD + sum(heights), title=title, handles=handles, below=below)
    lefts = [beside + place * width for place in range(len(kept))]
    for left, place in zip(lefts, kept, strict=True):
        sheet.line(columns[place], left=left + width / 2, top=0.3 * TEXT_SIZE, ha="center", size=TEXT_SIZE + 0.5)
    top = _HEAD
    for row, label, height in zip(images, labels, heights, strict=True):
        if label:
            lines = "\n".join(broken(label, height - 6)[:2])
            sheet.line(lines, left=beside / 2, top=top + height / 2, va="center", ha="center", rotation=90)
        for left, place in zip(lefts, kept, strict=True):
            image = row[place]
            if image is not None:
                sheet.image(image, left=left, top=top, width=width, height=height)
            else:
                sheet.line("none", left=left + width / 2, top=top + height / 2, va="center", ha="center", color=GREY)
        top += height
    return sheet
