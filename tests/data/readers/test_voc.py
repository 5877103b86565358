"""PASCAL VOC's layout: a small folder written by hand, and the photographs against a plain reading of their XML."""

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.data.dataset import open_dataset, open_splits
from subcam.data.images import read_mask, voc_palette, write_mask
from subcam.data.readers.voc import VOC_CLASSES, read_names, read_voc, voc_splits
from subcam.data.records import ImageSet
from subcam.data.settings import DatasetSettings
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
        ("", "empty list"),
        ("\n \n", "empty list"),
        ("a\nb\na.jpg\n", r"train_aug\.txt:3: duplicate name 'a', first on line 1"),
        ("a\n../b\n", r":2: expected a path inside the folder of images without '\.\.', got '\.\./b'"),
        ("a\n..\n", r":2: expected a path inside"),
        ("a  1\n", r":1: expected one name such as 2007_000032, got 'a  1', as in the list of one class"),
        ("/JPEGImages/../../x/y.jpg\n", r":1: expected a path inside"),
        ("/etc/x.jpg\n", r":1: expected a path inside"),
    ],
)
def test_bad_splits(root: Path, text: str, message: str) -> None:
    write_split(root, "train_aug", text)
    with pytest.raises(BadInputError, match=message):
        read_voc(root, on_bad_input="skip")


def test_names_of_a_list(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    lines = (
        "2007_000032",
        "",
        "sub/one two.jpg",
        "/JPEGImages/a.jpg /SegmentationClassAug/a.png",
        r"JPEGImages\s\b.JPG",
    )
    path.write_text("\n".join(lines))
    assert read_names(path) == ("2007_000032", "sub/one two", "a", "s/b")


def test_missing_split_lists_the_others(root: Path) -> None:
    write_split(root, "val", "a\n")
    with pytest.raises(BadInputError, match=r"test\.txt: no such split; there are: train_aug, val"):
        read_voc(root, split="test")


def test_the_folder_above_is_recognised(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(BadInputError, match=f"expected PASCAL VOC's layout.*use {re.escape(str(root))}"):
        read_voc(root.parent)
    with pytest.raises(BadInputError, match=f"use {re.escape(str(root))}"):
        read_voc(root.parent.parent)
    with pytest.raises(BadInputError, match="give the folder that holds JPEGImages"):
        read_voc(tmp_path_factory.mktemp("empty"))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("cat", "hors"), "unknown class name 'hors': did you mean 'horse'"),
        (("cat", "cat"), "expected each class once, got cat, cat"),
        ((), "expected the names of the classes, got none"),
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


# Sets of one's own in this layout

OWN = {"a": ("apple",), "b": ("pear", "apple"), "c": ("pear",)}


def own_set(root: Path, *, suffix: str = ".jpg", lists: str = "Segmentation", masks: bool = True) -> Path:
    """Apples and pears, with masks of the values 1 and 2, and one list, train."""
    for folder in ("JPEGImages", "Annotations", f"ImageSets/{lists}"):
        (root / folder).mkdir(parents=True)
    for name, objects in OWN.items():
        picture = root / "JPEGImages" / f"{name}{suffix}"
        Image.new("RGB", (6, 4), (90, 90, 90)).save(picture, format="PNG" if "png" in suffix.lower() else "JPEG")
        write_annotation(root, name, objects)
        if masks:
            mask = np.full((4, 6), 1 + (objects[0] == "pear"), np.uint8)
            write_mask(root / "SegmentationClass" / f"{name}.png", mask, palette=voc_palette())
    (root / "ImageSets" / lists / "train.txt").write_text("a\nb\nc\n")
    return root


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".JPG", ".jpeg", ".Jpeg"])
def test_images_of_any_kind(tmp_path: Path, suffix: str) -> None:
    found = read_voc(own_set(tmp_path, suffix=suffix), split="train")
    assert [record.image.name for record in found.records] == [f"{name}{suffix}" for name in OWN]


