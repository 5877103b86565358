"""Curves, Figure 4 and cost: what is drawn is what was given, and all of it can be read."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from report.legible import faults, said

from subcam.report.figures.curves import cost_figure, k_figure, threshold_curves, training_curves

X = [0.0, 0.1, 0.2, 0.3]


def lines(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines()}


def test_threshold_curves() -> None:
    curves = {
        "plain CAM": (X, [0.1, 0.3, 0.2, 0.0]),
        "round 1": (X, [0.1, 0.2, 0.4, float("nan")]),
        "round 1 control": (X, [0.1, 0.2, 0.25, 0.1]),
    }
    figure = threshold_curves(curves, title="mIoU", marked={"fixed": 0.15}, control_of={"round 1 control": "round 1"})
    (axes,) = figure.axes
    assert axes.get_xlabel() == "background threshold"
    assert axes.get_ylabel() == "mIoU (%)"
    found = lines(axes)
    assert found["round 1"].get_ydata()[:3] == pytest.approx([10, 20, 40])
    assert found["round 1"].get_color() == found["round 1 control"].get_color() != found["plain CAM"].get_color()
    assert found["round 1 control"].get_linestyle() == "--"
    stars = [line.get_xydata().tolist() for line in axes.get_lines() if line.get_marker() == "*"]
    assert np.array(stars)[:, 0] == pytest.approx(np.array([[0.1, 30], [0.2, 40], [0.2, 25]]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*curves, "fixed (0.15)"]
    assert found["fixed (0.15)"].get_xdata() == pytest.approx([0.15, 0.15])
    assert faults(figure) == []


def test_a_control_of_nothing_has_a_colour_of_its_own() -> None:
    figure = threshold_curves({"a": (X, X), "b": (X, X)}, control_of={"b": "absent"})
    found = lines(figure.axes[0])
    assert found["a"].get_color() != found["b"].get_color()
    assert found["b"].get_linestyle() == "--"


def test_twenty_curves_look_different() -> None:
    figure = threshold_curves({f"a longer name of curve {i}": (X, X) for i in range(20)})
    found = lines(figure.axes[0])
    looks = {(found[label].get_color(), found[label].get_linestyle()) for label in found if label.startswith("a")}
    assert len(looks) == 20
    assert faults(figure) == []


def test_training_curves() -> None:
    panels = {
        "parent loss": {"round 0": ([1, 2], [0.5, 0.25]), "round 1": ([1, 2], [0.4, 0.2])},
        "sub-category loss": {"round 1": ([1, 2], [0.2, 0.1])},
    }
    figure = training_curves(panels, title="Training")
    first, second = figure.axes
    assert [axes.get_ylabel() for axes in figure.axes] == list(panels)
    assert list(lines(second)) == ["round 1"]
    assert lines(first)["round 1"].get_color() == lines(second)["round 1"].get_color()
    assert lines(first)["round 0"].get_ydata().tolist() == [0.5, 0.25]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["round 0", "round 1"]
    assert first.get_ylim()[0] == 0
    assert faults(figure) == []


def test_curves_without_points_are_refused() -> None:
    with pytest.raises(ValueError, match="'round 1'"):
        threshold_curves({"round 1": ([0.1, 0.2], [0.3])})
    with pytest.raises(ValueError, match="loss, round 1"):
        training_curves({"loss": {"round 1": ([], [])}})
    with pytest.raises(ValueError, match="got none"):
        training_curves({})


def test_figure_4() -> None:
    ks, means, stds = [1, 5, 10, 50], [0.468, 0.49, 0.496, 0.493], [0.01, 0.002, float("nan"), 0.003]
    figure = k_figure(ks, means, stds, baseline=0.47, seeds=3, title="mIoU by K")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "10", "50"]
    (container,) = axes.containers
    assert container[0].get_ydata() == pytest.approx([46.8, 49.0, 49.6, 49.3])
    bars = np.array([segment[:, 1] for segment in container[2][0].get_segments()])
    assert bars == pytest.approx(np.array([[45.8, 47.8], [48.8, 49.2], [49.6, 49.6], [49.0, 49.6]]))
    assert {"46.8", "49.0", "49.6", "49.3", "CAM (47.0)"} <= set(said(figure))
    assert "sub-categories, mean and std. dev. of 3 seeds" in said(figure)
    assert faults(figure) == []
    assert faults(k_figure([5], [0.5], [float("nan")])) == []
    with pytest.raises(ValueError, match="got 2, 1 and 1"):
        k_figure([1, 5], [0.4], [0.1])


@pytest.mark.parametrize("count", [1, 40])
def test_cost(count: int) -> None:
    names = [f"round{i}-evaluate-masks-of-a-split-with-a-long-name" for i in range(count)]
    seconds = [8000.0, *[30.0] * (count - 1)]
    figure = cost_figure(names, seconds, [2048.0] * count, energy_wh=[float("nan")] * count, title="Cost")
    time, memory, energy = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["time (h)", "peak memory (GiB)", "energy (Wh)"]
    assert [bar.get_width() for bar in time.patches] == pytest.approx([value / 3600 for value in seconds])
    assert {bar.get_width() for bar in memory.patches} == {2.0}
    assert {text.get_text() for text in energy.texts} == {"?"}
    assert time.texts[0].get_text() == "2.2 h"
    assert time.texts[-1].get_text() == ("30.0 s" if count > 1 else "2.2 h")
    assert time.get_ylim()[0] > time.get_ylim()[1], "the first stage stands above"
    assert faults(figure) == []


def test_cost_in_minutes_without_energy() -> None:
    figure = cost_figure(["a", "b"], [90.0, 3.0], [100.0, float("nan")])
    assert [axes.get_xlabel() for axes in figure.axes] == ["time (min)", "peak memory (GiB)"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.5 min", "3.0 s"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["0.10", "?"]
    with pytest.raises(ValueError, match="2 stages"):
        cost_figure(["a", "b"], [1.0], [1.0, 2.0])
