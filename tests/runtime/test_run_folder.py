"""Stages named by what they were given, one process at a time."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from subcam.errors import RunFolderError
from subcam.runtime.files import atomic_write, write_json
from subcam.runtime.run_folder import RunFolder, fingerprint


@dataclass(frozen=True, kw_only=True)
class Inner:
    weight: float = 5.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    name: str = "a"
    scales: tuple[float, ...] = (1.0, 0.5)
    inner: Inner = Inner()


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["../cam", "/cam", "evaluate-a/b", "evaluate-../../x", "a\nb", "a" * 250])
def test_no_stage_lies_outside_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunFolderError):
        RunFolder(path=tmp_path / "run").stage(name)


def test_a_stage_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path / "run")
    path = folder.stage("cam").path
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path)
    with pytest.raises(RunFolderError, match="is not a folder of its own"):
        folder.stage("cam")


def hold(path: Path) -> None:
    with RunFolder(path=path).lock():
        pass


# Stages


def test_a_stage_is_named_by_its_settings_and_inputs_and_nothing_else(tmp_path: Path) -> None:
    plain = Settings()

    def key(name: str = "cam", version: int = 1, settings: Settings = plain, **inputs: str) -> str:
        given = {"settings": settings, **(inputs or {"images": "x", "model": "y"})}
        return RunFolder(path=tmp_path).stage(name, version=version, inputs=given).key

    base = key()
    assert key(settings=Settings(scales=(1.0, 0.5), inner=Inner(weight=5.0))) == base
    assert key(model="y", images="x") == base
    given = {"settings": plain, "images": "x", "model": "y"}
    assert RunFolder(path=tmp_path / "elsewhere").stage("cam", inputs=given).key == base
    changed = [
        key("discover"),
        key(version=2),
        key(settings=replace(plain, name="b")),
        key(settings=replace(plain, scales=(1.0,))),
        key(settings=replace(plain, inner=Inner(weight=0.0))),
        key(images="x"),
        key(images="y", model="x"),
        key(images="xy", model=""),
        key(images="x", maps="y"),
    ]
    assert len({base, *changed}) == 1 + len(changed)


def test_a_fingerprint_is_that_of_canonical_json() -> None:
    """A change here makes every finished stage of every run be done again, and must be wanted."""
    text = '[2,["cam",3,{"images":"x","settings":{"inner":{"weight":5.0},"name":"a","scales":[1.0,0.5]}}]]'
    inputs = {"settings": Settings(), "images": "x"}
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert fingerprint("cam", 3, inputs) == expected
    assert RunFolder(path=Path("run")).stage("cam", version=3, inputs=inputs).key == expected


def test_a_stage_is_done_when_it_was_finished_and_says_how(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    inputs = {"settings": Settings(), "images": "abc"}
    stage = folder.stage("cam", version=4, inputs=inputs)
    assert not stage.done
    assert stage.path == tmp_path / "stages" / f"cam-{stage.key[:10]}"
    with atomic_write(stage.path / "maps" / "a.npz") as file:
        file.write(b"one of two")
    assert not folder.stage("cam", version=4, inputs=inputs).done
    stage.finish({"images": 2, "iou": np.array([0.25, np.nan])})
    again = folder.stage("cam", version=4, inputs=inputs)
    assert again.done
    assert again == stage
    record = again.record
    assert (record["stage"], record["key"], record["version"]) == ("cam", stage.key, 4)
    plain = {"name": "a", "scales": [1.0, 0.5], "inner": {"weight": 5.0}}
    assert record["inputs"] == {"settings": plain, "images": "abc"}
    assert record["outputs"]["images"] == 2
    assert np.isnan(record["outputs"]["iou"][1])
    assert record["versions"]["torch"] == version("torch")
    assert record["seconds"] >= 0
    assert record["peak_memory_mib"] > 10
    assert not folder.stage("cam", version=4, inputs=inputs | {"images": "abd"}).done
    assert not folder.stage("cam", version=5, inputs=inputs).done


def test_the_earlier_stage_is_the_newest_finished_one_of_that_name(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    stage = folder.stage("cam", version=2, inputs={"images": "new"})
    assert folder.earlier(stage) is None
    first, second, unfinished, other = (
        folder.stage("cam", inputs={"images": "first"}),
        folder.stage("cam", inputs={"images": "second"}),
        folder.stage("cam", inputs={"images": "unfinished"}),
        folder.stage("cam-other", inputs={"images": "other"}),
    )
    for finished, when in ((second, "2024-02-02"), (first, "2024-01-01"), (other, "2024-03-03"), (stage, "2024-04-04")):
        finished.finish()
        write_json(finished.record_path, finished.record | {"finished": when})
    unfinished.path.mkdir()
    earlier = folder.earlier(stage)
    assert earlier == second
    assert earlier is not None
    assert (earlier.version, earlier.inputs) == (1, {"images": "second"})


def test_a_stage_of_an_earlier_revision_has_no_inputs_by_name(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    old = folder.stage("cam")
    write_json(old.record_path, {"stage": "cam", "key": old.key, "settings": {}, "inputs": ["abc"], "finished": "2024"})
    earlier = folder.earlier(folder.stage("cam", inputs={"images": "abc"}))
    assert earlier is not None
    assert (earlier.path, earlier.version, earlier.inputs) == (old.path, 0, {})


# One process at a time

HOLD = """
import sys
from pathlib import Path
from subcam.runtime.run_folder import RunFolder
with RunFolder(path=Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_lock_refuses_a_second_process_and_is_free_after_the_first_was_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=rf"is in use by process {first.pid} on .*; wait for it to end"):
            hold(tmp_path / "run")
        second = subprocess.run(command, input="", capture_output=True, text=True, check=False)
        assert second.returncode != 0
        assert f"process {first.pid}" in second.stderr
        first.kill()
    with RunFolder(path=tmp_path / "run").lock():
        assert json.loads((tmp_path / "run" / ".lock").read_text())["process"] == os.getpid()
    hold(tmp_path / "run")


def test_the_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), RunFolder(path=tmp_path).lock():
        raise KeyError
    with RunFolder(path=tmp_path).lock():
        assert everything_in(tmp_path) == [".lock"]


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match=r"cannot write in .*file.* choose another folder"):
        hold(tmp_path / "file")
