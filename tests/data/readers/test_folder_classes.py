"""The classes of a plain folder: by the table or a list, chosen ones, and words that are no class."""

import logging
from pathlib import Path

import pytest
from tests.data.readers.made_folder import labels, mask, named, without_labels

from subcam.data.readers.folder import read_folder
from subcam.errors import BadInputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return without_labels(tmp_path / "set")


def test_classes_file_gives_names_and_order(root: Path) -> None:
    (root / "classes.txt").write_text("dog\n\ncow\ncat\n", encoding="utf-8")
    labels(root, "image,labels\na.png,cat\nb.png,dog\n")
    image_set = read_folder(root)
    assert image_set.class_names == ("dog", "cow", "cat")
    assert image_set.mask_values[:5] == (0, 1, 2, 3, -1)
    labels(root, "image,labels\na.png,cat\nb.png,dogs\n")
    with pytest.raises(BadInputError, match=r"labels\.csv:3: unknown class name 'dogs': did you mean 'dog'"):
        read_folder(root)
    labels(root, "image,cat,dgo\na.png,1,0\n")
    with pytest.raises(BadInputError, match=r"classes\.txt: unknown class name 'dgo': did you mean 'dog'"):
        read_folder(root)


def test_a_choice_of_classes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "classes.txt").write_text("cat\ncow\ndog\n")
    labels(root, "image,labels\na.png,cat;cow\nb.png,cow\nsub/c.png,\n")
    with caplog.at_level(logging.INFO):
        image_set = read_folder(root, classes=("dog", "cat"))
    assert named(image_set) == {"a": {"cat"}, "sub/c": set()}
    assert image_set.mask_values[:5] == (0, 2, 255, 1, -1)
    assert "left out 1 images with none of the chosen classes" in caplog.text
    assert "b" in named(read_folder(root, classes=("dog", "cat"), keep_unlabelled=True))
    with pytest.raises(BadInputError, match="unknown class name 'horse': known are: cat, cow, dog"):
        read_folder(root, classes=("horse",))
    with pytest.raises(BadInputError, match="expected each class once"):
        read_folder(root, classes=("cat", "cat"))


def test_columns_beside_the_labels_are_named(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels(root, "image,labels,weather\na.png,cat,rain\n")
    assert read_folder(root).class_names == ("cat",)
    assert "these are not read: weather" in caplog.text


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ("image,labels\na.png,cat\nb.png,nan\nsub/c.png,\n", "nan"),
        ("image,labels\na.png,cat\nb.png,cat;None\nsub/c.png,\n", "None"),
        ("image,cat,nan\na.png,1,0\nb.png,0,1\nsub/c.png,0,0\n", "nan"),
    ],
)
def test_a_word_for_nothing_is_no_class_and_its_image_is_not_one_of_nothing(root: Path, text: str, bad: str) -> None:
    labels(root, text)
    with pytest.raises(BadInputError, match=rf"labels\.csv:3: expected the names of classes, got '{bad}'.*is unknown"):
        read_folder(root)
    found = read_folder(root, on_bad_input="skip")
    assert (found.class_names, named(found)) == (("cat",), {"a": {"cat"}, "sub/c": set()})
    assert len(found.skipped) == 1


def test_a_class_may_be_called_so_where_it_is_listed(root: Path) -> None:
    labels(root, "image,labels\na.png,none\nb.png,cat\n")
    (root / "classes.txt").write_text("cat\nnone\n")
    assert named(read_folder(root)) == {"a": {"none"}, "b": {"cat"}}


@pytest.mark.parametrize("first", ["background\n", "_background_\n", "__ignore__\n_background_\n", ""])
def test_classes_txt_may_begin_with_what_is_no_class(root: Path, first: str) -> None:
    labels(root, "image,labels\na.png,dog\nb.png,cat\n")
    (root / "classes.txt").write_text(f"{first}dog\ncat\n")
    mask(root / "masks" / "a.png", 0, 1, 255)
    found = read_folder(root)
    assert (found.class_names, found.mask_values[:4]) == (("dog", "cat"), (0, 1, 2, -1))


def test_folders_of_images_and_masks_may_be_links(root: Path, tmp_path: Path) -> None:
    labels(root, "image,labels,mask\nimages/a.png,cat,masks/a.png\nb.png,cat,\n")
    (root / "images").rename(tmp_path / "disk")
    (root / "images").symlink_to(tmp_path / "disk")
    mask(tmp_path / "other" / "a.png", 0, 1)
    mask(tmp_path / "other" / "b.png", 0, 1)
    (root / "masks").symlink_to(tmp_path / "other")
    assert all(record.mask and record.image.is_file() for record in read_folder(root).records)


@pytest.mark.parametrize("column", ["id", "Unnamed: 0", ""])
def test_a_column_that_does_not_count_is_none_of_rows(root: Path, column: str) -> None:
    labels(root, f"{column},image,cat\nx,a.png,1\ny,b.png,0\n")
    with pytest.raises(BadInputError, match=r"expected (0, 1, true|column names that differ and are not empty)"):
        read_folder(root)


def test_numbers_beside_the_classes_are_said(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels(root, "image,width,cat\na.png,640,1\nb.png,480,0\n")
    assert read_folder(root).class_names == ("cat",)
    assert "labels.csv:1: no classes, as they hold numbers: width" in caplog.text
    labels(root, "image,cat\na.png,0.7\nb.png,0.1\n")  # how sure a program is: neither yes nor no
    with pytest.raises(BadInputError, match=r"in column 'cat', got '0\.7'"):
        read_folder(root)


@pytest.mark.parametrize("numbers", [("7", "3"), ("1", "0"), ("105", "9")])
@pytest.mark.parametrize("header", ["image,labels", "image,cat,dog"])
def test_a_first_column_without_a_name_numbers_the_rows_in_any_order(
    root: Path, numbers: tuple[str, str], header: str
) -> None:
    """As pandas writes a table that was shuffled or of which rows were left out."""
    first, second = ("cat", "dog") if "labels" in header else ("1,0", "0,1")
    labels(root, f",{header}\n{numbers[0]},a.png,{first}\n{numbers[1]},b.png,{second}\n")
    assert named(read_folder(root)) == {"a": {"cat"}, "b": {"dog"}}


@pytest.mark.parametrize("numbers", [("7", "7"), ("7", "x"), ("0.5", "1"), ("", "1")])
def test_a_column_without_a_name_that_numbers_no_rows_is_asked_about(root: Path, numbers: tuple[str, str]) -> None:
    labels(root, f",image,labels\n{numbers[0]},a.png,cat\n{numbers[1]},b.png,dog\n")
    with pytest.raises(BadInputError, match="column names that differ and are not empty"):
        read_folder(root)
