"""Figures 5 and 6: the images of each cluster, and the classifiers' weights as points in a plane (t-SNE)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from threadpoolctl import threadpool_limits

from subcam.report.figures.sheet import WIDTH, Sheet
from subcam.report.figures.style import (
    GREY,
    PADDING,
    TEXT_SIZE,
    TWO_COLUMNS,
    class_colour,
    laid_out,
    legend_below,
    paper_style,
    set_title,
    shortened,
    text_width,
)
from subcam.report.figures.thumbnails import square

_DOT = 4.5
"""Half the width in points of a parent's mark."""

_WIDEST_LABEL = 100.0

_ROW_TITLE = 13.0
"""Points for the words above a row of images."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One sub-category of Figure 5.

    images: RGB 0-255, nearest to the centre first. size: number of images in it.
    purity: share in 0..1; None where it is not known.
    """

    name: str
    images: tuple[UInt8[np.ndarray, "_ _ 3"], ...]
    size: int
    purity: float | None = None


@paper_style()
def cluster_figure(class_name: str, clusters: Sequence[Cluster]) -> Figure:
    """Figure 5: the sub-categories of one class, a row for each, with the images nearest to its centre from the left.

    Images are cut to squares about their middle.

    Raises:
        ValueError: there is no cluster.
    """
    if not clusters:
        raise ValueError(f"expected one cluster of {class_name} or more, got none")
    side = WIDTH / max(4, *(len(cluster.images) for cluster in clusters))
    sheet = Sheet((side + _ROW_TITLE) * len(clusters), title=class_name)
    for row, cluster in enumerate(clusters):
        top = row * (side + _ROW_TITLE)
        sheet.line(_row_title(cluster), left=72 * PADDING, top=top + _ROW_TITLE, va="bottom", size=TEXT_SIZE)
        for place, image in enumerate(cluster.images):
            sheet.image(square(image), left=place * side, top=top + _ROW_TITLE, width=side, height=side)
    return sheet


def _row_title(cluster: Cluster) -> str:
    title = f"{cluster.size} image{'' if cluster.size == 1 else 's'}"
    if cluster.purity is not None:
        title += f", purity {100 * cluster.purity:.0f}%"
    name = shortened(cluster.name, 72 * TWO_COLUMNS - text_width(title) - 20)
    return f"{name}: {title}"


