"""The generated set: the same every time, labels that agree with the masks, and something for a clustering to find."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.data.images import read_image, read_mask
from subcam.data.readers import toy
from subcam.data.readers.folder import read_folder
from subcam.data.readers.toy import CLASSES, SUBTYPES, draw_toy, write_toy
from subcam.data.settings import ToySettings

SMALL = ToySettings(train_images=12, val_images=4, size=40, second_object=0.4)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(path: Path) -> list[list[str]]:
    return list(csv.reader(path.open(encoding="utf-8")))


def test_one_seed_gives_one_set_to_the_byte(tmp_path: Path) -> None:
    first = content(write_toy(tmp_path / "first", SMALL))
    assert first == content(write_toy(tmp_path / "second", SMALL))
    assert len([name for name in first if name.startswith("images/")]) == 16
    other = content(write_toy(tmp_path / "other", replace(SMALL, seed=1)))
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first if name.startswith("images/"))


def test_more_images_change_no_earlier_ones(tmp_path: Path) -> None:
    few, many = (content(write_toy(tmp_path / str(n), replace(SMALL, train_images=n, val_images=2))) for n in (2, 3))
    assert all(many[name] == data for name, data in few.items() if name.endswith(".png"))


def test_a_set_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    write_toy(tmp_path, SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write_toy(tmp_path, SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_a_set_that_was_cut_off_is_made_whole(tmp_path: Path) -> None:
    whole = content(write_toy(tmp_path / "whole", SMALL))
    write_toy(tmp_path / "cut", SMALL)
    for name in ("toy.json", "labels.csv", "images/train-00011.png"):
        (tmp_path / "cut" / name).unlink()
    assert content(write_toy(tmp_path / "cut", SMALL)) == whole


def test_it_is_read_back_as_a_plain_folder(tmp_path: Path) -> None:
    folder = write_toy(tmp_path, SMALL)
    drawn = {row[0]: row[1].split(";") for row in table(folder / "labels.csv")[1:]}
    for split, count in (("train", 12), ("val", 4)):
        found = read_folder(folder, split=split)
        assert found.class_names == CLASSES
        assert len(found) == count
        for record in found.records:
            names = {CLASSES[label] for label in record.labels}
            assert names == set(drawn[f"images/{record.name}.png"])
            assert record.mask is not None
            assert read_image(record.image).shape == (40, 40, 3)
            mask = read_mask(record.mask, found.mask_values, size=(40, 40))
            assert set(np.unique(mask).tolist()) == {0} | {label + 1 for label in record.labels}


def test_the_table_of_subtypes_names_every_object(tmp_path: Path) -> None:
    folder = write_toy(tmp_path, SMALL)
    labels = Counter((image, name) for image, names, _ in table(folder / "labels.csv")[1:] for name in names.split(";"))
    subtypes = table(folder / "subtypes.csv")
    assert subtypes[0] == ["image", "class", "subtype"]
    assert Counter((image, name) for image, name, _ in subtypes[1:]) == labels
    assert {subtype for _, _, subtype in subtypes[1:]} <= set(SUBTYPES)


def test_every_class_and_subtype_occurs_alone_and_with_others() -> None:
    settings = ToySettings(size=48, second_object=0.5)
    drawn = [draw_toy(np.random.default_rng(index), settings) for index in range(150)]
    alone = {tuple(objects[0]) for _, _, objects in drawn if len(objects) == 1}
    assert alone == {(kind, subtype) for kind in range(len(CLASSES)) for subtype in range(len(SUBTYPES))}
    two = [(mask, objects) for _, mask, objects in drawn if len(objects) == 2]
    assert 50 < len(two) < 100
    for mask, objects in two:
        assert objects[0][0] != objects[1][0]
        assert set(np.unique(mask).tolist()) == {0, objects[0][0] + 1, objects[1][0] + 1}


def draw_one(kind: int, subtype: int, *, class_tint: float, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """One object on a canvas of a colour that no object has, and its mask."""
    image, mask = np.full((size, size, 3), -1.0), np.zeros((size, size), np.uint8)
    rng = np.random.default_rng((kind == -1, subtype))
    toy._draw_object(rng, image, mask, kind, subtype, np.array([0.5, 0.5]), float(size), class_tint)
    return image, mask


@pytest.mark.parametrize("kind", range(len(CLASSES)))
@pytest.mark.parametrize("subtype", range(len(SUBTYPES)))
def test_the_mask_is_what_was_painted_and_most_of_it_tells_nothing(kind: int, subtype: int) -> None:
    """Without tint, an object differs from one of another class in its head alone, a small part of the mask."""
    image, mask = draw_one(kind, subtype, class_tint=0.0)
    painted = (image != -1).any(2)
    assert (painted == (mask == kind + 1)).all()
    assert (image[painted] >= 0).all()
    other, other_mask = draw_one((kind + 1) % len(CLASSES), subtype, class_tint=0.0)
    assert ((mask > 0) == (other_mask > 0)).all()
    gives_away = (image != other).any(2)
    assert gives_away.any()
    assert gives_away[mask == 0].sum() == 0
    assert gives_away.sum() < 0.35 * painted.sum()
    assert ((image == (0.05, 0.05, 0.08)).all(2) & painted).any()  # the dark part of the head's pattern
    tinted, _ = draw_one(kind, subtype, class_tint=0.5)
    assert (tinted != image).any(2).sum() > 0.5 * painted.sum()


def test_context_and_size_belong_to_the_subtype() -> None:
    areas: dict[str, list[int]] = {"large": [], "small": []}
    backgrounds: dict[str, list[np.ndarray]] = {"meadow": [], "sea": []}
    for index in range(60):
        image, mask, objects = draw_toy(np.random.default_rng(index), ToySettings(second_object=0.0))
        extent, _, context = SUBTYPES[objects[0][1]].split("-")
        areas[extent].append(int((mask > 0).sum()))
        backgrounds[context].append(image[mask == 0].mean(0))
    assert min(areas["large"]) > 1.2 * max(areas["small"])
    meadow, sea = (np.array(backgrounds[name]) for name in ("meadow", "sea"))
    assert meadow[:, 2].max() < sea[:, 2].min()  # the sea is the bluer one


def test_images_are_rgb_pngs_and_masks_are_indexed(tmp_path: Path) -> None:
    folder = write_toy(tmp_path, replace(SMALL, train_images=1, val_images=1))
    with Image.open(folder / "images" / "train-00000.png") as image:
        assert (image.mode, image.size) == ("RGB", (40, 40))
    with Image.open(folder / "masks" / "train-00000.png") as mask:
        assert (mask.mode, mask.size) == ("P", (40, 40))
