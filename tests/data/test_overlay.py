"""Masks over images: the right colour at the right pixel, against plain loops."""

import numpy as np
import pytest

from subcam.data.images import voc_palette
from subcam.data.overlay import colour_mask, line_width, outlines, overlay_mask


def slow_outlines(mask: np.ndarray) -> np.ndarray:
    """A pixel belongs to a line if one above, below or beside it, at half a line's width at most, has another label."""
    height, width = mask.shape
    found = np.zeros(mask.shape, bool)
    for y, x in np.ndindex(height, width):
        for step in range(1, line_width(mask.shape) // 2 + 1):
            for v, u in ((y - step, x), (y + step, x), (y, x - step), (y, x + step)):
                if 0 <= v < height and 0 <= u < width and 255 not in (mask[y, x], mask[v, u]):
                    found[y, x] |= bool(mask[y, x] != mask[v, u])
    return found


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


def test_lines_grow_with_the_image_and_colours_cover_three_fifths() -> None:
    assert [line_width((side, 10)) for side in (10, 800, 1000, 1600)] == [2, 2, 4, 6]
    image, mask = np.full((8, 8, 3), 200, np.uint8), np.ones((8, 8), np.uint8)
    np.testing.assert_array_equal(overlay_mask(image, mask), overlay_mask(image, mask, opacity=0.6))
    assert overlay_mask(image, mask)[0, 0].tolist() == [157, 80, 80]  # 0.4 x 200 + 0.6 x (128, 0, 0)
