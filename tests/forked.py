"""Work in processes of its own: forked, so that nothing is imported anew, and ended without what pytest would do."""

import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence

DONE, REFUSED, FAILED = 0, 2, 1
"""How a process ends: as it should, with an error for a person, with any other."""

PATIENCE = 60.0
"""Seconds until a process that does not end is killed."""


def at_once(*works: Callable[[], object], patience: float = PATIENCE) -> list[int]:
    """Do each in a process of its own, all begun together; returns how they ended."""
    ready, go = os.pipe()
    processes = [_begin(work, ready, go) for work in works]
    os.close(ready)
    os.close(go)  # the last end of the pipe that is written to: all who wait for it begin
    return [_ended(process, patience) for process in processes]


def _begin(work: Callable[[], object], ready: int, go: int) -> int:
    process = os.fork()
    if process:
        return process
    status = FAILED
    try:
        from subcam.errors import SubcamError

        os.close(go)
        os.read(ready, 1)
        try:
            work()
            status = DONE
        except SubcamError as error:
            print(f"refused: {error}", flush=True)
            status = REFUSED
        except BaseException:
            traceback.print_exc()
    finally:
        os._exit(status)


def _ended(process: int, patience: float) -> int:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return FAILED


def one_whole(ends: Sequence[int]) -> bool:
    """Whether at least one did all, and no other ended in anything but an error for a person."""
    return DONE in ends and set(ends) <= {DONE, REFUSED}


class NoSmallDisk(Exception):  # noqa: N818 - what it says
    """The system lets this process mount nothing."""


def mount(folder: str, size: str, *, again: bool = False) -> None:
    """A file system in memory of this size over a folder, seen by this process alone, which must be a fork.

    Raises:
        NoSmallDisk: it may not.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    new_user, new_mounts, remount, private = 0x10000000, 0x00020000, 32, 1 << 18 | 16384
    user, group = os.getuid(), os.getgid()
    if not again:
        if libc.unshare(new_user | new_mounts):
            raise NoSmallDisk
        for name, content in (("uid_map", f"0 {user} 1"), ("setgroups", "deny"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(content)
        libc.mount(None, b"/", None, private, None)
    flags = remount if again else 0
    if libc.mount(b"subcam-test", os.fsencode(folder), b"tmpfs", flags, f"size={size}".encode()):
        raise NoSmallDisk