def test_classes_that_nothing_lists_are_those_that_occur_and_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = own_set(tmp_path / "own")
    found = read_voc(root, split="train")
    assert named(found) == {name: set(objects) for name, objects in OWN.items()}
    assert found.mask_values[:4] == (0, 1, 2, -1)
    assert "they are those that occur, sorted, with these values in masks: 1 apple, 2 pear" in caplog.text
    dataset = open_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work")
    assert list(dataset.scored) == ["train"]
    # a class that only another split has counts too: all splits have the same
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")
    assert read_voc(root, split="train").class_names == ("apple", "pear")


LISTS = {
    "labels.txt": ("__ignore__\n_background_\npear\napple\n", ("pear", "apple"), (0, 1, 2, -1)),
    "class_names.txt": ("_background_\npear\napple\n", ("pear", "apple"), (0, 1, 2, -1)),
    "classes.txt": ("pear\napple\nplum\n", ("pear", "apple", "plum"), (0, 1, 2, 3)),
    "labelmap.txt": (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\napple:0,128,0::\npear:128,128,0::\n",
        ("apple", "pear"),
        (0, -1, 1, 2),
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_classes_that_are_listed(tmp_path: Path, name: str) -> None:
    text, names, values = LISTS[name]
    root = own_set(tmp_path)
    (root / name).write_text(text)
    found = read_voc(root, split="train")
    assert found.class_names == names
    assert found.mask_values[:4] == values
    assert found.mask_values[255] == 255
    assert named(found) == {name: set(objects) for name, objects in OWN.items()}
    assert read_voc(root, split="train", classes=("pear",), keep_unlabelled=True).mask_values.count(1) == 1


def test_classes_that_are_given(tmp_path: Path) -> None:
    root = own_set(tmp_path)
    found = read_voc(root, split="train", classes=("pear", "apple"))
    assert (found.class_names, found.mask_values[:3]) == (("pear", "apple"), (0, 1, 2))
    with pytest.raises(BadInputError, match=r"a\.xml: unknown class 'apple'"):
        read_voc(root, split="train", classes=("pear",))


def test_whose_numbers_masks_have_must_be_clear(tmp_path: Path) -> None:
    """Classes of VOC beside others: either a name is misspelt, or the masks have numbers of their own."""
    root = own_set(tmp_path / "masks")
    write_annotation(root, "c", ("cat",))
    with pytest.raises(
        BadInputError, match=r"a\.xml: unknown class 'apple'.*If you have classes of your own, list them in labels\.txt"
    ):
        read_voc(root, split="train")
    root = own_set(tmp_path / "none", masks=False)
    write_annotation(root, "c", ("cat",))
    assert read_voc(root, split="train").class_names == ("apple", "cat", "pear")


def test_objects_without_a_name_and_background(tmp_path: Path) -> None:
    root = own_set(tmp_path)
    write_annotation(root, "a", ("apple", "nan"))
    write_annotation(root, "b", ("apple", "_background_"))
    with pytest.raises(BadInputError, match=r"a\.xml: expected the name of each object, got 'nan'"):
        read_voc(root, split="train")
    found = read_voc(root, split="train", on_bad_input="skip")
    assert named(found) == {"b": {"apple"}, "c": {"pear"}}


def test_lists_of_other_places(tmp_path: Path) -> None:
    root = own_set(tmp_path, lists="Main", masks=False)
    (root / "ImageSets/Main/apple_train.txt").write_text("a  1\nb  1\nc -1\n")
    assert voc_splits(root) == ("train",)
    assert len(read_voc(root, split="train")) == 3
    splits = open_splits(DatasetSettings(root=str(root)), work_folder=tmp_path)
    assert (splits.train, splits.scored) == ("train", ("train",))
    (root / "ImageSets/Main/train.txt").rename(root / "ImageSets/Main/default.txt")
    assert open_splits(DatasetSettings(root=str(root)), work_folder=tmp_path).train == "default"
    for path in (root / "ImageSets/Main").iterdir():
        path.unlink()
    whole = open_splits(DatasetSettings(root=str(root)), work_folder=tmp_path)
    assert [record.name for record in whole.read(whole.train).records] == list(OWN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apple:200,3,1::\npear:1,2,3::\n", r"got a label map with others; give a mask_folder"),
        ("apple;128,0,0\n", r"expected lines NAME:RED,GREEN,BLUE"),
        ("apple:128,0,0::\napple:0,128,0::\n", "expected each class and colour once"),
        ("background:0,0,0::\n", "expected the names of the classes, got none"),
    ],
)
def test_label_maps_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    root = own_set(tmp_path)
    (root / "labelmap.txt").write_text(text)
    with pytest.raises(BadInputError, match=message):
        read_voc(root, split="train")


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


CVAT = "# label:color_rgb:parts:actions\nbackground:0,0,0::\npear:250,50,83::\napple:51,221,255::\n"


def test_masks_in_the_colours_of_a_label_map(tmp_path: Path) -> None:
    """As CVAT writes them, with the colours that the labels have there."""
    root = own_set(tmp_path / "own")
    (root / "labelmap.txt").write_text(CVAT)
    colours = np.array([(0, 0, 0), (250, 50, 83), (51, 221, 255), (224, 224, 192)], np.uint8)
    drawn = np.resize(np.arange(4), (4, 6))
    for name in OWN:
        Image.fromarray(colours[drawn]).save(root / "SegmentationClass" / f"{name}.png")
    dataset = open_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work")
    found = dataset.scored["train"].image_set
    assert (found.class_names, found.mask_values[:4]) == (("pear", "apple"), (0, 1, 2, -1))
    mask = found.records[0].mask
    assert mask is not None
    assert (read_mask(mask, found.mask_values) == np.where(drawn == 3, 255, drawn)).all()

    Image.fromarray(colours[drawn[::-1]]).save(root / "SegmentationClass" / "a.png")  # another under the same name
    again = open_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work").train.image_set.records[0].mask
    assert again is not None
    assert (read_mask(again, found.mask_values) == np.where(drawn == 3, 255, drawn)[::-1]).all()

    Image.new("RGB", (6, 4), (1, 2, 3)).save(root / "SegmentationClass" / "b.png")
    with pytest.raises(BadInputError, match=r"b\.png: expected the colours of the list.*, got \(1, 2, 3\); add it"):
        read_voc(root, split="train", mask_folder=tmp_path / "work")
    assert not list(root.rglob("voc-masks"))


def test_without_annotations_an_image_has_the_classes_of_its_mask(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in CVAT's archive of masks, and in what labelme makes of its files."""
    root = own_set(tmp_path / "own")
    (root / "Annotations").rename(tmp_path / "elsewhere")
    with pytest.raises(BadInputError, match=r"expected the folder Annotations, or a list of the classes in the masks"):
        read_voc(root, split="train")
    (root / "class_names.txt").write_text("_background_\napple\npear\n")
    (root / "SegmentationClass").rename(root / "SegmentationClassPNG")
    assert named(read_voc(root, split="train")) == {"a": {"apple"}, "b": {"pear"}, "c": {"pear"}}
    assert "no folder Annotations: an image has the classes of its mask" in caplog.text
    (root / "SegmentationClassPNG" / "a.png").unlink()
    found = read_voc(root, split="train", on_bad_input="skip")
    assert (list(named(found)), [skip.file for skip in found.skipped]) == (["b", "c"], ["a"])

    (root / "labelmap.txt").write_text(CVAT)
    for name, colour in (("b", (250, 50, 83)), ("c", (51, 221, 255))):
        Image.new("RGB", (6, 4), colour).save(root / "SegmentationClassPNG" / f"{name}.png")
    (root / "ImageSets/Segmentation/train.txt").rename(tmp_path / "list")
    (root / "JPEGImages" / "a.jpg").unlink()
    dataset = open_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work")
    assert named(dataset.train.image_set) == {"b": {"pear"}, "c": {"apple"}}