@paper_style()
def weights_tsne(
    parent_weights: Float[np.ndarray, "classes dim"],
    subcategory_weights: Float[np.ndarray, "subcategories dim"],
    class_names: Sequence[str],
    *,
    seed: int = 0,
    shown: Bool[np.ndarray, " subcategories"] | None = None,
    title: str = "",
) -> Figure:
    """Figure 6: the classifiers' weights theta_p and theta_s in a plane, sub-categories in the colour of their class.

    Args:
        parent_weights: of H_p.
        subcategory_weights: of H_s; row c * K + k is sub-category k of class c.
        class_names: of the parents.
        seed: of t-SNE.
        shown: which sub-categories to show; those without images were not trained.
        title: above the figure; none if empty.

    Raises:
        ValueError: the names or rows do not fit each other.
    """
    classes = len(parent_weights)
    if not classes or len(class_names) != classes or len(subcategory_weights) % classes:
        raise ValueError(
            f"expected a name for each of {classes} parents and K rows a parent, got {len(class_names)} names, "
            f"{len(subcategory_weights)} rows"
        )
    owners = np.repeat(np.arange(classes), len(subcategory_weights) // classes)
    if shown is not None:
        owners, subcategory_weights = owners[shown], subcategory_weights[shown]
    places = embed(np.concatenate([parent_weights, subcategory_weights]), seed=seed)
    width = TWO_COLUMNS * max(1, classes / 30) ** 0.5  # room for the names
    figure = Figure(figsize=(width, 0.75 * width))
    axes = figure.subplots()
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(True)
    axes.margins(0.08)
    colours = [class_colour(index + 1) for index in range(classes)]
    x, y = places.T
    axes.scatter(x[classes:], y[classes:], 14, [colours[owner] for owner in owners], marker="x", linewidths=0.9)
    axes.scatter(x[:classes], y[:classes], 60, colours, edgecolors="black", linewidths=0.8, zorder=3)
    marks: list[dict[str, Any]] = [
        {"marker": "o", "markersize": 7.5, "markeredgecolor": "black", "label": "class"},
        {"marker": "x", "markersize": 4, "label": "sub-category"},
    ]
    legend_below(figure, [Line2D([], [], linestyle="", color=GREY, **mark) for mark in marks])
    set_title(figure, title)
    laid_out(figure)
    _label_points(axes, places[:classes], class_names)
    return figure


def embed(weights: Float[np.ndarray, "points dim"], *, seed: int) -> Float64[np.ndarray, "points 2"]:
    """The points in a plane by t-SNE on their directions: the length of a weight says little about its class.

    Perplexity is 30, less for few points; fewer than three points are placed in a row.
    """
    from sklearn.manifold import TSNE

    if len(weights) < 3:
        return np.stack([np.arange(len(weights), dtype=np.float64), np.zeros(len(weights))], 1)
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    directions = weights / np.where(lengths > 0, lengths, 1)
    tsne = TSNE(
        perplexity=min(30.0, (len(weights) - 1) / 3),
        init="pca" if min(weights.shape) > 1 else "random",
        random_state=seed,
    )
    with threadpool_limits(1):  # sums in the order of one thread, so that one seed gives one image
        return tsne.fit_transform(directions).astype(np.float64)


def _label_points(axes: Axes, points: Float64[np.ndarray, "points 2"], names: Sequence[str]) -> None:
    """Write each name beside its point or at the end of a line, clear of other names and points."""
    dots = axes.transData.transform(points) * 72 / axes.figure.dpi
    frame = axes.get_window_extent()
    low, high = (np.array(corner) * 72 / axes.figure.dpi for corner in (frame.min, frame.max))
    height = 1.2 * TEXT_SIZE
    taken = [(*(dot - _DOT), *(dot + _DOT)) for dot in dots]
    for dot, point, name in zip(dots, points, names, strict=True):
        name = shortened(name, _WIDEST_LABEL)
        corner, away = _free_place(dot, (text_width(name), height), taken, low=low, high=high)
        taken.append((*corner, corner[0] + text_width(name), corner[1] + height))
        axes.annotate(
            name,
            xy=(point[0], point[1]),
            xytext=(corner[0] - dot[0], corner[1] - dot[1] + 0.2 * TEXT_SIZE),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.5, "shrinkA": 0} if away else None,
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
            zorder=4,
        )


def _free_place(
    dot: Float64[np.ndarray, "2"],
    size: tuple[float, float],
    taken: Sequence[tuple[float, float, float, float]],
    *,
    low: Float64[np.ndarray, "2"],
    high: Float64[np.ndarray, "2"],
) -> tuple[tuple[float, float], bool]:
    """The nearest lower left corner for a label that overlaps nothing, and whether it is far from its dot."""
    width, height = size
    boxes = np.array(taken)
    for distance in np.arange(_DOT + 2, float(np.linalg.norm(high - low)), 3):
        for angle in np.arange(16) * np.pi / 8:
            towards = np.array([np.cos(angle), np.sin(angle)])
            middle = dot + towards * (distance + np.abs(towards) @ np.array([width, height]) / 2)
            left, bottom = middle - np.array([width, height]) / 2
            inside = low[0] + 1 < left < high[0] - width - 1 and low[1] + 1 < bottom < high[1] - height - 1
            apart = (
                (left + width + 1 < boxes[:, 0])
                | (boxes[:, 2] + 1 < left)
                | (bottom + height + 1 < boxes[:, 1])
                | (boxes[:, 3] + 1 < bottom)
            )
            if inside and apart.all():
                return (float(left), float(bottom)), bool(distance > 3 * _DOT)
    return (float(dot[0] + _DOT), float(dot[1])), False
