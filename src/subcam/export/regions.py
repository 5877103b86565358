"""From a label map to regions: the pixels of each class, or each connected piece of them, and their outlines.

In: class indices. Out: `Region`s with a mask inside their bounding box, and polygons along the edges of pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from subcam.data.records import BACKGROUND, IGNORE_INDEX

Shape = Literal["mask", "polygon"]
"""mask: exact, pixel by pixel; polygon: outlines, in which holes are filled."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """Pixels of one class.

    value: the class, 1..C. left, top: where its bounding box begins, in pixels. mask: the pixels inside the box.
    """

    value: int
    left: int
    top: int
    mask: Bool[np.ndarray, "h w"]

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.mask.sum())

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in pixels, as COCO has it."""
        height, width = self.mask.shape
        return self.left, self.top, width, height

    def full(self, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
        """The mask in an image of (height, width) `size`."""
        mask = np.zeros(size, bool)
        height, width = self.mask.shape
        mask[self.top : self.top + height, self.left : self.left + width] = self.mask
        return mask


def regions_of(
    labels: UInt8[np.ndarray, "height width"], *, pieces: bool = False, least_area: int = 1
) -> Iterator[Region]:
    """The regions of a label map by class, then from top to bottom; background (0) and unlabelled (255) are none.

    Args:
        labels: class indices.
        pieces: one region for each piece that hangs together over the sides of pixels, else one for each class.
        least_area: regions of fewer pixels are left out.
    """
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or value in (BACKGROUND, IGNORE_INDEX):
            continue
        of_class = labels[box] == value
        numbered, count = ndimage.label(of_class) if pieces else (of_class.astype(np.int32), 1)
        for index, part in enumerate(ndimage.find_objects(numbered, max_label=count), start=1):
            region = Region(
                value=value,
                left=box[1].start + part[1].start,
                top=box[0].start + part[0].start,
                mask=numbered[part] == index,
            )
            if region.area >= least_area:
                yield region


def run_lengths(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """Lengths of runs of equal pixels, row by row, that of pixels outside the mask first (0 if it begins inside)."""
    flat = np.concatenate([[False], mask.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()


def outlines(region: Region, *, tolerance: float = 0.0) -> list[Float[np.ndarray, "points 2"]]:
    """Closed outlines of a region as x, y in pixels of the image, the last point not repeated.

    They run along the edges of pixels, one for each piece that hangs together, so that without simplification an
    outline of a piece without holes covers exactly its pixels. Holes are filled: labelling tools know none in polygons.

    Args:
        region: what to go round.
        tolerance: by how many pixels an outline may leave the edges for the sake of fewer points (Douglas-Peucker).
    """
    numbered, count = ndimage.label(ndimage.binary_fill_holes(region.mask))
    outlines = []
    for index, part in enumerate(ndimage.find_objects(numbered, max_label=count), start=1):
        ring = _outer_ring(numbered[part] == index)
        ring += [part[1].start + region.left, part[0].start + region.top]
        outlines.append(_simplify(ring.astype(np.float64), tolerance))
    return outlines


_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""East, south, west, north as (x, y)."""


def _outer_ring(mask: Bool[np.ndarray, "h w"]) -> np.ndarray:
    """Corners of a piece's outer boundary in order, its pixels to the right of the way; a piece hangs together."""
    inside = np.pad(mask, 1)
    x, y = int(mask[0].argmax()), 0  # the upper left corner of the first pixel of the first row
    start, heading = (x, y), 0
    corners = [start]
    while True:
        x, y = x + _STEPS[heading][0], y + _STEPS[heading][1]
        ahead_left, ahead_right = _ahead(inside, x, y, heading)
        if not ahead_right:
            turn = 1
        elif ahead_left:
            turn = -1
        else:
            continue
        if (x, y) == start and (heading + turn) % 4 == 0:
            return np.array(corners)
        heading = (heading + turn) % 4
        corners.append((x, y))


def _ahead(inside: Bool[np.ndarray, "h w"], x: int, y: int, heading: int) -> tuple[bool, bool]:
    """Whether the pixels ahead to the left and to the right of a corner belong to the piece."""
    # Round the corner with the sun, from up and to the left; inside has one row and column more before the first.
    around = (inside[y, x], inside[y, x + 1], inside[y + 1, x + 1], inside[y + 1, x])
    return bool(around[(heading + 1) % 4]), bool(around[(heading + 2) % 4])


def _simplify(ring: Float[np.ndarray, "points 2"], tolerance: float) -> Float[np.ndarray, "kept 2"]:
    """Leave out points of a closed line that lie within `tolerance` of it without them (Douglas and Peucker, 1973)."""
    if tolerance <= 0 or len(ring) <= 4:
        return ring
    # A closed line is cut at two points far from each other, which stay.
    far = int(((ring - ring[0]) ** 2).sum(1).argmax())
    closed = np.concatenate([ring, ring[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far, len(ring)]] = True
    open_parts = [(0, far), (far, len(ring))]
    while open_parts:
        first, last = open_parts.pop()
        if last - first < 2:
            continue
        along = closed[last] - closed[first]
        offsets = closed[first + 1 : last] - closed[first]
        # Distance to the piece of line, not to the endless one: a ring may turn back beyond its ends.
        share = (offsets @ along / max(float(along @ along), 1e-12)).clip(0, 1)
        distances = np.hypot(*(offsets - share[:, None] * along).T)
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            open_parts += [(first, middle), (middle, last)]
    kept = closed[:-1][keep[:-1]]
    return kept if len(kept) > 2 else ring
