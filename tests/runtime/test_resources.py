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


@pytest.mark.parametrize(
    ("limit", "usage", "prefix"),
    [("memory.max", "memory.current", ""), ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")],
)
def test_a_containers_limit_counts_where_it_is_the_lesser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, usage: str, prefix: str
) -> None:
    """What the kernel keeps of files that were read is not in the way: after a long run that is all of the limit."""
    (known,) = (known for known in resources.LIMITS if known[0].name == limit)
    assert known[1] == usage
    monkeypatch.setattr(resources, "LIMITS", ((tmp_path / limit, *known[1:]),))
    without = available_memory()
    (tmp_path / limit).write_text("5000\n")
    (tmp_path / usage).write_text("4900\n")
    assert available_memory() == 100
    kept = {"anon": 900, f"{prefix}inactive_file": 2500, f"{prefix}active_file": 400, "shmem": 7, "slab": 90}
    (tmp_path / "memory.stat").write_text("".join(f"{name} {count}\n" for name, count in kept.items()))
    assert available_memory() == 3000
    (tmp_path / limit).write_text("max\n")
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
