"""Reads COCO's annotation files: images, categories in the order of their ids, and who is where.

In: an `instances_*.json` or any file of that form. Out: a `CocoFile`. The file is gone through once, entry by entry;
outlines are kept only where they are asked for, eight bytes a number. An id or size is a whole number however it is
written: 2, 2.0 and "2" are one; any other text is an id too.
"""

import logging
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from subcam.data.readers.class_names import is_background, is_ignored
from subcam.data.readers.json_stream import json_entries
from subcam.data.records import BACKGROUND, IGNORE_INDEX, suggest
from subcam.errors import BadInputError

Kind = Literal["object", "crowd", "box"]
"""What an annotation outlines: one object; a group ("iscrowd"); or only a box around an object, without an outline."""

FURTHEST = 1e5
"""Coordinates beyond this are a fault of the file: no image is so large."""

logger = logging.getLogger(__name__)

_ID = int | str
_LONGEST_NUMBER = 15
"""Digits that a float holds exactly; a longer text of digits stays a text."""

_NO_PARENT = frozenset({"", "none"})


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

    categories: names of the classes by id, in the order of the ids.
    without_class: categories that are no class, by id with the value that their pixels have: background (0) and what
        is called ignored (255).
    roots: names of categories that only head others, as Roboflow writes one; they are none of `categories`.
    present: for each image's id the categories of its objects and boxes; `crowds`: those of its groups.
    segments: outlines by the image's id; empty unless they were asked for.
    outlines: how many objects have an outline, and how many groups do.
    unplaced: how many annotations name no image that can be told.
    problems: by the image's id, the first entry about it that cannot be used.
    strays: entries that cannot be laid at the door of an image of the file.
    """

    path: Path
    categories: dict[_ID, str]
    without_class: dict[_ID, int]
    roots: tuple[str, ...]
    images: tuple[CocoImage, ...]
    present: dict[_ID, set[_ID]]
    crowds: dict[_ID, set[_ID]]
    segments: dict[_ID, list[Segment]] = field(repr=False)
    outlines: dict[Kind, int]
    unplaced: int
    problems: dict[_ID, BadInputError]
    strays: tuple[BadInputError, ...]

    @property
    def outlined(self) -> bool:
        """Whether any annotation has an outline."""
        return any(self.outlines.values())

    def names_in(self, image: _ID, *, crowd_labels: bool) -> tuple[str, ...]:
        """The classes that are in an image; crowd_labels: those too that are in it only as a group."""
        present = self.present.get(image, set()) | (self.crowds.get(image, set()) if crowd_labels else set())
        return tuple(self.categories[number] for number in sorted(present & self.categories.keys(), key=_in_order))


def _in_order(number: _ID) -> tuple[bool, _ID]:
    """What ids are sorted by: numbers, then texts."""
    return isinstance(number, str), number


def read_coco_file(path: Path, *, outlines: bool = False) -> CocoFile:
    """Read an annotation file.

    Args:
        path: the JSON file; its lists may stand in any order.
        outlines: keep the annotations' outlines, to draw masks from.

    Raises:
        BadInputError: no such file, no JSON, or none of COCO's form (no images, no categories, an id twice).
    """
    listed: dict[_ID, _Category] = {}
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
            category = _category(entry, f"{path}: categories[{len(listed)}]")
            if category.id in listed:
                raise _twice(path, category)
            listed[category.id] = category
    roots = _roots(listed, annotations)
    if roots:
        heads = ", ".join(listed[number].name for number in roots)
        logger.warning("%s: left out %s, which only heads other categories", path, heads)
    categories: dict[_ID, str] = {}
    without_class: dict[_ID, int] = {}
    named: set[str] = set()
    for number in sorted(listed.keys() - roots, key=_in_order):
        name = listed[number].name
        if is_background(name) or is_ignored(name):
            without_class[number] = BACKGROUND if is_background(name) else IGNORE_INDEX
        elif name in named:
            raise _twice(path, listed[number])
        else:
            categories[number] = name
            named.add(name)
    if not images or not listed:
        raise BadInputError(
            f"{path}: expected a COCO file with the lists images, categories and annotations, got "
            f"{', '.join(key or 'a list' for key in keys) or 'nothing'}; give e.g. instances_train2014.json"
        )
    if not categories:
        raise BadInputError(f"{path}: expected categories that are classes, got only {', '.join(_names(listed))}")
    return CocoFile(
        path=path,
        categories=categories,
        without_class=without_class,
        roots=tuple(listed[number].name for number in listed if number in roots),
        images=tuple(images.values()),
        present=annotations.present,
        crowds=annotations.crowds,
        segments=annotations.segments,
        outlines=annotations.outlines,
        unplaced=len(annotations.strays),
        problems=_with_unknown_categories(annotations, listed, path),
        strays=(*annotations.strays, *_of_no_image(annotations, images, path)),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Category:
    """One entry of `categories`; parent is its "supercategory", "" where it has none."""

    id: _ID
    name: str
    parent: str


def _names(categories: dict[_ID, _Category]) -> list[str]:
    return [category.name for category in categories.values()]


def _twice(path: Path, category: _Category) -> BadInputError:
    return BadInputError(f"{path}: categories: {category.name!r} or its id {category.id} occurs twice; remove one")


def _roots(categories: dict[_ID, _Category], annotations: "_Annotations") -> set[_ID]:
    """Ids of categories that stand above others, below none, and that no annotation names."""
    used = set().union(*annotations.present.values(), *annotations.crowds.values())
    heads = Counter(category.parent for category in categories.values())
    return {
        number
        for number, category in categories.items()
        if number not in used
        and category.parent.casefold() in _NO_PARENT
        and heads[category.name] > (category.parent == category.name)
    }


class _Annotations:
    """Gathers `annotations`, which may stand before the images and categories that they name."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        self.path, self.keep, self.count = path, keep, 0
        self.outlines: dict[Kind, int] = {"object": 0, "crowd": 0}
        self.present: dict[_ID, set[_ID]] = {}
        self.crowds: dict[_ID, set[_ID]] = {}
        self.segments: dict[_ID, list[Segment]] = {}
        self.problems: dict[_ID, BadInputError] = {}
        self.strays: list[BadInputError] = []

    def add(self, entry: Any) -> None:
        where = f"{self.path}: annotations[{self.count}]"
        self.count += 1
        image = _id(entry.get("image_id")) if isinstance(entry, dict) else None
        if image is None:
            self.strays.append(BadInputError(f"{where}: expected an object with image_id, got {_short(entry)}"))
            return
        try:
            category = _id(entry.get("category_id"))
            if category is None:
                raise BadInputError(f"{where}: expected a category_id, got {_short(entry.get('category_id'))}")
            kind, outlined = _kind(entry, where)
            if outlined:
                self.outlines[kind] += 1
            if self.keep:
                segment = _segment(entry, category, kind, where)
                self.segments.setdefault(image, []).append(segment)
            (self.crowds if kind == "crowd" else self.present).setdefault(image, set()).add(category)
        except BadInputError as error:
            self.problems.setdefault(image, error)


