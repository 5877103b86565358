"""What the page shows first: three images with their maps and masks, three numbers, and links to files."""

import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from subcam.audit.finding import counted
from subcam.report.page.headline import Tile
from subcam.report.page.packing import PackedImage

_MOST = 3
_MOST_WORST = 50
"""Masks to look at first, at most."""


def first_images(packed: Sequence[PackedImage], mask: str) -> list[dict[str, Any]]:
    """A good, a middling and a bad image, by IoU, else by confidence, else evenly spaced; with what their panels show.

    mask: the name of the masks that the page shows.
    """
    shown = [
        (-1.0 if rank is None else rank, place)
        for place, image in enumerate(packed)
        if mask in image.record.masks or not mask
        for rank in [image.record.last_iou if image.record.last_iou is not None else image.record.confidence]
    ]
    shown.sort(key=lambda entry: -entry[0])
    places = [shown[len(shown) * part // (2 * _MOST)][1] for part in (1, 3, 5)] if len(shown) >= _MOST else []
    places = places or [place for _, place in shown]
    return [
        {
            "image": place,
            "name": image.record.name,
            "thumbnail": image.thumbnail,
            "width": image.width,
            "height": image.height,
            "maps": bool(image.data["classes"]),
            "mask": mask if mask in image.record.masks else "",
        }
        for place in places
        for image in [packed[place]]
    ]


def main_tiles(tiles: Sequence[Tile]) -> list[Tile]:
    """Three numbers at most: plain CAM, the pseudo masks, and the last network that learned from them."""
    if len(tiles) <= _MOST:
        return list(tiles)
    networks = [tile for tile in tiles if tile.name.startswith("Segmentation") and "upper bound" not in tile.note]
    masks = [tile for tile in tiles if not tile.name.startswith("Segmentation")]
    chosen = {id(tile) for tile in (masks[:1] + masks[-1:] + networks[-1:])}
    return [tile for tile in tiles if id(tile) in chosen]


def confidence_tiles(confidences: Sequence[float | None]) -> list[Tile]:
    """What can be said of masks without ground truth: how many, how sure, and which to look at first; or nothing."""
    known = [one for one in confidences if one is not None]
    if not known:
        return []
    return [
        Tile(name="Masks", value=f"{len(known):,}", unit="on this page", note="each with a confidence"),
        Tile(
            name="Confidence",
            value=f"{statistics.median(known):.2f}",
            unit="median",
            note="from 0 to 1: it ranks the masks; it is not the probability that one is right",
        ),
        Tile(
            name="To look at first",
            value=f"{len(worst_fifth(confidences))}",
            unit=f"of {counted(len(known), 'mask')}",
            note="the fifth with the least confidence"
            + (f", {_MOST_WORST} at most" if len(known) > 5 * _MOST_WORST else ""),
            shows_worst=True,
        ),
    ]


def worst_fifth(confidences: Sequence[float | None]) -> set[int]:
    """The places of the masks to look at first: a fifth, those of least confidence; one at least, 50 at most."""
    ranked = sorted((one, place) for place, one in enumerate(confidences) if one is not None)
    return {place for _, place in ranked[: min(_MOST_WORST, math.ceil(len(ranked) / 5))]}


def file_link(path: Path, out: Path) -> str:
    """The address of a file from the page's folder; "" where it is no file, as in an archive."""
    return quote(Path(os.path.relpath(path, out)).as_posix()) if path.is_file() else ""
