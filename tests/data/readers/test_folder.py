"""Plain folders with a CSV, as people's programs write them: separators, encodings, splits, masks, mistakes."""

import codecs
import os
import re
from pathlib import Path

import numpy as np
import pytest
from tests.data.readers.made_folder import image, labels, mask, named, without_labels

from subcam.data.images import read_mask
from subcam.data.readers.folder import read_folder, write_labels_csv
from subcam.data.readers.label_table import read_label_table
from subcam.data.readers.voc import read_voc
from subcam.errors import BadInputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return without_labels(tmp_path / "set")


EXPECTED = {"a": {"cat", "dog"}, "b": {"dog"}, "sub/c": set()}

SAME_LABELS = {
    "names": "image,labels\na.png,cat;dog\nb.png,dog\nsub/c.png,\n",
    "bars": "image,labels\na.png,cat|dog\nb.png, dog \nsub/c.png,\n",
    "columns": "image,cat,dog\na.png,1,1\nb.png,0,1\nsub/c.png,0,0\n",
    "words": "image,cat,dog\na.png,yes,TRUE\nb.png,No,true\nsub/c.png,false,\n",
    "semicolons": "image;labels\na.png;cat|dog\nb.png;dog\nsub/c.png;\n",
    "semicolons, commas": 'image;labels\na.png;"cat, dog"\nb.png;dog\nsub/c.png;\n',
    "semicolons, quoted": 'image;labels\na.png;"cat;dog"\nb.png;dog\nsub/c.png;\n',
    "semicolons, columns": "image;cat;dog\na.png;1;1\nb.png;0;1\nsub/c.png;;\n",
    "tabs": "image\tlabels\na.png\tcat;dog\nb.png\tdog\nsub/c.png\t\n",
    "Excel's own": "sep=;\nimage;labels\na.png;cat|dog\nb.png;dog\nsub/c.png;\n",
    "blank lines": "\n\nImage,Labels,,\n\na.png,cat;dog,,\n,,,\nb.png,dog,,\n  \nsub/c.png,,,\n\n",
    "an index, as pandas writes it": ",image,cat,dog\n0,a.png,1.0,1.0\n1,b.png,0.0,1.0\n2,sub/c.png,0.0,0.0\n",
    "an index with a name": "id,image,cat,dog\n1,a.png,1,1\n2,b.png,0,1\n3,sub/c.png,0,0\n",
    "an index beside names": "Unnamed: 0,image,labels\n0,a.png,cat;dog\n1,b.png,dog\n2,sub/c.png,\n",
    "another's name for the image": "filename, cat, dog\na.png, 1, 1\nb.png, 0, 1\nsub/c.png, 0, 0\n",
    "data beside the classes": "image,width,cat,dog,time\na.png,640,1,1,-0.5\nb.png,,0,1,1e3\nsub/c.png,480,0,0,0.2\n",
    "background": "image,labels\na.png,background;cat;dog\nb.png,_background_|dog\nsub/c.png,background\n",
    "a column of the background": "image,background,cat,dog\na.png,1,1,1\nb.png,1,0,1\nsub/c.png,1,0,0\n",
    "Windows line ends": "image,labels\r\na.png,cat;dog;cat\r\nb.png,dog\r\nsub/c.png,\r\n",
    "Windows paths": "image,labels\nimages\\a.png,cat;dog\n.\\b.png,dog\nimages\\sub\\c.png,\n",
    "other order": "labels,image\ndog;cat;,a.png\n;dog,b.png\n,sub/c.png\n",
}


@pytest.mark.parametrize("form", SAME_LABELS)
def test_the_same_labels_in_many_forms(root: Path, form: str) -> None:
    labels(root, SAME_LABELS[form])
    image_set = read_folder(root)
    assert image_set.class_names == ("cat", "dog")
    assert named(image_set) == EXPECTED
    assert image_set.records[2].image.samefile(root / "images" / "sub" / "c.png")
    np.testing.assert_array_equal(image_set.labels, [[1, 1], [0, 1], [0, 0]])


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
    ],
)
def test_encodings(root: Path, encoding: str, mark: bytes) -> None:
    (root / "labels.csv").write_bytes(mark + "image,labels\na.png,Kälbchen;Ñandú\n".encode(encoding))
    assert read_folder(root).class_names == ("Kälbchen", "Ñandú")


