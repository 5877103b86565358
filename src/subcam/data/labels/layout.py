"""How a folder of images and labels is laid out, by what lies in it; a person says it where two readings are plausible.

In: a folder, and the file of labels that a person named, if any. Out: the layout, and where its labels stand. No image
is opened.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from subcam.data.files import images_below
from subcam.data.labels.from_folders_and_tags import SPLIT_NAMES
from subcam.data.labels.from_xml import annotation_of, is_cvat
from subcam.data.labels.from_yolo import NAME_LISTS
from subcam.data.labels.source_kind import are_boxes, label_kind_of_json, texts_in
from subcam.data.readers.coco import coco_files
from subcam.data.readers.csv_file import read_csv
from subcam.data.readers.folder import MASK_FOLDER
from subcam.data.readers.label_table import has_scores, is_label_table
from subcam.data.records import first_of
from subcam.data.settings import Layout
from subcam.errors import BadInputError, SettingsError

LABELS = "labels.csv"
"""What a CSV of labels is called if nothing else is said."""

_NO_CLASS = SPLIT_NAMES | {"images", "masks", "labels", "annotations", "img", "ann", "overlays", "probabilities"}
_TABLES = frozenset({".csv", ".tsv"})
_MAY_BE_LABELS = frozenset({".csv", ".tsv", ".json", ".jsonl", ".xml"})
_LOOKED_AT = 20


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One way to read a folder.

    layout: by its name in the settings. source: the file that the labels stand in, or the folder.
    sign: what speaks for it, for errors.
    """

    layout: Layout
    source: Path
    sign: str


def reading_of(root: Path, *, layout: Literal["auto"] | Layout = "auto", labels: str = LABELS) -> Reading:
    """How a folder is read.

    JPEGImages is VOC's; then the CSV of labels counts, then COCO's files, then shards. Where there is none of these,
    any other file of labels in the folder, boxes, annotations or tags beside images, or a folder for each class.

    Args:
        root: the folder.
        layout: what a person said it is.
        labels: the file that a person named, or `LABELS`.

    Raises:
        SettingsError: several readings are plausible; names them and the settings that choose.
        BadInputError: there is none; or none of the layout that was said.
    """
    if layout in ("voc", "coco", "folder", "shards"):
        return Reading(layout=layout, source=root / labels, sign="")
    if layout in ("folders", "yolo", "xml"):
        return Reading(layout=layout, source=root if labels == LABELS else root / labels, sign="")
    if layout == "auto" and (known := _known_layout(root, labels)) is not None:
        return known
    readings = list(_readings(root, labels))
    if layout != "auto":
        readings = [reading for reading in readings if reading.layout == layout] or [_as_said(root, layout, labels)]
    if not readings:
        images = images_below(root)
        raise BadInputError(
            f"{root}: expected images with labels, got {len(images.images) + len(images.unread)} images and no labels "
            f"(looked for {LABELS}{_unknown(root)}); {_one_folder_up(root)}sort them into a folder for each class, such"
            f" as {root}/cat/1.jpg, or list them in {LABELS} (image,labels), or put a labelling tool's export there"
        )
    if len(readings) > 1:
        ways = [f"{reading.sign} (--dataset.layout {_flags(reading, root)})" for reading in readings]
        raise SettingsError(f"{root}: can be read in {len(ways)} ways, choose one: {'; or '.join(ways)}")
    return readings[0]


def _files(root: Path) -> list[Path]:
    """Files in a folder that might be somebody's labels."""
    return [path for path in sorted(root.iterdir()) if path.suffix.lower() in _MAY_BE_LABELS and path.is_file()]


def _unknown(root: Path) -> str:
    """Names the files of no known form that lie there."""
    names = [path.name for path in _files(root)]
    return f"; of no known form {'is' if len(names) == 1 else 'are'} {first_of(names)}" if names else ""


def _one_folder_up(root: Path) -> str:
    """The way to labels that lie beside a folder of images."""
    above = root.resolve().parent
    for path in _files(above)[:_LOOKED_AT]:
        try:
            reading = _reading_of_file(path)
        except BadInputError:  # whatever it is, it is nothing to advise
            continue
        if reading is not None:
            return (
                f"for the labels in {path.name} beside it give --data {root.parent} --dataset.labels {path.name}; or "
            )
    return ""


