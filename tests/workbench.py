"""A folder in which the commands of the documents can be run: everything that they name, small."""

from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from subcam.settings import RunSettings

NAMES = {"ringtail": "cat", "checkerback": "cow", "crossbill": "dog", "dotfish": "horse"}
"""The drawn creatures pass for animals of VOC, so that VOC's formats take them."""

ANNOTATION = "<annotation>{}</annotation>"
OBJECT = "<object><name>{}</name></object>"


def build(folder: Path, *, settings: "RunSettings", toy_folder: Path) -> Path:
    """Write into `folder` what the commands of the documents name; returns it.

    my-images: a folder with a CSV. more-images, images: images alone. VOC2012: the same in VOC's layout.
    runs/mine: a run with a segmentation network. predictions: what that says of `images`. val.txt, test.txt: names.
    broken: a folder for each mistake that the page on troubleshooting makes.
    """
    from subcam.pipeline import run
    from subcam.predict.run import predict
    from subcam.predict.settings import PredictSettings

    mine = folder / "my-images"
    copytree(toy_folder, mine)
    for file in ("labels.csv", "classes.txt"):
        text = (mine / file).read_text("utf-8")
        for drawn, animal in NAMES.items():
            text = text.replace(drawn, animal)
        (mine / file).write_text(text, "utf-8")
    for name in ("images", "more-images"):
        copytree(mine / "images", folder / name)
    _write_voc(folder / "VOC2012", mine)
    for name in ("val", "test"):
        (folder / f"{name}.txt").write_text((folder / "VOC2012/ImageSets/Segmentation/val.txt").read_text())

    settings = replace(
        settings,
        rounds=0,
        dataset=replace(settings.dataset, root=str(mine)),
        segment=replace(settings.segment, train_on=("truth",), train=replace(settings.segment.train, epochs=1)),
    )
    run(settings, folder / "runs" / "mine", recipe="small")
    predict(PredictSettings(), model=folder / "runs/mine", inputs=(folder / "images",), out=folder / "predictions")
    _write_broken(folder / "broken", mine)
    return folder


def _write_voc(root: Path, mine: Path) -> None:
    from subcam.data.images import read_mask, voc_palette, write_mask
    from subcam.data.readers.folder import read_folder
    from subcam.data.readers.voc import VOC_CLASSES

    for name in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for split in ("train", "val"):
        images = read_folder(mine, split=split)
        values = np.array([0, *(VOC_CLASSES.index(name) + 1 for name in images.class_names)], np.uint8)
        for record in images.records:
            name = record.image.stem
            Image.open(record.image).convert("RGB").save(root / "JPEGImages" / f"{name}.jpg")
            objects = "".join(OBJECT.format(images.class_names[c]) for c in record.labels)
            (root / "Annotations" / f"{name}.xml").write_text(ANNOTATION.format(objects))
            truth = values[read_mask(record.mask, mask_values=images.mask_values)]
            write_mask(root / "SegmentationClassAug" / f"{name}.png", truth, palette=voc_palette())
        names = "".join(f"{record.image.stem}\n" for record in images.records)
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text(names)


def _write_broken(folder: Path, mine: Path) -> None:
    image = (mine / "images" / "train-00000.png").read_bytes()
    tables = {
        "missing": "image,labels\nbeach.png,dog\nbaech.png,cat\n",
        "cut-off": "image,labels\nbeach.png,dog\nstreet.png,cat\n",
        "spelling": "image,labels\nbeach.png,Dog\nstreet.png,dog\n",
        "twice": "image,labels\nbeach.png,dog\nstreet.png,cat\nbeach.png,dog\n",
        "cells": "image,labels\nbeach.png,dog\nstreet.png,dog,cat\n",
        "mask-size": "image,labels\nbeach.png,dog\n",
        "mask-value": "image,labels\nbeach.png,dog\n",
        "unknown": "image,labels\nbeach.png,dgo\n",
    }
    for name, table in tables.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "labels.csv").write_text(table)
        for file in ("beach.png", "street.png"):
            (folder / name / file).write_bytes(image)
    (folder / "cut-off" / "street.png").write_bytes(image[: len(image) // 2])
    (folder / "unknown" / "classes.txt").write_text("cat\ndog\n")
    height, width = np.asarray(Image.open(mine / "images" / "train-00000.png")).shape[:2]
    for name, mask in (
        ("mask-size", np.zeros((height // 2, width // 2), np.uint8)),
        ("mask-value", np.full((height, width), 7, np.uint8)),
    ):
        (folder / name / "masks").mkdir()
        Image.fromarray(mask).save(folder / name / "masks" / "beach.png")
    (folder / "no-labels").mkdir()
    (folder / "no-labels" / "beach.png").write_bytes(image)
    (folder / "weights.pth").write_bytes(b"<html>404 Not Found</html>")
