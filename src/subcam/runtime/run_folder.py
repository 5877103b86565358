"""Where each artefact of a run lies: stage folders named by their inputs, provenance, a lock.

A stage's folder is named after the stage and a fingerprint of everything it depends on. Two runs in
the same folder therefore share what is equal and never overwrite what differs; a stage whose folder says "done" is
skipped, and an interrupted one resumes where its files end. Nothing is deleted but spent checkpoints.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from subcam.errors import RunFolderError
from subcam.runtime import distributed
from subcam.runtime.documents.plain_values import as_plain, at_key, from_plain
from subcam.runtime.files import RECORD_FILE, below, file_digest, read_json, write_json
from subcam.runtime.lock import hold
from subcam.runtime.resources import peak_memory_mib, versions

FORMAT = 2
"""Raised when the meaning of a stage's files changes, so that no older file is taken for a current one."""

RECORD = "run.json"
"""The file in a run's folder that lists what was run."""

CHECKPOINT, PREVIOUS_CHECKPOINT = "checkpoint.pt", "checkpoint-previous.pt"
"""The state of a training that goes on, and the one before it."""

CONTENT = "content"
"""In a field's metadata: what of its value counts in a key."""

SEEN_SECONDS = 120.0
"""After which a network file system shows a file to every machine; NFS remembers for up to a minute."""

Outputs = TypeVar("Outputs")


def fingerprint(*parts: Any) -> str:
    """SHA-256 over the canonical JSON of `parts`, as 64 hex digits."""
    text = json.dumps([FORMAT, as_plain(parts)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def by_content(digest: Callable[[Path], str] = file_digest) -> dict[str, Callable[[str], str]]:
    """Metadata of a settings field that may name a file: what counts in a key is what the file holds, not its path.

    digest: of the file that the field names.
    """
    return {CONTENT: lambda text: digest(Path(text)) if text and Path(text).exists() else text}


class Keyed:
    """What says by its `key` what of it decides results."""

    key: Any


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage's folder.

    name: what the stage is called in the run.
    key: fingerprint of name, version and inputs; later stages have it among their inputs.
    version: of the stage's computation.
    inputs: what the stage depends on, by parameter, as plain values: settings, keys of earlier stages, digests of data.
    """

    name: str
    key: str
    path: Path
    version: int = 1
    inputs: dict[str, Any] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic, compare=False)

    @property
    def record_path(self) -> Path:
        """The file that says the stage is done, and how it was."""
        return self.path / RECORD_FILE

    @property
    def done(self) -> bool:
        """Whether every file of the stage is there."""
        return self.record_path.is_file()

    def drop_checkpoints(self) -> None:
        """Delete the state of a training that is finished: its network is saved, and nothing else would read it."""
        if distributed.is_first():
            for name in (CHECKPOINT, PREVIOUS_CHECKPOINT):
                (self.path / name).unlink(missing_ok=True)

    @property
    def record(self) -> dict[str, Any]:
        """What was written when the stage ended: outputs, seconds, memory, versions, inputs."""
        return read_stage_record(self.record_path)

    def outputs_as(self, kind: type[Outputs]) -> Outputs:
        """What its function wrote for others to read.

        Raises:
            RunFolderError: it is something else by now; names the file and the key.
        """
        try:
            return cast(Outputs, at_key(".outputs", kind, self.record["outputs"]))
        except TypeError as error:
            raise RunFolderError(_no_record(self.record_path, error)) from error

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
                "version": self.version,
                "inputs": self.inputs,
                "outputs": outputs,
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - self._started, 3),
                "peak_memory_mib": round(peak_memory_mib(), 1),
                "versions": versions(),
            },
        )


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The keys of a stage's record that are read; earlier revisions wrote neither version nor energy."""

    stage: str
    key: str
    finished: str
    seconds: float
    peak_memory_mib: float
    outputs: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    energy_joules: float | None = None


def read_stage_record(path: Path) -> dict[str, Any]:
    """What was written when a stage ended.

    Raises:
        RunFolderError: it is not what was written there; names the file and the key.
    """
    record = read_json(path)
    try:
        known = from_plain(_Record, record, lenient=True)
    except TypeError as error:
        raise RunFolderError(_no_record(path, error)) from error
    return record | as_plain(known)


def _no_record(path: Path, error: TypeError) -> str:
    return f"{path} is not the record of a stage ({error}); move it away, and the stage is computed again"


def _wait_until_seen(path: Path) -> None:
    """Until a file that another machine has written is seen here: network file systems remember that there was none."""
    until = time.monotonic() + SEEN_SECONDS
    while not path.is_file() and time.monotonic() < until:
        time.sleep(0.1)


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """A run's folder: `run.json`, `summary.md` and one folder a stage."""

    path: Path

    def stage(self, name: str, *, version: int = 1, inputs: dict[str, Any] | None = None) -> Stage:
        """The folder of stage `name` for this version of its computation and these inputs.

        Raises:
            RunFolderError: no folder can have this name, or it would lie outside the run's.
        """
        plain = as_plain(inputs or {})
        key = fingerprint(name, version, plain)
        path = below(self.path, f"stages/{name}-{key[:10]}")
        if "/" in name or path.is_symlink():
            raise RunFolderError(f"{path} is not a folder of its own in {self.path / 'stages'}; put one in its place")
        return Stage(name=name, key=key, path=path, version=version, inputs=plain)

    def earlier(self, stage: Stage) -> Stage | None:
        """The newest finished stage of the same name with another key; None where there is none."""
        finished = []
        for path in self.path.glob(f"stages/{stage.name}-*/{RECORD_FILE}"):
            record = read_stage_record(path)
            if record.get("stage") == stage.name and record.get("key") != stage.key:
                finished.append((record.get("finished", ""), path.parent, record))
        if not finished:
            return None
        _, path, record = max(finished, key=lambda entry: entry[:2])
        inputs = record.get("inputs")
        return Stage(
            name=stage.name,
            key=record["key"],
            path=path,
            version=record.get("version", 0),
            inputs=inputs if isinstance(inputs, dict) else {},
        )

    def lock(self, *, leave: bool = True) -> AbstractContextManager[None]:
        """Hold the folder for this process, as long as the block runs (`lock.hold`); the first for all others.

        leave: whether the file that is locked stays there afterwards; not in a folder that goes to other programs.

        Raises:
            RunFolderError: another process holds it, or the folder cannot be written.
        """
        return hold(self.path, leave=leave) if distributed.is_first() else contextlib.nullcontext()
