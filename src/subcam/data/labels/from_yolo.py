"""Image-level labels from a data set of YOLO: texts of numbers in `labels` beside `images`, and a list of names.

In: a folder with `data.yaml` or `classes.txt`, or such a file. Out: `SourceLabels`. No image is decoded.
"""

import re
from pathlib import Path
from typing import Any

from subcam.data.files import images_below, require_inside
from subcam.data.labels.from_folders_and_tags import SPLIT_NAMES, LabelledImage, SourceLabels
from subcam.data.readers.class_names import listed_classes
from subcam.data.readers.csv_file import read_lines, read_text
from subcam.data.records import Skipped, first_of
from subcam.errors import BadInputError
from subcam.runtime.documents import yaml_text
from subcam.runtime.documents.regular_file import read_bytes

NAME_LISTS = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
"""Files that say what the numbers mean; labelImg writes `classes.txt` among the labels."""

_IMAGES, _LABELS = "images", "labels"
_OVER = 0.01
"""How far beyond the image a coordinate may lie, in shares of its side: programs round."""


def labels_from_yolo(source: Path, *, root: Path) -> SourceLabels:
    """The classes of the boxes or outlines of each image.

    The text of `images/train/a.jpg` is `labels/train/a.txt`, that of `train/images/a.jpg` is `train/labels/a.txt`, and
    that of an image in no folder `images` lies beside it. By YOLO's rule an image without a text, or with an empty one,
    shows none of the classes. Folders called train, val, test and the like are splits.

    Args:
        source: the folder, or its list of names.
        root: the folder of images.

    Raises:
        BadInputError: no list of names, or one that cannot be understood; a class's number that it does not have; or no
            text that belongs to an image. Names file and line.
    """
    path = source if source.is_file() else _list_of_names(root)
    names = read_yolo_names(path)
    below = images_below(root)
    images, skipped, texts = [], list(below.skipped(root)), 0
    for image in below.images:
        relative = image.relative_to(root)
        try:
            require_inside(root, image, where=relative.as_posix())
            text = root / _text_of(relative)
            present: tuple[str, ...] = ()
            if text.is_file():
                require_inside(root, text, where=relative.as_posix())
                texts += 1
                present = tuple(names[number] for number in _numbers(text, names, path))
        except _BadLineError as error:
            skipped.append(Skipped(file=relative.as_posix(), reason=str(error)))
            continue
        images.append(LabelledImage(image=relative.as_posix(), names=present, split=_split_of(relative)))
    if not texts:
        raise BadInputError(
            f"{root}: expected a text of boxes for its images, such as {_text_of(Path('images/train/a.jpg'))} for"
            f" images/train/a.jpg, got none for {len(below.images)}; give the folder that holds images and labels"
        )
    if not images:
        raise BadInputError(f"{root}: expected images that can be used, got none; the first: {skipped[0].reason}")
    splits = {entry.split for entry in images}
    if "" in splits:  # a split for some is one for none
        images = [LabelledImage(image=entry.image, names=entry.names) for entry in images]
    understood = f"the boxes of {texts:,} texts, by the names of {path.name}; images without a text show nothing"
    return SourceLabels(images=tuple(images), skipped=tuple(skipped), understood=understood)


def read_yolo_names(path: Path) -> dict[int, str]:
    """The name of each number: `names` of a YAML file, as a list or by number, or the lines of a text, from 0.

    Raises:
        BadInputError: the file cannot be read or has no names; names it.
    """
    if path.suffix.lower() not in (".yaml", ".yml"):
        lines = read_lines(path)
        if not lines:
            raise BadInputError(f"{path}: expected the names of the classes, got none; list one a line")
        return dict(enumerate(lines))
    try:
        content = yaml_text.loads(read_bytes(path))
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"{path}: expected YAML with the names of classes, got none ({error}); correct it"
        ) from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = {str(number): name for number, name in enumerate(names)}
    if not isinstance(names, dict) or not names or not all(map(_is_name, names.items())):
        raise BadInputError(
            f"{path}: expected `names`, a list of the classes or their names by number, got {str(names)[:200]!r}; write"
            " it"
        )
    count = content.get("nc", str(len(names)))
    if count != str(len(names)):
        raise BadInputError(
            f"{path}: expected {len(names)} as `nc`, the number of names, got {count!r:.100}; correct it"
        )
    listed_classes(list(names.values()), where=str(path))
    return {int(number): name for number, name in names.items()}


def _is_name(entry: tuple[Any, Any]) -> bool:
    number, name = entry
    return isinstance(number, str) and bool(re.fullmatch(r"\d{1,6}", number)) and isinstance(name, str) and bool(name)


def _list_of_names(root: Path) -> Path:
    places = (root, root / _LABELS, root.parent if root.name == _IMAGES else root)
    found = next((place / name for place in places for name in NAME_LISTS if (place / name).is_file()), None)
    if found is None:
        raise BadInputError(
            f"{root}: expected a list of what YOLO's numbers mean ({', '.join(NAME_LISTS)}), got none; put it there, or"
            " give it in place of the folder, with --images"
        )
    return found


def _text_of(image: Path) -> Path:
    """Where the text of an image lies, as the path of the image below the same folder."""
    parts = list(image.parts)
    folders = [place for place, part in enumerate(parts[:-1]) if part == _IMAGES]
    if folders:
        parts[folders[-1]] = _LABELS
    return Path(*parts).with_suffix(".txt")


def _split_of(image: Path) -> str:
    return next((part for part in image.parts[:-1] if part.casefold() in SPLIT_NAMES), "")


class _BadLineError(BadInputError):
    """A text that does not say what its image shows."""


def _numbers(text: Path, names: dict[int, str], listed: Path) -> list[int]:
    """The numbers of the classes in a text, each once, in their order."""
    found: dict[int, None] = {}
    for line, words in enumerate(map(str.split, read_text(text).splitlines()), start=1):
        if not words:
            continue
        number = _class_of(words, where=f"{text}:{line}")
        if number not in names:
            raise BadInputError(
                f"{text}:{line}: expected the number of a class of {listed}, which are"
                f" {first_of([f'{known} {name}' for known, name in names.items()])}, got {number}; this list is of"
                " another set, or the text is damaged"
            )
        found[number] = None
    return sorted(found)


def _class_of(words: list[str], *, where: str) -> int:
    """The class of a line: its number, then a box (x y width height) or an outline (x y, three times or more)."""
    try:
        number, *sides = int(words[0]), *map(float, words[1:])
    except ValueError:
        number, sides = -1, []
    is_box, is_outline = len(sides) in (4, 5), len(sides) >= 6 and len(sides) % 2 == 0
    if number < 0 or not (is_box or is_outline):
        raise _BadLineError(
            f"{where}: expected the number of a class and a box (4 numbers) or an outline (6 or more), got"
            f" {' '.join(words)[:80]!r}; what the image shows is unknown; correct it"
        )
    if not all(-_OVER <= side <= 1 + _OVER for side in sides):
        raise _BadLineError(
            f"{where}: expected places in shares of the image, 0..1, got {' '.join(words)[:80]!r}; divide them by its"
            " sides"
        )
    return number
