"""Folders that show files: what is shown is exactly what was asked for last, as links where there are some."""

import errno
import os
from pathlib import Path

import pytest

from subcam.errors import RunFolderError
from subcam.run_files import links
from subcam.run_files.shown import INDEX_FILE, show


@pytest.fixture
def stage(tmp_path: Path) -> Path:
    """Three files, one in a sub-folder."""
    for name in ("a", "b", "deep/c"):
        path = tmp_path / "stage" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "stage"


def files_of(stage: Path, *names: str) -> dict[str, Path]:
    return {f"{name}.png": stage / f"{name}.png" for name in names}


def content(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != INDEX_FILE)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def test_links_take_no_space_and_nothing_is_done_twice(stage: Path, tmp_path: Path) -> None:
    out, given = tmp_path / "out", files_of(stage, "a", "deep/c")
    show(out, given, {"classes.txt": b"cat\n"})
    assert content(out) == {"a.png": b"a", "deep/c.png": b"deep/c", "classes.txt": b"cat\n"}
    assert all((out / name).samefile(source) for name, source in given.items())
    before = {path: path.stat() for path in (*out.rglob("*"), out)}
    show(out, given, {"classes.txt": b"cat\n"})
    assert {path: path.stat().st_mtime_ns for path in before} == {p: s.st_mtime_ns for p, s in before.items()}


def test_what_is_shown_no_longer_goes_and_what_others_put_there_stays(stage: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    show(out, files_of(stage, "a", "deep/c"), {"classes.txt": b"cat\n"})
    (out / "mine.png").write_bytes(b"mine")
    show(out, files_of(stage, "b"), {"classes.txt": b"dog\n"})
    assert content(out) == {"b.png": b"b", "mine.png": b"mine", "classes.txt": b"dog\n"}
    assert not (out / "deep").exists()
    assert content(stage) == {"a.png": b"a", "b.png": b"b", "deep/c.png": b"deep/c"}
    show(out, {})
    assert content(out) == {"mine.png": b"mine"}
    assert not (out / INDEX_FILE).exists()
    (out / "mine.png").unlink()
    show(out, files_of(stage, "deep/c"))
    show(out, {})
    assert not out.exists()
    show(out, {})
    assert not out.exists()


def test_a_file_that_was_computed_anew_is_shown(stage: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    show(out, files_of(stage, "a"))
    (stage / "a.png").unlink()
    (stage / "a.png").write_bytes(b"new")
    show(out, files_of(stage, "a"))
    assert content(out) == {"a.png": b"new"}


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_copies_where_there_are_no_links(
    code: int, stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(links.os, "link", refuse)
    out = tmp_path / "out"
    show(out, files_of(stage, "a", "b"))
    assert content(out) == {"a.png": b"a", "b.png": b"b"}
    assert not (out / "a.png").samefile(stage / "a.png")
    inode = (out / "a.png").stat().st_ino
    (stage / "b.png").write_bytes(b"B")
    os.utime(stage / "b.png", ns=(1, 1))
    show(out, files_of(stage, "a", "b"))
    assert content(out) == {"a.png": b"a", "b.png": b"B"}
    assert (out / "a.png").stat().st_ino == inode, "a copy that is there was made again"


@pytest.mark.parametrize("moment", range(5))
def test_a_kill_at_any_moment_is_mended_by_the_next_call(
    moment: int, stage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, left = tmp_path / "out", [moment]
    show(out, files_of(stage, "a", "b"))

    def counted(real: object) -> object:
        def call(*given: object, **named: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return real(*given, **named)  # type: ignore[operator]

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", counted(Path.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        try:
            show(out, files_of(stage, "deep/c"), {"classes.txt": b"cat\n"})
        except KeyboardInterrupt:
            pass
        else:
            assert moment > 3
    show(out, files_of(stage, "deep/c"), {"classes.txt": b"cat\n"})
    assert content(out) == {"deep/c.png": b"deep/c", "classes.txt": b"cat\n"}


def test_nothing_is_written_through_a_link(stage: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.png").write_bytes(b"theirs")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").symlink_to(elsewhere / "a.png")
    (out / "deep").symlink_to(elsewhere)
    show(out, files_of(stage, "a"))
    assert (elsewhere / "a.png").read_bytes() == b"theirs"
    assert not (out / "a.png").is_symlink()
    with pytest.raises(RunFolderError, match="leads out of"):
        show(out, files_of(stage, "deep/c"))
    assert content(elsewhere) == {"a.png": b"theirs"}


def test_an_index_that_leads_out_removes_nothing(stage: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    show(out, files_of(stage, "a"))
    for text in ('["../stage/b.png"]', '{"a": 1}', "[1]"):
        (out / INDEX_FILE).write_text(text)
        with pytest.raises(RunFolderError):
            show(out, files_of(stage, "a"))
    assert (stage / "b.png").is_file()
