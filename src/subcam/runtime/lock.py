"""One run at a time in a folder: the kernel's lock on a file, and in the file who holds it.

The kernel lets the lock go when its holder ends, however it ends, so on one machine there are no stale locks. The
record stands in where the kernel's lock is not there (some network file systems have none) or does not reach other
machines (NFS with local locks): its holder touches the file every few seconds as long as it lives. filelock takes the
kernel's lock; the record, and who may take over from whom, it does not have.
"""

import contextlib
import errno
import json
import logging
import os
import platform
import stat
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, cast

from subcam.errors import RunFolderError
from subcam.runtime.documents.json_text import loads
from subcam.runtime.documents.plain_values import from_plain

BEAT_SECONDS = 10.0
STALE_SECONDS = 90.0
"""A holder on another machine that has not touched the file for so long is dead; network file systems may show a
change up to a minute late."""

SETTLE_SECONDS = 0.5
"""Where there is no kernel's lock: time after which, of two that started together, the first sees the second."""

LINGER_SECONDS = 5.0
"""How long the lock of a killed process may stay: until a worker that it had just forked comes to let go of it."""

_NO_KERNEL_LOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
_WIDTH = 512

log = logging.getLogger(__name__)

_held: set[IO[bytes]] = set()


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a folder. `life` tells a process from a later one of the same number, also after a reboot."""

    process: int
    host: str
    life: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host == platform.node()

    @property
    def lives(self) -> bool:
        """Whether it still runs; of a process of this machine."""
        return _life_of(self.process) == self.life


@contextlib.contextmanager
def hold(folder: Path, *, leave: bool = True) -> Iterator[None]:
    """Hold `folder` for this process while the block runs; makes the folder if it is not there.

    After a holder on another machine that did not say it had ended, it waits until that one shows it lives, or has
    not for 90 seconds. `leave`: whether the file that is locked stays in the folder afterwards.

    Raises:
        RunFolderError: another process holds it, or the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # No link is followed: the record of the holder is written over what is there.
        file: IO[bytes] = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+b", buffering=0)
    except OSError as error:
        if path.is_symlink():
            raise RunFolderError(f"{path} is a link, and a lock is a file of its own; remove it") from error
        raise RunFolderError(
            f"cannot write in {folder} ({error.strerror}); choose another folder or mend its rights"
        ) from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise RunFolderError(f"{path}: expected a file, got something else; remove it")
        by_kernel = _lock(file, folder)
        if not _is_at(path, file):  # it was another's, who took it away when done
            raise _in_use(folder, None)
        before = _read(file)
        if before is not None and _is_at_work(before, path, by_kernel=by_kernel):
            raise _in_use(folder, before)
        own = Holder(process=os.getpid(), host=platform.node(), life=_life_of(os.getpid()) or "")
        _write(file, own)
        if not by_kernel:
            time.sleep(SETTLE_SECONDS)
            if (now := _read(file)) != own:
                raise _in_use(folder, now)
        _held.add(file)
        ended = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, ended), daemon=True, name="subcam-lock")
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            _held.discard(file)
            with contextlib.suppress(OSError):  # a folder that is gone is held by nobody
                _write(file, None)
                if not leave and _is_at(path, file):
                    path.unlink()


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether the path still leads to the open file."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), os.fstat(file.fileno()))
    return False


def _lock(file: IO[bytes], folder: Path) -> bool:
    """Take the kernel's lock; False where the file system has none."""
    from filelock import lock_descriptor  # who only reads a run's folder needs none

    until = time.monotonic() + LINGER_SECONDS
    while True:
        try:
            if lock_descriptor(file.fileno(), blocking=False):
                return True
        except OSError as error:
            if error.errno in _NO_KERNEL_LOCK:
                return False
            raise RunFolderError(
                f"{folder / '.lock'} cannot be locked ({error.strerror}); choose another folder"
            ) from error
        holder = _read(file)
        is_dead = holder is not None and holder.is_here and not holder.lives
        if not is_dead or time.monotonic() > until:
            raise _in_use(folder, holder)
        time.sleep(0.05)


def _is_at_work(holder: Holder, path: Path, *, by_kernel: bool) -> bool:
    """Whether the holder that the record names still runs; `by_kernel`: the kernel says that none of this machine does.

    One of another machine is watched until it has touched the file, or not for long enough.
    """
    if holder.is_here:
        return not by_kernel and holder.lives
    log.warning("%s did not say that it ended; looking up to %d s whether it lives", holder, STALE_SECONDS)
    first = _touched(path)
    while _touched(path) == first:
        if _now(path) - first > STALE_SECONDS:
            return False
        time.sleep(min(1.0, BEAT_SECONDS))
    return True


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):  # a network file system that is away for a while; the next beat tells
            os.utime(path)


def _touched(path: Path) -> float:
    # Opened anew: a network file system then asks its server instead of its cache.
    with path.open("rb") as file:
        return os.fstat(file.fileno()).st_mtime


def _now(path: Path) -> float:
    """The time by the clock of the file system, which may be another machine's."""
    probe = path.with_name(f"{path.name}-clock-{os.getpid()}")
    probe.touch()
    try:
        return _touched(probe)
    finally:
        probe.unlink(missing_ok=True)


def _life_of(process: int) -> str | None:
    """What no other process has, after a reboot neither: boot and time of start; None if there is no such process."""
    try:
        with contextlib.suppress(PermissionError):  # somebody else's runs too
            os.kill(process, 0)
    except ProcessLookupError:
        return None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        state, *others = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    except OSError:
        return ""  # no Linux: the number alone
    # "Z" is dead, and only not yet asked for by its parent
    return None if state == "Z" else f"{boot} {others[18]}"


def _read(file: IO[bytes]) -> Holder | None:
    """Who the record names; None if nobody, which is also how an end is written down."""
    try:
        return cast(Holder, from_plain(Holder, loads(os.pread(file.fileno(), _WIDTH, 0))))
    except (ValueError, TypeError):
        return None


def _write(file: IO[bytes], holder: Holder | None) -> None:
    text = json.dumps(asdict(holder)) if holder else ""
    # One write of one length: no reader meets half a record.
    os.pwrite(file.fileno(), text.encode().ljust(_WIDTH - 1) + b"\n", 0)


def _in_use(folder: Path, holder: Holder | None) -> RunFolderError:
    return RunFolderError(
        f"{folder} is in use by {holder or 'another process'}; wait for it to end or choose another folder"
    )


def _let_go_in_child() -> None:
    # A forked worker that outlives its killed parent for some seconds would hold the kernel's lock on.
    while _held:
        _held.pop().close()


os.register_at_fork(after_in_child=_let_go_in_child)
