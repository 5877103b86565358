"""COCO's formats: results and annotations with masks as run-length codes, and panoptic segmentation.

Categories are the classes, background is none. In a folder of label maps an object cannot be told from its neighbour of
the same class: a segment is all of a class ("stuff"), or, if asked for, each connected piece of it.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from subcam.checks.arguments import takes_arrays
from subcam.data.files import name_of
from subcam.data.readers.coco_file import read_coco_file
from subcam.data.records import suggest
from subcam.errors import BadInputError
from subcam.export.images import Images
from subcam.export.json_list import JsonList
from subcam.export.mask_folder import MaskFolder
from subcam.export.regions import Region, regions_of
from subcam.runtime.files import atomic_write, below
from subcam.runtime.run_folder import RunFolder

RESULTS_FILE, ANNOTATIONS_FILE = "results.json", "annotations.json"
PANOPTIC_NAME = "panoptic"
LONGEST_NUMBER = 15
"""Digits of a name that is taken for an image's number; more, and other programs round it."""


@dataclass(frozen=True, kw_only=True)
class CocoIds:
    """The numbers that a COCO file gives to images (by the path in file_name, without suffix) and to categories."""

    images: Mapping[str, int]
    categories: Mapping[str, int]

    def of(self, name: str) -> int | None:
        """The number of a mask's image, None where there is none, or several.

        It is that of the mask's name, else of the only path that ends in the name, or that the name ends in.
        """
        if name in self.images:
            return self.images[name]
        ends = self._by_end.get(PurePosixPath(name).name, ())
        alike = [image for image in ends if name.endswith(f"/{image}") or image.endswith(f"/{name}")]
        return self.images[alike[0]] if len(alike) == 1 else None

    @functools.cached_property
    def _by_end(self) -> Mapping[str, Sequence[str]]:
        ends: dict[str, list[str]] = {}
        for image in self.images:
            ends.setdefault(PurePosixPath(image).name, []).append(image)
        return ends


def read_coco_ids(path: Path) -> CocoIds:
    """The numbers in an annotation file, so that results can be held against it.

    Raises:
        BadInputError: the file is not one of COCO's.
    """
    file = read_coco_file(path)
    for number in (*(image.id for image in file.images), *file.categories):
        if not isinstance(number, int):
            raise BadInputError(f"{path}: expected ids that are whole numbers, as results need them, got {number!r}")
    images: dict[str, int] = {}
    for image in file.images:
        name = name_of(PurePosixPath(image.file_name.replace("\\", "/")))
        if name in images:
            raise BadInputError(
                f"{path}: {image.file_name!r} is an image under two ids, {images[name]} and {image.id}, or differs "
                "from another in its suffix alone; give each image one id"
            )
        images[name] = int(image.id)
    return CocoIds(images=images, categories={name: int(number) for number, name in file.categories.items()})


def number_anew(masks: MaskFolder, class_names: tuple[str, ...]) -> CocoIds:
    """Numbers where no COCO file gives them: classes 1..C; images by names that are numbers, else 1, 2, ..."""
    last = [PurePosixPath(name).name for name in masks.files]
    distinct = {int(name) for name in last if name.isascii() and name.isdigit() and len(name) <= LONGEST_NUMBER}
    numbers = map(int, last) if len(distinct) == len(last) else range(1, len(last) + 1)
    return CocoIds(
        images=dict(zip(masks.files, numbers, strict=True)),
        categories={name: value for value, name in enumerate(class_names, start=1)},
    )


@takes_arrays()
def export_coco_rle(
    masks: MaskFolder,
    out: Path,
    *,
    images: Images,
    ids: CocoIds | None = None,
    pieces: bool = False,
    least_area: int = 1,
    score: float = 1.0,
) -> tuple[Path, Path]:
    """Write `results.json` (for `COCO.loadRes`) and `annotations.json` (for `COCO`) into the folder `out`.

    A result is image_id, category_id, segmentation and score. It has no box: with one, pycocotools would take the box's
    area for the segment's. An annotation has area and box as well.

    Args:
        masks: label maps.
        out: the folder; the two files are replaced if they are there, each as a whole.
        images: file names for `annotations.json`; sizes are checked where there is a folder of images.
        ids: numbers of images and categories from COCO's own file; None numbers anew.
        pieces: one entry for each connected piece, else one for each class in an image.
        least_area: entries of fewer pixels are left out.
        score: of every result; a label map holds no probabilities.

    Raises:
        BadInputError: a mask is damaged, not of its image's size or has an unknown value; an image or class has no
            number in `ids`.
        RunFolderError: another process writes into the folder, or it cannot be written.
    """
    class_names = masks.known_class_names()
    image_ids, category_ids = _numbers(masks, class_names, ids)
    results_path, annotations_path = out / RESULTS_FILE, out / ANNOTATIONS_FILE
    entries: list[dict[str, Any]] = []
    with (
        RunFolder(path=out).lock(leave=False),
        atomic_write(results_path, "w") as results_file,
        atomic_write(annotations_path, "w") as annotations_file,
    ):
        annotations_file.write('{"annotations":')
        results, annotations = JsonList(results_file), JsonList(annotations_file)
        for name, labels in masks.labels(num_classes=len(class_names), title="COCO"):
            images.check_size(name, masks.files[name], labels.shape)
            entries.append(_image(image_ids[name], images.file_name(name), labels.shape))
            for region in regions_of(labels, pieces=pieces, least_area=least_area):
                entry = {
                    "image_id": image_ids[name],
                    "category_id": category_ids[region.value - 1],
                    "segmentation": _rle(region, labels.shape),
                }
                results.add(entry | {"score": score})
                annotations.add(
                    {"id": annotations.count + 1}
                    | entry
                    | {"area": region.area, "bbox": list(region.box), "iscrowd": 0}
                )
        results.close()
        annotations.close()
        _finish(annotations_file, entries, _categories(class_names, category_ids))
    return results_path, annotations_path


