"""Tens of thousands of columns, classes or categories: time grows as the file does, not as its square.

Where it grew as the square, these took from 5 s to a minute; now each takes a few tenths.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.readers.made_coco import image

from subcam.data.labels.from_annotation_tools import labels_from_coco
from subcam.data.labels.from_folders_and_tags import LabelledImage
from subcam.data.labels.from_yolo import read_yolo_names
from subcam.data.labels.label_csv import edit_labels, write_label_table
from subcam.data.readers.class_names import read_class_list
from subcam.data.readers.coco import read_coco
from subcam.data.readers.folder import read_folder
from subcam.errors import BadInputError

COUNT, SECONDS = 20_000, 2.0
NAMES = [f"c{number}" for number in range(COUNT)]


def columns(root: Path) -> object:
    image(root / "a.png")
    cells = ",".join("01"[number % 3 == 0] for number in range(COUNT))
    (root / "labels.csv").write_text(f"image,{','.join(NAMES)}\na.png,{cells}\n")
    (record,) = read_folder(root).records
    assert len(record.labels) == len(NAMES[::3])
    return record


def classes(root: Path) -> object:
    image(root / "a.png")
    (root / "classes.txt").write_text("\n".join(NAMES))
    (root / "labels.csv").write_text(f"image,labels\na.png,{NAMES[5]};{NAMES[-1]}\n")
    return read_folder(root)


def twice(root: Path) -> object:
    (root / "classes.txt").write_text("\n".join([*NAMES, NAMES[-1]]))
    with pytest.raises(BadInputError, match=f"expected each class once, got '{NAMES[-1]}' twice"):
        read_class_list(root / "classes.txt")
    return None


def label_map(root: Path) -> object:
    lines = (f"{name}:{place >> 16},{place >> 8 & 255},{place & 255}::" for place, name in enumerate(NAMES, start=1))
    (root / "labelmap.txt").write_text("\n".join(lines))
    assert len(read_class_list(root / "labelmap.txt").names) == COUNT
    return None


def yolo(root: Path) -> object:
    (root / "data.yaml").write_text("names:\n" + "\n".join(f"- {name}" for name in NAMES[::4]))
    return read_yolo_names(root / "data.yaml")


def made_coco(root: Path) -> Path:
    image(root / "a.png")
    numbers = range(1, COUNT + 1)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 80, "width": 120}],
        "categories": [{"id": number, "name": NAMES[number - 1], "supercategory": "any"} for number in numbers],
        "annotations": [{"image_id": 1, "category_id": number, "bbox": [0, 0, 3, 3]} for number in numbers],
    }
    (root / "a.json").write_text(json.dumps(content))
    return root / "a.json"


def coco(root: Path) -> object:
    path = made_coco(root)
    (record,) = read_coco(root, split=None, labels=path.name).records
    assert record.labels == tuple(range(COUNT))
    return record


def coco_as_labels(root: Path) -> object:
    (found,) = labels_from_coco(made_coco(root), root=root).images
    assert found.names == tuple(NAMES)
    return found


def names_left_out(root: Path) -> object:
    image(root / "a.png")
    found = edit_labels([LabelledImage(image="a.png", names=tuple(NAMES))], drop=NAMES[::2], only=NAMES[1::2])
    assert len(found.counts) == COUNT // 2
    return write_label_table(root / "labels.csv", found.images, root=root)


@pytest.mark.parametrize(
    "read",
    [columns, classes, twice, label_map, yolo, coco, coco_as_labels, names_left_out],
    ids=lambda read: read.__name__,
)
def test_many(read: Callable[[Path], object], tmp_path: Path) -> None:
    started = time.process_time()
    read(tmp_path)
    assert time.process_time() - started < SECONDS
