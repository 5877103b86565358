"""What a run shows at the top of its folder: final masks with their legend, the network, the configuration, a log."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from rich.table import Table

from subcam import cli, pipeline
from subcam.data.readers.toy import CLASSES
from subcam.errors import BadInputError, CheckpointError, RunFolderError, SubcamError
from subcam.export.mask_folder import evaluate, open_masks
from subcam.networks.segmenter import SegmentationNetwork
from subcam.predict.find_model import find_model
from subcam.run_files.config_file import read_config
from subcam.runtime.progress import log_to, say, show
from subcam.settings import RunSettings
from subcam.stages import cam


def record_of(run: Path) -> dict:
    return json.loads((run / "run.json").read_text("utf-8"))


def test_the_final_masks_are_shown_under_the_images_names(refined_run: Path, toy_folder: Path) -> None:
    (refined,) = record_of(refined_run)["refined"]
    stage = refined_run / refined["masks"] / "walk-crf"
    shown = {path.name for path in (refined_run / "masks").glob("*.png")}
    assert shown == {path.name for path in (toy_folder / "images").iterdir()}
    assert all((refined_run / "masks" / name).samefile(stage / name) for name in shown)
    assert (refined_run / "masks" / "classes.txt").read_text().split() == list(CLASSES)


def test_every_folder_of_masks_names_its_classes(refined_run: Path) -> None:
    folders = {path.parent for path in (refined_run / "stages").rglob("*.png")}
    assert {folder.name for folder in folders} >= {"crf", "walk", "walk-crf", "masks"}
    assert {folder for folder in folders if open_masks(folder).class_names != CLASSES} == set()


def test_a_run_s_folder_scores_as_the_run_did(refined_run: Path, toy_folder: Path) -> None:
    """Whichever of its folders is given; and by names, where the truth has its classes in another order."""
    (refined,) = record_of(refined_run)["refined"]
    expected = refined["scores"]["val"]["variants"]["walk-crf"]["miou"]
    names = [path.stem for path in (toy_folder / "images").glob("val-*")]
    for folder in (refined_run, refined_run / "masks", refined_run / refined["masks"] / "walk-crf"):
        scored = evaluate(predictions=folder, truth=toy_folder, names=names)
        assert scored.class_names[1:] == CLASSES
        assert scored.scores.miou == expected
    with pytest.raises(BadInputError, match="holds several: crf, walk, walk-crf; give one of these"):
        open_masks(refined_run / refined["masks"])


def test_an_export_of_a_run_has_its_classes(refined_run: Path, toy_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--predictions", str(refined_run), "--images", str(toy_folder / "images"), "--out", str(out))
    assert cli.main(["export", "label-studio", *words]) == 0
    interface = (out / "interface.xml").read_text("utf-8")
    assert all(f'value="{name}"' in interface for name in CLASSES)
    assert "class 1" not in interface


def test_the_model_is_that_of_predict(refined_run: Path) -> None:
    own = find_model(refined_run)
    assert own.name.startswith("round0-segment-")
    assert all((refined_run / "model" / name).samefile(own / name) for name in ("config.json", "model.safetensors"))
    assert SegmentationNetwork.load(refined_run / "model").config.class_names == CLASSES


def test_another_run_in_the_folder_shows_its_own(
    refined_run: Path, refined_settings: RunSettings, tmp_path: Path
) -> None:
    """Nothing of the first is left where the second has none, and all of it is back when the first is given again."""
    run = shutil.copytree(refined_run, tmp_path / "run", symlinks=True)
    pipeline.run(refined_settings.with_({"refine.rounds": "none", "segment.train_on": ()}), run)
    assert sorted(path.name for path in run.glob("m*/*")) == []
    with pytest.raises(BadInputError, match="is a run without pseudo masks"):
        open_masks(run)
    pipeline.run(refined_settings.with_({"refine.masks.pseudo_mask": "crf", "segment.train_on": ("truth",)}), run)
    (refined,) = record_of(run)["refined"]
    assert all(path.samefile(run / refined["masks"] / "crf" / path.name) for path in run.glob("masks/*.png"))
    assert find_model(run).name.startswith("truth-segment-")
    assert (run / "model" / "config.json").samefile(find_model(run) / "config.json")
    pipeline.run(refined_settings, run)
    assert sorted(path.name for path in run.glob("m*/*")) == sorted(path.name for path in refined_run.glob("m*/*"))
    assert open_masks(run).root.name == "walk-crf"


def test_the_log_has_what_was_printed_of_each_attempt(
    tiny_run: RunSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/somewhere/subcam", "run", "a b"])
    changes = {"rounds": 0, "classify.epochs": 0, "dataset.toy.train_images": 4, "dataset.toy.val_images": 1}
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(SubcamError, match=r"bad\.pth"):
        pipeline.run(tiny_run.with_({**changes, "classify.round0_checkpoint": str(tmp_path / "bad.pth")}), tmp_path)
    pipeline.run(tiny_run.with_(changes), tmp_path)
    printed = capsys.readouterr().out
    first, second = (tmp_path / "run.log").read_text("utf-8").split("--- ")[1:]
    for attempt in (first, second):
        assert attempt.splitlines()[0].endswith("subcam run 'a b'")
    first_lines, lines = (re.sub(r"(?m)^\d\d:\d\d:\d\d ", "", one).splitlines() for one in (first, second))
    assert first_lines[-1].startswith("ended by an error: ")
    assert "bad.pth" in first_lines[-1]
    assert lines[1:] == printed.splitlines()[-len(lines) + 1 :]
    assert [line.partition(":")[0] for line in lines if line.startswith("stage")] == [
        f"stage {n} of 3" for n in (1, 2, 3)
    ]
    assert "1 images of val to score" in second


@pytest.mark.parametrize("record", ["run.json", "ablate/seed-0.json"])
def test_a_run_that_is_cut_off_has_left_its_configuration(
    tiny_run: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    """From before the first stage; the file alone gives the run again, with the stages that were done."""
    small = {"rounds": 0, "classify.epochs": 0, "dataset.toy.train_images": 4, "dataset.toy.val_images": 1}
    settings, out, file = tiny_run.with_(small), tmp_path / "run", (tmp_path / "run" / record).with_suffix(".toml")
    config = file.with_name("config.toml") if record == "run.json" else file

    def end(*_: object, **__: object) -> None:
        assert config.is_file()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cam, "run", end)
        patch.setattr(end, "__module__", cam.__name__)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(settings, out, recipe="toy", record=record)
    assert not (out / record).exists()
    read = read_config(config)
    assert (read.recipe, read.settings()) == ("toy", settings)
    before = config.read_bytes()
    (classified,) = (out / "stages").iterdir()
    result = pipeline.run(read.settings(), out, recipe="toy", record=record)
    assert result.rounds[0].model.path == classified
    assert config.read_bytes() == before


def test_a_run_that_cannot_begin_leaves_the_configuration_of_the_last_one(
    tiny_run: RunSettings, tmp_path: Path
) -> None:
    (tmp_path / "config.toml").write_text("of another\n")
    with pytest.raises(CheckpointError, match=r"gone\.pth: there is no such file"):
        pipeline.run(tiny_run.with_({"classify.round0_checkpoint": "gone.pth"}), tmp_path)
    assert (tmp_path / "config.toml").read_text() == "of another\n"


def test_a_log_is_plain_text_of_whole_tables(tmp_path: Path) -> None:
    table = Table(*(f"column {index}" for index in range(15)))
    table.add_row(*("[b]cell[/b]" for _ in range(15)))
    with log_to(tmp_path / "run.log"):
        say("[bold]class[/bold] \udcff\x1b[31m :x: my_module:X:")
        show(table)
    say("after")
    text = (tmp_path / "run.log").read_text("utf-8")
    assert re.match(r"\d\d:\d\d:\d\d \[bold\]class\[/bold\] \\udcff", text)
    assert ":x: my_module:X:" in text, "a sign was put in the place of what is none"
    assert "column 14" in text
    assert "after" not in text


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_no_log_is_written_through_something_else(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    {"link": lambda: path.symlink_to(tmp_path / "x"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with pytest.raises(RunFolderError, match=r"cannot write .*run\.log .*; move away what is there"), log_to(path):
        pass
    assert not (tmp_path / "x").exists()