@takes_arrays()
def export_coco_panoptic(
    masks: MaskFolder,
    out: Path,
    *,
    images: Images,
    ids: CocoIds | None = None,
    pieces: bool = False,
    least_area: int = 1,
) -> Path:
    """Write `panoptic/NAME.png` (RGB, id = R + 256 G + 256^2 B, 0 for background and unlabelled) and `panoptic.json`.

    Args:
        masks: label maps.
        out: the folder; the JSON file is written last, and replaced as a whole.
        images: as in `export_coco_rle`.
        ids: as in `export_coco_rle`.
        pieces: each connected piece is a segment of a thing; else each class is one of stuff.
        least_area: smaller segments are left unlabelled.

    Raises:
        BadInputError, RunFolderError: as `export_coco_rle`.
    """
    class_names = masks.known_class_names()
    image_ids, category_ids = _numbers(masks, class_names, ids)
    path = out / f"{PANOPTIC_NAME}.json"
    entries: list[dict[str, Any]] = []
    with RunFolder(path=out).lock(leave=False), atomic_write(path, "w") as file:
        file.write('{"annotations":')
        annotations = JsonList(file)
        for name, labels in masks.labels(num_classes=len(class_names), title="COCO panoptic"):
            images.check_size(name, masks.files[name], labels.shape)
            entries.append(_image(image_ids[name], images.file_name(name), labels.shape))
            segments = np.zeros(labels.shape, np.int64)
            infos = []
            for number, region in enumerate(regions_of(labels, pieces=pieces, least_area=least_area), start=1):
                segments[region.full(labels.shape)] = number
                infos.append(
                    {
                        "id": number,
                        "category_id": category_ids[region.value - 1],
                        "area": region.area,
                        "bbox": list(region.box),
                        "iscrowd": 0,
                    }
                )
            with atomic_write(below(out, f"{PANOPTIC_NAME}/{name}", ".png"), "wb", durable=False) as png:
                Image.fromarray(id_colours(segments)).save(png, format="PNG")
            annotations.add({"image_id": image_ids[name], "file_name": f"{name}.png", "segments_info": infos})
        annotations.close()
        categories = _categories(class_names, category_ids)
        _finish(file, entries, [category | {"isthing": int(pieces)} for category in categories])
    return path


def id_colours(ids: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Segment numbers 0..2^24 - 1 as RGB: id = R + 256 G + 256^2 B."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def _numbers(
    masks: MaskFolder, class_names: tuple[str, ...], ids: CocoIds | None
) -> tuple[dict[str, int], tuple[int, ...]]:
    """The number of each mask's image, and of each class."""
    if ids is None:
        ids = number_anew(masks, class_names)
        return dict(ids.images), tuple(ids.categories[name] for name in class_names)
    for name in class_names:
        if name not in ids.categories:
            raise BadInputError(
                f"the class {name!r} is no category of the COCO file: {suggest(name, ids.categories)} "
                "Rename it with --classes"
            )
    images: dict[str, int] = {}
    owners: dict[int, str] = {}
    for name in masks.files:
        number = ids.of(name)
        if number is None:
            raise BadInputError(
                f"{masks.files[name]}: no image of this name is in the COCO file, or several; give the file of its "
                "set, or the folder below which the masks are called as its images are"
            )
        first = owners.setdefault(number, name)
        if first != name:
            raise BadInputError(
                f"{masks.files[name]}: it and {masks.files[first]} would be the mask of one image of the COCO file, "
                f"{number}; give the masks of its set alone"
            )
        images[name] = number
    return images, tuple(ids.categories[name] for name in class_names)


def _rle(region: Region, size: tuple[int, ...]) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    code = coco_mask.encode(np.asfortranarray(region.full((size[0], size[1])), dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def _image(number: int, file_name: str, size: tuple[int, ...]) -> dict[str, Any]:
    return {"id": number, "file_name": file_name, "height": size[0], "width": size[1]}


def _categories(class_names: tuple[str, ...], category_ids: tuple[int, ...]) -> list[dict[str, Any]]:
    return [
        {"id": number, "name": name, "supercategory": name}
        for number, name in zip(category_ids, class_names, strict=True)
    ]


def _finish(file: IO[str], images: list[dict[str, Any]], categories: list[dict[str, Any]]) -> None:
    """What a COCO file has besides its annotations, which stand first because they are many."""
    rest = {"images": images, "categories": categories, "info": {"description": "written by subcam"}, "licenses": []}
    file.write("," + json.dumps(rest, ensure_ascii=False)[1:] + "\n")
