"""Shards give the images, labels and masks of the folder that they were made of, without being unpacked."""

import io
import itertools
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.data.check import check_images
from subcam.data.image_file import read_file
from subcam.data.images import read_image, read_mask
from subcam.data.readers.folder import read_folder
from subcam.data.readers.shards import read_shards, shard_splits, write_shards
from subcam.data.records import ImageSet, Record, mask_values_of
from subcam.errors import BadInputError


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 90, np.uint8)).save(file, format="JPEG")
    return file.getvalue()


def test_shards_give_back_what_they_were_made_of(toy_folder: Path, tmp_path: Path) -> None:
    expected = read_folder(toy_folder, split="train")
    assert [path.name for path in write_shards(tmp_path, expected, split="train", images_each=10)] == [
        "train-000000.tar",
        "train-000001.tar",
        "train-000002.tar",
    ]
    found = read_shards(tmp_path, split="train")
    assert found.class_names == expected.class_names
    assert found.mask_values == expected.mask_values
    for record, other in zip(found.records, expected.records, strict=True):
        assert (record.name, record.labels) == (other.name, other.labels)
        assert record.mask is not None
        assert other.mask is not None
        np.testing.assert_array_equal(read_image(record.image), read_image(other.image))
        np.testing.assert_array_equal(
            read_mask(record.mask, found.mask_values), read_mask(other.mask, expected.mask_values)
        )
    assert check_images(found).digest == check_images(expected).digest
    assert shard_splits(tmp_path) == ("train",)


def test_labels_in_three_forms(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\nsofa\n", "utf-8")
    write_tar(
        tmp_path / "val-0.tar",
        {
            "in/a.jpg": jpeg(),
            "in/a.json": json.dumps({"labels": ["cat", "sofa"]}).encode(),
            "b.jpg": jpeg(),
            "b.txt": b"dog; cat\n",
            "c.jpg": jpeg(),
            "c.cls": b"2",
        },
    )
    found = read_shards(tmp_path, split="val")
    assert {record.name: record.labels for record in found.records} == {"in/a": (0, 2), "b": (0, 1), "c": (2,)}
    some = read_shards(tmp_path, classes=("dog",))
    assert [(record.name, record.labels) for record in some.records] == [("b", (0,))]
    assert some.mask_values[1:4] == (255, 1, 255)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jpg": b"x"}, "a has no labels"),
        ({"a.json": b"{}"}, "a has no image"),
        ({"a.jpg": b"x", "a.json": b"{}"}, "labels of a cannot be read"),
        ({"a.jpg": b"x", "a.cls": b"5"}, "labels of a cannot be read"),
        ({"a.jpg": b"x", "a.cls": b"-1"}, r"labels of a cannot be read.*expected a number in 0\.\.0, got -1"),
        ({"a.jpg": b"x", "a.cls": b"1"}, r"labels of a cannot be read.*expected a number in 0\.\.0, got 1"),
        ({"a.jpg": b"x", "a.txt": b"cow"}, "unknown class name 'cow'"),
        ({"a.jpg": b"x", "a.json": b'{"labels": ["nan"]}'}, r"a: expected the names of classes, got 'nan'"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    (tmp_path / "classes.txt").write_text("cat\n", "utf-8")
    write_tar(tmp_path / "train-0.tar", files)
    with pytest.raises(BadInputError, match=message):
        read_shards(tmp_path)


def test_what_cannot_be_used_is_left_out_and_named(tmp_path: Path) -> None:
    files = {"a.jpg": jpeg(), "a.txt": b"cat", "b.jpg": jpeg(), "c.jpg": jpeg(), "c.txt": b"cow"}
    (tmp_path / "classes.txt").write_text("cat\n", "utf-8")
    write_tar(tmp_path / "train-0.tar", files)
    found = read_shards(tmp_path, on_bad_input="skip")
    assert [record.name for record in found.records] == ["a"]
    assert [Path(skip.file).name for skip in found.skipped] == ["b", "c"]
    assert "unknown class name 'cow' of c" in found.skipped[1].reason


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ((("a.jpg", b"x"), ("a.txt", b"dog")), "a.jpg stands in it twice"),
        ((("a.txt", b"dog"),), "a.txt stands in it twice"),
        ((("./a.txt", b"dog"),), "a.txt stands in it twice"),
        ((("a.TXT", b"dog"),), "a.TXT stands in it twice"),
        ((("a.png", b"x"),), "a has several images, a.jpg, a.png: .*name a mask a.mask.png"),
    ],
)
def test_of_two_files_none_is_chosen_in_silence(
    tmp_path: Path, added: tuple[tuple[str, bytes], ...], message: str
) -> None:
    """As `tar -r` leaves an archive that was appended to."""
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        for name, data in (("a.jpg", jpeg()), ("a.txt", b"cat"), ("b.jpg", jpeg()), ("b.txt", b"dog"), *added):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(BadInputError, match=rf"train\.tar: {message}"):
        read_shards(tmp_path)
    found = read_shards(tmp_path, on_bad_input="skip")
    assert [(record.name, record.labels) for record in found.records] == [("b", (found.class_names.index("dog"),))]


