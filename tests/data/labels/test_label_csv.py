"""The CSV that is written is read back the same; names are merged, left out and told apart."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.data.readers.made_coco import image

from subcam.data.labels.from_folders_and_tags import LabelledImage
from subcam.data.labels.label_csv import edit_labels, write_label_table
from subcam.data.readers.class_names import is_missing
from subcam.data.readers.folder import read_folder
from subcam.errors import BadInputError


def images(**names: str) -> list[LabelledImage]:
    return [LabelledImage(image=f"{image}.png", names=tuple(text.split())) for image, text in names.items()]


MADE = {"a": "cat dog", "b": "kitten", "c": "dog", "d": "dog tree", "e": ""}


def test_names_are_merged_then_left_out() -> None:
    found = edit_labels(images(**MADE), rename={"kitten": "cat"}, min_count=2)
    assert found.counts == {"dog": 3, "cat": 2}
    assert found.left_out == {"tree": (1, "in fewer than 2 images")}
    assert [entry.names for entry in found.images] == [("cat", "dog"), ("cat",), ("dog",), ("dog",), ()]
    assert found.unlabelled == 1
    assert list(edit_labels(images(**MADE), drop=["dog"]).left_out) == ["dog"]
    assert edit_labels(images(**MADE), only=["dog"]).counts == {"dog": 3}
    merged = edit_labels(images(a="cat kitten"), rename={"kitten": "cat"})
    assert merged.counts == {"cat": 1}


@pytest.mark.parametrize("words", [{"drop": ["cats"]}, {"only": ["cats"]}, {"rename": {"cats": "cat"}}])
def test_names_that_no_image_has(words: dict) -> None:
    with pytest.raises(BadInputError, match=r"no image has the name 'cats': did you mean 'cat'\?"):
        edit_labels(images(**MADE), **words)


def test_nothing_left() -> None:
    with pytest.raises(BadInputError, match="expected names to be left, got none of 4"):
        edit_labels(images(**MADE), min_count=9)


LETTERS = st.characters(codec="utf-8", exclude_categories=["C", "Z", "M"], exclude_characters=",;|/\\.")
NAMES = st.text(LETTERS, min_size=1).filter(lambda name: name == unicodedata.normalize("NFC", name))


@settings(deadline=None, max_examples=40)
@given(labels=st.lists(st.sets(NAMES, max_size=3), min_size=1, max_size=4), data=st.data())
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, labels: list[set[str]], data: st.DataObject
) -> None:
    everyone = sorted({name for names in labels for name in names})
    assume(everyone and not any(map(is_missing, everyone)))
    assume(len({name.casefold() for name in everyone}) == len(everyone))
    root = tmp_path_factory.mktemp("back")
    made = []
    for number, names in enumerate(labels):
        image = f"{'images/' if data.draw(st.booleans()) else ''}{number} é.png"
        (root / image).parent.mkdir(exist_ok=True)
        (root / image).touch()
        made.append(LabelledImage(image=image, names=tuple(sorted(names)), split="train"))
    write_label_table(root / "labels.csv", made, root=root)
    found = read_folder(root, split="train")
    assert found.class_names == tuple(everyone)
    read = [tuple(found.class_names[label] for label in record.labels) for record in found.records]
    assert read == [entry.names for entry in made]


def test_a_csv_above_the_images(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    rows, _ = write_label_table(tmp_path / "labels.csv", images(a="cat"), root=tmp_path / "images")
    assert rows[0].image == "images/a.png"
    assert read_folder(tmp_path).records[0].image == tmp_path / "images" / "a.png"
    with pytest.raises(BadInputError, match=r"expected a place in .*images or above it"):
        write_label_table(tmp_path / "elsewhere" / "labels.csv", images(a="cat"), root=tmp_path / "images")


def test_a_file_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("mine")
    with pytest.raises(BadInputError, match="is there already; give --overwrite"):
        write_label_table(path, images(a="cat"), root=tmp_path)
    assert path.read_text() == "mine"
    write_label_table(path, images(a="cat"), root=tmp_path, overwrite=True)
    assert path.read_bytes() == b"image,labels\r\na.png,cat\r\n"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a,b",), r"expected names without , ; \|, got 'a,b'; give --rename 'a,b=a b'"),
        (("a;b",), "'a;b=a b'"),
        ((" a",), "got ' a'"),
        (("a\nb",), "expected names without"),
        (("Dog", "dog"), "'dog' and 'Dog' differ only in case; give --rename 'dog=Dog'"),
    ],
)
def test_names_that_a_csv_would_lose(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        write_label_table(tmp_path / "labels.csv", [LabelledImage(image="a.png", names=names)], root=tmp_path)
    assert not list(tmp_path.iterdir())


def test_images_that_a_csv_cannot_hold(tmp_path: Path) -> None:
    made = [
        LabelledImage(image=image, names=("cat",))
        for image in ("a.png", "a.jpg", "images/a.png", " b.png", "c\\d.png", "e\n.png", "f\udcff.png", "g.png")
    ]
    rows, skipped = write_label_table(tmp_path / "labels.csv", made, root=tmp_path)
    assert [row.image for row in rows] == ["a.png", "g.png"]
    assert ["same name" in skip.reason for skip in skipped] == [True, True, False, False, False, False]
    with pytest.raises(BadInputError, match="expected images to write, got none"):
        write_label_table(tmp_path / "other.csv", made[3:4], root=tmp_path)
