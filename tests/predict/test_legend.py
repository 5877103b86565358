"""The legend below an image: it names the classes that are there, and covers nothing."""

import numpy as np
import pytest

from subcam.data.images import voc_palette
from subcam.predict.legend import INK, PAPER, with_legend


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


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
    for drawn in (narrow, wide):
        pixels = {tuple(pixel) for pixel in drawn[10:].reshape(-1, 3).tolist()}
        assert {tuple(colour) for colour in voc_palette()[1:21].tolist()} <= pixels
    assert with_legend(np.zeros((2, 1, 3), np.uint8), {1: "cat"}).shape[1] == 1