@pytest.mark.parametrize("size", [b"\x80\0\0\0\x7f" + b"\xff" * 7, b"\xff" * 12, b"77777777777\0", b"not a size\0\0"])
def test_a_member_of_an_impossible_size_is_one_error(tmp_path: Path, size: bytes) -> None:
    write_tar(tmp_path / "train.tar", {"a.jpg": jpeg(), "a.txt": b"cat"})
    header = bytearray((tmp_path / "train.tar").read_bytes())
    header[124:136], header[148:156] = size, b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "train.tar").write_bytes(header)
    with pytest.raises(BadInputError, match=r"train\.tar: expected"):
        read_shards(tmp_path)


def test_what_a_mac_and_plain_tar_add_is_no_sample(tmp_path: Path) -> None:
    """As `COPYFILE_DISABLE= tar -cf train.tar .` writes it on a Mac: ./ before each name, and files beside them."""
    files = {"./a.jpg": jpeg(), "./a.txt": b"cat", "./in/b.jpg": jpeg(), "./in/b.json": b'{"labels": []}'}
    strays = ("./._a.jpg", "./.DS_Store", "in/._b.jpg", "README", "./README.txt", "notes.md", "Thumbs.db")
    write_tar(tmp_path / "train.tar", {**dict.fromkeys(strays, b"\0\5\x16\7"), **files})
    found = read_shards(tmp_path)
    assert [(record.name, record.labels) for record in found.records] == [("a", (0,)), ("in/b", ())]
    assert found.skipped == ()
    assert check_images(found).sizes == ((8, 8), (8, 8))
    assert read_file(tmp_path / "train.tar" / "in" / "b.jpg") == jpeg()


@pytest.mark.parametrize("name", ["../a", "/a", "in/../../a", "/etc/a", "a\nb", "a" * 252, "b/" * 501 + "a"])
def test_members_that_lead_out_are_refused_and_nothing_is_read_there(tmp_path: Path, name: str) -> None:
    shards = tmp_path / "in" / "shards"
    shards.mkdir(parents=True)
    (tmp_path / "in" / "a.jpg").write_bytes(jpeg())
    name = name.replace("/etc", str(tmp_path / "in"))
    write_tar(shards / "train.tar", {f"{name}.jpg": jpeg(), f"{name}.txt": b"cat", "b.jpg": jpeg(), "b.txt": b"cat"})
    with pytest.raises(BadInputError, match=r"train\.tar: outputs cannot be named '.*; rename it"):
        read_shards(shards)
    assert [record.name for record in read_shards(shards, on_bad_input="skip").records] == ["b"]


