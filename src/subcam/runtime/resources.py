"""What the machine has and what was used of it: free memory and disk, peak memory, versions of what computes.

A large image (Section 3.3's per-pixel steps) fails before the machine does.
"""

import contextlib
import functools
import os
import platform
import resource
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from subcam._version import __version__
from subcam.errors import RunFolderError

LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), "memory.current", ("active_file", "inactive_file")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        "memory.usage_in_bytes",
        ("total_active_file", "total_inactive_file"),
    ),
)
"""Where Linux tells a container's limit (second and first version of control groups); the file beside it with its use;
and what of that use, by `memory.stat`, are copies of files on disk, which the kernel drops where memory is wanted."""
NOT_WORTH_ASKING = 2**26

SPARE_DISK = 200_000_000
"""Bytes left over for the file system and for others."""

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "numba", "lightning-fabric", "grad-cam")


def available_memory() -> int | None:
    """Bytes that can be had without swapping, within the container's limit where there is one; None if unknown."""
    amounts = []
    table = Path("/proc/meminfo")
    if table.is_file():
        lines = dict(line.split(":", 1) for line in table.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            amounts.append(1024 * int(lines["MemAvailable"].split()[0]))
    for limit, usage, droppable in LIMITS:
        used = limit.with_name(usage)
        if limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
            amounts.append(int(most) - int(used.read_text()) + _counted(limit.with_name("memory.stat"), droppable))
    return min(amounts, default=None)


def _counted(table: Path, names: tuple[str, ...]) -> int:
    """The sum of some lines of a table of names and bytes; 0 where there is no table."""
    lines = (line.split() for line in table.read_text().splitlines()) if table.is_file() else ()
    return sum(int(count) for name, count in lines if name in names)


def require_memory(needed: int, purpose: str) -> None:
    """Refuse work that cannot fit (below 64 MiB the system is not even asked).

    Raises:
        MemoryError: `needed` bytes are more than can be had.
    """
    if needed < NOT_WORTH_ASKING:
        return
    available = available_memory()
    if available is not None and needed > available:
        raise MemoryError(
            f"{purpose}: expected {needed / 2**20:.0f} MiB of free memory, got {max(available, 0) / 2**20:.0f} MiB. "
            "Use a smaller image or fewer classes, or run fewer at a time."
        )


def require_space(folder: Path, needed: int, *, what: str) -> None:
    """Do nothing if the disk of `folder`, which need not exist yet, has `needed` bytes and some to spare.

    Raises:
        RunFolderError: it has not; says how much there is and how much is needed.
    """
    if needed <= 0:
        return
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < needed + SPARE_DISK:
        raise RunFolderError(
            f"{what} needs {_in_gb(needed + SPARE_DISK)} on the disk of {folder}, which has {_in_gb(free)} free; free "
            "some or choose a folder on another disk"
        )


def _in_gb(count: int) -> str:
    """Bytes in decimal gigabytes or megabytes, as disks are sold."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def peak_memory_mib() -> float:
    """The process's highest resident memory so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    by_package = {"subcam": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            by_package[package] = _installed(package)
    return by_package


@functools.cache
def _installed(package: str) -> str:
    """Read once: a package's own description is a long text, and each stage of a run asks for eight of them."""
    return version(package)


def hardware() -> dict[str, str | int | list[str]]:
    """The processor, its cores, memory in MiB, and GPUs where there are some; what this process may use of them."""
    found: dict[str, str | int | list[str]] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
    }
    # Only what computes has imported torch; asking it takes seconds otherwise.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def _processor() -> str:
    """Its name as Linux has it; elsewhere, and where Linux has none, its kind."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
