"""PASCAL VOC's layout: a small folder written by hand, and the photographs against a plain reading of their XML."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.data.images import read_mask, voc_palette, write_mask
from subcam.data.readers.voc import VOC_CLASSES, read_voc
from subcam.data.records import ImageSet
from subcam.errors import BadInputError

OBJECTS = {"a": ("cat", "cat", "dog"), "b": ("sheep",), "c": ("person", "cat"), "d": ("sofa",)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images; all but "d" have a mask in SegmentationClassAug, all have one in SegmentationClass."""
    tmp_path = tmp_path / "VOCdevkit" / "VOC2012"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Segmentation", "SegmentationClass", "SegmentationClassAug"):
        (tmp_path / folder).mkdir(parents=True)
    for name, objects in OBJECTS.items():
        Image.new("RGB", (6, 4), (90, 90, 90)).save(tmp_path / "JPEGImages" / f"{name}.jpg")
        write_annotation(tmp_path, name, objects)
        write_mask(tmp_path / "SegmentationClass" / f"{name}.png", np.zeros((4, 6), np.uint8), palette=voc_palette())
        if name != "d":
            mask = np.full((4, 6), VOC_CLASSES.index(objects[0]) + 1, np.uint8)
            mask[0] = (0, 8, 12, 17, 15, 255)
            write_mask(tmp_path / "SegmentationClassAug" / f"{name}.png", mask, palette=voc_palette())
    write_split(tmp_path, "train_aug", "a\nb\nc\nd\n")
    return tmp_path


def write_annotation(root: Path, name: str, objects: tuple[str, ...]) -> None:
    listed = "".join(
        f"<object><name>{item}</name><difficult>{int(place > 0)}</difficult><part><name>head</name></part></object>"
        for place, item in enumerate(objects)
    )
    (root / "Annotations" / f"{name}.xml").write_text(
        f"<annotation><filename>{name}.jpg</filename>{listed}</annotation>"
    )


def write_split(root: Path, split: str, text: str) -> None:
    (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(text)


def named(image_set: ImageSet) -> dict[str, set[str]]:
    return {record.name: {image_set.class_names[index] for index in record.labels} for record in image_set.records}


def test_labels_are_all_objects_difficult_or_not(root: Path) -> None:
    image_set = read_voc(root)
    assert image_set.class_names == VOC_CLASSES
    assert named(image_set) == {name: set(objects) for name, objects in OBJECTS.items()}
    assert [record.labels for record in image_set.records] == [tuple(sorted(r.labels)) for r in image_set.records]


def test_masks_are_the_augmented_ones(root: Path) -> None:
    masks = {record.name: record.mask for record in read_voc(root).records}
    assert masks["a"] == root / "SegmentationClassAug" / "a.png"
    assert masks["d"] is None


def test_masks_of_voc_alone(root: Path) -> None:
    (root / "SegmentationClassAug").rename(root / "elsewhere")
    assert [record.mask for record in read_voc(root).records] == [
        root / "SegmentationClass" / f"{name}.png" for name in OBJECTS
    ]
    (root / "SegmentationClass").rename(root / "elsewhere_too")
    assert not read_voc(root).has_masks


def test_a_choice_of_classes_in_its_own_order(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        image_set = read_voc(root, classes=("sheep", "cat"))
    assert named(image_set) == {"a": {"cat"}, "b": {"sheep"}, "c": {"cat"}}
    assert image_set.records[0].labels == (1,)
    assert "left out 1 of 4 images" in caplog.text
    mask = image_set.records[0].mask
    assert mask is not None
    # stored: background, cat, dog, sheep, person, border
    np.testing.assert_array_equal(read_mask(mask, image_set.mask_values)[0], [0, 2, 255, 1, 255, 255])


def test_images_without_the_chosen_classes_can_stay(root: Path) -> None:
    image_set = read_voc(root, classes=("sheep", "cat"), keep_unlabelled=True)
    assert named(image_set)["d"] == set()
    np.testing.assert_array_equal(image_set.labels, [[0, 1], [1, 0], [0, 1], [0, 0]])


def test_split_lines_of_other_tools(root: Path) -> None:
    write_split(root, "train_aug", "\ufeff/JPEGImages/a.jpg /SegmentationClassAug/a.png\n\n  b  \n")
    assert list(named(read_voc(root))) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty split"),
        ("\n \n", "empty split"),
        ("a\nb\na\n", r"train_aug\.txt:3: duplicate name 'a', first on line 1"),
        ("a\n../b\n", r":2: expected one name such as 2007_000032, got '\.\./b'"),
        ("a\n..\n", r":2: expected one name"),
        ("a 1\n", r":1: expected one name"),
        ("/JPEGImages/../../x/y.jpg\n", r":1: expected one name"),
    ],
)
def test_bad_splits(root: Path, text: str, message: str) -> None:
    write_split(root, "train_aug", text)
    with pytest.raises(BadInputError, match=message):
        read_voc(root, on_bad_input="skip")


