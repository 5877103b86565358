"""COCO's layouts: which images, which labels and masks, and what happens twice; mistakes: `test_coco_mistakes`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from tests.data.readers.made_coco import (
    HEIGHT,
    WIDTH,
    annotation,
    box_polygon,
    coco_2014,
    image,
    named_labels,
    plain,
    read_plain,
    write_annotations,
)

from subcam.data.check import check_images
from subcam.data.dataset import ALL, open_dataset
from subcam.data.images import read_mask
from subcam.data.labels.from_annotation_tools import labels_from_coco
from subcam.data.readers.coco import coco_files, read_coco
from subcam.data.readers.coco_file import read_coco_file
from subcam.data.settings import DatasetSettings
from subcam.errors import BadInputError, SettingsError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return coco_2014(tmp_path / "coco")


# What is read


def test_labels_of_the_layout_of_2014(root: Path) -> None:
    found = read_coco(root, split="train2014")
    assert found.class_names == ("person", "cat", "dog")
    assert named_labels(found) == {
        "train2014/COCO_train2014_1": ("cat",),
        "train2014/COCO_train2014_2": ("person", "dog"),
        "train2014/COCO_train2014_3": ("person",),
    }
    assert not found.has_masks
    assert found.records[0].image == root / "train2014" / "COCO_train2014_1.png"


def test_groups_and_images_without_labels_may_be_left_out_or_kept(root: Path) -> None:
    without = read_coco(root, split="train2014", crowd_labels=False)
    assert [record.name[-1] for record in without.records] == ["1", "2"]
    everything = read_coco(root, split="train2014", crowd_labels=False, keep_unlabelled=True)
    assert [record.labels for record in everything.records] == [(1,), (0, 2), (), ()]


def test_chosen_classes_have_their_order_and_others_are_not_scored(root: Path, tmp_path: Path) -> None:
    found = read_coco(root, split="val2014", classes=("dog", "cat"), mask_folder=tmp_path / "work")
    assert named_labels(found) == {"val2014/COCO_val2014_5": ("cat",), "val2014/COCO_val2014_6": ("cat",)}
    assert found.mask_values[:5] == (0, 255, 2, 1, -1)
    assert found.mask_values[255] == 255


@pytest.mark.parametrize("place", ["train2014", "images/train2014", "images", "."])
def test_images_may_lie_in_any_usual_folder(tmp_path: Path, place: str) -> None:
    image(tmp_path / place / "1.jpg")
    write_annotations(tmp_path / "annotations" / "instances_train2014.json", {1: "1.jpg"}, [annotation(1, 17)])
    assert read_coco(tmp_path).records[0].image == tmp_path / place / "1.jpg"


def test_images_of_two_splits_never_share_a_name(tmp_path: Path) -> None:
    for split in ("train", "val"):
        image(tmp_path / split / "1.jpg")
        write_annotations(tmp_path / "annotations" / f"instances_{split}.json", {1: "1.jpg"}, [annotation(1, 17)])
    found = open_dataset(DatasetSettings(root=str(tmp_path)), work_folder=tmp_path / "work")
    assert [found.train.image_set.records[0].name, found.scored["val"].image_set.records[0].name] == [
        "train/1",
        "val/1",
    ]


def test_a_folder_of_images_with_one_file(tmp_path: Path) -> None:
    found = read_plain(plain(tmp_path, [annotation(1, 17), annotation(2, 18), annotation(2, 17)]))
    assert named_labels(found) == {"a": ("cat",), "sub/b": ("cat", "dog")}


def test_roboflow_s_layout(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        image(tmp_path / split / f"{split}.jpg")
        write_annotations(tmp_path / split / "_annotations.coco.json", {0: f"{split}.jpg"}, [annotation(0, 17)])
    assert list(coco_files(tmp_path)) == ["train", "valid"]
    found = open_dataset(DatasetSettings(root=str(tmp_path)), work_folder=tmp_path / "work")
    assert list(found.scored) == ["valid"]


def test_a_linked_folder_of_images_is_taken_and_a_link_out_of_it_is_not(root: Path, tmp_path: Path) -> None:
    (root / "val2014").rename(tmp_path / "disk")
    (root / "val2014").symlink_to(tmp_path / "disk")
    assert len(read_coco(root, split="val2014")) == 2
    secret = image(tmp_path / "secret.png")
    (tmp_path / "disk" / "COCO_val2014_5.png").unlink()
    (tmp_path / "disk" / "COCO_val2014_5.png").symlink_to(secret)
    with pytest.raises(BadInputError, match=r"is a link to .*secret\.png, outside"):
        read_coco(root, split="val2014")


# Masks


def test_masks_are_drawn_once_and_belong_to_the_annotations(root: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    found = read_coco(root, split="val2014", mask_folder=work)
    (folder,) = work.iterdir()
    masks = [record.mask for record in found.records]
    assert masks == [folder / "val2014" / f"COCO_val2014_{number}.png" for number in (5, 6)]
    size = (HEIGHT, WIDTH)
    theirs = COCO(root / "annotations" / "instances_val2014.json")
    cat = theirs.annToMask(theirs.imgToAnns[5][0])
    assert masks[0] is not None
    np.testing.assert_array_equal(read_mask(masks[0], found.mask_values, size=size), 2 * cat)
    assert check_images(found).sizes == (size, size)

    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert read_coco(root, split="val2014", mask_folder=work) == found
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == written

    changed = [annotation(5, 18), annotation(6, 1)]
    write_annotations(
        root / "annotations" / "instances_val2014.json", {5: "COCO_val2014_5.png", 6: "COCO_val2014_6.png"}, changed
    )
    again = read_coco(root, split="val2014", mask_folder=work)
    assert len(list(work.iterdir())) == 2
    assert again.records[0].mask != masks[0]


def test_drawing_goes_on_where_it_was_cut_off(root: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    first, second = (record.mask for record in read_coco(root, split="val2014", mask_folder=work).records)
    assert first is not None
    assert second is not None
    content, stamp = second.read_bytes(), first.stat().st_mtime_ns
    second.unlink()
    (folder,) = work.iterdir()
    (folder / "complete.json").unlink()
    read_coco(root, split="val2014", mask_folder=work)
    assert second.read_bytes() == content
    assert first.stat().st_mtime_ns == stamp
    assert (folder / "complete.json").is_file()


def test_boxes_alone_are_labels_without_masks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = [annotation(1, 17, [], bbox=[1, 2, 3, 4]), annotation(2, 18, [], bbox=[1, 2, 3, 4])]
    found = read_plain(plain(tmp_path, boxes), mask_folder=tmp_path / "work")
    assert named_labels(found) == {"a": ("cat",), "sub/b": ("dog",)}
    assert not found.has_masks
    assert "no annotation has an outline" in caplog.text


def test_more_categories_than_a_mask_has_values(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    many = [{"id": number, "name": f"class {number}"} for number in range(1, 301)]
    found = read_plain(plain(tmp_path, [annotation(1, 300)], categories=many), mask_folder=tmp_path / "work")
    assert found.records[0].labels == (299,)
    assert not found.has_masks
    assert "has room for 254 categories, not for 300" in caplog.text


def test_numbers_are_numbers_however_they_are_written(tmp_path: Path) -> None:
    said = [annotation(1, 17.0), annotation("2", "18"), annotation("x y", 17)]  # type: ignore[arg-type]
    folder = plain(tmp_path, said, "a.png", "b.png", "c.png")
    content = json.loads((folder / "all.json").read_text())
    for entry, (number, height, width) in zip(
        content["images"], [(1.0, 20.0, "30"), (2, 20, 30.0), ("x y", None, 30)], strict=True
    ):
        entry |= {"id": number, "height": height, "width": width}
    content["annotations"][0]["iscrowd"] = None
    content["annotations"][1]["iscrowd"] = False
    content["categories"][0]["id"] = "18"
    (folder / "all.json").write_text(json.dumps(content))
    assert named_labels(read_plain(folder)) == {"a": ("cat",), "b": ("dog",), "c": ("cat",)}
    assert read_plain(folder).class_names == ("person", "cat", "dog")
    images = read_coco_file(folder / "all.json").images
    assert [(image.id, image.height, image.width) for image in images] == [(1, 20, 30), (2, 20, 30), ("x y", 0, 30)]


@pytest.mark.parametrize("number", [1.5, "", None, True, [1], float("inf")])
def test_what_is_no_id_makes_nothing_absent(tmp_path: Path, number: Any) -> None:
    """An annotation whose image cannot be told may be of any: an image that has no other is not one of nothing."""
    folder = plain(tmp_path, [annotation(1, 17), annotation(number, 18)])
    with pytest.raises(BadInputError, match="expected an object with image_id"):
        read_plain(folder)
    kept = read_plain(folder, on_bad_input="skip", keep_unlabelled=True)
    assert named_labels(kept) == {"a": ("cat",)}
    found = labels_from_coco(folder / "all.json", root=folder)
    assert [(image.image, image.names) for image in found.images] == [("a.png", ("cat",))]
    assert ["what it shows is unknown" in skip.reason for skip in found.skipped] == [False, True]


def test_a_category_that_heads_others_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    heads = [{"id": 0, "name": "pets", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "pets"}]
    folder = plain(tmp_path, [annotation(1, 1)], categories=heads)
    assert read_plain(folder).class_names == ("cat",)
    assert "left out pets, which only heads other categories" in caplog.text
    # with an annotation of its own it is a class, and so is one that heads nothing
    plain(tmp_path, [annotation(1, 1), annotation(2, 0)], categories=heads)
    assert read_plain(folder).class_names == ("pets", "cat")
    plain(tmp_path, [annotation(1, 1)], categories=[heads[1], {"id": 3, "name": "dog", "supercategory": "none"}])
    assert read_plain(folder).class_names == ("cat", "dog")
    # and so is one that stands below another: it is a class of the set, of which there is no image yet
    plain(tmp_path, [annotation(1, 1)], categories=[heads[0] | {"supercategory": "things"}, heads[1]])
    assert read_plain(folder).class_names == ("pets", "cat")


def test_background_and_what_is_ignored_are_no_categories(tmp_path: Path) -> None:
    categories = [{"id": n, "name": name} for n, name in enumerate(("_background_", "cat", "__ignore__"))]
    said = [annotation(1, 1), annotation(1, 0, [box_polygon(2, 3, 4, 9)]), annotation(1, 2, [box_polygon(5, 3, 7, 9)])]
    folder = plain(tmp_path / "mine", [*said, annotation(2, 0)], categories=categories)
    found = read_plain(folder, mask_folder=tmp_path / "work", keep_unlabelled=True)
    assert (found.class_names, named_labels(found)) == (("cat",), {"a": ("cat",), "sub/b": ()})
    assert found.records[0].mask is not None
    assert read_mask(found.records[0].mask, found.mask_values)[5, 1:13].tolist() == [0, 0, 0, 1, 255, 255, *[1] * 5, 0]


def test_brush_masks_that_are_marked_as_groups(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As CVAT and Datumaro write them: said, counted, and scored where asked for."""
    runs = {"counts": [20, 60, 520], "size": [HEIGHT, WIDTH]}
    folder = plain(tmp_path / "mine", [annotation(1, 17, runs, iscrowd=1), annotation(2, 17)])
    without = read_plain(folder, mask_folder=tmp_path / "work")
    assert "1 of 2 outlines are groups (iscrowd 1), whose pixels are not scored" in caplog.text
    assert "--dataset.crowd-masks scores them" in caplog.text
    caplog.clear()
    settings = DatasetSettings(root=str(folder), labels="all.json", crowd_masks=True)
    scored = open_dataset(settings, work_folder=tmp_path / "work").scored[ALL].image_set
    assert "groups" not in caplog.text
    for images, value in ((without, 255), (scored, 2)):
        assert images.records[0].mask is not None
        assert read_mask(images.records[0].mask, images.mask_values)[0, :5].tolist() == [0, value, value, value, 0]


