"""Figures of numbers: curves over thresholds and training, Figure 4 (mIoU by K), and the cost.

Each function takes plain numbers and returns a matplotlib figure; `style.save_figure` writes it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from subcam.report.figures.confusion import confusion_figure
from subcam.report.figures.style import (
    GREY,
    LINE_COLOURS,
    ONE_COLUMN,
    TEXT_SIZE,
    TWO_COLUMNS,
    as_percent,
    laid_out,
    legend_below,
    paper_style,
    set_title,
    shortened,
)

__all__ = ["Curve", "confusion_figure", "cost_figure", "k_figure", "threshold_curves", "training_curves"]

Curve = tuple[Sequence[float], Sequence[float]]
"""The x and the y of each point."""

_WIDEST_NAME = 165.0
"""Points that the name of a stage may take beside its bars."""


@paper_style()
def threshold_curves(
    curves: Mapping[str, Curve],
    *,
    title: str = "",
    marked: Mapping[str, float] | None = None,
    control_of: Mapping[str, str] | None = None,
    x_label: str = "background threshold",
) -> Figure:
    """A line for each label of mIoU against the background threshold, with a star at its highest point.

    Args:
        curves: label -> (thresholds, mIoU as shares in 0..1).
        title: above the figure; none if empty.
        marked: name -> a threshold to draw as a vertical line, such as the one that was fixed beforehand.
        control_of: label of a control -> label of the line to compare it with: it is drawn dashed in the same colour.
        x_label: what is varied; the curve of pseudo masks goes over alpha.

    Raises:
        ValueError: a curve has no points, or not as many x as y.
    """
    figure = Figure(figsize=(ONE_COLUMN, 2.1))
    axes = figure.subplots()
    looks = _looks(list(curves), control_of or {})
    for label, (thresholds, miou) in curves.items():
        _check_curve(label, thresholds, miou)
        axes.plot(thresholds, as_percent(miou), label=label, **looks[label])
        if np.isfinite(miou).any():
            best = int(np.nanargmax(miou))
            axes.plot(thresholds[best], 100 * miou[best], "*", markersize=6, color=looks[label]["color"], zorder=3)
    for name, threshold in (marked or {}).items():
        axes.axvline(threshold, color=GREY, linewidth=1, linestyle=":", label=f"{name} ({threshold:g})")
    axes.set_xlabel(x_label)
    axes.set_ylabel("mIoU (%)")
    set_title(figure, title)
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return laid_out(figure)


@paper_style()
def training_curves(
    panels: Mapping[str, Mapping[str, Curve]], *, title: str = "", control_of: Mapping[str, str] | None = None
) -> Figure:
    """Losses against epochs: a panel for each loss, a line for each training.

    Args:
        panels: name of the loss -> label of the training ("round 1") -> (epochs, losses). A label looks the same in
            all panels.
        title: above the figure; none if empty.
        control_of: label of a control -> label of the line to compare it with: it is drawn dashed in the same colour.

    Raises:
        ValueError: there is no panel, or a curve has no points, or not as many x as y.
    """
    if not panels:
        raise ValueError("expected the curves of one loss or more, got none")
    figure = Figure(figsize=(ONE_COLUMN if len(panels) == 1 else TWO_COLUMNS, 2.1))
    looks = _looks(list(dict.fromkeys(label for lines in panels.values() for label in lines)), control_of or {})
    handles: dict[str, Line2D] = {}
    for axes, (loss, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for label, (epochs, losses) in lines.items():
            _check_curve(f"{loss}, {label}", epochs, losses)
            (handles[label],) = axes.plot(epochs, losses, label=label, **looks[label])
        axes.set_xlabel("epoch")
        axes.set_ylabel(shortened(loss, 100))
        axes.set_ylim(bottom=0)
    set_title(figure, title)
    legend_below(figure, [handles[label] for label in looks if label in handles])
    return laid_out(figure)


def _looks(labels: Sequence[str], control_of: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of each line; where colours repeat, lines are dotted."""
    own = [label for label in labels if control_of.get(label) not in labels]
    looks: dict[str, dict[str, Any]] = {}
    for place, label in enumerate(own):
        repeated, colour = divmod(place, len(LINE_COLOURS))
        looks[label] = {"color": LINE_COLOURS[colour], "linestyle": ("-", ":", "-.")[repeated % 3]}
    for label in labels:
        if label in control_of:
            looks[label] = looks[control_of[label] if label not in own else label] | {"linestyle": "--"}
    return {label: looks[label] for label in labels}


def _check_curve(label: str, x: Sequence[float], y: Sequence[float]) -> None:
    if not len(x) or len(x) != len(y):
        raise ValueError(f"expected as many x as y, and one at least, for the curve {label!r}, got {len(x)}, {len(y)}")