def test_missing_split_lists_the_others(root: Path) -> None:
    write_split(root, "val", "a\n")
    with pytest.raises(BadInputError, match=r"test\.txt: no such split; there are: train_aug, val"):
        read_voc(root, split="test")


def test_the_folder_above_is_recognised(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(BadInputError, match=f"expected PASCAL VOC 2012's layout.*use {re.escape(str(root))}"):
        read_voc(root.parent)
    with pytest.raises(BadInputError, match=f"use {re.escape(str(root))}"):
        read_voc(root.parent.parent)
    with pytest.raises(BadInputError, match="give the folder that holds JPEGImages"):
        read_voc(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("cat", "hors"), "unknown class 'hors': did you mean 'horse'"),
        (("cat", "cat"), "each class once"),
        ((), "empty list"),
    ],
)
def test_bad_choices_of_classes(root: Path, classes: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_voc(root, classes=classes)


BAD_RECORDS = {
    "no image": (lambda root: (root / "JPEGImages/b.jpg").rename(root / "x"), r"b\.jpg: no such file"),
    "no annotation": (lambda root: (root / "Annotations/b.xml").rename(root / "x"), r"b\.xml: no such file"),
    "cut annotation": (
        lambda root: (root / "Annotations/b.xml").write_text("<annotation><obj"),
        r"b\.xml: .*cannot be read",
    ),
    "unknown class": (
        lambda root: write_annotation(root, "b", ("ship",)),
        r"b\.xml: unknown class 'ship': did you mean 'sheep'",
    ),
}


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_bad_records_stop_or_are_skipped(root: Path, kind: str) -> None:
    spoil, message = BAD_RECORDS[kind]
    spoil(root)
    with pytest.raises(BadInputError, match=message):
        read_voc(root)
    image_set = read_voc(root, on_bad_input="skip")
    assert list(named(image_set)) == ["a", "c", "d"]
    (skipped,) = image_set.skipped
    assert skipped.file == "b"
    assert re.search(message, skipped.reason)


def test_nothing_usable(root: Path) -> None:
    with pytest.raises(BadInputError, match=r"got none of 4 \(0 bad, 4 without these classes\)"):
        read_voc(root, classes=("bus",))


@pytest.mark.data
def test_photographs_against_their_text(voc_animals: Path) -> None:
    image_set = read_voc(voc_animals, split="val")
    names = (voc_animals / "ImageSets/Segmentation/val.txt").read_text().split()
    assert [record.name for record in image_set.records] == names
    for record, row in zip(image_set.records, image_set.labels, strict=True):
        annotation = (voc_animals / "Annotations" / f"{record.name}.xml").read_text()
        expected = [f"<name>{name}</name>" in annotation for name in VOC_CLASSES]
        np.testing.assert_array_equal(row, expected)


@pytest.mark.data
def test_counts_of_the_photographs(voc_animals: Path) -> None:
    classes = ("cat", "cow", "dog", "horse", "person", "sheep")
    image_set = read_voc(voc_animals, classes=classes)
    assert len(image_set) == 1216
    assert image_set.labels.sum(0).tolist() == [253, 250, 250, 251, 301, 250]
    assert all(record.mask for record in image_set.records)
