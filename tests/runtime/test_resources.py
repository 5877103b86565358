"""How much memory and disk there is, and that work which cannot fit is refused."""

import shutil
from pathlib import Path

import pytest

from subcam.errors import RunFolderError
from subcam.runtime import resources
from subcam.runtime.resources import (
    SPARE_DISK,
    available_memory,
    peak_memory_mib,
    require_memory,
    require_space,
    versions,
)


def test_a_containers_limit_counts_where_it_is_the_lesser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(resources, "LIMITS", ((str(most), str(used)),))
    without = available_memory()
    most.write_text("5000\n")
    used.write_text("2000\n")
    assert available_memory() == 3000
    most.write_text("max\n")
    assert without is None or available_memory() is not None
    assert available_memory() != 3000


def test_memory_is_refused_only_where_it_is_known_to_be_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "available_memory", lambda: 100 << 20)
    require_memory(100 << 20, "maps")
    with pytest.raises(MemoryError, match="maps: expected 101 MiB of free memory, got 100 MiB"):
        require_memory(101 << 20, "maps")
    monkeypatch.setattr(resources, "available_memory", lambda: 0)
    require_memory(resources.NOT_WORTH_ASKING - 1, "so little that nobody asks")
    with pytest.raises(MemoryError):
        require_memory(resources.NOT_WORTH_ASKING, "maps")
    monkeypatch.setattr(resources, "available_memory", lambda: None)
    require_memory(1 << 60, "maps")


def test_a_disk_must_have_room_to_spare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> object:
        asked.append(path)
        return type("Usage", (), {"free": SPARE_DISK + 1_000_000_000})

    monkeypatch.setattr(shutil, "disk_usage", usage)
    folder = tmp_path / "not" / "there"
    require_space(folder, 1_000_000_000, what="the archive")
    assert asked == [tmp_path]
    with pytest.raises(
        RunFolderError, match=rf"the archive needs 1\.2 GB on the disk of {folder}, which has 1\.2 GB free"
    ):
        require_space(folder, 1_000_000_001, what="the archive")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 0}))
    require_space(folder, 0, what="nothing")
    with pytest.raises(RunFolderError, match=r"the file needs 200 MB .* has 0 MB free"):
        require_space(folder, 1, what="the file")


def test_what_was_used() -> None:
    assert 10 < peak_memory_mib() < 1e6
    assert {"subcam", "python", "torch", "numpy"} <= set(versions())