@paper_style()
def k_figure(
    ks: Sequence[int],
    means: Sequence[float],
    stds: Sequence[float],
    *,
    baseline: float | None = None,
    seeds: int | None = None,
    title: str = "",
    y_label: str = "mIoU (%)",
) -> Figure:
    """Figure 4: mIoU against the number of sub-categories K, with error bars of one standard deviation over seeds.

    Args:
        ks: K of each point, ascending; points are at equal distances, as in the paper.
        means: mIoU as shares in 0..1.
        stds: standard deviations as shares; NaN (one seed) draws no bar.
        baseline: plain CAM's mIoU, as a horizontal line.
        seeds: the number of seeds, for the legend.
        title: above the figure; none if empty.
        y_label: the score's name.

    Raises:
        ValueError: not one mean and one deviation for each K, or no K.
    """
    if not len(ks) or not len(ks) == len(means) == len(stds):
        raise ValueError(f"expected a mean and a deviation for each K, got {len(ks)}, {len(means)} and {len(stds)}")
    figure = Figure(figsize=(ONE_COLUMN, 1.9))
    axes = figure.subplots()
    places = range(len(ks))
    bars = np.nan_to_num(as_percent(stds))
    axes.errorbar(
        places,
        as_percent(means),
        yerr=bars,
        marker="o",
        capsize=2.5,
        color=LINE_COLOURS[0],
        label="sub-categories" + (f", mean and std. dev. of {seeds} seeds" if seeds and seeds > 1 else ""),
    )
    for place, mean, top in zip(places, means, as_percent(means) + bars, strict=True):
        axes.annotate(
            f"{100 * mean:.1f}",
            (place, top),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            size=TEXT_SIZE - 1,
        )
    if baseline is not None:
        axes.axhline(100 * baseline, color=GREY, linestyle="--", linewidth=1, label=f"CAM ({100 * baseline:.1f})")
    axes.set_xticks(places, [str(k) for k in ks])
    axes.set_xlim(-0.4, len(ks) - 0.4)
    axes.margins(y=0.25)
    axes.set_xlabel("sub-categories in each class, K")
    axes.set_ylabel(y_label)
    set_title(figure, title)
    legend_below(figure, axes.get_legend_handles_labels()[0])
    return laid_out(figure)


@paper_style()
def cost_figure(
    stages: Sequence[str],
    seconds: Sequence[float],
    peak_memory_mib: Sequence[float],
    *,
    energy_wh: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """Cost of each stage as bars: time, peak memory and, where known, energy.

    Args:
        stages: names, from top to bottom.
        seconds: by stage.
        peak_memory_mib: highest resident memory by stage, in MiB; NaN where it is not known.
        energy_wh: energy by stage in watt hours; NaN where it is not known.
        title: above the figure; none if empty.

    Raises:
        ValueError: not one number of each kind for each stage, or no stage.
    """
    numbers = {"seconds": seconds, "peak_memory_mib": peak_memory_mib, "energy_wh": energy_wh}
    lengths = {name: len(values) for name, values in numbers.items() if values is not None}
    if not stages or set(lengths.values()) != {len(stages)}:
        raise ValueError(f"expected one number of each kind for each of {len(stages)} stages, got {lengths}")
    hours = max(seconds) >= 2 * 3600
    panels = [
        ("time (h)" if hours else "time (min)", np.divide(seconds, 3600 if hours else 60), map(_duration, seconds)),
        ("peak memory (GiB)", np.divide(peak_memory_mib, 1024), (f"{mib / 1024:.2f}" for mib in peak_memory_mib)),
    ]
    if energy_wh is not None:
        panels.append(("energy (Wh)", np.asarray(energy_wh, np.float64), (f"{wh:.3g}" for wh in energy_wh)))
    # Below each other, so that names and numbers are read on a phone, too.
    figure = Figure(figsize=(ONE_COLUMN, len(panels) * (0.5 + 0.16 * len(stages))))
    all_axes = figure.subplots(len(panels), 1)
    for axes, (label, values, texts), colour in zip(all_axes, panels, LINE_COLOURS[: len(panels)], strict=True):
        bars = axes.barh(range(len(stages)), np.nan_to_num(values), height=0.7, color=colour)
        shown = [text if np.isfinite(value) else "?" for value, text in zip(values, texts, strict=True)]
        axes.bar_label(bars, shown, padding=2, size=TEXT_SIZE - 1)
        axes.set_xlabel(label)
        axes.margins(x=0.18, y=0)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(stages)), [shortened(stage, _WIDEST_NAME) for stage in stages])
        axes.set_ylim(len(stages) - 0.4, -0.6)
    set_title(figure, title)
    return laid_out(figure)


def _duration(seconds: float) -> str:
    """Seconds, minutes or hours with two digits or more."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