def test_windows_encoding_is_read_and_logged(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels(root, "image,labels\na.png,dog\nb.png,Kälbchen\n", encoding="cp1252")
    assert read_folder(root).class_names == ("Kälbchen", "dog")
    assert "labels.csv: line 3 is not UTF-8; read as Windows-1252" in caplog.text


def test_decomposed_names_of_a_mac(root: Path) -> None:
    image(root / "images" / "Ka\u0308lbchen.png")
    labels(root, "image,labels\nKälbchen.png,Kalb\n")
    assert read_folder(root).records[0].name == "Kälbchen"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,labels\na.png,\x81\xff\n", "neither that nor Windows-1252"),
        ("image,labels\na.png,cat\n".encode("utf-16-le"), "UTF-16 without its mark"),
        (b"", "got an empty file"),
        (b"\n \n", "got an empty file"),
        (b"image,labels\n", "expected one row an image below the header, got none"),
        (
            b"a.png,cat\nb.png,dog\n",
            r"labels\.csv:1: expected a CSV whose header .*, got the columns a\.png, cat; name",
        ),
        (b"image,split\na.png,train\n", "expected a column 'labels' or one column a class"),
        (b"image,cat,cat\na.png,1,1\n", "column names that differ"),
        (b"image,,cat\na.png,1,1\n", "column names that differ and are not empty"),
        (b'image,labels\na.png,"cat\nb.png,dog\n', r"labels\.csv:\d+: not a table .*check the quotes"),
        (b"image,labels\na.png,\n", "expected the names of the classes, got none"),
        (b"image,labels\na.png,cat\nb.png,Cat\n", r"labels\.csv:2: 'cat' differs only in case from 'Cat' on line 3"),
    ],
)
def test_bad_tables_stop_in_any_case(root: Path, content: bytes, message: str) -> None:
    (root / "labels.csv").write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read_folder(root, on_bad_input="skip")


def test_missing_table(root: Path) -> None:
    with pytest.raises(BadInputError, match=r"labels\.csv: expected a text file, got none \(No such file"):
        read_folder(root)


