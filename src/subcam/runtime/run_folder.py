"""Where each artefact of a run lies: stage folders named by their inputs, atomic writes, provenance, a lock.

A stage's folder is named after the stage and a fingerprint of its settings and of everything it was given. Two runs in
the same folder therefore share what is equal and never overwrite what differs; a stage whose folder says "done" is
skipped, and one that was cut off is taken up where its files end. Nothing is deleted but spent checkpoints.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from subcam._version import __version__
from subcam.errors import BadInputError, RunFolderError
from subcam.runtime import distributed
from subcam.runtime.lock import hold

Settings = TypeVar("Settings")

FORMAT = 1
"""Raised when the meaning of a stage's files changes, so that no older file is taken for a current one."""

RECORD_FILE = "stage.json"
"""Written last; a stage's folder that has it is done."""

SEEN_SECONDS = 120.0
"""After which a network file system surely shows a file to every machine; NFS remembers for up to a minute."""

_NOT_WRITABLE = frozenset({errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST})

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "numba", "lightning-fabric", "grad-cam")


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb", *, durable: bool = True) -> Iterator[IO[Any]]:
    """Open a file that appears under `path` whole or not at all.

    The bytes go to a neighbour first and are renamed over `path` when the block ends without an error. `durable`
    waits for the disk, so that the file also survives a power cut; turn it off for the many small files of a stage
    that are cheap to make again.

    Raises:
        RunFolderError: the disk is full, or the folder cannot be written; says which and what to do.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        partial.replace(path)
    except Exception as error:
        if is_disk_full(error):
            raise RunFolderError(
                f"no space left while writing {path}; free some and give the same command again, it goes on from here"
            ) from error
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
            raise RunFolderError(
                f"cannot write {path} ({error.strerror}); choose another folder or mend its rights"
            ) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota is behind an error. torch.save tells of it only in the error's context."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Paths become text, dataclasses become objects."""
    with atomic_write(path, "w") as file:
        json.dump(as_plain(value), file, indent=1, allow_nan=True)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of the run folder.

    Raises:
        RunFolderError: the file is not JSON; names it.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunFolderError(
            f"{path} is not the JSON that was written there ({error}); move it away and run again"
        ) from error


@contextlib.contextmanager
def open_arrays(path: Path, *, what: str) -> Iterator[Any]:
    """Open an npz file of the run folder and read from it inside the block.

    Raises:
        BadInputError: the file is missing, cut off or of another format, or the block did not find in it what it
            expected; names the file.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            yield arrays
    except Exception as error:  # a damaged archive makes zipfile, zlib and numpy raise nearly any kind
        raise BadInputError(
            f"{path} holds no {what} ({type(error).__name__}: {error}); move it away and run again{_with_record(path)}"
        ) from error


def _with_record(path: Path) -> str:
    """What else must go for a file of a finished stage to be made again."""
    records = [folder / RECORD_FILE for folder in path.parents if (folder / RECORD_FILE).is_file()]
    return f" (with {records[0]}, which says that its stage is done)" if records else ""


def as_plain(value: Any) -> Any:
    """Dataclasses, paths, tuples and numpy scalars as what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): as_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(entry) for entry in value]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def from_plain(kind: type[Settings], value: dict[str, Any]) -> Settings:
    """A flat dataclass from what `as_plain` made of it: lists become tuples.

    Raises:
        TypeError: a field is missing or unknown.
    """
    fields: dict[str, Any] = {key: tuple(entry) if isinstance(entry, list) else entry for key, entry in value.items()}
    return kind(**fields)


def fingerprint(*parts: Any) -> str:
    """SHA-256 over the canonical JSON of `parts`, as 64 hex digits."""
    text = json.dumps([FORMAT, as_plain(parts)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits.

    Raises:
        BadInputError: the file cannot be read; names it.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}); check the path") from error


def peak_memory_mib() -> float:
    """The process's highest resident memory so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage's folder. `key` is its fingerprint: what later stages name as their input."""

    name: str
    key: str
    path: Path
    settings: Any = None
    inputs: tuple[str, ...] = ()
    _started: float = field(default_factory=time.monotonic, compare=False)

    @property
    def record_path(self) -> Path:
        """The file that says the stage is done, and how it was."""
        return self.path / RECORD_FILE

    @property
    def done(self) -> bool:
        """Whether every file of the stage is there."""
        return self.record_path.is_file()

    @property
    def record(self) -> dict[str, Any]:
        """What was written when the stage ended: outputs, seconds, memory, versions, settings."""
        return read_json(self.record_path)

    def finish(self, outputs: dict[str, Any] | None = None) -> None:
        """Mark the stage as done, with provenance. Call it after the last file is written.

        Of several processes each calls it when its part is done, and all go on together when the first, whose
        `outputs` count, has marked it.
        """
        distributed.barrier()
        if distributed.is_first():
            self._write_record(outputs or {})
        distributed.barrier()
        _wait_until_seen(self.record_path)

    def _write_record(self, outputs: dict[str, Any]) -> None:
        write_json(
            self.record_path,
            {
                "stage": self.name,
                "key": self.key,
                "outputs": outputs,
                "settings": self.settings,
                "inputs": self.inputs,
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - self._started, 3),
                "peak_memory_mib": round(peak_memory_mib(), 1),
                "versions": versions(),
            },
        )


def _wait_until_seen(path: Path) -> None:
    """Until a file that another machine has written is seen here: network file systems remember that there was none."""
    until = time.monotonic() + SEEN_SECONDS
    while not path.is_file() and time.monotonic() < until:
        time.sleep(0.1)


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    found = {"subcam": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A run's folder: `run.json`, `summary.md` and one folder a stage."""

    path: Path

    def stage(self, name: str, *, settings: Any = None, inputs: tuple[str, ...] = ()) -> Stage:
        """The folder of stage `name` for these settings and inputs (keys of earlier stages, digests of data)."""
        key = fingerprint(name, settings, inputs)
        path = self.path / "stages" / f"{name}-{key[:10]}"
        return Stage(name=name, key=key, path=path, settings=settings, inputs=inputs)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the folder for this process, as long as the block runs (`folder_lock.hold`); the first for all others.

        Raises:
            RunFolderError: another process holds it, or the folder cannot be written.
        """
        return hold(self.path) if distributed.is_first() else contextlib.nullcontext()
