"""Whether what a figure says can be read: no text is cut off, none lies on another or on an image."""

import itertools
from unittest import mock

from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from subcam.report.figures.sheet import Sheet
from subcam.report.figures.style import paper_style

SLACK = 0.5
"""Pixels by which the boxes of two texts may touch."""


def texts(figure: Figure) -> dict[Text, Bbox]:
    """Every text that is drawn and the pixels it takes, at the figure's own resolution."""
    drawn: list[Text] = []
    draw = Text.draw

    def noted(text: Text, renderer: RendererAgg) -> None:
        drawn.append(text)
        draw(text, renderer)

    renderer = FigureCanvasAgg(figure).get_renderer()
    with paper_style(), mock.patch.object(Text, "draw", noted):
        figure.draw(renderer)
        return {
            text: text.get_window_extent(renderer) for text in drawn if text.get_visible() and text.get_text().strip()
        }


def said(figure: Figure) -> list[str]:
    """What is written in the figure."""
    return [text.get_text() for text in texts(figure)]


def faults(figure: Figure) -> list[str]:
    """What cannot be read, in words; empty if all can."""
    boxes = texts(figure)
    canvas = figure.bbox
    found = [
        f"{text.get_text()!r} is cut off: {box}"
        for text, box in boxes.items()
        if box.x0 < -SLACK or box.y0 < -SLACK or box.x1 > canvas.x1 + SLACK or box.y1 > canvas.y1 + SLACK
    ]
    found += [
        f"{first.get_text()!r} lies on {second.get_text()!r}"
        for first, second in itertools.combinations(boxes, 2)
        if overlap(boxes[first], boxes[second])
    ]
    for axes in figure.axes:
        found += [
            f"{text.get_text()!r} lies on an image"
            for text, box in boxes.items()
            if isinstance(figure, Sheet) or text not in axes.texts
            if any(overlap(box, image.get_window_extent()) for image in axes.images)
        ]
    return found


def overlap(first: Bbox, second: Bbox) -> bool:
    """Whether two boxes share more than a seam."""
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return width > SLACK and height > SLACK
