"""Masks from COCO's annotations: every pixel gets the class of the smallest object on it.

In: the outlines of an image. Out: an indexed PNG with 0 background, i + 1 the i-th category in the order of the ids,
255 not scored. Groups ("iscrowd") and boxes without an outline become 255; objects lie on them, and of objects the
smaller lies on the larger, so that a cup on a table stays a cup.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image

from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.coco_file import CocoImage, Segment
from subcam.data.records import IGNORE_INDEX
from subcam.errors import BadInputError

_LEAST_POLYGON = 6
_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class _Region:
    """A region of an image, not yet drawn: how many pixels it has and how to get them."""

    area: int
    draw: Callable[[], Bool[np.ndarray, "h w"]]


def label_map(
    segments: Sequence[Segment], *, size: tuple[int, int], values: Mapping[int | str, int]
) -> UInt8[np.ndarray, "h w"]:
    """The mask of one image.

    Args:
        segments: what is annotated in it, in any order; of equal areas the later lies on top.
        size: height and width of the image.
        values: the stored value of each category's id.

    Raises:
        BadInputError: runs that do not fit the image; does not name the file.
    """
    mask = np.zeros(size, np.uint8)
    regions = [(segment, _region(segment, size)) for segment in segments]
    below = [entry for entry in regions if entry[0].kind != "object"]
    objects = sorted((entry for entry in regions if entry[0].kind == "object"), key=lambda entry: -entry[1].area)
    for segment, region in (*below, *objects):
        value = values[segment.category] if segment.kind == "object" else IGNORE_INDEX
        if region.area:
            mask[region.draw()] = value
    return mask


def write_coco_masks(
    jobs: Sequence[tuple[Path, CocoImage, Sequence[Segment]]],
    *,
    values: Mapping[int | str, int],
    workers: int | None = None,
) -> Iterator[BadInputError | None]:
    """Write the masks that are not there yet, each whole or not at all; yields what was wrong with each, in order.

    Args:
        jobs: where an image's mask goes, the image, and what is annotated in it.
        values: the stored value of each category's id.
        workers: threads; None takes one a core, at most 8.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    palette = voc_palette()

    def write(job: tuple[Path, CocoImage, Sequence[Segment]]) -> BadInputError | None:
        path, image, segments = job
        if path.is_file():
            return None
        pixels, limit = image.height * image.width, Image.MAX_IMAGE_PIXELS
        if not pixels or (limit is not None and pixels > limit):
            return BadInputError(
                f"{image.file_name}: expected its height and width in the COCO file, to draw its mask, got "
                f"{image.height} and {image.width}; add them"
            )
        try:
            mask = label_map(segments, size=(image.height, image.width), values=values)
        except BadInputError as error:
            return BadInputError(f"{image.file_name}: {error}")
        write_mask(path, mask, palette=palette, durable=False)
        return None

    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(jobs), _AT_ONCE):
            yield from pool.map(write, jobs[start : start + _AT_ONCE])


def runs_of(counts: str) -> Int64[np.ndarray, " runs"]:
    """The lengths of runs in COCO's compressed text.

    Six bits a character from "0" on, five of them of the number, the lowest first; the sixth says that more follow.
    From the fourth run on a number is the difference to the run two before.

    Raises:
        BadInputError: the text ends inside a number, or has other characters.
    """
    runs: list[int] = []
    number, shift = 0, 0
    for character in counts:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise BadInputError(f"expected runs in COCO's characters, got {character!r}; export them again")
        number |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                number -= 1 << shift
            runs.append(number + runs[-2] if len(runs) > 2 else number)
            number, shift = 0, 0
    if shift or any(not 0 <= run < 1 << 40 for run in runs):
        raise BadInputError("expected whole runs of 0 or more pixels, got a damaged text; export them again")
    return np.array(runs, np.int64)


def _region(segment: Segment, size: tuple[int, int]) -> _Region:
    if segment.counts is not None:
        runs = runs_of(segment.counts) if isinstance(segment.counts, str) else np.array(segment.counts, np.uint64)
        # summed as Python numbers, which do not wrap around
        if segment.size != size or sum(runs.tolist()) != size[0] * size[1]:
            raise BadInputError(
                f"expected runs for {size[1]} x {size[0]} pixels (width x height), got a size of {segment.size} and "
                f"runs of {sum(runs.tolist())} pixels together; export the annotations again"
            )
        return _Region(area=int(runs[1::2].sum()), draw=lambda: _drawn_runs(runs.astype(np.int64), size))
    if segment.box is not None:
        left, top, width, height = segment.box
        columns = slice(max(0, int(np.floor(left))), max(0, int(np.ceil(left + width))))
        rows = slice(max(0, int(np.floor(top))), max(0, int(np.ceil(top + height))))
        box = np.zeros(size, bool)
        box[rows, columns] = True
        return _Region(area=int(box.sum()), draw=lambda: box)
    from pycocotools import mask as coco_mask

    polygons = [polygon for polygon in segment.polygons if len(polygon) >= _LEAST_POLYGON]
    if not polygons:
        return _Region(area=0, draw=lambda: np.zeros(size, bool))
    code = coco_mask.merge(coco_mask.frPyObjects(polygons, *size))
    return _Region(area=int(coco_mask.area(code)), draw=lambda: coco_mask.decode(code).astype(bool))


def _drawn_runs(runs: Int64[np.ndarray, " runs"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size[::-1]).T
