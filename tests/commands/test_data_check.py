"""`subcam data check` as a user gives it: what it prints, what it writes, and how it ends."""

import json
from pathlib import Path

import pytest
from tests.data.readers.made_coco import coco_2014, image

from subcam.commands.data.check import check
from subcam.errors import BadInputError, SettingsError


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    rows = ["image,labels"]
    for number in range(45):
        image(root / f"{number}.png", (110, 120))
        rows.append(f"{number}.png,{('cat', 'dog', '[cow]')[number % 3]}")
    (root / "tags.csv").write_text("\n".join(rows))
    return root


def test_what_is_printed(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check([str(mine), "--labels", "tags.csv", "--workers", "1"])
    said = capsys.readouterr().out
    assert "45 training images (all), 0 masks" in said
    assert "[cow]" in said
    assert "warning: 3 classes with fewer than 20 training images" in said
    assert "  - cat: 15 images" in said
    assert "A run would work. Worth fixing before spending hours on it: 1 problem." in said
    assert f"subcam run small --data {mine} --dataset.labels tags.csv --out runs/mine" in said
    assert "with --out DIR: a page" in said


def test_flags_are_those_of_a_run(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dataset.labels", "tags.csv", "--dataset.classes", "dog", "cat", "[cow]"]
    check(["--data", str(mine), *words, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert f"all of it to look at: {tmp_path / 'out' / 'index.html'}" in said
    record = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert [row["name"] for row in record["classes"]] == ["dog", "cat", "[cow]"]
    assert "--dataset.classes dog cat '[cow]' --out" in said


def test_a_run_that_would_stop_ends_with_an_error_after_all_was_said(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        (mine / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(BadInputError, match=r"a run would stop: 5 images that cannot be read\. The first: .*0\.png"):
        check([str(mine), "--labels", "tags.csv", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert "STOPS A RUN: 5 images that cannot be read" in said
    assert "  - and 2 more" in said
    assert "A run would stop: 1 problem must be fixed first, 1 more should be." in said
    assert (tmp_path / "out" / "index.html").is_file()
    check([str(mine), "--labels", "tags.csv", "--on-bad-input", "skip"])
    assert "--dataset.on-bad-input skip --out" in capsys.readouterr().out


def test_masks_of_a_coco_file_are_looked_at_and_not_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = coco_2014(tmp_path / "coco")
    before = sorted(root.rglob("*"))
    check([str(root), "--no-crowd-labels"])
    said = capsys.readouterr().out
    assert "2 images of val2014, 2 masks" in said
    assert "--dataset.no-crowd-labels --out" in said
    assert sorted(root.rglob("*")) == before


@pytest.mark.data
def test_the_real_photographs(voc_animals: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The lists train and val, 454 photographs; what is known of them from their README."""
    words = ["--train-split", "train", "--scored-splits", "val", "--classes", "cat", "cow", "dog", "horse", "sheep"]
    check([str(voc_animals), *words])
    said = capsys.readouterr().out
    assert "209 training images (train), 209 masks; 245 images of val, 245 masks" in said
    assert "STOPS A RUN" not in said
    assert "both learned from and scored" not in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no images were named"),
        (["nowhere"], "nowhere is no folder"),
        (["a", "--data", "b"], "expected one folder, got a and --data b"),
        (["a", "--workers", "-1"], "--workers: expected a whole number from 0 to 10000, got -1"),
    ],
)
def test_what_cannot_be_checked(words: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check(words)
