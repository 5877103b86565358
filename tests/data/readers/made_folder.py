"""Small images, masks and tables of labels in a plain folder, for the tests of what reads them."""

from pathlib import Path

import numpy as np
from PIL import Image

from subcam.data.images import voc_palette, write_mask
from subcam.data.records import ImageSet


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (90, 90, 90)).save(path)


def without_labels(folder: Path) -> Path:
    """A folder with images a, b and sub/c, in `images`, and no labels yet."""
    for name in ("a", "b", "sub/c"):
        image(folder / "images" / f"{name}.png")
    return folder


def labels(root: Path, text: str, *, encoding: str = "utf-8") -> None:
    (root / "labels.csv").write_bytes(text.encode(encoding))


def mask(path: Path, *values: int) -> None:
    write_mask(path, np.resize(np.array(values, np.uint8), (4, 6)), palette=voc_palette())


def named(image_set: ImageSet) -> dict[str, set[str]]:
    return {record.name: {image_set.class_names[index] for index in record.labels} for record in image_set.records}
