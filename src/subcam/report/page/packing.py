"""Images, maps and masks packed small enough that hundreds of them fit into one page.

An image becomes a WebP thumbnail. Maps and masks become bytes that the page's script unpacks: the differences between
neighbours, deflated, in base64. The page draws and scores them itself, at any threshold.
"""

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from subcam.cam.map_files import read_response_maps
from subcam.data.images import read_image
from subcam.report.figures.thumbnails import square, thumbnail, thumbnail_size
from subcam.report.gather.images import ImageRecord, evenly_spaced, final_segmentation, image_iou
from subcam.runtime.progress import track

SIDES = (384, 320, 256, 192, 144, 112)
"""Longest sides of thumbnails in pixels; the largest that fits the budget is used."""

GRID_SHARE = 3
"""Pixels of a thumbnail for each value of a map, along a side: maps are smooth, as the network's grid is coarser."""

_SAMPLE = 12

_LEVEL = 5
"""Of deflate; the highest, 9, takes seven times as long for a tenth less."""


@dataclass(frozen=True, kw_only=True)
class PackedImage:
    """One image as the page needs it.

    thumbnail: a data URI. width, height: of the thumbnail, and of the masks in `data`.
    data: for the script, ready for JSON: classes, grid of the maps, maps by round and class, ground truth, masks.
    final_iou: IoU of its final segmentation (see `image_iou`); None where there is none, or no ground truth.
    """

    record: ImageRecord
    thumbnail: str
    width: int
    height: int
    data: dict[str, Any]
    final_iou: float | None = None

    @property
    def size(self) -> int:
        """Bytes that it takes in the page, about."""
        return len(self.thumbnail) + sum(len(text) for text in _texts(self.data))


def pack_images(records: Sequence[ImageRecord], *, budget: int) -> tuple[PackedImage, ...]:
    """Pack images as large as `budget` bytes allow, all of them the same; at the smallest size, fewer images.

    A sample of the images says which size fits; that it does is then counted.
    """
    places = evenly_spaced(len(records), _SAMPLE)
    for side in SIDES:
        sample = {place: pack(records[place], side) for place in places}
        if sample and sum(image.size for image in sample.values()) / len(sample) * len(records) > budget:
            continue
        packed = [
            sample.get(place) or pack(record, side)
            for place, record in enumerate(track(records, "report: images", len(records)))
        ]
        if sum(image.size for image in packed) <= budget:
            return tuple(packed)
    packed = []
    for record in track(records, "report: images", len(records)):
        packed.append(pack(record, SIDES[-1]))
        if sum(image.size for image in packed) > budget:
            return tuple(packed[:-1])
    return tuple(packed)


def pack(record: ImageRecord, side: int) -> PackedImage:
    """One image with a thumbnail of at most `side` pixels a side."""
    image = read_image(record.image)
    width, height = thumbnail_size(image.shape[1], image.shape[0], side)
    grid = (min(width, -(-side // GRID_SHARE)), min(height, -(-side // GRID_SHARE)))
    truth, final = record.read_truth(), final_segmentation(record.masks)
    masks = {name: record.read_own_mask(name) for name in record.masks}
    classes, maps = _maps(record, grid)
    data = {
        "classes": [index + 1 for index in classes],
        "grid": list(grid) if not classes else [maps.shape[3], maps.shape[2]],
        "maps": [[packed_bytes(one) for one in round_maps] for round_maps in maps],
        "truth": packed_bytes(_nearest(truth, width, height)) if truth is not None else "",
        "masks": {name: packed_bytes(_nearest(mask, width, height)) for name, mask in masks.items()},
    }
    return PackedImage(
        record=record,
        thumbnail=thumbnail(image, side),
        width=width,
        height=height,
        data=data,
        final_iou=image_iou(masks[final], truth, num_classes=256) if final and truth is not None else None,
    )


def thumbnails(paths: Iterable[Path], side: int) -> dict[Path, str]:
    """Square thumbnails of images, each made once."""
    return {path: thumbnail(square(read_image(path)), side) for path in dict.fromkeys(paths)}


def packed_bytes(values: UInt8[np.ndarray, "h w"]) -> str:
    """Bytes as base64 of a zlib stream of the differences to the left (first column: to above), modulo 256."""
    differences = values.copy()
    differences[:, 1:] = values[:, 1:] - values[:, :-1]
    differences[1:, 0] = values[1:, 0] - values[:-1, 0]
    return base64.b64encode(zlib.compress(differences.tobytes(), _LEVEL)).decode()


def _maps(record: ImageRecord, grid: tuple[int, int]) -> tuple[list[int], UInt8[np.ndarray, "rounds present h w"]]:
    """The classes, and the maps of each round in 0..255 on the grid; all zero where a round has none."""
    stored = [read_response_maps(path) if path else None for path in record.maps]
    classes: list[int] = next((maps.classes.tolist() for maps in stored if maps is not None), [])
    own = next((maps.maps.shape[1:] for maps in stored if maps is not None), grid[::-1])
    width, height = min(grid[0], own[1]), min(grid[1], own[0])
    scaled = np.zeros((len(stored), len(classes), height, width), np.uint8)
    for place, maps in enumerate(stored):
        for row, one in enumerate(maps.maps if maps is not None else ()):
            scaled[place, row] = np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR))
    return classes, scaled


def _nearest(labels: UInt8[np.ndarray, "h w"], width: int, height: int) -> UInt8[np.ndarray, "height width"]:
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)
