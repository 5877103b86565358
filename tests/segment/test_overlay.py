"""Overlays pixel by pixel: colours, outlines, and a legend of the classes that are there."""

import numpy as np
import pytest

from subcam.data.images import voc_palette
from subcam.segment.overlay import INK, PAPER, colour_over, outlines, with_legend


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def labels() -> np.ndarray:
    """A block of class 1 that a block of class 3 touches, on background."""
    found = np.zeros((20, 30), np.uint8)
    found[5:15, 4:14] = 1
    found[5:15, 14:22] = 3
    return found


def slow_outlines(labels: np.ndarray, width: int) -> np.ndarray:
    height, length = labels.shape
    found = np.zeros(labels.shape, bool)
    for y in range(height):
        for x in range(length):
            for step in range(1, width + 1):
                for v, u in ((y - step, x), (y + step, x), (y, x - step), (y, x + step)):
                    inside = 0 <= v < height and 0 <= u < length
                    found[y, x] |= bool(labels[y, x]) and inside and labels[v, u] != labels[y, x]
    return found


@pytest.mark.parametrize("width", [1, 2, 3])
def test_outlines_lie_inside_each_region(labels: np.ndarray, width: int) -> None:
    found = outlines(labels, width=width)
    assert (found == slow_outlines(labels, width)).all()
    assert found[5, 4]
    assert not found[10, 9]
    assert found[10, 13]
    assert found[10, 14]
    assert not outlines(np.full((4, 5), 2, np.uint8), width=width).any(), "the edge of the picture is no outline"


def test_colours(image: np.ndarray, labels: np.ndarray) -> None:
    before = image.copy()
    found = colour_over(image, labels, opacity=0.25)
    assert (image == before).all()
    assert (found[labels == 0] == image[labels == 0]).all()
    edge, palette = outlines(labels), voc_palette()
    assert (found[edge] == palette[labels[edge]]).all()
    inside = (labels > 0) & ~edge
    mixed = 0.75 * image[inside] + 0.25 * palette[labels[inside]]
    np.testing.assert_allclose(found[inside], mixed, atol=0.51)
    assert (colour_over(image, np.zeros_like(labels)) == image).all()


def test_the_legend_names_what_is_there(image: np.ndarray) -> None:
    found = with_legend(image, {1: "cat", 3: "dog"})
    assert (found[:20] == image).all()
    strip = found[20:]
    assert strip.shape[1] == 30
    pixels = {tuple(pixel) for pixel in strip.reshape(-1, 3).tolist()}
    assert {PAPER, INK, tuple(voc_palette()[1].tolist()), tuple(voc_palette()[3].tolist())} <= pixels
    assert tuple(voc_palette()[2].tolist()) not in pixels
    assert with_legend(image, {}) is image


def test_a_legend_takes_as_many_rows_as_it_needs() -> None:
    names = {index: f"a class with number {index}" for index in range(1, 21)}
    narrow, wide = (with_legend(np.zeros((10, width, 3), np.uint8), names) for width in (150, 1200))
    assert len(narrow) > len(wide) > 10
    for picture in (narrow, wide):
        pixels = {tuple(pixel) for pixel in picture[10:].reshape(-1, 3).tolist()}
        assert {tuple(colour) for colour in voc_palette()[1:21].tolist()} <= pixels
    assert with_legend(np.zeros((2, 1, 3), np.uint8), {1: "cat"}).shape[1] == 1
