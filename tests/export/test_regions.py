"""Regions give every pixel back; outlines cover exactly the pixels they go round, by another library's rasteriser."""

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from pycocotools import mask as coco_mask
from scipy import ndimage
from tests.export.made_masks import made_labels

from subcam.export.regions import Region, outlines, regions_of, run_lengths


def covered(ring: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre lies in a polygon."""
    rows, columns = np.indices(size)
    centres = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], 1)
    return Outline(ring).contains_points(centres).reshape(size)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pieces", [False, True])
def test_regions_give_every_labelled_pixel_back(seed: int, pieces: bool) -> None:
    labels = made_labels((40, 50), seed)
    back = np.zeros_like(labels)
    found = list(regions_of(labels, pieces=pieces))
    for region in found:
        inside = region.full(labels.shape)
        assert not back[inside].any(), "regions do not overlap"
        assert region.area == inside.sum() == (inside & (labels == region.value)).sum()
        left, top, width, height = region.box
        assert inside[top : top + height, left : left + width].sum() == region.area
        assert all(side.any() for side in (inside[top], inside[top + height - 1]))
        assert all(side.any() for side in (inside[:, left], inside[:, left + width - 1]))
        back[inside] = region.value
    assert (back == np.where(labels == 255, 0, labels)).all()
    counts = [ndimage.label(labels == value)[1] for value in (1, 2, 3)]
    assert [sum(region.value == value for region in found) for value in (1, 2, 3)] == (counts if pieces else [1, 1, 1])


def test_small_regions_are_left_out() -> None:
    labels = np.array([[1, 0, 1, 1], [0, 0, 1, 1]], np.uint8)
    assert [region.area for region in regions_of(labels, pieces=True)] == [1, 4]
    assert [region.area for region in regions_of(labels, pieces=True, least_area=2)] == [4]
    assert list(regions_of(np.full((2, 2), 255, np.uint8))) == []


def test_run_lengths_by_hand_and_as_pycocotools_has_them() -> None:
    assert run_lengths(np.array([[False, True], [True, False]])) == [1, 2, 1]
    assert run_lengths(np.array([[True, True]])) == [0, 2]
    assert run_lengths(np.array([[False]])) == [1]
    mask = made_labels((20, 30), 1) == 1
    # COCO goes down the columns, this goes along the rows.
    uncompressed = {"size": [30, 20], "counts": run_lengths(mask)}
    assert (mask == coco_mask.decode(coco_mask.frPyObjects(uncompressed, 30, 20)).T).all()


@pytest.mark.parametrize("seed", range(4))
def test_outlines_cover_exactly_the_pixels_of_a_piece_with_its_holes_filled(seed: int) -> None:
    labels = made_labels((40, 50), seed)
    for region in regions_of(labels, pieces=True):
        (ring,) = outlines(region)
        filled = ndimage.binary_fill_holes(region.full(labels.shape))
        assert (covered(ring, labels.shape) == filled).all()
        steps = np.abs(np.diff(np.concatenate([ring, ring[:1]]), axis=0))
        assert (steps.min(1) == 0).all(), "along the edges of pixels"
        assert (steps.max(1) > 0).all(), "no point twice"


def test_outlines_by_hand() -> None:
    square = Region(value=1, left=3, top=5, mask=np.ones((1, 2), bool))
    (ring,) = outlines(square)
    assert ring.tolist() == [[3, 5], [5, 5], [5, 6], [3, 6]]
    corners = Region(value=1, left=0, top=0, mask=np.eye(2, dtype=bool))
    assert [len(found) for found in outlines(corners)] == [4, 4], "pixels that touch by a corner are two pieces"


def test_an_outline_round_a_pinched_hole() -> None:
    """A ring of pixels that closes over a corner only: the way round touches itself and covers the right pixels."""
    mask = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 1], [1, 1, 1, 1]], bool)
    region = Region(value=1, left=0, top=0, mask=mask)
    (ring,) = outlines(region)
    # The centre pixel is open to the outside by a corner, so it is a hole to pieces that hang together over sides.
    assert (covered(ring, (4, 4)) == ndimage.binary_fill_holes(mask)).all()


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 3.0])
def test_simplified_outlines_stay_near(tolerance: float) -> None:
    rows, columns = np.indices((60, 60))
    disc = Region(value=1, left=10, top=20, mask=np.hypot(rows - 30, columns - 30) < 25)
    (exact,), (simple,) = outlines(disc), outlines(disc, tolerance=tolerance)
    assert 3 <= len(simple) < 0.8 * len(exact)
    assert {tuple(point) for point in simple.tolist()} <= {tuple(point) for point in exact.tolist()}
    closed = np.concatenate([simple, simple[:1]])
    for point in exact:
        starts, along = closed[:-1], np.diff(closed, axis=0)
        share = (((point - starts) * along).sum(1) / (along**2).sum(1)).clip(0, 1)
        assert np.linalg.norm(starts + share[:, None] * along - point, axis=1).min() <= tolerance + 1e-9


def test_a_dot_survives_any_tolerance() -> None:
    (ring,) = outlines(Region(value=1, left=0, top=0, mask=np.ones((1, 1), bool)), tolerance=50.0)
    assert len(ring) == 4
    (ring,) = outlines(Region(value=1, left=0, top=0, mask=np.tri(4, dtype=bool)), tolerance=50.0)
    assert len(ring) >= 3
