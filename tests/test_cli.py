"""The command line: a mistake is one line that says what to do, with exit status 2 and no traceback."""

import errno
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam import cli, pipeline
from subcam._version import __version__
from subcam.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_USER, main
from subcam.recipes import RECIPES


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go to `runs/` in the current folder unless told otherwise."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images with labels."""
    root = tmp_path / "images"
    root.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(root / f"{name}.png")
    (root / "labels.csv").write_text("image,labels\na.png,cat\nb.png,dog\n")
    return root


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line that these words end in."""

    def mistake(*words: str) -> str:
        assert main(words) == EXIT_USER
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        assert captured.err.count("error:") == 1
        assert captured.err.startswith("error: ")
        return captured.err.removeprefix("error: ").rstrip("\n")

    return mistake


def test_unknown_words(mistake: Callable) -> None:
    commands = "run, classify, discover, cam, refine, segment, demo, recipes, predict, evaluate, compare, export"
    commands += ", report, ablate, data, completion"
    assert mistake("trian") == f"there is no command 'trian'; there are: {commands}"
    recipes = "toy, small, voc12_paper, voc12_reference, coco14"
    assert mistake("run") == f"expected a recipe after 'run', got nothing; there are: {recipes}"
    assert mistake("run", "smal") == f"expected a recipe after 'run', got smal; there are: {recipes}"
    assert mistake("recipes", "toy") == "'recipes' takes no arguments, got toy"


def test_missing_images(mistake: Callable, folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    assert mistake("run", "small", "--out", out).startswith("no images were named; give --data DIR")
    nowhere = str(tmp_path / "nowhere")
    assert mistake("run", "small", "--data", nowhere, "--out", out).startswith(f"{nowhere} is no folder; --data takes")
    (folder / "b.png").unlink()
    said = mistake("run", "small", "--data", str(folder), "--out", out)
    assert said.startswith(f"{folder / 'labels.csv'}:3: 'b.png' is no file in {folder}")
    (folder / "labels.csv").unlink()
    said = mistake("run", "small", "--data", str(folder), "--out", out)
    assert said.startswith(f"{folder}: expected images with labels, got 1 images and no labels (looked for labels.csv)")


def test_an_unknown_class_is_said_with_the_one_that_was_meant(mistake: Callable, folder: Path, tmp_path: Path) -> None:
    (folder / "classes.txt").write_text("cat\ndog\n")
    words = ("run", "small", "--data", str(folder), "--out", str(tmp_path / "out"))
    said = mistake(*words, "--dataset.classes", "cats")
    assert said.endswith("unknown class name 'cats': did you mean 'cat'?")
    (folder / "labels.csv").write_text("image,labels\na.png,cat\nb.png,dgo\n")
    assert mistake(*words) == f"{folder / 'labels.csv'}:3: unknown class name 'dgo': did you mean 'dog'?"


def test_a_word_that_is_longer_than_any_name_is_cut(mistake: Callable, tmp_path: Path) -> None:
    long = tmp_path / "list.txt"
    long.write_text(f"{'x' * 100_000}.png and what is said after it")
    text = mistake("predict", str(tmp_path), "--list", str(long), "--out", str(tmp_path / "out"))
    assert len(text) < 4000
    for length in (300, 3000, 5000):
        text = mistake("data", "check", "y" * length)
        assert "yyy" in text
        assert len(text) < 2000


def test_settings_that_contradict_each_other(mistake: Callable, tmp_path: Path) -> None:
    assert mistake("run", "toy", "--classify.augmentation.crop", "0").startswith(
        "--classify.augmentation.crop: expected"
    )
    said = mistake("run", "toy", "--discover.num-subcategories", "0")
    assert said.startswith("--discover.num-subcategories: expected a whole number from 1 to 10000, got 0")
    words = ("--out", str(tmp_path), "--dataset.toy.train-images", "2", "--dataset.toy.val-images", "1")
    said = mistake("run", "toy", *words, "--network.weights", "nowhere.pth")
    assert said.endswith("to read weights from; check the path")


def test_a_folder_that_cannot_be_written(mistake: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = mistake("demo", "--out", str(tmp_path / "file" / "run"))
    assert said.startswith(f"cannot write in {tmp_path / 'file' / 'run'} (")
    assert said.endswith("choose another folder or mend its rights")


def test_a_full_disk_is_a_mistake_whoever_meets_it(
    mistake: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "events.out")

    monkeypatch.setattr(pipeline, "run", full)
    assert mistake("demo", "--out", str(tmp_path)).startswith("no space left (")


def test_a_fault_of_ours_shows_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(pipeline, "run", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        main(["demo"])


@pytest.mark.parametrize("place", [0, 1, 4])
def test_debug_shows_where_a_mistake_was_found(capsys: pytest.CaptureFixture[str], place: int) -> None:
    words = ["run", "small", "--rounds", "1"]
    words.insert(place, "--debug")
    assert main(words) == EXIT_USER
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert "in require_root" in said
    assert said.splitlines()[-1].startswith("error: no images were named")


def test_ctrl_c_says_that_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupted)
    assert main(["demo"]) == EXIT_INTERRUPTED == 130
    assert capsys.readouterr().err == "\nstopped; the same command resumes\n"
    monkeypatch.setattr("subcam.commands.export.export", interrupted)
    assert main(["export", "torch"]) == EXIT_INTERRUPTED
    assert capsys.readouterr().err == "\nstopped\n"


def test_an_unknown_flag_ends_with_2_and_the_one_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", "toy", "--classes", "cat"])
    assert caught.value.code == EXIT_USER
    assert "--dataset.classes" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "ablate"])
def test_help_without_a_recipe_lists_the_recipes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: subcam {command} RECIPE ")
    for name, recipe in RECIPES.items():
        assert re.search(rf"^  {name} +{re.escape((recipe.__doc__ or '').splitlines()[0])}$", shown, re.MULTILINE)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == EXIT_USER
    usage = capsys.readouterr().out
    assert main(["--help"]) == EXIT_OK
    assert capsys.readouterr().out == usage
    assert all(f"subcam {command}" in usage for command in ("demo", "run RECIPE", "recipes"))
    assert main(["--version"]) == EXIT_OK
    assert capsys.readouterr().out == f"{__version__}\n"
    assert main(["recipes"]) == EXIT_OK
    assert "\nvoc12_reference\n    PASCAL VOC 2012 as the published code has it" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["run", "small", "--help-all"])
    assert caught.value.code == EXIT_OK
    shown = capsys.readouterr().out
    assert "--classify.subcategory-weight FLOAT" in shown
    assert "lambda of Eq. 3. (default: 5.0)" in shown


def test_words_come_from_the_shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli.sys, "argv", ["subcam", "--version"])
    assert main() == EXIT_OK
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["recipes"], ["evaluate", "--help"], ["--version"]])
def test_a_reader_that_has_seen_enough_ends_it_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """As in `subcam ... | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(words) == 141
    assert not capsys.readouterr().err


def test_a_pipe_of_ours_that_breaks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("subcam.commands.run.recipes", broken)
    with Path(os.devnull).open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(BrokenPipeError):
            main(["recipes"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_into_a_full_disk_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert main(["--help"]) == EXIT_USER
    assert capsys.readouterr().err.startswith("error: no space left")
