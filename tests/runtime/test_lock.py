"""Who may work in a folder: one process, whatever became of the one before it, and whatever the file system can do."""

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from subcam.errors import RunFolderError
from subcam.runtime import lock
from subcam.runtime.lock import _life_of, hold


def take(folder: Path) -> None:
    with hold(folder):
        pass


def write_record(folder: Path, *, process: int, host: str = "", life: str | None = None) -> Path:
    """What a holder that was killed left behind."""
    folder.mkdir(exist_ok=True)
    path = folder / ".lock"
    life = _life_of(process) or "" if life is None else life
    path.write_text(json.dumps({"process": process, "host": host or platform.node(), "life": life}).ljust(511) + "\n")
    return path


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_lock_is_a_file_of_its_own(tmp_path: Path, kind: str) -> None:
    foreign = tmp_path / "foreign"
    foreign.write_text("of somebody else")
    (tmp_path / "run").mkdir()
    if kind == "link":
        (tmp_path / "run" / ".lock").symlink_to(foreign)
    else:
        os.mkfifo(tmp_path / "run" / ".lock")
    with pytest.raises(RunFolderError, match=r"\.lock.*; remove it"):
        take(tmp_path / "run")
    assert foreign.read_text() == "of somebody else"


@pytest.fixture(params=["ENOLCK", "ENOSYS", "ENOTSUP", "EOPNOTSUPP"])
def no_kernel_lock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Lustre without -o flock, and on some network file systems."""
    number = getattr(errno, request.param)

    def unsupported(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    monkeypatch.setattr(lock, "SETTLE_SECONDS", 0.01)


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def other() -> Iterator[int]:
    """A process that runs."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process.pid
        process.kill()


def test_who_holds_it_is_written_down_and_so_is_the_end(tmp_path: Path) -> None:
    with hold(tmp_path / "run"):
        record = json.loads((tmp_path / "run" / ".lock").read_text())
        assert (record["process"], record["host"]) == (os.getpid(), platform.node())
        assert record["life"] == _life_of(os.getpid())
    assert (tmp_path / "run" / ".lock").read_text().strip() == ""
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]


def test_what_no_process_has_twice(dead: int, other: int) -> None:
    assert _life_of(dead) is None
    assert _life_of(other) != _life_of(os.getpid())
    assert _life_of(other) == _life_of(other)


def test_a_process_whose_parent_has_not_asked_for_its_end_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()  # to its end, which is the process's
        until = time.monotonic() + 10
        while _life_of(process.pid) and time.monotonic() < until:
            time.sleep(0.01)
        assert process.returncode is None
        os.kill(process.pid, 0)  # its number is still taken
        assert _life_of(process.pid) is None


FORKS = """
import os, signal, sys, time
from pathlib import Path
from subcam.runtime.lock import hold
with hold(Path(sys.argv[1])):
    worker = os.fork()
    if not worker:
        time.sleep(60)
    print(worker, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_that_outlives_its_killed_parent_does_not_hold_the_folder(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", FORKS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert done.stdout is not None
    worker = int(done.stdout.readline())
    try:
        assert done.wait() == -signal.SIGKILL
        take(tmp_path)
        assert _life_of(worker), "the worker must still be there, or this test shows nothing"
    finally:
        os.kill(worker, signal.SIGKILL)
        done.stdout.close()


def test_a_folder_that_was_let_go_is_kept_by_no_fork(tmp_path: Path) -> None:
    with hold(tmp_path):
        assert len(lock._held) == 1
    assert lock._held == set()


def test_who_goes_on_holding_the_kernels_lock_of_a_dead_holder_is_waited_for_and_then_refused(
    tmp_path: Path, dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_record(tmp_path, process=dead, life="a boot 17")
    clock = iter(range(100))
    monkeypatch.setattr(lock.time, "monotonic", lambda: next(clock))
    waited: list[float] = []

    def wait(seconds: float) -> None:
        assert len(waited) < 50, "it waits without end"
        waited.append(seconds)

    monkeypatch.setattr(lock.time, "sleep", wait)
    with path.open() as worker:
        fcntl.flock(worker, fcntl.LOCK_EX)
        with pytest.raises(RunFolderError, match=rf"is in use by process {dead}"):
            take(tmp_path)
    assert len(waited) == lock.LINGER_SECONDS
    take(tmp_path)


@pytest.mark.usefixtures("no_kernel_lock")
class TestWithoutTheKernelsLock:
    def test_one_that_runs_here_is_refused(self, tmp_path: Path, other: int) -> None:
        write_record(tmp_path, process=other)
        with pytest.raises(RunFolderError, match=rf"is in use by process {other} on {platform.node()}; wait for it"):
            take(tmp_path)

    def test_a_dead_one_is_taken_over(self, tmp_path: Path, dead: int) -> None:
        write_record(tmp_path, process=dead, life="a boot 17")
        take(tmp_path)

    def test_another_process_of_the_same_number_is_not_the_holder(self, tmp_path: Path, other: int) -> None:
        """The number was given again; or the machine was started again, and its boot is another."""
        write_record(tmp_path, process=other, life="the boot before 17")
        take(tmp_path)

    def test_of_two_that_start_together_one_gets_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def meanwhile(seconds: float) -> None:
            assert seconds == lock.SETTLE_SECONDS
            write_record(tmp_path, process=1, host="node7", life="x")

        monkeypatch.setattr(lock.time, "sleep", meanwhile)
        with pytest.raises(RunFolderError, match="is in use by process 1 on node7"):
            take(tmp_path)


def test_a_folder_that_cannot_be_locked_for_another_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fails)
    with pytest.raises(RunFolderError, match=r"\.lock cannot be locked \(Input/output error\); choose another folder"):
        take(tmp_path)


# Another machine


def test_one_of_another_machine_that_still_touches_the_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    path = write_record(tmp_path, process=1, host="node7", life="x")
    ended = threading.Event()
    beat = threading.Thread(target=lock._beat, args=(path, ended))
    beat.start()
    try:
        with pytest.raises(RunFolderError, match="is in use by process 1 on node7; wait for it"):
            take(tmp_path)
    finally:
        ended.set()
        beat.join()
    assert "process 1 on node7 did not say that it ended; looking up to 90 s whether it lives" in caplog.text


def test_one_of_another_machine_that_was_killed_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once where that is long ago, and after the rest of the time where it is not."""
    waited: list[float] = []
    monkeypatch.setattr(lock.time, "sleep", waited.append)
    path = write_record(tmp_path, process=1, host="node7", life="x")
    long_ago = time.time() - lock.STALE_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    take(tmp_path)
    assert waited == []

    path = write_record(tmp_path, process=1, host="node7", life="x")
    clock = iter([path.stat().st_mtime + seconds for seconds in (1, 50, 89, 91)])
    monkeypatch.setattr(lock, "_now", lambda _: next(clock))
    take(tmp_path)
    assert waited == [1.0] * 3


def test_the_holder_touches_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.01)
    with hold(tmp_path):
        path = tmp_path / ".lock"
        os.utime(path, (0, 0))
        until = time.monotonic() + 10
        while path.stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.01)
        assert path.stat().st_mtime > 0
    assert not any(thread.name == "subcam-lock" for thread in threading.enumerate())


@pytest.mark.parametrize("content", [b"", b"process 5 on here", b"[1]", b'{"process": 1}', b"\xff\xfe"])
def test_a_record_that_makes_no_sense_names_nobody(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".lock").write_bytes(content)
    take(tmp_path)