ADDRESSES = {
    r"..\..\label-studio\media\upload\4\0a1b2c3d-cat.png": "pets/cat.png",
    "/data/local-files/?d=pets/cat.png": "pets/cat.png",
    "?d=pets/cat.png": "pets/cat.png",
    "images/0a1b2c3d-top.png": "top.png",
    "https://host/a%20b.png?token=1": "pets/a b.png",
    "pets/100%.png": "pets/100%.png",
    "cat.png": "pets/cat.png",
}


@pytest.mark.parametrize("written", ADDRESSES)
def test_images_are_found_by_the_end_of_what_another_program_calls_them(tmp_path: Path, written: str) -> None:
    for name in ("pets/cat.png", "top.png", "pets/a b.png", "pets/100%.png"):
        image(tmp_path / name)
    write_annotations(tmp_path / "all.json", {1: written}, [annotation(1, 17)])
    (record,) = read_plain(tmp_path).records
    assert record.image == tmp_path / ADDRESSES[written]
    assert record.name == ADDRESSES[written].removesuffix(".png")
    (labelled,) = labels_from_coco(tmp_path / "all.json", root=tmp_path).images
    assert labelled.image == ADDRESSES[written]


@pytest.mark.parametrize("written", ["train/1.png", "/data/upload/2.png", "C:\\train\\3.png"])
def test_an_image_of_another_folder_is_not_taken_for_one(tmp_path: Path, written: str) -> None:
    for name in ("val/1.png", "a/2.png", "b/2.png"):
        image(tmp_path / name)
    write_annotations(tmp_path / "all.json", {1: written}, [annotation(1, 17)])
    with pytest.raises(BadInputError, match=r"is no file in|expected a path inside"):
        read_plain(tmp_path)


