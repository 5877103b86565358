"""Labels from folders and from tags: who is in which, what is one image, and what cannot be used."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.data.readers.made_coco import image

from subcam.data.labels.from_folders_and_tags import (
    SourceLabels,
    find_image,
    labels_from_folders,
    labels_from_tag_files,
    labels_from_tag_table,
    tags_of,
)
from subcam.errors import BadInputError


def named(found: SourceLabels) -> dict[str, tuple[str, ...]]:
    return {entry.image: entry.names for entry in found.images}


def copied(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


# Folders


def test_a_image_in_two_folders_has_two_labels(tmp_path: Path) -> None:
    both = image(tmp_path / "cat" / "both.png")
    copied(both, tmp_path / "dog" / "copy of both.png")
    image(tmp_path / "dog" / "deep" / "1.jpg", seed=1)
    image(tmp_path / "cat" / "1.jpg", seed=2)
    expected = {"cat/1.jpg": ("cat",), "cat/both.png": ("cat", "dog"), "dog/deep/1.jpg": ("dog",)}
    assert named(labels_from_folders(tmp_path)) == expected
    by_name = named(labels_from_folders(tmp_path, same="name"))
    assert by_name["cat/1.jpg"] == ("cat", "dog")
    assert by_name["dog/copy of both.png"] == ("dog",)
    assert len(labels_from_folders(tmp_path, same="never").images) == 4


def test_folders_of_splits(tmp_path: Path) -> None:
    first = image(tmp_path / "train" / "cat" / "1.png")
    copied(first, tmp_path / "val" / "dog" / "1.png")
    found = labels_from_folders(tmp_path)
    assert [(entry.image, entry.names, entry.split) for entry in found.images] == [
        ("train/cat/1.png", ("cat",), "train"),
        ("val/dog/1.png", ("dog",), "val"),
    ]


def test_what_is_in_no_folder_or_leads_out_is_said(tmp_path: Path) -> None:
    root, secret = tmp_path / "mine", image(tmp_path / "secret.png")
    image(root / "cat" / "1.png")
    image(root / "stray.png")
    image(root / ".hidden" / "2.png")
    (root / "cat" / "link.png").symlink_to(secret)
    found = labels_from_folders(root)
    assert named(found) == {"cat/1.png": ("cat",)}
    assert {skip.file: skip.reason for skip in found.skipped} == {
        "cat/link.png": f"cat/link.png: {root}/cat/link.png is a link to {secret}, outside {root}; put the image "
        "itself there, or give the folder that holds it",
        "stray.png": f"{root}/stray.png: in no folder of a class",
    }


@pytest.mark.parametrize("make", [False, True])
def test_no_folders_of_classes(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "mine" / "empty").mkdir(parents=True)
    with pytest.raises(BadInputError, match=r"expected a folder"):
        labels_from_folders(tmp_path / "mine")


def test_a_data_set_that_has_its_csv_already(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        image(tmp_path / name / "1.png")
    with pytest.raises(BadInputError, match="expected a folder for each class with images in it, got images, masks"):
        labels_from_folders(tmp_path)


# Tags


def test_texts_beside_images(tmp_path: Path) -> None:
    for name, text in (("a", "1girl, cat ,cat"), ("sub/b", "dog\nlong hair\n"), ("c", ""), ("d", r"saber \(fate\)")):
        image(tmp_path / f"{name}.png").with_suffix(".txt").write_text(text)
    image(tmp_path / "without.png")
    found = labels_from_tag_files(tmp_path)
    assert named(found) == {
        "a.png": ("1girl", "cat"),
        "c.png": (),
        "d.png": ("saber (fate)",),
        "sub/b.png": ("dog", "long hair"),
    }
    assert ["without.txt" in skip.reason for skip in found.skipped] == [True]
    for text in tmp_path.rglob("*.txt"):
        text.unlink()
    with pytest.raises(BadInputError, match="expected images with a text file of tags beside each"):
        labels_from_tag_files(tmp_path)


TABLES = {
    "object of lists": ("t.json", {"a.png": ["cat", "dog"], "b.png": ["dog"]}),
    "object of texts": ("t.json", {"a.png": "cat, dog", "b.png": "dog"}),
    "object of objects": ("t.json", {"a.png": {"tags": "cat, dog"}, "b.png": {"tags": ["dog"]}}),
    "list": ("t.json", [{"file_name": "a.png", "tags": ["cat", "dog"]}, {"path": "images/b.png", "text": "dog"}]),
    "lines": ("t.jsonl", '{"file_name": "a.png", "text": "cat, dog"}\n\n{"file_name": "b.png", "text": "dog"}\n'),
    "table": ("t.csv", 'Image,Tags,width\na.png,"cat, dog",3\nb.png,dog,3\n'),
}


@pytest.mark.parametrize(("name", "content"), TABLES.values(), ids=TABLES)
def test_one_file_of_tags(tmp_path: Path, name: str, content: Any) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "images" / "b.png")
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    found = labels_from_tag_table(tmp_path / name, root=tmp_path)
    assert named(found) == {"a.png": ("cat", "dog"), "images/b.png": ("dog",)}
    assert found.skipped == ()


def test_entries_that_cannot_be_used(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "images" / "b.png")
    entries = [
        {"image": "a.png", "tags": "cat"},
        {"image": "a.png", "tags": "dog"},
        {"image": "gone.png", "tags": "cat"},
        {"image": "../a.png", "tags": "cat"},
        {"image": "images/b.png", "tags": 7},
        {"image": "a.png"},
        "text",
    ]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(entries))
    found = labels_from_tag_table(path, root=tmp_path)
    assert named(found) == {"a.png": ("cat", "dog")}  # what several entries say of an image is put together
    reasons = [skip.reason for skip in found.skipped]
    for reason, part in zip(
        reasons,
        ("is no file", "without '..'", "a list or", "and its tags", "and its tags"),
        strict=True,
    ):
        assert part in reason
    path.write_text(json.dumps(entries[2:]))
    with pytest.raises(BadInputError, match=r"got none that can be used; the first: .*'gone\.png' is no file"):
        labels_from_tag_table(path, root=tmp_path)
    lines = tmp_path / "t.jsonl"
    lines.write_text("{}\n{")
    with pytest.raises(BadInputError, match=r"t\.jsonl:2: expected JSON"):
        labels_from_tag_table(lines, root=tmp_path)


@pytest.mark.parametrize("row", ["b.png,cat,dog", "b.png"])
def test_a_row_of_another_width_loses_no_tag_in_silence(tmp_path: Path, row: str) -> None:
    for name in ("a.png", "b.png"):
        image(tmp_path / name)
    (tmp_path / "t.csv").write_text(f"image,tags\na.png,cat,,\n{row}\n")
    found = labels_from_tag_table(tmp_path / "t.csv", root=tmp_path)
    assert named(found) == {"a.png": ("cat",)}  # empty cells beyond the header do no harm
    (skip,) = found.skipped
    assert "t.csv:3: expected 2 cells as in the header" in skip.reason


@pytest.mark.parametrize("value", [7, {"a": 1}, ["a", 1]])
def test_what_are_no_tags(value: Any) -> None:
    with pytest.raises(BadInputError, match=r"tags\.json: expected tags as a list or as a text with commas"):
        tags_of(value, where="tags.json")


@pytest.mark.parametrize("written", ["/etc/hosts", "../x.png", "C:\\x.png", "a/../../x.png", "", "a\0.png"])
def test_paths_that_lead_out(tmp_path: Path, written: str) -> None:
    image(tmp_path / "x.png")
    with pytest.raises(BadInputError, match=r"labels\.json: expected a path inside"):
        find_image(tmp_path / "mine", written, "labels.json")


def test_links_that_lead_out(tmp_path: Path) -> None:
    secret = image(tmp_path / "secret.png")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").symlink_to(secret)
    with pytest.raises(BadInputError, match=r"labels\.json: .* is a link to .*secret\.png, outside"):
        find_image(tmp_path / "mine", "a.png", "labels.json")


# Scores


def scores(root: Path, *rows: str, **more: Any) -> SourceLabels:
    for name in "abc":
        image(root / f"{name}.png")
    (root / "scores.csv").write_text("\n".join(["ImageID,Source,LabelName,Confidence", *rows]))
    return labels_from_tag_table(root / "scores.csv", root=root, **more)


def test_a_score_of_nothing_is_a_negative(tmp_path: Path) -> None:
    """As Open Images' verified labels: a row for each image and class, images without their suffix."""
    found = scores(tmp_path, "a,verification,cat,1", "a,verification,dog,0", "b,verification,cat,0.0", "a,v,cow,1.0")
    assert named(found) == {"a.png": ("cat", "cow"), "b.png": ()}
    assert found.understood == "what stands under labelname"


def test_a_score_between_is_unknown_unless_it_is_said_what_counts(tmp_path: Path) -> None:
    rows = ("a,machine,cat,0.7", "b,machine,cat,0.4", "c,machine,cat,1", "c,machine,dog,many")
    found = scores(tmp_path, *rows)
    assert named(found) == {"c.png": ("cat",)}
    reasons = [skip.reason for skip in found.skipped]
    for reason, part in zip(
        reasons, ("got 0.7: whether", "got 0.4: whether", "a score in 0..1, got 'many'"), strict=True
    ):
        assert part in reason
    assert named(scores(tmp_path, *rows, least_score=0.5)) == {"a.png": ("cat",), "b.png": (), "c.png": ("cat",)}


def test_numbers_are_no_names(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"expected names of classes, got the numbers 0\.25, 1\.5, \.\.\."):
        scores(tmp_path, "a,x,0.25,1", "b,x,1.5,1")
    assert named(scores(tmp_path, "a,x,7,1")) == {"a.png": ("7",)}  # a digit may be a class
