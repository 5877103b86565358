"""Files of a run: whole or not there, and named where they are damaged."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch

from subcam.errors import BadInputError, RunFolderError
from subcam.runtime import files
from subcam.runtime.documents.plain_values import as_plain, from_plain
from subcam.runtime.files import (
    RECORD_FILE,
    atomic_write,
    below,
    fault_of_name,
    file_digest,
    is_disk_full,
    open_arrays,
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


@dataclass(frozen=True, kw_only=True)
class Scales:
    scales: tuple[float, ...]


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def put(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    with atomic_write(path) as file:
        write(file)


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


@pytest.mark.parametrize("text", [True, False])
def test_of_two_writers_one_wins_whole(tmp_path: Path, *, text: bool) -> None:
    path, mode, part = tmp_path / "file", "w" if text else "wb", "x" * 9 if text else b"x" * 9
    with atomic_write(path, mode) as first:
        first.write(part)
        with atomic_write(path, mode) as second:
            second.write(part * 2)
        assert path.stat().st_size == 18
        first.write(part * 2)
    assert path.stat().st_size == 27
    assert everything_in(tmp_path) == ["file"]


def test_a_writer_that_fails_takes_nothing_of_anothers_away(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as first:
        first.write(b"whole")
        with pytest.raises(KeyError), atomic_write(path):
            raise KeyError
    assert path.read_bytes() == b"whole"


def test_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".file.partial").write_bytes(b"left " * 100)
    put(tmp_path / "file", lambda file: file.write(b"whole"))
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert everything_in(tmp_path) == ["file"]


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    put(tmp_path / ("a" * 255), lambda file: file.write(b"whole"))
    assert everything_in(tmp_path) == ["a" * 255]
    with pytest.raises(RunFolderError, match="File name too long"):
        put(tmp_path / ("a" * 256), lambda file: file.write(b"whole"))


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
@pytest.mark.parametrize("name", ["file", ".file.partial"])
def test_nothing_is_written_through_a_link(tmp_path: Path, name: str, kind: str) -> None:
    foreign, path = tmp_path / "foreign", tmp_path / "out" / name
    foreign.write_text("of somebody else")
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        (path.symlink_to if kind == "link" else path.hardlink_to)(foreign)
    put(tmp_path / "out" / "file", lambda file: file.write(b"own"))
    assert foreign.read_text() == "of somebody else"
    assert (tmp_path / "out" / "file").read_bytes() == b"own"


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file" / "in").mkdir(parents=True)
    with pytest.raises(RunFolderError, match="Is a directory"):
        put(tmp_path / "file", lambda file: file.write(b"x"))


OUTSIDE = [
    "",
    "/a",
    "..",
    "a/..",
    "../a",
    "a/../b",
    "a//b",
    "./a",
    "a/.",
    "a/",
    "\0",
    "a\nb",
    "\x7f",
    "a\x85",
    "\ud800",
]
OUTSIDE += ["a" * 256, "é" * 128, "a/" * 500 + "a"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_or_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    assert fault_of_name(name)
    with pytest.raises(RunFolderError, match=r"no file can be called"):
        below(tmp_path, name)


@pytest.mark.parametrize("name", ["a", "a/b.c", "...", ".a", "a b", "a" * 255, "é" * 127, "猫/犬", "a\\b", "\udcff"])
def test_names_that_files_can_have(tmp_path: Path, name: str) -> None:
    assert fault_of_name(name) == ""
    assert below(tmp_path, name) == tmp_path / name
    put(below(tmp_path, name), lambda file: file.write(b"x"))


def test_a_folder_that_is_a_link_does_not_lead_out(tmp_path: Path) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    (out / "own").mkdir(parents=True)
    (out / "maps").symlink_to(outside)
    (out / "inner").symlink_to(out / "own")
    with pytest.raises(RunFolderError, match=r"out/maps is a link that leads out of .*out"):
        below(out, "maps/a", ".npz")
    assert below(out, "inner/a", ".npz") == out / "inner" / "a.npz"
    (tmp_path / "other").symlink_to(out)  # the folder itself may be one
    assert below(tmp_path / "other", "own/a", ".npz").parent.is_dir()


def test_a_relative_folder_is_that_of_where_one_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "out" / "maps").mkdir(parents=True)
    (tmp_path / "there" / "out").mkdir(parents=True)
    (tmp_path / "there" / "out" / "maps").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    assert below(Path("out"), "maps/a") == Path("out/maps/a")
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(RunFolderError, match=r"out/maps is a link that leads out of out"):
        below(Path("out"), "maps/a")


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
    full = os.open("/dev/full", os.O_RDWR)
    monkeypatch.setattr(files, "_open_partial", lambda path: (path.with_name("partial"), full))
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


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="this system has no /proc")
def test_a_place_in_which_only_the_system_makes_folders() -> None:
    with pytest.raises(RunFolderError, match=r"cannot make the folder /proc/nowhere .*choose another"):
        put(Path("/proc/nowhere/file"), lambda file: file.write(b"new"))


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


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(BadInputError, match="missing cannot be read"):
        file_digest(tmp_path / "missing")


def test_settings_come_back_from_plain_values() -> None:
    settings = Inner(weight=2.0)
    assert from_plain(Inner, as_plain(settings)) == settings
    assert from_plain(Scales, {"scales": [1.0, 0.5]}) == Scales(scales=(1.0, 0.5))
    with pytest.raises(TypeError, match="unknown"):
        from_plain(Inner, {"weight": 2.0, "unknown": 1})


# Arrays


def test_arrays_that_were_damaged_are_named_with_the_record_that_calls_their_stage_done(tmp_path: Path) -> None:
    path = tmp_path / "cam-0123456789" / "maps" / "a.npz"
    with atomic_write(path) as file:
        np.savez(file, maps=np.arange(3))
    with open_arrays(path, what="response maps") as arrays:
        assert arrays["maps"].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-30])
    with (
        pytest.raises(BadInputError, match=rf"{path} holds no response maps .* run again$"),
        open_arrays(path, what="response maps"),
    ):
        pass
    record = tmp_path / "cam-0123456789" / RECORD_FILE
    record.write_text("{}")
    with (
        pytest.raises(BadInputError, match=rf"run again \(with {record}, which says"),
        open_arrays(path, what="response maps"),
    ):
        pass
