"""A command under a time limit: when it is over, the command and all that it started are killed."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAST_CHARACTERS = 4000


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How it ended.

    status: as the shell would have it; None where it was cut off.
    seconds: how long it ran.
    said: the end of what it printed.
    """

    status: int | None
    seconds: float
    said: str


def run_limited(
    words: Sequence[str], *, seconds: float, log: Path, environment: Mapping[str, str] | None = None
) -> Ended:
    """Run a command, at most so long; what it prints goes into `log`.

    It runs in a session of its own, so that the kill reaches its children, loading processes and compilers too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(environment or {})},
        )
        status: int | None = None
        try:
            status = process.wait(timeout=max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill(process)
    return Ended(status=status, seconds=time.monotonic() - started, said=_end_of(log))


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """The whole session, whose number is that of the process; what it left behind after its own end too."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - LAST_CHARACTERS))
        return file.read().decode("utf-8", "replace").strip()