def _kind(entry: dict[str, Any], where: str) -> tuple[Kind, bool]:
    said, outline = entry.get("iscrowd"), entry.get("segmentation")
    crowd = int(said or 0) if said is None or isinstance(said, bool) else _whole(said)
    if crowd not in (0, 1):
        raise BadInputError(f"{where}: expected iscrowd of 0 or 1, got {_short(said)}; correct it")
    if outline is not None and not isinstance(outline, list | dict):
        raise BadInputError(f"{where}: expected a segmentation of polygons or runs, got {_short(outline)}; correct it")
    return ("crowd" if crowd else "object" if outline else "box"), bool(outline)


def _segment(entry: dict[str, Any], category: _ID, kind: Kind, where: str) -> Segment:
    outline = entry.get("segmentation")
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
    height, width = map(_whole, size) if isinstance(size, list) and len(size) == 2 else (None, None)
    if not (height and width and height > 0 and width > 0):
        raise BadInputError(f"{where}: expected runs with a size of height and width, got {_short(size)}; correct it")
    if isinstance(counts, str):
        return counts, (height, width)
    try:
        return array("Q", counts), (height, width)  # type: ignore[arg-type]
    except (TypeError, OverflowError) as error:
        raise BadInputError(f"{where}: expected counts of 0 or more, got {_short(counts)}; correct it") from error


def _image(entry: Any, where: str) -> CocoImage:
    number = _id(entry.get("id")) if isinstance(entry, dict) else None
    if number is None or not isinstance(entry.get("file_name"), str):
        raise BadInputError(f"{where}: expected an object with id and file_name, got {_short(entry)}; correct it")
    sides = [entry.get(side) for side in ("height", "width")]
    height, width = (0 if side is None else _whole(side) for side in sides)
    if height is None or width is None or not (0 <= height <= FURTHEST and 0 <= width <= FURTHEST):
        raise BadInputError(f"{where}: expected height and width in pixels, got {_short(sides)}; correct it")
    return CocoImage(id=number, file_name=entry["file_name"], height=height, width=width)


def _category(entry: Any, where: str) -> _Category:
    number = _id(entry.get("id")) if isinstance(entry, dict) else None
    if number is None or not isinstance(entry.get("name"), str):
        raise BadInputError(f"{where}: expected an object with id and name, got {_short(entry)}; correct it")
    parent = entry.get("supercategory")
    return _Category(id=number, name=entry["name"].strip(), parent=parent.strip() if isinstance(parent, str) else "")


def _with_unknown_categories(
    annotations: _Annotations, categories: dict[_ID, _Category], path: Path
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


def _id(value: Any) -> _ID | None:
    """An id: a whole number, or any other text that is not empty; None where the value is neither."""
    number = _whole(value)
    return number if number is not None or not isinstance(value, str) else value.strip() or None


def _whole(value: Any) -> int | None:
    """The whole number that a value is, be it written 2, 2.0 or "2"; None where it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 10**_LONGEST_NUMBER else None
    if isinstance(value, str) and re.fullmatch(r"0|-?[1-9][0-9]*", value.strip()):
        return int(value) if len(value.strip()) <= _LONGEST_NUMBER else None
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
