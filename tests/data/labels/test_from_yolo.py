"""YOLO's data sets as image-level labels: which text belongs to which image, what its lines and names mean."""

from pathlib import Path

import pytest
from tests.data.readers.made_coco import image

from subcam.commands.data.labels import labels
from subcam.data.labels.from_yolo import labels_from_yolo, read_yolo_names
from subcam.data.readers.folder import read_folder
from subcam.errors import BadInputError
from subcam.runtime.documents.yaml_text import loads

BOX, OUTLINE = "0.5 0.5 0.2 0.2", "0.1 0.1 0.9 0.1 0.5 0.8"


def write(root: Path, texts: dict[str, str], *, names: str = "names: [cat, dog, cow]\n") -> None:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text(text)
        else:
            image(path)
    (root / "data.yaml").write_text(names)


def found(root: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    return {entry.image: (entry.names, entry.split) for entry in labels_from_yolo(root, root=root).images}


def test_images_and_labels_of_splits(tmp_path: Path) -> None:
    """Boxes, outlines, how sure a program is; a class once; an empty text and a missing one mean no object."""
    write(
        tmp_path,
        {
            "images/train/a.png": "",
            "labels/train/a.txt": f"1 {BOX}\n0 {OUTLINE}\n1 {BOX} 0.93\n\n",
            "images/train/deep/b.png": "",
            "labels/train/deep/b.txt": "",
            "images/val/c.png": "",
            "images/val/d.png": "",
            "labels/val/d.txt": f"2 {BOX}",
        },
    )
    assert found(tmp_path) == {
        "images/train/a.png": (("cat", "dog"), "train"),
        "images/train/deep/b.png": ((), "train"),
        "images/val/c.png": ((), "val"),
        "images/val/d.png": (("cow",), "val"),
    }


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        ("train/images/a.png", "train/labels/a.txt"),
        ("a.png", "a.txt"),
        ("images/x/images/a.png", "images/x/labels/a.txt"),
    ],
)
def test_where_the_text_of_an_image_lies(picture: str, text: str, tmp_path: Path) -> None:
    """Roboflow's splits, labelImg beside the image; the last folder called images counts."""
    write(tmp_path, {picture: "", text: f"2 {BOX}"})
    assert [names for names, _ in found(tmp_path).values()] == [("cow",)]


NAMES = {
    "a list": ("nc: 3\nnames: [cat, 'd: og', no]", {0: "cat", 1: "d: og", 2: "no"}),
    "by number": ("names:\n  0: person\n  7: on\n  2: 1e3\n", {0: "person", 7: "on", 2: "1e3"}),
    "lines": (
        "train: ../train/images\nnames:\n- null\n- 'yes'\n- 2024-01-01\n",
        {0: "null", 1: "yes", 2: "2024-01-01"},
    ),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_are_texts_whatever_yaml_would_make_of_them(case: str, tmp_path: Path) -> None:
    text, expected = NAMES[case]
    (tmp_path / "data.yaml").write_text(text)
    assert read_yolo_names(tmp_path / "data.yaml") == expected


WRONG = {
    "": "expected `names`",
    "[": "expected YAML",
    "names: cat": "expected `names`",
    "names: []": "expected `names`",
    "names: {a: cat}": "expected `names`",
    "names: [cat, [dog]]": "expected `names`",
    "nc: 2\nnames: [cat]": "expected 1 as `nc`, the number of names, got '2'",
    "names: [cat, cat]": "expected each class once, got 'cat' twice",
    "names: {0: cat, 0: dog}": "a key stands twice",
    "names: !!python/object/apply:os.system ['touch code-was-run']": "expected YAML",
    "names: !!python/name:os.system": "expected YAML",
    "a: &a [x]\nnames: *b": "expected YAML",
    "[" * 1500: "expected YAML",
    "? [a]\n: b": "expected YAML",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:20])
def test_a_list_of_names_that_is_none(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data.yaml").write_text(text)
    with pytest.raises(BadInputError, match=r"data\.yaml: ") as caught:
        read_yolo_names(Path("data.yaml"))
    assert WRONG[text] in str(caught.value)
    assert not Path("code-was-run").exists()


def test_many_short_names_for_one_list_take_no_memory() -> None:
    """What is called a billion laughs: each line names the line before ten times; nothing is copied."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert set(loads("\n".join(lines).encode())) == {f"a{i}" for i in range(9)}
    with pytest.raises(ValueError, match="more than 1,000,000 bytes"):
        loads(b"a" * 2_000_000)


def test_a_number_out_of_range_is_an_error_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.png": "", "labels/a.txt": f"0 {BOX}\n3 {BOX}\n"})
    with pytest.raises(BadInputError, match=r"a\.txt:2: expected the number of a class of .*, got 3; this list is of"):
        labels_from_yolo(tmp_path, root=tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "cat 0.5 0.5 0.2 0.2",
        "0",
        "0 0.5 0.5 0.2",
        "0 0.5 0.5 nan 0.2",
        "-1 0.5 0.5 0.2 0.2",
        "0 120 80 30 20",
        "0 0.1 0.1 0.2 0.2 0.3 0.4 0.5",
        "0.5 0.5 0.5 0.2 0.2",
    ],
)
def test_a_line_that_says_nothing_makes_its_image_unknown(line: str, tmp_path: Path) -> None:
    write(
        tmp_path,
        {"images/a.png": "", "labels/a.txt": f"0 {BOX}\n{line}\n", "images/b.png": "", "labels/b.txt": f"1 {BOX}"},
    )
    source = labels_from_yolo(tmp_path, root=tmp_path)
    assert [entry.image for entry in source.images] == ["images/b.png"]
    assert [skip.file for skip in source.skipped] == ["images/a.png"]
    assert "a.txt:2: expected" in source.skipped[0].reason


def test_the_command_writes_what_a_run_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        tmp_path,
        {
            "images/train/a.png": "",
            "labels/train/a.txt": f"1 {BOX}\n0 {BOX}",
            "images/val/b.png": "",
            "labels/val/b.txt": f"2 {BOX}",
            "images/val/c.png": "",
        },
    )
    labels([str(tmp_path)])
    said = capsys.readouterr().out
    assert "3 images, 3 names, read as yolo: the boxes of 2 texts, by the names of data.yaml" in said
    assert "1 images without a name: examples of none of the classes" in said
    assert (tmp_path / "labels.csv").read_text().splitlines() == [
        "image,labels,split",
        "images/train/a.png,cat;dog,train",
        "images/val/b.png,cow,val",
        "images/val/c.png,,val",
    ]
    read = read_folder(tmp_path, split="val")
    assert [record.labels for record in read.records] == [(read.class_names.index("cow"),), ()]


def test_a_file_of_names_in_place_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, {"set/images/a.png": "", "set/labels/a.txt": f"1 {BOX}"})
    (tmp_path / "data.yaml").rename(tmp_path / "my names.yaml")
    labels([str(tmp_path / "my names.yaml"), "--images", str(tmp_path / "set")])
    assert "images/a.png,dog" in (tmp_path / "set" / "labels.csv").read_text()
    (tmp_path / "set" / "labels" / "classes.txt").write_text("eins\nzwei\n")
    labels([str(tmp_path / "set"), "--overwrite"])
    assert "images/a.png,zwei" in (tmp_path / "set" / "labels.csv").read_text()


def test_no_text_at_all_is_another_folder(tmp_path: Path) -> None:
    write(tmp_path, {"images/a.png": ""})
    with pytest.raises(BadInputError, match=r"expected a text of boxes.*got none for 1; give the folder"):
        labels_from_yolo(tmp_path, root=tmp_path)
