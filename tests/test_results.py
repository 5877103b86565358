"""A record that was damaged or edited is one error that names the file and the key; whole ones come back."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.report.made_run import map_scores, values

from subcam.cli import EXIT_USER, main
from subcam.errors import RunFolderError, SubcamError
from subcam.predict.find_model import find_model
from subcam.refine.variants import VARIANTS
from subcam.results import read_run
from subcam.runtime.documents.plain_values import as_plain
from subcam.runtime.files import write_json

STAGE = {"stage": "round0-classify", "key": "k", "finished": "now", "seconds": 1.0, "peak_memory_mib": 2.0}


def record() -> dict[str, Any]:
    scores = {"val": as_plain(map_scores(0.5, 2, 7))}
    stage = "stages/round0-classify-0123456789"
    entry = {"round": 0, "control": False, "model": stage, "maps": stage, "clusters": None, "scores": scores}
    masks = {"variants": {name: values(0.5, 2) for name in VARIANTS}, "images": 7, "alphas": [4.0], "walk_curve": [0.5]}
    network = {
        "trained_on": "pseudo",
        "round": 0,
        "model": stage,
        "masks": stage,
        "scores": {"val": {"plain": values(0.6, 2)}},
    }
    return {
        "command": ["subcam", "run"],
        "settings": {
            "rounds": 0,
            "dataset": {"root": "images"},
            "refine": {"masks": {"pseudo_mask": "walk"}},
        },
        "class_names": ["cat", "dog"],
        "versions": {"torch": "2"},
        "rounds": [entry],
        "compared": [{"method": "layer-cam", "model": stage, "maps": stage, "scores": scores}],
        "refined": [{"round": 0, "masks": stage, "scores": {"val": masks}}],
        "segment": [network],
        "skipped": [{"file": "a", "reason": "b"}],
    }


def written(folder: Path, content: Any, stage: Any = STAGE) -> Path:
    write_json(folder / "stages" / "round0-classify-0123456789" / "stage.json", stage)
    write_json(folder / "run.json", content)
    return folder


def test_a_whole_record_comes_back(tmp_path: Path) -> None:
    run = read_run(written(tmp_path, record()))
    assert run.result.class_names == ("cat", "dog")
    assert run.skipped == ("b",)
    assert [cost.name for cost in run.stages] == ["round0-classify"]
    assert math.isnan(run.peak_memory_mib)
    assert find_model(tmp_path) == tmp_path / "stages" / "round0-classify-0123456789"


def changed(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        if to is None:
            del content[path[-1]]
        else:
            content[path[-1]] = to

    return change


WRONG = {
    "no class names": (changed("class_names", to=None), "expected the key 'class_names'"),
    "class names as text": (changed("class_names", to="cat"), r"\.class_names: expected a list, got 'cat'"),
    "a number among them": (changed("class_names", 1, to=3), r"\.class_names\[1\]: expected a text, got 3"),
    "no command": (changed("command", to=None), "expected the key 'command'"),
    "versions as a list": (changed("versions", to=[]), r"\.versions: expected an object"),
    "no rounds": (lambda content: content.update(rounds=[], refined=[]), r"\.rounds: expected one or more"),
    "the control alone": (
        lambda content: content.update(rounds=[{**content["rounds"][0], "control": True}], refined=[]),
        r"\.rounds: expected one or more that are no control",
    ),
    "a round as text": (changed("rounds", 0, to="x"), r"\.rounds\[0\]: expected the fields of"),
    "a round's number": (
        changed("rounds", 0, "round", to="0"),
        r"\.rounds\[0\]\.round: expected a whole number, got '0'",
    ),
    "the control alone beside masks": (
        changed("rounds", 0, "control", to=True),
        r"\.rounds: expected one or more that are no control",
    ),
    "scores of no maps": (
        lambda content: content["rounds"][0].update(maps=None),
        r"\.rounds\[0\]\.maps: expected the folder of the maps that were scored, got None",
    ),
    "maps of no network": (
        lambda content: content["rounds"][0].update(model=None),
        r"\.rounds\[0\]\.model: expected the folder of the network that made the maps, got None",
    ),
    "a control": (changed("rounds", 0, "control", to=1), r"\.rounds\[0\]\.control: expected true or false, got 1"),
    "no maps": (changed("rounds", 0, "maps", to=None), r"\.rounds\[0\]: expected the key 'maps'"),
    "maps elsewhere": (changed("rounds", 0, "maps", to="../x"), r"no folder can be called '\.\./x': it has '\.\.'"),
    "maps of the system": (changed("rounds", 0, "model", to="/etc"), r"no folder can be called '/etc': it is absolute"),
    "scores": (changed("rounds", 0, "scores", "val", to=[1]), r"\.rounds\[0\]\.scores\.val: expected the fields of"),
    "a score": (
        changed("rounds", 0, "scores", "val", "images", to={}),
        r"\.scores\.val\.images: expected a whole number",
    ),
    "settings": (changed("settings", to=[]), r"\.settings: expected an object"),
    "a setting": (changed("settings", "rounds", to="many"), r"rounds: expected .*, got 'many'"),
    "a reason": (changed("skipped", 0, to={}), r"\.skipped\[0\]: expected the key 'reason'"),
    "no masks of a network": (changed("segment", 0, "masks", to=None), r"\.segment\[0\]: expected the key 'masks'"),
    "what it learned from": (
        changed("segment", 0, "trained_on", to="x"),
        r"\.trained_on: expected one of pseudo, truth",
    ),
    "a variant": (changed("refined", 0, "scores", "val", "variants", "walk", to=None), "expected the key 'walk'"),
    "a matrix": (changed("rounds", 0, "scores", "val", "best", "matrix", to=[]), r"\.best\.matrix: expected 3 entries"),
    "a row of it": (changed("rounds", 0, "scores", "val", "fixed", "matrix", 1, to=[1]), r"\.matrix\[1\]: expected 3"),
    "a curve": (changed("rounds", 0, "scores", "val", "miou_curve", to=[]), r"\.miou_curve: expected 1 entries, got 0"),
    "a huge number": (changed("rounds", 0, "round", to=10**300), r"\.rounds\[0\]\.round: expected .* of at most 19"),
    "a huge share": (changed("peak_memory_mib", to=10**400), r"\.peak_memory_mib: expected a number of at most 19"),
    "a network": (changed("segment", 0, "model", to=7), r"\.segment\[0\]\.model: expected a text, got 7"),
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_with_its_key(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = record()
    change(content)
    written(tmp_path, content)
    with pytest.raises(RunFolderError, match=words) as caught:
        read_run(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'run.json'} is not the record of a run (")
    assert main(["report", str(tmp_path)]) == EXIT_USER
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "stage", [[], {}, "x", {**STAGE, "seconds": "1"}, {**STAGE, "key": None}, {**STAGE, "outputs": []}, {"stage": 3}]
)
def test_a_stage_that_was_edited_is_named(tmp_path: Path, stage: Any) -> None:
    written(tmp_path, record(), stage)
    with pytest.raises(RunFolderError, match=r"stage\.json is not the record of a stage \(.*; move it away"):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"a": ' * 50_000, "\ufeff{", "nul", "", '"\\ud800"'])
def test_what_is_no_record_at_all_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, "utf-8")
    for read in (read_run, find_model):
        with pytest.raises(SubcamError, match=r"run\.json"):
            read(tmp_path)
    (tmp_path / "run.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SubcamError, match=r"run\.json"):
        read_run(tmp_path)
    shutil.rmtree(tmp_path / "stages", ignore_errors=True)
