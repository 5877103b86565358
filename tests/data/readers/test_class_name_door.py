"""No class has a name that cannot be seen or told from another, whatever the reader: each reader, each character."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.mistakes import write_tar

from subcam.data.readers.coco import read_coco
from subcam.data.readers.folder import read_folder
from subcam.data.readers.shards import read_shards
from subcam.data.readers.voc import read_voc
from subcam.data.records import ImageSet
from subcam.errors import BadInputError
from subcam.export.mask_folder import read_class_names


def folder(root: Path, name: str) -> ImageSet:
    (root / "labels.csv").write_text(f'image,labels\na.png,"{name}"\n', "utf-8")
    return read_folder(root)


def class_columns(root: Path, name: str) -> ImageSet:
    (root / "labels.csv").write_text(f'image,"{name}"\na.png,1\n', "utf-8")
    return read_folder(root)


def coco(root: Path, name: str) -> ImageSet:
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": name}],
        "annotations": [{"image_id": 1, "category_id": 1}],
    }
    (root / "labels.csv.json").write_text(json.dumps(content))
    return read_coco(root, split=None, labels="labels.csv.json")


def voc(root: Path, name: str) -> ImageSet:
    for place in ("JPEGImages", "Annotations"):
        (root / place).mkdir()
    (root / "a.png").rename(root / "JPEGImages" / "a.png")
    (root / "Annotations" / "a.xml").write_text(f"<annotation><object><name>{name}</name></object></annotation>")
    return read_voc(root, split=None)


def shards(root: Path, name: str) -> ImageSet:
    content = json.dumps({"labels": [name]}).encode()
    write_tar(root / "train.tar", {"a.png": (root / "a.png").read_bytes(), "a.json": content})
    return read_shards(root)


READERS = [folder, class_columns, coco, voc, shards]


@pytest.mark.parametrize("sign", ["\x7f", "\x9b31m", "\u200b", "\u202e", "\ufffe"])
@pytest.mark.parametrize("reader", READERS)
def test_what_is_not_seen_is_refused(tmp_path: Path, reader: Callable[[Path, str], ImageSet], sign: str) -> None:
    if reader is voc and sign == "\ufffe":
        sign = "\u2066"  # as XML has no place for the other
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(BadInputError, match=rf"{tmp_path}.*: no class .*the character U\+{ord(sign[0]):04X}"):
        reader(tmp_path, f"ca{sign}t")


@pytest.mark.parametrize("reader", [coco, shards])
def test_half_a_character_is_refused(tmp_path: Path, reader: Callable[[Path, str], ImageSet]) -> None:
    """As JSON may write one."""
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    with pytest.raises(BadInputError, match=rf"{tmp_path}.*: no class can be called 'ca\\ud800t'"):
        reader(tmp_path, "ca\ud800t")


@pytest.mark.parametrize(
    "name", ["Kätzchen", "猫", "می\u200cخواهم", "👩\u200d🌾", "say 'hi'", "[red]cat[/]", "a/b", "cat (small)"]
)
@pytest.mark.parametrize("reader", READERS)
def test_other_names_are_taken_as_they_are(tmp_path: Path, reader: Callable[[Path, str], ImageSet], name: str) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    found = reader(tmp_path, name)
    assert found.class_names == (name,)
    assert found.labels.tolist() == [[1]]


def test_lists_of_classes_too(tmp_path: Path) -> None:
    listed = tmp_path / "classes.txt"
    listed.write_text("cat\nd\x1b[31mog\n", "utf-8")
    with pytest.raises(BadInputError, match=r"classes\.txt: no class can be called 'd\\x1b\[31mog'"):
        read_class_names(listed)


@pytest.mark.parametrize("content", ["{}", '{"labels": []}'])
def test_no_class_at_all_is_said(tmp_path: Path, content: str) -> None:
    """As in what img2dataset makes, whose texts are captions."""
    write_tar(tmp_path / "train.tar", {"a.png": b"x", "a.json": content.encode()})
    with pytest.raises(BadInputError, match=r"train\.tar: expected images with their labels beside them.*, got none"):
        read_shards(tmp_path)
