"""Datumaro, Label Studio's, CVAT's and other packages read what subcam wrote, and write what subcam is to read.

Runs in the environment of `requirements.txt`, without subcam: `python other_programs.py FOLDER`. FOLDER holds
`images`, `classes.json`, label maps by name in `truth.npz`, and in `ours` what subcam exported. Written are `read.npz`,
label maps as each package reads them ("package/name"), and what each writes, in `theirs`.
"""

import contextlib
import io
import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import datumaro as dm
import numpy as np
import supervision as sv
import webdataset as wds
from cvat_sdk.masks import decode_mask, encode_mask
from label_studio_sdk.converter import brush
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

Labels = Iterator[tuple[str, np.ndarray]]


def size_of(image: dict[str, Any]) -> tuple[int, int]:
    return image["height"], image["width"]


def by_pycocotools(coco: COCO) -> Labels:
    for image in coco.imgs.values():
        labels = np.zeros(size_of(image), np.uint8)
        for annotation in coco.imgToAnns[image["id"]]:
            labels[coco.annToMask(annotation) > 0] = annotation["category_id"]
        yield PurePosixPath(image["file_name"]).stem, labels


def by_supervision(images: Path, annotations: Path) -> Labels:
    dataset = sv.DetectionDataset.from_coco(str(images), str(annotations), force_masks=True)
    for path, image, detections in dataset:
        labels = np.zeros(image.shape[:2], np.uint8)
        for mask, number in zip(detections.mask, detections.class_id, strict=True):
            labels[mask] = number + 1
        yield Path(path).stem, labels


def by_datumaro(folder: Path, kind: str, classes: list[str]) -> Labels:
    dataset = dm.Dataset.import_from(str(folder), kind)
    names = [label.name for label in dataset.categories()[dm.AnnotationType.label].items]
    for item in dataset:
        masks = [entry for entry in item.annotations if entry.type == dm.AnnotationType.mask]
        labels = np.zeros(np.asarray(masks[0].image).shape, np.uint8)
        for entry in masks:
            if names[entry.label] in classes:
                labels[np.asarray(entry.image) > 0] = classes.index(names[entry.label]) + 1
        yield item.id, labels


def by_label_studio(tasks: Path, classes: list[str]) -> Labels:
    for task in json.loads(tasks.read_text("utf-8")):
        results = task["predictions"][0]["result"]
        labels = np.zeros((results[0]["original_height"], results[0]["original_width"]), np.uint8)
        for result in results:
            pixels = brush.decode_rle(result["value"]["rle"]).reshape(*labels.shape, 4)
            labels[pixels[..., 3] > 0] = classes.index(result["value"]["brushlabels"][0]) + 1
        yield PurePosixPath(unquote(task["data"]["image"]).partition("?d=")[2]).stem, labels


def by_cvat(path: Path, classes: list[str]) -> Labels:
    for image in ET.parse(path).getroot().iter("image"):
        width, height = int(image.get("width")), int(image.get("height"))
        labels = np.zeros((height, width), np.uint8)
        for mask in image.iter("mask"):
            left, top, wide, high = (int(mask.get(key)) for key in ("left", "top", "width", "height"))
            runs = [int(run) for run in mask.get("rle").split(",")]
            points = [*runs, left, top, left + wide - 1, top + high - 1]
            bitmap = decode_mask(points, image_width=width, image_height=height)
            assert list(encode_mask(bitmap, [left, top, left + wide, top + high])) == points
            labels[bitmap] = classes.index(mask.get("label")) + 1
        yield PurePosixPath(image.get("name")).stem, labels


def by_webdataset(shards: Path) -> Labels:
    for archive in sorted(shards.glob("*.tar")):
        # Its own decoders make RGB of the mask's colours.
        indices = wds.handle_extension("mask.png", lambda data: np.asarray(Image.open(io.BytesIO(data))))
        for sample in wds.WebDataset(str(archive), shardshuffle=False).decode(indices, "pil"):
            assert {"jpg", "json", "mask.png"} <= set(sample), set(sample)
            yield sample["__key__"], sample["mask.png"]


def read_all(folder: Path, classes: list[str]) -> dict[str, np.ndarray]:
    ours, images = folder / "ours", folder / "images"
    coco = COCO(str(ours / "coco" / "annotations.json"))
    readers: dict[str, Labels] = {
        "pycocotools": by_pycocotools(coco),
        "pycocotools, results": by_pycocotools(coco.loadRes(str(ours / "coco" / "results.json"))),
        "supervision": by_supervision(images, ours / "coco" / "annotations.json"),
        "datumaro, COCO": by_datumaro(ours / "datumaro-coco", "coco_instances", classes),
        "datumaro, panoptic": by_datumaro(ours / "datumaro-panoptic", "coco_panoptic", classes),
        "datumaro, CVAT's XML": by_datumaro(ours / "cvat.xml", "cvat", classes),
        "datumaro, CVAT's masks": by_datumaro(ours / "cvat-masks", "voc_segmentation", classes),
        "label-studio-sdk": by_label_studio(ours / "label-studio" / "tasks.json", classes),
        "cvat-sdk": by_cvat(ours / "cvat.xml", classes),
        "webdataset": by_webdataset(ours / "shards"),
    }
    return {f"{package}/{name}": labels for package, read in readers.items() for name, labels in read}


