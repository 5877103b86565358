"""Reads COCO's annotation files: images, categories in the order of their ids, and who is where.

In: an `instances_*.json` or any file of that form. Out: a `CocoFile`. The file is gone through once, entry by entry;
outlines are kept only where they are asked for, eight bytes a number.
"""

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from subcam.data.readers.json_stream import json_entries
from subcam.data.records import suggest
from subcam.errors import BadInputError

Kind = Literal["object", "crowd", "box"]
"""What an annotation outlines: one object; a group ("iscrowd"); or only a box around an object, without an outline."""

FURTHEST = 1e5
"""Coordinates beyond this are a fault of the file: no image is so large."""

_ID = int | str


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Where one annotated thing is.

    polygons: x and y in turn, in pixels; their union is the region.
    counts: lengths of runs outside and inside in turn, down the columns, as a list of numbers or COCO's text.
    size: height and width that `counts` are for.
    box: left, top, width, height, where there is no outline.
    """

    category: _ID
    kind: Kind
    polygons: tuple["array[float]", ...] = ()
    counts: "array[int] | str | None" = None
    size: tuple[int, int] | None = None
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoImage:
    """One entry of `images`; height and width are 0 where the file does not say them."""

    id: _ID
    file_name: str
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class CocoFile:
    """What an annotation file says.

    categories: names by id, in the order of the ids.
    present: for each image's id the categories of its objects and boxes; `crowds`: those of its groups.
    segments: outlines by the image's id; empty unless they were asked for.
    outlined: whether any annotation has an outline.
    problems: by the image's id, the first entry about it that cannot be used.
    strays: entries that cannot be laid at the door of an image of the file.
    """

    path: Path
    categories: dict[_ID, str]
    images: tuple[CocoImage, ...]
    present: dict[_ID, set[_ID]]
    crowds: dict[_ID, set[_ID]]
    segments: dict[_ID, list[Segment]] = field(repr=False)
    outlined: bool
    problems: dict[_ID, BadInputError]
    strays: tuple[BadInputError, ...]


def read_coco_file(path: Path, *, outlines: bool = False) -> CocoFile:
    """Read an annotation file.

    Args:
        path: the JSON file; its lists may stand in any order.
        outlines: keep the annotations' outlines, to draw masks from.

    Raises:
        BadInputError: no such file, no JSON, or none of COCO's form (no images, no categories, an id twice).
    """
    categories: dict[_ID, str] = {}
    images: dict[_ID, CocoImage] = {}
    annotations = _Annotations(path, keep=outlines)
    keys: dict[str, None] = {}
    for key, entry in json_entries(path):
        keys.setdefault(key)
        if key == "annotations":
            annotations.add(entry)
        elif key == "images":
            image = _image(entry, f"{path}: images[{len(images)}]")
            if image.id in images:
                raise BadInputError(f"{path}: images: the id {image.id} occurs twice; give each image its own")
            images[image.id] = image
        elif key == "categories":
            number, name = _category(entry, f"{path}: categories[{len(categories)}]")
            if number in categories or name in categories.values():
                raise BadInputError(f"{path}: categories: {name!r} or its id {number} occurs twice; remove one")
            categories[number] = name
    if not images or not categories:
        raise BadInputError(
            f"{path}: expected a COCO file with the lists images, categories and annotations, got "
            f"{', '.join(key or 'a list' for key in keys) or 'nothing'}; give e.g. instances_train2014.json"
        )
    return CocoFile(
        path=path,
        categories={key: categories[key] for key in sorted(categories, key=lambda key: (isinstance(key, str), key))},
        images=tuple(images.values()),
        present=annotations.present,
        crowds=annotations.crowds,
        segments=annotations.segments,
        outlined=annotations.outlined,
        problems=_with_unknown_categories(annotations, categories, path),
        strays=(*annotations.strays, *_of_no_image(annotations, images, path)),
    )


class _Annotations:
    """Gathers `annotations`, which may stand before the images and categories that they name."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        self.path, self.keep, self.count, self.outlined = path, keep, 0, False
        self.present: dict[_ID, set[_ID]] = {}
        self.crowds: dict[_ID, set[_ID]] = {}
        self.segments: dict[_ID, list[Segment]] = {}
        self.problems: dict[_ID, BadInputError] = {}
        self.strays: list[BadInputError] = []

    def add(self, entry: Any) -> None:
        where = f"{self.path}: annotations[{self.count}]"
        self.count += 1
        image: Any = entry.get("image_id") if isinstance(entry, dict) else None
        if not _is_id(image):
            self.strays.append(BadInputError(f"{where}: expected an object with image_id, got {_short(entry)}"))
            return
        try:
            if not _is_id(entry.get("category_id")):
                raise BadInputError(f"{where}: expected a category_id, got {_short(entry.get('category_id'))}")
            kind, outlined = _kind(entry, where)
            self.outlined |= outlined
            if self.keep:
                segment = _segment(entry, kind, where)
                self.segments.setdefault(image, []).append(segment)
            (self.crowds if kind == "crowd" else self.present).setdefault(image, set()).add(entry["category_id"])
        except BadInputError as error:
            self.problems.setdefault(image, error)