# As a run sees it


def test_a_run_recognises_the_layout_and_draws_only_what_it_scores(root: Path, tmp_path: Path) -> None:
    found = open_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work")
    assert len(found.train.image_set) == 3
    assert not found.train.image_set.has_masks
    assert list(found.scored) == ["val2014"]
    assert found.scored["val2014"].image_set.has_masks
    with_masks = open_dataset(DatasetSettings(root=str(root), train_masks=True), work_folder=tmp_path / "work")
    assert with_masks.train.image_set.has_masks
    assert not list(root.rglob("*mask*"))


def test_a_single_file_is_trained_on_and_scored(tmp_path: Path) -> None:
    plain(tmp_path / "mine", [annotation(1, 17), annotation(2, 18)])
    settings = DatasetSettings(root=str(tmp_path / "mine"), labels="all.json")
    found = open_dataset(settings, work_folder=tmp_path / "work")
    assert found.scored == {ALL: found.train}
    assert found.train.image_set.has_masks


def test_a_csv_of_the_person_s_own_goes_first(root: Path, tmp_path: Path) -> None:
    (root / "labels.csv").write_text("image,labels\nval2014/COCO_val2014_5.png,puma\n")
    found = open_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work")
    assert found.train.image_set.class_names == ("puma",)
    forced = open_dataset(DatasetSettings(root=str(root), layout="coco"), work_folder=tmp_path / "work")
    assert forced.train.image_set.class_names == ("person", "cat", "dog")


