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
from subcam.runtime.files import atomic_write
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


def hold(path: Path) -> None:
    with RunFolder(path=path).lock():
        pass


# Stages


def test_a_stage_is_named_by_its_settings_and_inputs_and_nothing_else(tmp_path: Path) -> None:
    plain = Settings()

    def key(name: str = "cam", settings: Settings = plain, inputs: tuple[str, ...] = ("x", "y")) -> str:
        return RunFolder(path=tmp_path).stage(name, settings=settings, inputs=inputs).key

    base = key()
    assert key(settings=Settings(scales=(1.0, 0.5), inner=Inner(weight=5.0))) == base
    assert RunFolder(path=tmp_path / "elsewhere").stage("cam", settings=plain, inputs=("x", "y")).key == base
    changed = [
        key("discover"),
        key(settings=replace(plain, name="b")),
        key(settings=replace(plain, scales=(1.0,))),
        key(settings=replace(plain, inner=Inner(weight=0.0))),
        key(inputs=("x",)),
        key(inputs=("y", "x")),
        key(inputs=("xy", "")),
    ]
    assert len({base, *changed}) == 1 + len(changed)


def test_a_fingerprint_is_that_of_canonical_json() -> None:
    """A change here makes every finished stage of every run be done again, and must be wanted."""
    text = '[1,["cam",{"inner":{"weight":5.0},"name":"a","scales":[1.0,0.5]},["x"]]]'
    assert fingerprint("cam", Settings(), ("x",)) == hashlib.sha256(text.encode()).hexdigest()


def test_a_stage_is_done_when_it_was_finished_and_says_how(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    stage = folder.stage("cam", settings=Settings(), inputs=("abc",))
    assert not stage.done
    assert stage.path == tmp_path / "stages" / f"cam-{stage.key[:10]}"
    with atomic_write(stage.path / "maps" / "a.npz") as file:
        file.write(b"one of two")
    assert not folder.stage("cam", settings=Settings(), inputs=("abc",)).done
    stage.finish({"images": 2, "iou": np.array([0.25, np.nan])})
    again = folder.stage("cam", settings=Settings(), inputs=("abc",))
    assert again.done
    assert again == stage
    record = again.record
    assert (record["stage"], record["key"], record["inputs"]) == ("cam", stage.key, ["abc"])
    assert record["settings"] == {"name": "a", "scales": [1.0, 0.5], "inner": {"weight": 5.0}}
    assert record["outputs"]["images"] == 2
    assert np.isnan(record["outputs"]["iou"][1])
    assert record["versions"]["torch"] == version("torch")
    assert record["seconds"] >= 0
    assert record["peak_memory_mib"] > 10
    assert not folder.stage("cam", settings=Settings(), inputs=("abd",)).done


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
