"""The confusion matrix: shares of the rows, all names legible for few and for many classes."""

import numpy as np
import pytest
from report.legible import faults, said, texts

from subcam.report.figures.confusion import confusion_figure


def test_rows_are_shares_of_the_truth() -> None:
    matrix = np.array([[90, 10, 0], [0, 0, 0], [997, 3, 1000]])
    figure = confusion_figure(matrix, ["cat", "dog"], title="Round 0")
    axes = figure.axes[0]
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    assert shown[0] == pytest.approx([90, 10, 0])
    assert shown[2] == pytest.approx([49.85, 0.15, 50])
    assert np.isnan(shown[1]).all()
    assert [patch.get_hatch() for patch in axes.patches] == ["////"]
    assert sorted(text.get_text() for text in axes.texts) == ["10", "50", "50", "90"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["background", "cat", "dog"]
    assert axes.get_xlabel() == "prediction"
    assert axes.get_ylabel() == "ground truth"


def test_numbers_are_white_on_dark_cells() -> None:
    figure = confusion_figure(np.array([[65, 35], [0, 100]]), ["cat"])
    colours = {text.get_text(): text.get_color() for text in figure.axes[0].texts}
    assert colours == {"65": "white", "35": "black", "100": "white"}


@pytest.mark.parametrize("classes", [2, 6, 20, 80])
def test_legible(classes: int) -> None:
    rng = np.random.default_rng(classes)
    matrix = rng.integers(1, 1000, (classes + 1, classes + 1))
    names = [f"class {i}" if i % 3 else f"a class with {i} in its long and windy name" for i in range(classes)]
    figure = confusion_figure(matrix, names, title=f"Confusion of {classes} classes")
    assert faults(figure) == []
    assert {"background", "class 1"} <= set(said(figure))
    assert min(text.get_fontsize() for text in texts(figure)) >= 6


def test_names_must_fit() -> None:
    with pytest.raises(ValueError, match="expected 2 class names for 3 channels, got 3"):
        confusion_figure(np.eye(3, dtype=int), ["background", "cat", "dog"])