def _kind(entry: dict[str, Any], where: str) -> tuple[Kind, bool]:
    crowd, outline = entry.get("iscrowd", 0), entry.get("segmentation")
    if crowd not in (0, 1):
        raise BadInputError(f"{where}: expected iscrowd of 0 or 1, got {_short(crowd)}; correct it")
    if outline is not None and not isinstance(outline, list | dict):
        raise BadInputError(f"{where}: expected a segmentation of polygons or runs, got {_short(outline)}; correct it")
    return ("crowd" if crowd else "object" if outline else "box"), bool(outline)


def _segment(entry: dict[str, Any], kind: Kind, where: str) -> Segment:
    category, outline = entry["category_id"], entry.get("segmentation")
    if not outline:
        box = _numbers(entry.get("bbox"), f"{where}: bbox")
        if len(box) != 4:
            raise BadInputError(f"{where}: expected a segmentation, or else a bbox of 4 numbers, got {len(box)}")
        return Segment(category=category, kind=kind, box=(box[0], box[1], box[2], box[3]))
    if isinstance(outline, dict):
        counts, size = _runs(outline, where)
        return Segment(category=category, kind=kind, counts=counts, size=size)
    polygons = tuple(_numbers(polygon, f"{where}: segmentation") for polygon in outline)
    if any(len(polygon) % 2 for polygon in polygons):
        raise BadInputError(f"{where}: expected polygons of x and y in turn, got an odd number of values; correct it")
    return Segment(category=category, kind=kind, polygons=polygons)


def _numbers(value: Any, where: str) -> "array[float]":
    try:
        numbers = array("d", value)
    except (TypeError, OverflowError) as error:
        raise BadInputError(f"{where}: expected a list of numbers, got {_short(value)}; correct it") from error
    if not all(math.isfinite(number) and abs(number) <= FURTHEST for number in numbers):
        raise BadInputError(f"{where}: expected coordinates in pixels, got {_short(value)}; correct it")
    return numbers


def _runs(outline: dict[str, Any], where: str) -> tuple["array[int] | str", tuple[int, int]]:
    counts, size = outline.get("counts"), outline.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(side) is int and side > 0 for side in size)):
        raise BadInputError(f"{where}: expected runs with a size of height and width, got {_short(size)}; correct it")
    if isinstance(counts, str):
        return counts, (size[0], size[1])
    try:
        return array("Q", counts), (size[0], size[1])  # type: ignore[arg-type]
    except (TypeError, OverflowError) as error:
        raise BadInputError(f"{where}: expected counts of 0 or more, got {_short(counts)}; correct it") from error


def _image(entry: Any, where: str) -> CocoImage:
    if not (isinstance(entry, dict) and _is_id(entry.get("id")) and isinstance(entry.get("file_name"), str)):
        raise BadInputError(f"{where}: expected an object with id and file_name, got {_short(entry)}; correct it")
    sides = [entry.get(side, 0) for side in ("height", "width")]
    if not all(type(side) is int and 0 <= side <= FURTHEST for side in sides):
        raise BadInputError(f"{where}: expected height and width in pixels, got {_short(sides)}; correct it")
    return CocoImage(id=entry["id"], file_name=entry["file_name"], height=sides[0], width=sides[1])


def _category(entry: Any, where: str) -> tuple[_ID, str]:
    if not (isinstance(entry, dict) and _is_id(entry.get("id")) and isinstance(entry.get("name"), str)):
        raise BadInputError(f"{where}: expected an object with id and name, got {_short(entry)}; correct it")
    return entry["id"], entry["name"].strip()


def _with_unknown_categories(
    annotations: _Annotations, categories: dict[_ID, str], path: Path
) -> dict[_ID, BadInputError]:
    """Problems by image, those of categories that the file does not list added."""
    problems = dict(annotations.problems)
    for members in (annotations.present, annotations.crowds):
        for image, present in members.items():
            for number in present - categories.keys():
                problems.setdefault(
                    image,
                    BadInputError(
                        f"{path}: image {image} has an annotation of category {number}, which is not listed: "
                        f"{suggest(str(number), map(str, categories))} Add it to categories"
                    ),
                )
    return problems


def _of_no_image(annotations: _Annotations, images: dict[_ID, CocoImage], path: Path) -> Iterator[BadInputError]:
    named: Sequence[_ID] = list(dict.fromkeys([*annotations.present, *annotations.crowds, *annotations.problems]))
    for number in named:
        if number not in images:
            yield BadInputError(
                f"{path}: an annotation is of image {number}, which is not listed; add it to images or remove it"
            )


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
