"""What a source of labels is, by several signs; where these contradict each other, a person must say it.

In: a folder or a file. Out: its kind, or an error that names what it looks like and what to do.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal

from subcam.data.files import images_below, looks_like_image
from subcam.data.labels.from_folders_and_tags import SPLIT_NAMES
from subcam.data.labels.from_xml import annotation_of, is_cvat
from subcam.data.readers.coco import coco_files
from subcam.data.readers.csv_file import read_text
from subcam.data.readers.json_stream import json_entries
from subcam.data.readers.label_table import IMAGE_KEYS, TAG_KEYS
from subcam.errors import BadInputError, SettingsError

SourceKind = Literal["folders", "coco", "label-studio", "tags", "yolo", "cvat", "xml"]

_OF_VOC = frozenset(
    {"jpegimages", "annotations", "imagesets", "segmentationclass", "segmentationclassaug", "segmentationobject"}
)
_OF_OTHER_LAYOUTS = frozenset({"images", "masks", "labels", "annotations", "img", "ann", "overlays", "probabilities"})
_LOOKED_AT = 100
_NUMBERS = re.compile(r"\d+(\s+-?\d*\.?\d+(e-?\d+)?){4,}", re.IGNORECASE)
"""A line of YOLO's: the number of a class, and a box or an outline."""

_NO_TEXT_OF_LABELS = frozenset({".xml", ".zip", ".gz", ".xlsx", ".xls", ".ods", ".parquet"})
"""How files of labels may end that other programs write, and that are not read."""


def kind_of(source: Path) -> SourceKind:
    """What a source is: a folder with texts beside images or with folders of images, or a file.

    Raises:
        SubcamError: there is no such file or folder, or it is a data set of another layout, whose folders or numbers
            would become classes.
    """
    if source.is_dir():
        return _kind_of_folder(source)
    if not source.is_file():
        raise SettingsError(f"{source}: expected a folder of images or a file of labels, got none; check its name")
    if source.suffix.lower() in (".yaml", ".yml"):
        return "yolo"
    if source.suffix.lower() == ".xml" and is_cvat(source):
        return "cvat"
    if source.suffix.lower() in _NO_TEXT_OF_LABELS:
        raise BadInputError(
            f"{source}: expected JSON, JSON lines, CSV or a folder, got {source.suffix}, which is not read; unpack it, "
            "or export the labels as COCO or CSV"
        )
    return _kind_of_json(source) if source.suffix.lower() == ".json" else "tags"


def _kind_of_folder(source: Path) -> SourceKind:
    names = {path.name.casefold() for path in source.iterdir() if path.is_dir() and not path.name.startswith(".")}
    run = f"subcam run RECIPE --data {source}"
    if len(names & _OF_VOC) > 1 or "jpegimages" in names:
        raise _other(source, f"a data set in PASCAL VOC's layout, which a run reads as it is: {run}")
    if coco_files(source):
        raise _other(
            source, f"a data set with COCO's files, which a run reads as it is: {run}; or name one of the files"
        )
    if any(source.glob("*.tar")):
        raise _other(source, f"a folder of shards, which a run reads as it is: {run}")
    images = images_below(source).images
    if are_boxes(texts_in(source, images)):
        return "yolo"
    if any(path.with_suffix(".txt").is_file() for path in images):
        return "tags"
    if any(annotation_of(source, path.relative_to(source)) for path in images[:_LOOKED_AT]):
        return "xml"
    below = names
    if names and names <= SPLIT_NAMES:
        splits = [path for path in source.iterdir() if path.name.casefold() in SPLIT_NAMES and path.is_dir()]
        below = {path.name.casefold() for split in splits for path in split.iterdir() if path.is_dir()}
    odd = sorted(below & (_OF_VOC | _OF_OTHER_LAYOUTS))
    if odd and below - _OF_OTHER_LAYOUTS - _OF_VOC:
        raise _other(
            source, f"folders of which {', '.join(odd)} would be classes; give the folder that holds the classes"
        )
    if odd and not below <= {"images", "masks"}:
        raise _other(source, f"a data set of another layout ({', '.join(odd)}); give its file of labels")
    return "folders"


def _kind_of_json(source: Path) -> SourceKind:
    for key, entry in json_entries(source):
        if key in ("images", "annotations", "categories"):
            return "coco"
        if key == "" and isinstance(entry, dict) and {"annotations", "completions", "annotator"} & entry.keys():
            return "label-studio"
        if key not in ("info", "licenses"):
            return "tags"
    return "coco"


def label_kind_of_json(source: Path) -> SourceKind | None:
    """What a JSON file is, if it is a list of labels at all."""
    for key, entry in json_entries(source):
        if key in ("images", "annotations"):
            return "coco"
        if key == "" and isinstance(entry, dict):
            plain = {str(name).casefold() for name in entry}
            if {"annotations", "completions", "annotator"} & plain:
                return "label-studio"
            return "tags" if plain & {*IMAGE_KEYS} and plain & {*TAG_KEYS} else None
        if looks_like_image(PurePosixPath(key)):
            return "tags"
    return None


def texts_in(root: Path, images: Sequence[Path]) -> Iterator[Path]:
    """The texts beside images, else those in folders called labels."""
    beside = [path.with_suffix(".txt") for path in images if path.with_suffix(".txt").is_file()]
    if beside:
        yield from beside
    else:
        yield from (path for path in root.rglob("*.txt") if "labels" in path.relative_to(root).parts[:-1])


def are_boxes(texts: Iterable[Path]) -> bool:
    """Whether texts hold numbers of classes and boxes, and nothing else; some may be empty."""
    lines = 0
    for path in islice(texts, _LOOKED_AT):
        for line in read_text(path).splitlines():
            if path.name != "classes.txt" and line.strip():
                if not _NUMBERS.fullmatch(line.strip()):
                    return False
                lines += 1
    return lines > 0


def _other(source: Path, what: str) -> BadInputError:
    return BadInputError(
        f"{source}: expected a folder for each class, or tags beside images, got {what} (--kind folders or --kind tags "
        "reads it all the same)"
    )
