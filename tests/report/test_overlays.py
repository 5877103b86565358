"""Maps and masks over pictures: the right colour at the right pixel, against plain loops."""

import matplotlib
import numpy as np
import pytest

from subcam.data.images import voc_palette
from subcam.report.overlays import colour_map, colour_mask, line_width, outlines, overlay_map, overlay_mask


def slow_outlines(mask: np.ndarray) -> np.ndarray:
    """A pixel belongs to a line if two labels other than 255 are in its window, which starts before it."""
    width = line_width(mask.shape)
    reach = (width + 1) // 2
    found = np.zeros(mask.shape, bool)
    for row, column in np.ndindex(*mask.shape):
        window = mask[
            max(row - reach, 0) : row - reach + width + 1, max(column - reach, 0) : column - reach + width + 1
        ]
        found[row, column] = len(set(window.ravel().tolist()) - {255}) > 1
    return found


def test_colour_map() -> None:
    response = np.array([[0.0, 0.5], [1.0, 2.0]], np.float32)
    expected = [[matplotlib.colormaps["viridis"](value, bytes=True)[:3] for value in row] for row in response]
    assert colour_map(response).tolist() == np.array(expected).tolist()
    assert colour_map(response)[1, 0].tolist() == colour_map(response)[1, 1].tolist()


def test_colour_mask() -> None:
    mask = np.array([[0, 1], [15, 20]], np.uint8)
    assert colour_mask(mask).tolist() == [[[0, 0, 0], [128, 0, 0]], [[192, 128, 128], [0, 64, 128]]]
    open_pixels = colour_mask(np.full((40, 60), 255, np.uint8))
    assert np.unique(open_pixels.reshape(-1, 3), axis=0).tolist() == [[150, 150, 150], [255, 255, 255]]
    assert 200 < open_pixels.mean() < 250


@pytest.mark.parametrize("size", [(30, 40), (9, 1000)])
def test_outlines_against_loops(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.choice(np.array([0, 0, 3, 7, 255], np.uint8), (size[0] // 3, size[1] // 5))
    mask = coarse.repeat(3, 0).repeat(5, 1)
    assert outlines(mask).tolist() == slow_outlines(mask).tolist()
    assert outlines(mask).any()
    assert not outlines(np.full(size, 4, np.uint8)).any()
    assert not outlines(np.where(np.arange(size[1]) < 20, 255, np.full(size, 4, np.uint8)).astype(np.uint8)).any()


def test_a_line_is_as_wide_as_said() -> None:
    mask = np.zeros((5, 1200), np.uint8)
    mask[:, 600:] = 1
    assert line_width(mask.shape) == 4
    assert np.flatnonzero(outlines(mask)[2]).tolist() == [598, 599, 600, 601]


def test_overlay_map() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    response = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    drawn = overlay_map(image, response, opacity=0.25)
    grey = image[4, 5] @ np.array([0.299, 0.587, 0.114])
    assert drawn[4, 5] == pytest.approx(0.75 * grey + 0.25 * colour_map(response)[4, 5], abs=0.51)
    assert overlay_map(image, response, opacity=1).tolist() == colour_map(response).tolist()
    lined = overlay_map(image, response, opacity=0.25, threshold=0.5)
    line = outlines((response > 0.5).astype(np.uint8))
    assert (lined[line] == 255).all()
    assert lined[~line].tolist() == drawn[~line].tolist()


def test_overlay_mask() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    before = image.copy()
    mask = np.zeros((20, 30), np.uint8)
    mask[8:, 10:] = 12
    drawn = overlay_mask(image, mask, opacity=0.5)
    line = outlines(mask)
    assert (drawn[line] == 255).all()
    outside = (mask == 0) & ~line
    assert drawn[outside].tolist() == image[outside].tolist()
    assert drawn[15, 20] == pytest.approx((image[15, 20].astype(float) + voc_palette()[12]) / 2, abs=0.51)
    assert image.tolist() == before.tolist()
