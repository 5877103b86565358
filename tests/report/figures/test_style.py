"""One look, no traces of it outside, and texts that fit."""

import itertools

import matplotlib
import pytest
from matplotlib.figure import Figure
from report.legible import faults, texts

from subcam.data.images import voc_palette
from subcam.report.figures.style import (
    TEXT_SIZE,
    broken,
    class_colour,
    laid_out,
    legend_below,
    paper_style,
    set_title,
    shortened,
    text_width,
)


@paper_style()
def drawn(title: str = "Title", labels: tuple[str, ...] = ("one", "two")) -> Figure:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    for place, label in enumerate(labels):
        axes.plot([0, 1], [place, 1], label=label)
    set_title(figure, title)
    legend_below(figure, axes.get_lines())
    return laid_out(figure)


def test_the_settings_are_put_back() -> None:
    before = dict(matplotlib.rcParams)
    with paper_style():
        assert dict(matplotlib.rcParams) != before
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(ZeroDivisionError), paper_style():
        1 / 0  # noqa: B018
    assert dict(matplotlib.rcParams) == before


def test_class_colours_are_those_of_voc() -> None:
    assert class_colour(0) == "#000000"
    assert class_colour(1) == "#800000"
    assert class_colour(15) == "#c08080"
    assert [class_colour(label) for label in range(256)] == ["#" + bytes(colour).hex() for colour in voc_palette()]


def test_widths_are_those_that_are_drawn() -> None:
    text = "Every class, 10$-20$ of them"
    with paper_style():
        figure = Figure(figsize=(5, 1))
        figure.text(0.1, 0.5, text)
        laid_out(figure)
    (box,) = texts(figure).values()
    assert text_width(text) == pytest.approx(box.width * 72 / figure.dpi, rel=0.02)
    assert text_width(text, bold=True) > text_width(text) > text_width(text, TEXT_SIZE / 2)
    assert text_width("") == 0


def test_shortened() -> None:
    assert shortened("short", 100) == "short"
    cut = shortened("a name that goes on and on", 40)
    assert cut.endswith("…")
    assert "a name that".startswith(cut[:-1])
    assert 30 < text_width(cut) <= 40


def test_broken_into_lines() -> None:
    text = "response maps of the last round on val"
    lines = broken(text, 60)
    assert len(lines) > 1
    assert " ".join(lines) == text
    assert all(text_width(line) <= 60 for line in lines)
    assert all(text_width(f"{line} {after.split()[0]}") > 60 for line, after in itertools.pairwise(lines)), (
        "a line ends early"
    )
    assert broken("", 60) == []


@pytest.mark.parametrize("count", [1, 7, 20])
def test_titles_and_legends_fit(count: int) -> None:
    figure = drawn("A title of very many words " * 3, tuple(f"line $number$ {i} " * (i // 4 + 1) for i in range(count)))
    assert faults(figure) == []
    assert len(figure.legends[0].get_texts()) == count
    assert " ".join(figure.get_suptitle().split()) == ("A title of very many words " * 3).strip()


def test_faults_are_seen() -> None:
    with paper_style():
        figure = Figure(figsize=(3, 2))
        figure.text(0.4, 0.5, "one text")
        figure.text(0.5, 0.5, "another")
        figure.text(0.9, 0.1, "a text that is cut off")
    assert len(faults(figure)) == 2
