"""Photographs that are none: smooth colours with noise as JPEGs of VOC's size, labels and masks drawn by chance."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.crf import photographs
from benchmarks.gpu.given import Given
from subcam.data.check import CheckedImages
from subcam.data.images import voc_palette, write_mask
from subcam.data.records import ImageSet, Record

FILES = 32
CLASSES = 20


def made_images(given: Given, count: int) -> CheckedImages:
    """`count` images of one size with two labels each and a mask; every file stands for many of them."""
    height, width = (48, 64) if given.tiny else (375, 500)
    files = 2 if given.tiny else FILES
    folder = given.scratch / "made"
    rng = np.random.default_rng(0)
    for place, image in enumerate(photographs(None, height, width) * -(-files // 4)):
        if place < files and not (folder / f"{place}.png").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(image, 31 * place, 1)).save(folder / f"{place}.jpg", quality=90)
            blocks = Image.fromarray(rng.integers(0, CLASSES + 1, (6, 8)).astype(np.uint8))
            mask = np.array(blocks.resize((width, height), Image.Resampling.NEAREST))
            write_mask(folder / f"{place}.png", mask, palette=voc_palette())
    return CheckedImages(image_set=_image_set(folder, count, files), sizes=((height, width),) * count, digest="made")


def _image_set(folder: Path, count: int, files: int) -> ImageSet:
    records = tuple(
        Record(
            name=f"made-{index}",
            image=folder / f"{index % files}.jpg",
            labels=tuple(sorted({index % CLASSES, (7 * index + 3) % CLASSES})),
            mask=folder / f"{index % files}.png",
        )
        for index in range(count)
    )
    names = tuple(f"class {index}" for index in range(CLASSES))
    return ImageSet(class_names=names, records=records, mask_values=(*range(CLASSES + 1), *[255] * (255 - CLASSES)))