def test_an_archive_that_runs_backwards_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of members with negative sizes, older readers of Python find the same one for ever."""
    member = tarfile.TarInfo("a.jpg")
    monkeypatch.setattr(tarfile.TarFile, "__iter__", lambda _: itertools.repeat(member))
    write_tar(tmp_path / "train.tar", {"a.jpg": b"x"})
    with pytest.raises(BadInputError, match="lies before its forerunner"):
        read_shards(tmp_path)


def test_classes_are_those_of_all_splits(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", {"a.jpg": jpeg(), "a.txt": b"dog"})
    write_tar(tmp_path / "val-0.tar", {"b.jpg": jpeg(), "b.txt": b"cat"})
    assert read_shards(tmp_path, split="train").class_names == ("cat", "dog")
    with pytest.raises(BadInputError, match="there are those of train, val; check the folder"):
        read_shards(tmp_path, split="test")
    with pytest.raises(BadInputError, match="expected images with one of cat, got none"):
        read_shards(tmp_path, split="train", classes=("cat",))


def test_names_of_shards_end_at_the_first_dot(tmp_path: Path) -> None:
    def images(*names: str, class_name: str = "cat") -> ImageSet:
        for name in names:
            (tmp_path / f"{name}.jpg").write_bytes(jpeg())
        records = tuple(Record(name=name, image=tmp_path / f"{name}.jpg", labels=(0,)) for name in names)
        values = mask_values_of([class_name], [class_name])
        return ImageSet(class_names=(class_name,), records=records, mask_values=values)

    write_shards(tmp_path / "shards", images("a.b", "c"), split="train")
    assert [record.name for record in read_shards(tmp_path / "shards").records] == ["a_b", "c"]
    with pytest.raises(BadInputError, match="two images would be called 'a_b'"):
        write_shards(tmp_path / "shards", images("a.b", "a_b"), split="train")
    with pytest.raises(BadInputError, match="expected the classes of this set, got others"):
        write_shards(tmp_path / "shards", images("c", class_name="dog"), split="val")


def test_archives_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="expected shards"):
        read_shards(tmp_path, split="train")
    (tmp_path / "train.tar").write_bytes(b"nothing of a tar" * 100)
    with pytest.raises(BadInputError, match="expected an uncompressed tar"):
        read_shards(tmp_path, split="train")
    write_tar(tmp_path / "train.tar", {"a.jpg": jpeg(), "a.txt": b"cat"})
    assert read_file(tmp_path / "train.tar" / "a.jpg") == jpeg()
    with pytest.raises(BadInputError, match=r"holds no b\.jpg"):
        read_file(tmp_path / "train.tar" / "b.jpg")
    write_tar(tmp_path / "train-1.tar", {"a.jpg": jpeg(), "a.txt": b"cat"})
    with pytest.raises(BadInputError, match="'a' stands in two places"):
        read_shards(tmp_path)
    with pytest.raises(BadInputError, match="cannot be read"):
        read_file(_file_as_folder(tmp_path))


def _file_as_folder(folder: Path) -> Path:
    (folder / "plain.txt").write_text("", "utf-8")
    return folder / "plain.txt" / "a.jpg"


def test_a_list_of_classes_that_begins_with_the_background(tmp_path: Path) -> None:
    """A number counts the lines, as it was written by who wrote them; in masks too the background is 0."""
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\n", "utf-8")
    files = {"a.jpg": jpeg(), "a.cls": b"2", "b.jpg": jpeg(), "b.cls": b"0", "c.jpg": jpeg(), "c.txt": b"cat"}
    write_tar(tmp_path / "train-0.tar", files)
    found = read_shards(tmp_path)
    assert {record.name: record.labels for record in found.records} == {"a": (1,), "b": (), "c": (0,)}
    assert found.mask_values[:4] == (0, 1, 2, -1)
    with pytest.raises(BadInputError, match="expected each class once, got cat, cat"):
        read_shards(tmp_path, classes=("cat", "cat"))
