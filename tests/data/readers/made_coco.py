"""Small data sets in COCO's layouts, for the tests of what reads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from subcam.data.readers.coco import read_coco
from subcam.data.records import ImageSet

CATEGORIES = [
    {"id": 18, "name": "dog", "supercategory": "animal"},
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 17, "name": "cat", "supercategory": "animal"},
]
"""Not in the order of their ids, which count."""

HEIGHT, WIDTH = 20, 30


def image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.name.encode()])
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return path


def box_polygon(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(image: int, category: int, outline: Any = None, **more: Any) -> dict[str, Any]:
    outline = [box_polygon(2, 3, 12, 9)] if outline is None else outline
    return {"image_id": image, "category_id": category, "segmentation": outline, "iscrowd": 0} | more


def write_annotations(path: Path, files: dict[int, str], annotations: list[dict[str, Any]], **more: Any) -> Path:
    """An annotation file; `files` are the images' names by id."""
    annotations = [{"id": n} | entry if isinstance(entry, dict) else entry for n, entry in enumerate(annotations, 1)]
    images = [{"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH} for i, name in files.items()]
    content = {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": CATEGORIES}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content | more))
    return path


def coco_2014(root: Path) -> Path:
    """train2014: cat; dog and person; person as a group only; nothing. val2014: cat; person."""
    train = {1: "COCO_train2014_1.png", 2: "COCO_train2014_2.png", 3: "COCO_train2014_3.png", 4: "COCO_train2014_4.png"}
    val = {5: "COCO_val2014_5.png", 6: "COCO_val2014_6.png"}
    crowd = annotation(3, 1, {"counts": [0, HEIGHT * WIDTH], "size": [HEIGHT, WIDTH]}, iscrowd=1)
    write_annotations(
        root / "annotations" / "instances_train2014.json",
        train,
        [annotation(1, 17), annotation(2, 18), annotation(2, 1, [box_polygon(4, 4, 8, 8)]), crowd],
    )
    write_annotations(
        root / "annotations" / "instances_val2014.json", val, [annotation(5, 17), annotation(6, 1), annotation(6, 17)]
    )
    for split, files in (("train2014", train), ("val2014", val)):
        for name in files.values():
            image(root / split / name)
    return root


def plain(folder: Path, annotations: list[dict[str, Any]], *names: str, **more: Any) -> Path:
    """A folder of images with one COCO file, `all.json`."""
    files = dict(enumerate(names or ("a.png", "sub/b.png"), start=1))
    for name in files.values():
        image(folder / name)
    write_annotations(folder / "all.json", files, annotations, **more)
    return folder


def read_plain(folder: Path, **more: Any) -> ImageSet:
    return read_coco(folder, split=None, labels="all.json", **more)


def named_labels(images: ImageSet) -> dict[str, tuple[str, ...]]:
    return {record.name: tuple(images.class_names[index] for index in record.labels) for record in images.records}
