"""A generated data set on which the paper's effect can be seen and scored in minutes: written as a plain folder.

Each object has a small give-away part (a head with its class's pattern) and a larger, plainer rest (a body that tells
little about the class). Inside a class there are sub-types that differ in size, pose, body tint and context, so that a
clustering can find them and a classifier of sub-types has to look at the whole object. Masks cover head and body.
"""

import csv
import io
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from subcam.checks.arguments import takes_arrays
from subcam.data.images import voc_palette, write_mask
from subcam.data.settings import ToySettings
from subcam.runtime.documents.plain_values import as_plain
from subcam.runtime.files import atomic_write, read_json, write_json

CLASSES = ("ringtail", "checkerback", "crossbill", "dotfish")
SUBTYPES = ("large-flat-meadow", "small-upright-meadow", "large-slanted-sea", "small-flat-sea")
CONTEXTS = {"meadow": (0.36, 0.50, 0.30), "sea": (0.32, 0.44, 0.56)}
HEAD_COLOURS = ((0.85, 0.20, 0.20), (0.90, 0.75, 0.15), (0.55, 0.20, 0.70), (0.10, 0.70, 0.60))
BODY_TINTS = ((0.62, 0.52, 0.44), (0.44, 0.56, 0.60), (0.58, 0.60, 0.42), (0.60, 0.46, 0.56))
POSE_DEGREES = {"flat": 0.0, "upright": 90.0, "slanted": 40.0}
BODY_LENGTH = {"large": 0.36, "small": 0.25}


@takes_arrays()
def write_toy(folder: Path, settings: ToySettings) -> Path:
    """Write images, masks, `labels.csv`, `classes.txt` and the true sub-types into `folder`; returns it.

    A folder that holds the same set already is left as it is.
    """
    record = folder / "toy.json"
    if record.is_file() and read_json(record) == as_plain(settings):
        return folder
    labels = [["image", "labels", "split"]]
    subtypes = [["image", "class", "subtype"]]
    for split, count in (("train", settings.train_images), ("val", settings.val_images)):
        for index in range(count):
            rng = np.random.default_rng((settings.seed, split == "val", index))
            image, mask, objects = draw_toy(rng, settings)
            name = f"{split}-{index:05d}.png"
            with atomic_write(folder / "images" / name, durable=False) as file:
                Image.fromarray(image).save(file, format="PNG")
            write_mask(folder / "masks" / name, mask, palette=voc_palette(), durable=False)
            labels.append([f"images/{name}", ";".join(CLASSES[c] for c, _ in sorted(objects)), split])
            subtypes.extend([f"images/{name}", CLASSES[c], SUBTYPES[s]] for c, s in sorted(objects))
    _write_csv(folder / "subtypes.csv", subtypes)
    _write_csv(folder / "labels.csv", labels)
    with atomic_write(folder / "classes.txt", "w") as file:
        file.write("\n".join(CLASSES) + "\n")
    write_json(record, settings)
    return folder


def draw_toy(
    rng: np.random.Generator, settings: ToySettings
) -> tuple[UInt8[np.ndarray, "size size 3"], UInt8[np.ndarray, "size size"], list[tuple[int, int]]]:
    """One image (RGB 0..255), its mask (0 background, class + 1) and its objects as (class, sub-type).

    The first object's sub-type sets the context of the image; objects that are drawn later lie in front.
    """
    size = settings.size
    count = 1 + (rng.random() < settings.second_object)
    classes = rng.permutation(len(CLASSES))[:count]
    objects = [(int(c), int(rng.integers(len(SUBTYPES)))) for c in classes]
    context = SUBTYPES[objects[0][1]].split("-")[2]
    image = np.array(CONTEXTS[context]) * (1 + 0.35 * _smooth_noise(rng, size)[..., None])
    mask = np.zeros((size, size), np.uint8)
    centres = rng.permutation([(0.32, 0.32), (0.68, 0.68), (0.32, 0.68), (0.68, 0.32)])[:count]
    for (kind, subtype), centre in zip(objects, centres if count > 1 else [rng.uniform(0.38, 0.62, 2)], strict=True):
        shape = 0.75 if count > 1 else 1.0
        _draw_object(rng, image, mask, kind, subtype, centre, shape * size, settings.class_tint)
    image += rng.normal(0, 0.03, image.shape)
    return (image.clip(0, 1) * 255).round().astype(np.uint8), mask, objects


def _draw_object(
    rng: np.random.Generator,
    image: Float[np.ndarray, "h w 3"],
    mask: UInt8[np.ndarray, "h w"],
    kind: int,
    subtype: int,
    centre: Float[np.ndarray, " 2"],
    scale: float,
    class_tint: float,
) -> None:
    """Paint body and head of one object over `image` and `mask` (these two are drawn on)."""
    extent, pose, _ = SUBTYPES[subtype].split("-")
    angle = np.radians(POSE_DEGREES[pose] + rng.normal(0, 8)) + np.pi * (rng.random() < 0.5)
    length = BODY_LENGTH[extent] * scale * rng.uniform(0.9, 1.1)
    width = 0.55 * length
    y, x = np.mgrid[: len(image), : len(image)] - len(image) * centre[:, None, None]
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    body = (along / length) ** 2 + (across / width) ** 2 < 1
    tint = (1 - class_tint) * np.array(BODY_TINTS[subtype]) + class_tint * np.array(HEAD_COLOURS[kind])
    shading = 1 + 0.15 * _smooth_noise(rng, len(image)) + 0.10 * across / max(width, 1.0)
    image[body] = (tint * shading[..., None])[body]

    radius = 0.075 * scale
    ahead = along - 0.95 * length
    head = ahead**2 + across**2 < radius**2
    marked = head & _pattern(kind, ahead / radius, across / radius)
    image[head] = HEAD_COLOURS[kind]
    image[marked] = (0.05, 0.05, 0.08)
    mask[body | head] = kind + 1


def _pattern(kind: int, u: Float[np.ndarray, "h w"], v: Float[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The dark part of a class's head, over head coordinates in -1..1."""
    radius = np.hypot(u, v)
    return {
        0: (radius > 0.45) & (radius < 0.8),
        1: (np.floor(2.2 * u) + np.floor(2.2 * v)) % 2 == 0,
        2: (np.abs(u) < 0.28) | (np.abs(v) < 0.28),
        3: radius < 0.5,
    }[kind]


def _smooth_noise(rng: np.random.Generator, size: int) -> Float[np.ndarray, "size size"]:
    """Noise of two octaves, roughly -1..1."""
    total = np.zeros((size, size))
    for cells, strength in ((4, 0.7), (12, 0.3)):
        coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
        total += strength * np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return total


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic_write(path, "w") as file:
        file.write(text.getvalue())
