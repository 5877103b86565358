"""Masks that people drew in CVAT, from "CVAT for images 1.1": masks, polygons, boxes and ellipses of each image.

In: the XML file. Out: a label map of each of its images; 0 is background, 1.. the classes. The fields are those of
docs.cvat.ai, "XML annotation format".
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Bool, UInt8

from subcam.data.files import ImagesByEnd
from subcam.data.image_file import open_image, read_file
from subcam.data.images import upright_size
from subcam.data.labels.drawn_regions import MOST_POINTS, drawn, filled_polygon
from subcam.data.labels.from_xml import read_cvat
from subcam.data.readers.class_names import is_background
from subcam.data.records import BACKGROUND, suggest
from subcam.errors import BadInputError

_AREAS = ("mask", "polygon", "box", "ellipse")
_NOT_SHAPES = ("tag",)


@dataclass(frozen=True, kw_only=True)
class CvatMask:
    """The label map of one image: its name and pixels, and how many shapes there were of each type without an area."""

    name: str
    mask: UInt8[np.ndarray, "h w"]
    not_drawn: Mapping[str, int]


def masks_from_cvat(
    path: Path, *, root: Path, known: Mapping[Path, str], class_names: Sequence[str]
) -> Iterator[CvatMask]:
    """The masks of all images in an export of CVAT, one after the other.

    Shapes lie over each other by their z-order, later ones over earlier ones.

    Args:
        path: the XML file.
        root: the folder below which the images lie.
        known: the images that may be meant, and what their masks are called.
        class_names: the classes of the values 1, 2, ...

    Raises:
        BadInputError: the file is no such export, an image is none of the known ones, a label none of the classes, or a
            shape is damaged; names it.
    """
    entries = read_cvat(path)
    by_end = ImagesByEnd(root, tuple(known))
    found, strangers = [], []
    for entry in entries:
        written = entry.get("name", "")
        try:
            found.append((entry, by_end.find(written, where=str(path))))
        except BadInputError as error:
            strangers.append(str(error))
    if strangers:
        raise BadInputError(
            f"{path}: expected the run's {len(known)} images, got {len(strangers)} others:"
            f" {'; '.join(strangers[:3])}{'; ...' if len(strangers) > 3 else ''}"
        )
    for entry, image in found:
        yield _mask_of(entry, image, f"{path}: {entry.get('name')}", name=known[image], class_names=class_names)


def _mask_of(entry: Element, image: Path, where: str, *, name: str, class_names: Sequence[str]) -> CvatMask:
    with open_image(image, data=read_file(image)) as opened:
        size = upright_size(opened)
    said = (_whole(entry, "height", where), _whole(entry, "width", where))
    if said != size:
        raise BadInputError(
            f"{where}: expected the size of {image}, {size[1]} x {size[0]}, got {said[1]} x {said[0]}; give the images"
            " that were drawn on"
        )
    mask = np.full(size, BACKGROUND, np.uint8)
    not_drawn = Counter(shape.tag[:40] for shape in entry if shape.tag not in (*_AREAS, *_NOT_SHAPES))
    shapes = [shape for shape in entry if shape.tag in _AREAS]
    for shape in sorted(shapes, key=lambda shape: _number(shape, "z_order", where, default=0.0)):
        label = " ".join(shape.get("label", "").split())
        if label not in class_names and not is_background(label):
            raise BadInputError(f"{where}: label {label!r:.100} is no class of the run: {suggest(label, class_names)}")
        value = BACKGROUND if is_background(label) else class_names.index(label) + 1
        mask[_pixels(shape, size, where)] = value
    return CvatMask(name=name, mask=mask, not_drawn=not_drawn)


def _pixels(shape: Element, size: tuple[int, int], where: str) -> Bool[np.ndarray, "h w"]:
    if shape.tag == "mask":
        return _of_runs(shape, size, where)
    if shape.tag == "polygon":
        return filled_polygon(_points(shape, where), size)
    turn = math.radians(_number(shape, "rotation", where, default=0.0))
    if shape.tag == "box":
        left, top, right, bottom = (_number(shape, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
        centre = np.array([left + right, top + bottom]) / 2
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]]) - centre
        turned = corners @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        return filled_polygon(turned + centre, size)
    x, y, along, down = (_number(shape, key, where) for key in ("cx", "cy", "rx", "ry"))
    height, width = size
    per_cent = {"x": x / width, "y": y / height, "radiusX": along / width, "radiusY": down / height}
    value = {key: part * 100 for key, part in per_cent.items()} | {"rotation": math.degrees(turn)}
    try:
        return drawn(value, size)
    except BadInputError as error:
        raise BadInputError(f"{where}, ellipse: {error}; export it again") from error


def _of_runs(shape: Element, size: tuple[int, int], where: str) -> Bool[np.ndarray, "h w"]:
    """A mask's pixels: lengths of runs in its box, row by row, the first of pixels outside."""
    left, top, width, height = (_whole(shape, key, where) for key in ("left", "top", "width", "height"))
    words = shape.get("rle", "").replace(",", " ").split()
    lengths = np.array([int(word) if word.isascii() and word.isdigit() and len(word) < 10 else -1 for word in words])
    fits = left + width <= size[1] and top + height <= size[0]
    if not fits or not len(lengths) or lengths.min() < 0 or lengths.sum() != width * height:
        raise BadInputError(
            f"{where}: expected a mask of {width} x {height} pixels inside the image, whose runs have as many, got"
            f" {len(lengths)} runs of {lengths.sum()} at ({left}, {top}); export it again"
        )
    inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    full = np.zeros(size, bool)
    full[top : top + height, left : left + width] = inside.reshape(height, width)
    return full


def _points(shape: Element, where: str) -> np.ndarray:
    pairs = [pair.split(",") for pair in shape.get("points", "").split(";")]
    if not 3 <= len(pairs) <= MOST_POINTS or any(len(pair) != 2 for pair in pairs):
        raise BadInputError(
            f"{where}: points: expected 3 to {MOST_POINTS:,} as x,y;x,y;..., got {len(pairs)}; export it again"
        )
    return np.array([[_finite(part, "points", where) for part in pair] for pair in pairs])


def _whole(element: Element, key: str, where: str) -> int:
    text = element.get(key, "")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadInputError(f"{where}: {key}: expected a whole number, got {text!r:.40}; export it again")
    return int(text)


def _number(element: Element, key: str, where: str, *, default: float | None = None) -> float:
    text = element.get(key)
    return default if text is None and default is not None else _finite(text or "", key, where)


def _finite(text: str, key: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) < 1e6:
        raise BadInputError(f"{where}: {key}: expected a number, got {text!r:.40}; export it again")
    return number
