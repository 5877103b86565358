"""Files of a run: whole or not there, stages named by what they were given, one process at a time."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch

from subcam.errors import BadInputError, RunFolderError
from subcam.runtime.run_folder import (
    RunFolder,
    atomic_write,
    file_digest,
    fingerprint,
    is_disk_full,
    read_json,
    write_json,
)


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


def put(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with atomic_write(path) as file:
        write(file)


def hold(path: Path) -> None:
    with RunFolder(path=path).lock():
        pass


# Writing


@pytest.mark.parametrize("there_before", [False, True])
def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path, *, there_before: bool) -> None:
    path = tmp_path / "deep" / "file.txt"
    if there_before:
        put(path, lambda file: file.write(b"old"))

    def fails(file: IO[bytes]) -> None:
        file.write(b"new " * 10_000)
        raise KeyError("a fault of the caller's stays as it is")

    with pytest.raises(KeyError, match="stays as it is"):
        put(path, fails)
    assert everything_in(tmp_path) == (["deep/file.txt"] if there_before else [])
    assert not there_before or path.read_text() == "old"


def test_until_the_end_the_old_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with path.open() as reader:
        with atomic_write(path, "w") as file:
            file.write("neu, mit Umlaut: ü")
            file.flush()
            assert path.read_text() == "old"
        assert reader.read() == "old"  # who had it open reads it to its end: it was replaced, not written over
    assert path.read_bytes() == "neu, mit Umlaut: ü".encode()
    assert everything_in(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_at_the_end_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(RunFolderError, match=rf"no space left while writing {path}; free some .* same command again"):
        put(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"old"
    assert everything_in(tmp_path) == ["file.bin"]


@pytest.mark.parametrize(
    "write",
    [
        lambda file: torch.save({"weight": torch.zeros(100_000)}, file),
        lambda file: np.savez_compressed(file, maps=np.random.default_rng(0).random(100_000)),
        lambda file: np.save(file, np.zeros(100_000)),
    ],
    ids=["torch.save", "savez", "save"],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_disk_that_fills_up_while_a_library_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[IO[bytes]], object]
) -> None:
    """torch.save turns the system's error into one of its own, and only its context tells why."""
    really_open = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *args, **_: really_open(Path("/dev/full"), *args))
    with pytest.raises(RunFolderError, match="no space left while writing"):
        put(tmp_path / "file", write)
    assert everything_in(tmp_path) == []


def test_which_errors_tell_of_a_full_disk() -> None:
    assert is_disk_full(OSError(errno.ENOSPC, "full"))
    assert not is_disk_full(OSError(errno.ENOENT, "not there"))
    assert not is_disk_full(RuntimeError("else"))
    assert not is_disk_full(None)
    words = RuntimeError("the library's own words")
    words.__context__ = OSError(errno.ENOSPC, "full")
    assert is_disk_full(words)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match=r"cannot write .*below\.txt .*choose another folder"):
        put(tmp_path / "file" / "below.txt", lambda file: file.write(b"new"))
    with pytest.raises(RunFolderError, match=r"cannot write in .*file.* choose another folder"):
        hold(tmp_path / "file")


def test_a_file_that_the_caller_misses_is_no_fault_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "out", lambda file: file.write((tmp_path / "missing").read_bytes()))


# JSON


def test_json_comes_back_as_plain_values(tmp_path: Path) -> None:
    value = {
        "settings": Settings(),
        "path": tmp_path,
        "scores": np.array([0.5, 1.0], np.float32),
        "count": np.int64(3),
        1: (True, None, "ü"),
    }
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == {
        "settings": {"name": "a", "scales": [1.0, 0.5], "inner": {"weight": 5.0}},
        "path": tmp_path.as_posix(),
        "scores": [0.5, 1.0],
        "count": 3,
        "1": [True, None, "ü"],
    }


@pytest.mark.parametrize("content", [b'{"cut": ', b"", b"\xff\xfe"])
def test_json_that_was_damaged_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "stage.json"
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=rf"{path} is not the JSON .* move it away and run again"):
        read_json(path)


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


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(BadInputError, match="missing cannot be read"):
        file_digest(tmp_path / "missing")


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