BAD_ROWS = {
    "missing image": ("x.png,cat", r"'x\.png' is no file in"),
    "another case": ("A.PNG,cat", r"capital letters count"),
    "above": ("../outside.png,cat", r"without '\.\.', got '\.\./outside\.png'"),
    "hidden above": ("sub/../../../outside.png,cat", r"without '\.\.'"),
    "Windows above": ("..\\outside.png,cat", r"without '\.\.'"),
    "absolute": ("/outside.png,cat", "expected a path inside"),
    "drive": ("C:\\images\\a.png,cat", "expected a path inside"),
    "link": ("link.png,cat", "is a link to .*outside"),
    "no image named": (",cat", "expected the image's path in column 'image', got nothing"),
    "duplicate": ("a.png,cat", r"duplicate name 'a', first on line 2"),
    "duplicate, written otherwise": ("images/a.png,cat", r"duplicate name 'a', first on line 2"),
    "unknown class by case": ("b.png,Cat", "unknown class name 'Cat': did you mean 'cat'"),
    "commas between names": ('b.png,"cat,dog"', "expected names separated by ';', got 'cat,dog'"),
    "too many cells": ("b.png,cat,dog", "expected 2 cells as in the header, got 3"),
    "too few cells": ("b.png", "expected 2 cells as in the header, got 1"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_rows_stop_or_are_skipped(root: Path, kind: str) -> None:
    row, message = BAD_ROWS[kind]
    image(root.parent / "outside.png")
    (root / "link.png").symlink_to(root.parent / "outside.png")
    labels(root, f"image,labels\na.png,cat;dog\n\n{row}\nsub/c.png,dog\n")
    message = rf"labels\.csv:4: .*{message}"
    with pytest.raises(BadInputError, match=message):
        read_folder(root, classes=("cat", "dog"))
    image_set = read_folder(root, classes=("cat", "dog"), on_bad_input="skip")
    assert list(named(image_set)) == ["a", "sub/c"]
    (skipped,) = image_set.skipped
    assert re.search(message, skipped.reason)
    assert skipped.file


@pytest.mark.parametrize("value", ["2", "maybe", "0.5", "cat", "-1"])
def test_cells_of_class_columns(root: Path, value: str) -> None:
    labels(root, f"image,cat,dog\na.png,1,0\nb.png,0,{value}\n")
    with pytest.raises(BadInputError, match=rf"labels\.csv:3: expected 0, 1, true.* in column 'dog', got '{value}'"):
        read_folder(root)
    assert list(named(read_folder(root, on_bad_input="skip"))) == ["a"]


def test_classes_may_be_some_of_the_names_that_occur(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels(root, "image,labels\na.png,cat;dog\nb.png,bird\nsub/c.png,dog;bird\n")
    image_set = read_folder(root, classes=("dog", "cat"))
    assert named(image_set) == {"a": {"dog", "cat"}, "sub/c": {"dog"}}
    assert image_set.mask_values[:4] == (0, 255, 2, 1)  # masks count bird, cat, dog
    assert "1 names are none of the chosen classes, and not learned: bird" in caplog.text
    assert read_folder(root, classes=("dog", "cat", "bird")).mask_values[:4] == (0, 1, 2, 3)
    with pytest.raises(BadInputError, match="unknown class name 'dgo': did you mean 'dog'"):
        read_folder(root, classes=("dgo", "cat"))


def test_links_inside_the_folder_are_fine(root: Path) -> None:
    (root / "link.png").symlink_to(root / "images" / "a.png")
    labels(root, "image,labels\nlink.png,cat\n")
    assert list(named(read_folder(root))) == ["link"]


def test_nothing_usable_says_why(root: Path) -> None:
    labels(root, "image,labels\nx.png,cat\ny.png,cat\n")
    with pytest.raises(BadInputError, match=r"got none of 2 \(2 bad.*'x\.png' is no file"):
        read_folder(root, on_bad_input="skip")


def test_splits(root: Path) -> None:
    labels(root, "image,labels,split\na.png,cat,train\nb.png,dog,val\nsub/c.png,cow,train\n")
    assert read_label_table(root / "labels.csv").splits == ("train", "val")
    train, val = read_folder(root, split="train"), read_folder(root, split="val")
    assert named(train) == {"a": {"cat"}, "sub/c": {"cow"}}
    assert named(val) == {"b": {"dog"}}
    # the order of the classes must not depend on the split
    assert train.class_names == val.class_names == ("cat", "cow", "dog")
    assert len(read_folder(root)) == 3
    with pytest.raises(BadInputError, match="expected rows of split 'test', got none; there are: train, val"):
        read_folder(root, split="test")


def test_a_split_without_its_column(root: Path) -> None:
    labels(root, "image,labels\na.png,cat\n")
    assert read_label_table(root / "labels.csv").splits == ()
    with pytest.raises(BadInputError, match="expected a column 'split'"):
        read_folder(root, split="train")


def test_the_same_image_in_two_splits(root: Path) -> None:
    labels(root, "image,labels,split\na.png,cat,train\na.png,cat,val\nb.png,cat,val\n")
    with pytest.raises(BadInputError, match=r"labels\.csv:3: duplicate name 'a', first on line 2"):
        read_folder(root, split="val")
    assert list(named(read_folder(root, split="val", on_bad_input="skip"))) == ["b"]


def test_a_short_row_is_reported_in_every_split(root: Path) -> None:
    labels(root, "image,labels,split\na.png,cat,train\nb.png,cat\n")
    image_set = read_folder(root, split="train", on_bad_input="skip")
    assert list(named(image_set)) == ["a"]
    assert "got 2" in image_set.skipped[0].reason


def test_masks_by_name_or_by_column(root: Path) -> None:
    mask(root / "masks" / "a.png", 0, 1)
    mask(root / "masks" / "sub" / "c.png", 0, 2)
    mask(root / "masks" / "other.png", 0, 2)
    labels(root, "image,labels\na.png,cat\nb.png,dog\nsub/c.png,dog\n")
    assert [record.mask for record in read_folder(root).records] == [
        root / "masks" / "a.png",
        None,
        root / "masks" / "sub" / "c.png",
    ]
    labels(root, "image,labels,mask\na.png,cat,other.png\nb.png,dog,masks/a.png\nsub/c.png,dog,\n")
    assert [record.mask for record in read_folder(root).records] == [
        root / "masks" / "other.png",
        root / "masks" / "a.png",
        root / "masks" / "sub" / "c.png",
    ]


@pytest.mark.parametrize("cell", ["nowhere.png", "../a.png"])
def test_bad_masks_in_the_column(root: Path, cell: str) -> None:
    labels(root, f"image,labels,mask\na.png,cat,\nb.png,dog,{cell}\n")
    with pytest.raises(BadInputError, match=rf"labels\.csv:3: .*{re.escape(cell)}"):
        read_folder(root)
    assert list(named(read_folder(root, on_bad_input="skip"))) == ["a"]


def test_masks_of_other_names_are_noticed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    mask(root / "masks" / "a_mask.png", 0, 1)
    labels(root, "image,labels\na.png,cat\n")
    assert not read_folder(root).has_masks
    assert "no image has a mask, though there is a folder of masks" in caplog.text


def test_mask_values_follow_the_order_of_the_classes(root: Path) -> None:
    mask(root / "masks" / "a.png", 0, 1, 2, 255)
    labels(root, "image,labels\na.png,cat\nb.png,dog\n")
    values = read_folder(root).mask_values
    np.testing.assert_array_equal(read_mask(root / "masks" / "a.png", values)[0, :4], [0, 1, 2, 255])
    mask(root / "masks" / "a.png", 3)
    with pytest.raises(BadInputError, match=r"got 3; renumber the mask or name the missing classes"):
        read_mask(root / "masks" / "a.png", values)


def test_round_trip(root: Path) -> None:
    mask(root / "masks" / "a.png", 0, 1)
    (root / "classes.txt").write_text("Kälbchen\nno; image, of this\ndog\n", encoding="utf-8")
    labels(root, "image,labels\na.png,Kälbchen;dog\nb.png,dog\nsub/c.png,\n")
    first = read_folder(root)
    write_labels_csv(root / "labels.csv", first)
    assert read_folder(root) == first
    (root / "classes.txt").rename(root / "classes.old")
    assert read_folder(root) == first


def test_round_trip_without_masks(root: Path) -> None:
    labels(root, "image,labels\na.png,cat\nb.png,dog\n")
    first = read_folder(root)
    write_labels_csv(root / "again.csv", first)
    assert read_folder(root, labels="again.csv") == first
    assert (root / "again.csv").read_text(encoding="utf-8").startswith("image,cat,dog")


def test_what_cannot_be_written(root: Path, tmp_path: Path) -> None:
    labels(root, "image,labels\na.png,split\n")
    with pytest.raises(BadInputError, match="expected class names other than image, labels, split, mask, got 'split'"):
        write_labels_csv(root / "again.csv", read_folder(root))
    labels(root, "image,labels\na.png,cat\n")
    with pytest.raises(BadInputError, match="expected images and masks inside"):
        write_labels_csv(tmp_path / "other" / "labels.csv", read_folder(root))
    assert not (root / "again.csv").exists()


@pytest.mark.data
def test_voc_masks_do_not_pass_for_a_folder_s(voc_animals: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="expected masks where i \\+ 1 means class i"):
        write_labels_csv(tmp_path / "labels.csv", read_voc(voc_animals, split="val", classes=("cow", "cat")))


def test_relative_root(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels(root, "image,labels\na.png,cat\n")
    monkeypatch.chdir(root.parent)
    assert len(read_folder(Path("set"))) == 1
    monkeypatch.chdir(root)
    assert len(read_folder(Path(os.curdir))) == 1