def _known_layout(root: Path, labels: str) -> Reading | None:
    """Layouts that are known by one sign, which counts before all others."""
    if (root / "JPEGImages").is_dir():
        return Reading(layout="voc", source=root, sign="a folder JPEGImages")
    named = root / labels
    otherwise = Reading(layout="coco" if labels.lower().endswith(".json") else "folder", source=named, sign="")
    if named.exists() or named.is_symlink():
        # What is no file, such as a pipe or a link that leads nowhere, is for the reader to refuse.
        return (_reading_of_file(named) if named.is_file() else None) or otherwise
    if labels == LABELS and coco_files(root):
        return Reading(layout="coco", source=root, sign="COCO's files")
    if labels == LABELS and any(root.glob("*.tar")):
        return Reading(layout="shards", source=root, sign="shards")
    return otherwise if labels != LABELS else None


def _readings(root: Path, labels: str) -> Iterator[Reading]:
    """Every plausible way to read a folder that has no `LABELS`, the surest first."""
    if labels != LABELS:
        named = _reading_of_file(root / labels) if (root / labels).is_file() else None
        yield from [named] if named else []
        return
    boxes = _has_boxes(root)
    if boxes:
        yield Reading(layout="yolo", source=root, sign="texts of boxes")
    there = sorted(path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    files = [reading for path in there if (reading := _reading_of_file(path)) is not None]
    files = [reading for reading in files if reading.layout != "yolo"]  # a list of names is read with the boxes
    yield from files
    images = images_below(root).images
    if any(annotation_of(root, path.relative_to(root)) for path in islice(images, _LOOKED_AT)):
        yield Reading(layout="xml", source=root, sign="an XML annotation for each image")
    elif not boxes and any(path.with_suffix(".txt").is_file() for path in islice(images, _LOOKED_AT)):
        yield Reading(layout="tags", source=root, sign="texts beside images")
    elif not boxes and (classes := _class_folders(root)) and (len(classes) > 1 or not files):
        yield Reading(layout="folders", source=root, sign=f"a folder for each class: {', '.join(classes[:3])}")


def _reading_of_file(path: Path) -> Reading | None:
    """How a file is read as labels; None if it is none."""
    suffix = path.suffix.lower()
    layout: Layout | None = None
    if suffix in _TABLES:
        table = read_csv(path)
        layout = "tags" if has_scores(table) else "folder" if is_label_table(table) else None
    elif suffix == ".jsonl":
        layout = "tags"
    elif suffix == ".json":
        layout = label_kind_of_json(path)
    elif suffix == ".xml":
        layout = "cvat" if is_cvat(path) else None
    elif path.name in NAME_LISTS and suffix in (".yaml", ".yml"):
        layout = "yolo"
    return Reading(layout=layout, source=path, sign=path.name) if layout is not None else None


def _has_boxes(root: Path) -> bool:
    return are_boxes(texts_in(root, images_below(root).images))


def _class_folders(root: Path) -> list[str]:
    """Folders that would be classes: those with images, or those below folders of splits."""
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    folders = [path for path in folders if path.name != MASK_FOLDER]
    if folders and all(folder.name.casefold() in SPLIT_NAMES for folder in folders):
        folders = [path for split in folders for path in sorted(split.iterdir()) if path.is_dir()]
    classes = dict.fromkeys(folder.name for folder in folders if _holds_images(folder))
    return [name for name in classes if name.casefold() not in _NO_CLASS]


def _holds_images(folder: Path) -> bool:
    below = images_below(folder)
    return bool(below.images or below.unread)


def _as_said(root: Path, layout: Layout, labels: str) -> Reading:
    """A layout that a person named though nothing speaks for it."""
    if layout == "tags":
        return Reading(layout=layout, source=root if labels == LABELS else root / labels, sign="")
    raise BadInputError(
        f"{root}: expected a file of the layout {layout} in it, got none; name it with --dataset.labels FILE"
    )


def _flags(reading: Reading, root: Path) -> str:
    file = f" --dataset.labels {reading.source.name}" if reading.source != root else ""
    return f"{reading.layout}{file}"
