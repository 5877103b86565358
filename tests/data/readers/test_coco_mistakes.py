"""What goes wrong in COCO's files: it stops, or costs its image, and is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.readers.made_coco import (
    annotation,
    box_polygon,
    coco_2014,
    image,
    named_labels,
    plain,
    read_plain,
    write_annotations,
)

from subcam.data.labels.from_annotation_tools import labels_from_coco
from subcam.data.readers.coco import read_coco
from subcam.data.readers.coco_file import read_coco_file
from subcam.errors import BadInputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return coco_2014(tmp_path / "coco")


BAD_ANNOTATIONS = [
    (annotation(1, 99), r"image 1 has an annotation of category 99, which is not listed"),
    (annotation(1, 17, [[1, 2, 3, "x", 5, 6]]), r"annotations\[1\]: segmentation: expected a list of numbers"),
    (annotation(1, 17, [[1, 2, 3, 4, 5, 6, 7]]), r"expected polygons of x and y in turn, got an odd number"),
    (annotation(1, 17, [[1, 2, 3, 4, 5, float("nan")]]), r"expected coordinates in pixels"),
    (annotation(1, 17, [[1, 2, 3, 4, 5, 1e300]]), r"expected coordinates in pixels"),
    (annotation(1, 17, "outline"), r"expected a segmentation of polygons or runs, got 'outline'"),
    (annotation(1, 17, {"counts": [1, 2], "size": [0, 5]}), r"expected runs with a size of height and width"),
    (annotation(1, 17, {"counts": [1, -2], "size": [20, 30]}), r"expected counts of 0 or more"),
    (annotation(1, 17, {"counts": [1, 2], "size": [20, 30]}), r"a\.png: expected runs for 30 x 20 pixels"),
    (annotation(1, 17, [], bbox=[1, 2]), r"expected a segmentation, or else a bbox of 4 numbers, got 2"),
    (annotation(1, 17, iscrowd=7), r"expected iscrowd of 0 or 1, got 7"),
    ({"image_id": 1}, r"expected a category_id, got None"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ANNOTATIONS, ids=[message[:40] for _, message in BAD_ANNOTATIONS])
def test_bad_annotations_stop_or_cost_their_image(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    folder = plain(tmp_path / "mine", [annotation(2, 18), bad])
    with pytest.raises(BadInputError, match=message) as caught:
        read_plain(folder, mask_folder=tmp_path / "work")
    assert "all.json" in str(caught.value)
    kept = read_plain(folder, mask_folder=tmp_path / "work", on_bad_input="skip")
    assert named_labels(kept) == {"sub/b": ("dog",)}
    assert [skip.file for skip in kept.skipped] == ["a.png"]
    # what could not be drawn is tried again, and said again
    assert read_plain(folder, mask_folder=tmp_path / "work", on_bad_input="skip") == kept


@pytest.mark.parametrize("stray", [annotation(7, 17), {"category_id": 1}, "text"])
def test_annotations_of_no_image(tmp_path: Path, stray: Any) -> None:
    folder = plain(tmp_path, [annotation(1, 17), stray])
    with pytest.raises(BadInputError, match=r"which is not listed; add it to images|expected an object with image_id"):
        read_plain(folder)
    kept = read_plain(folder, on_bad_input="skip")
    assert len(kept) == 1
    # where the image cannot be told, it may be the one that has no annotation
    assert len(kept.skipped) == (1 if isinstance(stray, dict) and "image_id" in stray else 2)


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hosts", "C:\\secret.png", "a/../../b.png", "x\0.png", ""])
def test_names_that_lead_out_of_the_folder(tmp_path: Path, name: str) -> None:
    image(tmp_path / "secret.png")
    folder = plain(tmp_path / "mine", [annotation(1, 17)], "a.png")
    write_annotations(folder / "all.json", {1: "a.png", 2: name}, [annotation(1, 17), annotation(2, 17)])
    with pytest.raises(BadInputError, match=r"all\.json: expected a path inside .*mine"):
        read_plain(folder, mask_folder=tmp_path / "work")
    kept = read_plain(folder, mask_folder=tmp_path / "work", on_bad_input="skip")
    assert len(kept) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "work", "secret.png"}


def test_a_image_that_is_missing(root: Path) -> None:
    (root / "train2014" / "COCO_train2014_2.png").unlink()
    with pytest.raises(BadInputError, match=r"COCO_train2014_2\.png' is no file in .*train2014 or .*; restore it"):
        read_coco(root)
    kept = read_coco(root, on_bad_input="skip")
    assert len(kept) == 2
    assert [skip.file for skip in kept.skipped] == ["COCO_train2014_2.png"]


def test_two_images_of_one_name(tmp_path: Path) -> None:
    folder = plain(tmp_path, [annotation(1, 17), annotation(2, 18)], "a.png", "a.jpg")
    with pytest.raises(BadInputError, match=r"'a\.jpg' and 'a\.png' are one name"):
        read_plain(folder)
    write_annotations(folder / "all.json", {1: "a.png", 2: "a.png"}, [annotation(1, 17), annotation(2, 18)])
    with pytest.raises(BadInputError, match=r"the image of several entries, with the ids 1 and 2; give each image one"):
        read_plain(folder)
    image(folder / "b.png")
    files = {1: "a.png", 2: "b.png", 3: "a.png"}
    write_annotations(folder / "all.json", files, [annotation(1, 17), annotation(2, 18), annotation(3, 18)])
    kept = read_plain(folder, on_bad_input="skip", mask_folder=tmp_path / "work")
    assert named_labels(kept) == {"b": ("dog",)}  # neither half of what was said of a.png
    assert [skip.file for skip in kept.skipped] == ["a.png", "a.png"]
    assert [path.name for path in (tmp_path / "work").rglob("*.png")] == ["b.png"]
    assert [entry.image for entry in labels_from_coco(folder / "all.json", root=folder).images] == ["b.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON at character 1"),
        ("[]", "expected a COCO file with the lists images, categories and annotations, got nothing"),
        ('[{"image_id": 1}]', "got a list; give e.g. instances_train2014.json"),
        ('{"images": [], "captions": [1]}', "got captions"),
        ('{"images": [{"id": 1}]}', r"images\[0\]: expected an object with id and file_name"),
        ('{"images": [{"id": 1, "file_name": "a", "height": -4}]}', r"images\[0\]: expected height and width"),
        ('{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}', "the id 1 occurs twice"),
        ('{"categories": [{"id": true, "name": "a"}]}', r"categories\[0\]: expected an object with id and name"),
        ('{"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}', "'a' or its id 2 occurs twice"),
    ],
)
def test_files_that_are_none_of_coco_s(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "all.json"
    path.write_text(content)
    with pytest.raises(BadInputError, match=message) as caught:
        read_coco_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": "test2014"}, r"instances_test2014\.json: no such split; there are: train2014, val2014"),
        ({"classes": ("cats",)}, r"unknown class name 'cats': did you mean 'cat'\?"),
        ({"classes": ("cat", "cat")}, "expected each class once, got cat, cat"),
        ({"classes": ()}, "expected the names of the classes, got none"),
        ({"split": "val2014", "classes": ("dog",)}, r"got none of 2 \(0 bad, 2 without the classes\)"),
    ],
)
def test_what_is_not_in_the_file(root: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_coco(root, **changes)


def test_annotations_may_stand_before_what_they_name(tmp_path: Path) -> None:
    folder = plain(tmp_path, [annotation(1, 17, [box_polygon(0, 0, 4, 4)])])
    content = json.loads((folder / "all.json").read_text())
    order = ("annotations", "categories", "images")
    (folder / "all.json").write_text(json.dumps({key: content[key] for key in order}))
    assert named_labels(read_plain(folder, keep_unlabelled=True)) == {"a": ("cat",), "sub/b": ()}