def test_of_two_years_one_must_be_chosen(root: Path, tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        image(root / split / "9.jpg")
        write_annotations(root / "annotations" / f"instances_{split}.json", {9: "9.jpg"}, [annotation(9, 17)])
    with pytest.raises(SettingsError, match="several splits to train on; choose one of train2014, train2017"):
        open_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work")
    found = open_dataset(DatasetSettings(root=str(root), train_split="train2017"), work_folder=tmp_path / "work")
    assert list(found.scored) == ["val2017"]


def test_splits_must_have_the_same_classes(root: Path, tmp_path: Path) -> None:
    path = root / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 3, "name": "car"})
    path.write_text(json.dumps(content))
    with pytest.raises(BadInputError, match=r"split val2014: expected the classes of the training images.*\(car\)"):
        open_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work")
    settings = DatasetSettings(root=str(root), classes=("cat", "person"))
    assert open_dataset(settings, work_folder=tmp_path / "work").scored


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": "coco", "labels": "none.csv"}, r"has no annotations/instances_\*\.json; name a COCO file"),
        ({"labels": "none.json"}, r"none\.json cannot be read"),
        ({"labels": "all.json", "train_split": "train"}, r"all\.json has no splits; leave their names out"),
    ],
)
def test_what_a_run_cannot_open(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    plain(tmp_path / "mine", [annotation(1, 17)])
    with pytest.raises((SettingsError, BadInputError), match=message):
        open_dataset(DatasetSettings(root=str(tmp_path / "mine"), **changes), work_folder=tmp_path / "work")


def test_images_without_an_annotation_are_counted_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They show none of the categories, by COCO's rule; those that show others than the chosen ones are no news."""
    folder = plain(tmp_path / "set", [annotation(1, 17), annotation(2, 1)], "a.png", "b.png", "c.png", "d.png")
    caplog.set_level("WARNING")
    assert [record.name for record in read_plain(folder, classes=["cat"]).records] == ["a"]
    (said,) = caplog.messages
    assert "left out 2 of 4 images that have no annotation: COCO's rule is that they show none" in said
    caplog.clear()
    kept = read_plain(folder, keep_unlabelled=True)
    assert [record.labels for record in kept.records][2:] == [(), ()]
    assert caplog.messages == []
