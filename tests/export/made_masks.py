"""Folders of made masks with images beside them, for the tests of every format."""

from pathlib import Path

import numpy as np
from PIL import Image

from subcam.data.images import voc_palette, write_mask

NAMES = ("cat", "dog", "potted plant & <pot>")
"""The third has what XML and URLs must escape."""

SIZES = {"2008_000001": (24, 31), "2008_000002": (17, 40), "2008_000007": (30, 30)}


def made_labels(size: tuple[int, int], seed: int) -> np.ndarray:
    """Blobs of classes 0..3: several pieces, holes, pixels that touch by a corner only, some without a label."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(size, np.uint8)
    rows, columns = np.indices(size)
    for value in (1, 2, 3, 1, 255):
        y, x = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        distance = np.hypot(rows - y, columns - x)
        labels[(distance < rng.uniform(4, 9)) & (distance > rng.uniform(0, 3))] = value
    labels[rng.random(size) < 0.03] = 2
    labels[:2, :2] = [[3, 0], [0, 3]]
    return labels


def write_made(
    folder: Path, *, names: tuple[str, ...] | None = NAMES, unlabelled: bool = True
) -> dict[str, np.ndarray]:
    """Write masks/NAME.png, classes.csv and images/NAME.jpg into `folder`; returns the label maps."""
    made = {}
    for seed, (name, size) in enumerate(SIZES.items()):
        made[name] = made_labels(size, seed)
        if not unlabelled:
            made[name][made[name] == 255] = 0
        write_mask(folder / "masks" / f"{name}.png", made[name], palette=voc_palette(), durable=False)
        (folder / "images").mkdir(exist_ok=True)
        Image.new("RGB", size[::-1]).save(folder / "images" / f"{name}.jpg")
    if names is not None:
        rows = "".join(f'{value},"{name}"\n' for value, name in enumerate(("background", *names)))
        (folder / "classes.csv").write_text(f"index,name\n{rows}255,unlabelled\n")
    return made