def coco_file(truth: dict[str, np.ndarray], classes: list[str], segmentation: Any) -> dict[str, Any]:
    """A COCO file with one annotation for each class in an image."""
    annotations: list[dict[str, Any]] = []
    for number, labels in enumerate(truth.values(), start=1):
        for value in sorted(set(labels.ravel().tolist()) - {0}):
            code = coco_mask.encode(np.asfortranarray(labels == value))
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": value, "iscrowd": 0}
            area, box = float(coco_mask.area(code)), coco_mask.toBbox(code).tolist()
            annotations.append(entry | {"segmentation": segmentation(code), "area": area, "bbox": box})
    images = [
        {"id": number, "file_name": f"{name}.jpg", "height": labels.shape[0], "width": labels.shape[1]}
        for number, (name, labels) in enumerate(truth.items(), start=1)
    ]
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_all(folder: Path, truth: dict[str, np.ndarray], classes: list[str]) -> dict[str, np.ndarray]:
    """Write what subcam reads; returns what of it is not as in `truth`, as pycocotools draws it."""
    theirs, images = folder / "theirs", folder / "images"
    theirs.mkdir()
    compressed = coco_file(truth, classes, lambda code: {**code, "counts": code["counts"].decode()})
    (theirs / "pycocotools.json").write_text(json.dumps(compressed))

    items = [
        dm.DatasetItem(
            id=name,
            media=dm.Image.from_file(path=str(images / f"{name}.jpg")),
            annotations=[dm.Mask(labels == v, label=v - 1) for v in sorted(set(labels.ravel().tolist()) - {0})],
        )
        for name, labels in truth.items()
    ]
    dataset = dm.Dataset.from_iterable(items, categories=classes)
    dataset.export(str(theirs / "datumaro-coco"), "coco_instances", save_media=True)
    for item in items:
        item.subset = "train"
    dm.Dataset.from_iterable(items, categories=classes).export(
        str(theirs / "datumaro-voc"), "voc_segmentation", save_media=True, label_map="source"
    )

    detections = {}
    for name, labels in truth.items():
        values = np.array(sorted(set(labels.ravel().tolist()) - {0}))
        masks = labels[None] == values[:, None, None]
        boxes = sv.mask_to_xyxy(masks).astype(np.float32)
        detections[str(images / f"{name}.jpg")] = sv.Detections(xyxy=boxes, mask=masks, class_id=values - 1)
    (theirs / "supervision").mkdir()
    written = theirs / "supervision" / "annotations.json"
    sv.DetectionDataset(classes, list(detections), detections).as_coco(annotations_path=str(written))

    with wds.ShardWriter(str(theirs / "shards-%03d.tar"), maxcount=2, verbose=0) as shards:
        for name, labels in truth.items():
            shown = [classes[v - 1] for v in sorted(set(labels.ravel().tolist()) - {0})]
            image = (images / f"{name}.jpg").read_bytes()
            shards.write({"__key__": name, "jpg": image, "json": {"labels": shown}, "mask.png": png(labels)})

    tasks = [label_studio_task(name, labels, classes) for name, labels in truth.items()]
    (theirs / "label-studio.json").write_text(json.dumps(tasks))
    drawn = COCO(str(written))
    alphas = soft_brushes(theirs / "soft-brushes.json", truth)
    return {f"supervision/{name}": labels for name, labels in by_pycocotools(drawn)} | alphas


def soft_brushes(path: Path, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Brushes in any colours, see-through by any degree, by Label Studio's encoder; returns what its decoder reads."""
    codes, alphas = {}, {}
    for number, (name, labels) in enumerate(truth.items()):
        pixels = np.random.default_rng(number).integers(0, 256, (*labels.shape, 4), dtype=np.uint8)
        pixels[labels == 0] = 0
        codes[name] = brush.encode_rle(pixels.ravel())
        alphas[f"label-studio-sdk, soft/{name}"] = brush.decode_rle(codes[name]).reshape(pixels.shape)[..., 3]
    path.write_text(json.dumps(codes))
    return alphas


def label_studio_task(name: str, labels: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """An annotation with the brush, as Label Studio's export has it."""
    results = []
    for value in sorted(set(labels.ravel().tolist()) - {0}):
        pixels = np.repeat((labels == value).astype(np.uint8)[..., None] * 255, 4, axis=2)
        region = {"rle": brush.encode_rle(pixels.ravel()), "format": "rle", "brushlabels": [classes[value - 1]]}
        results.append({"type": "brushlabels", "from_name": "label", "to_name": "image", "value": region})
    return {"id": 1, "data": {"image": f"/data/upload/1/{name}.jpg"}, "annotations": [{"id": 1, "result": results}]}


def png(labels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(labels).save(file, "PNG")
    return file.getvalue()


def main(folder: Path) -> None:
    with np.load(folder / "truth.npz") as arrays:
        truth = {name: arrays[name] for name in arrays.files}
    classes = json.loads((folder / "classes.json").read_text("utf-8"))
    with contextlib.redirect_stdout(sys.stderr):
        found = read_all(folder, classes)
        found |= {f"drawn/{key}": labels for key, labels in write_all(folder, truth, classes).items()}
    np.savez(folder / "read.npz", **{key.replace("/", "|"): labels for key, labels in found.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
