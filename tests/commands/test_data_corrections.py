"""`subcam data corrections` as a person calls it: drafts out, corrected, back, and the command that it prints."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.data.labels.test_masks_from_label_studio import brush

from subcam import cli
from subcam.commands.data.corrections import _next_command
from subcam.data.dataset import union
from subcam.data.images import read_indices
from subcam.data.readers.toy import CLASSES
from subcam.results import open_images, read_run


def test_the_loop(refined_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(refined_run, tmp_path / "a run")
    export = ["export", "label-studio", str(run), "--worst", "3"]
    assert cli.main(export) == cli.EXIT_OK
    tasks = json.loads((run / "exports" / "label-studio" / "tasks.json").read_text())
    left = np.zeros((48, 48), bool)
    left[:, :20] = True
    for number, task in enumerate(tasks):
        result = brush(CLASSES[number], left) | {"original_width": 48, "original_height": 48}
        task["annotations"] = [{"id": 1, "result": [result], "was_cancelled": number == 2}]
    tasks += [task | {"annotations": []} for task in tasks[2:]]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    capsys.readouterr()
    assert cli.main(["data", "corrections", str(tmp_path / "export.json"), "--run", str(run)]) == cli.EXIT_OK
    said = capsys.readouterr().out
    assert f"{run / 'corrections'}: 2 corrected masks; classes, with the masks that show them:" in said
    assert "left out 1 tasks, as what their images show is unknown:" in said
    assert "1 task without an annotation yet: the drafts stay" in said
    assert "not annotated" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("next: ")]
    command, *words = shlex.split(line.removeprefix("next: "))
    assert command == "subcam"
    names = {task["meta"]["subcam"].rpartition("/")[2] for task in tasks[:2]}
    for path in (run / "corrections").rglob("*.png"):
        np.testing.assert_array_equal(read_indices(path) > 0, left)
    assert {path.stem for path in (run / "corrections").rglob("*.png")} == names

    assert cli.main([*words, "--segment.train-on", "pseudo", "--no-report"]) == cli.EXIT_OK
    (refined,) = read_run(run).result.refined
    assert refined.corrected is not None
    assert read_run(run).result.segmented[0].model.inputs["masks"] == refined.corrected.key
    (learned,) = [path for path in (run / "masks").glob("*.png") if path.stem == tasks[0]["meta"]["subcam"]]
    np.testing.assert_array_equal(read_indices(learned), left * 1)


def test_masks_that_show_less_than_the_labels_are_named(
    refined_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A task submitted with nothing is background, which may be a hasty click."""
    run = shutil.copytree(refined_run, tmp_path / "run")
    records = {record.name: record for record in union(*open_images(read_run(run), data="").all).image_set.records}
    one, other = (next(name for name, record in records.items() if record.labels == (label,)) for label in (0, 2))
    whole = brush(CLASSES[2], np.ones((48, 48), bool)) | {"original_width": 48, "original_height": 48}
    tasks = [
        {"data": {"image": f"/x/{records[name].image.name}"}, "annotations": [{"id": 1, "result": result}]}
        for name, result in ((one, []), (other, [whole]))
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    assert cli.main(["data", "corrections", str(tmp_path / "export.json"), "--run", str(run)]) == cli.EXIT_OK
    said = capsys.readouterr().out
    assert "warning: 1 corrected mask with less than the image's labels say." in said
    assert f"  - {one}: no {CLASSES[0]}\n" in said
    assert other not in said.partition("warning: ")[2]


def test_a_task_of_another_image_is_named(
    refined_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(refined_run, tmp_path / "run")
    task = {"data": {"image": "/data/upload/1/0a1b2c3d-stranger.png"}, "annotations": [{"id": 1, "result": []}]}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    assert cli.main(["data", "corrections", str(tmp_path / "export.json"), "--run", str(run)]) == cli.EXIT_USER
    said = capsys.readouterr().err
    assert "expected tasks of the run's 32 images, got 1 of others" in said
    assert "stranger.png" in said
    assert not (run / "corrections").exists() or not list((run / "corrections").glob("*.png"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"segment.train_on": ()}, ["--segment.train-on", "pseudo"]),
        ({"segment.train_on": ("truth",)}, ["--segment.train-on", "pseudo", "truth"]),
        ({"until": "refine"}, ["--until", "segment"]),
        ({}, []),
    ],
)
def test_the_next_command_trains_a_network(changes: dict, words: list[str], refined_run: Path) -> None:
    """Whatever the run ended with."""

    run = read_run(refined_run)
    run = replace(run, result=replace(run.result, settings=run.result.settings.with_(changes)))
    given = _next_command(run, Path("r"), Path("c"), data="")
    assert given == ["subcam", "run", "--config", "r/config.toml", "--corrections", "c", "--out", "r", *words]
