"""How a run ends before its time: the first SIGTERM, SIGUSR1 or Ctrl-C where nothing is lost, the second at once.

Outside a training the first signal raises `Stopped` wherever the work is: files appear whole or not at all, so only
what was under way is done again. Inside `deferred` it is noted alone: a training ends its step, sees that its end is
`wanted` and writes a checkpoint. Processes that are forked meanwhile (data workers) are deaf to these signals, which a
scheduler sends to all of a job: the parent answers, and ends them.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

from subcam.runtime import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; what schedulers send before they kill (SLURM, Kubernetes, docker stop); what `sbatch --signal=USR1` sends."""

REPEAT_SECONDS = 1.0
"""A signal within this time of the first is the same one: wrappers (uv, torchrun) pass on what the scheduler sent."""


class Stopped(KeyboardInterrupt):
    """A signal asked for the end. `exit_status` is 128 + its number, as a shell reports a process that it ended."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number


@dataclass
class _State:
    listening: bool = False
    deferring: bool = False
    wanted: int | None = None
    since: float = 0.0


_state = _State()


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Answer `SIGNALS` as this file says while the block runs; a signal that was set to be ignored (nohup) stays so.

    Outside the main thread, where Python allows no handlers, nothing is changed.
    """
    if _state.listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    answered = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]
    _state.listening, _state.wanted = True, None
    for number in answered:
        signal.signal(number, _on_signal)
    try:
        yield
    finally:
        for number in answered:
            signal.signal(number, before[number])
        _state.listening, _state.wanted = False, None


@contextlib.contextmanager
def deferred(*, defer: bool = True) -> Iterator[None]:
    """Let a signal only be noted while the block runs; at its end `Stopped` is raised for it.

    With `defer` False signals raise at once again: for long parts inside such a block that need no care.
    """
    before, _state.deferring = _state.deferring, defer
    try:
        if not defer:
            end_if_wanted()
        yield
    finally:
        _state.deferring = before
    if not before:
        end_if_wanted()


def wanted() -> int:
    """The signal that asked this process to end, 0 for none. Of several processes each knows its own alone."""
    return _state.wanted or 0


def note(number: int) -> None:
    """Take signal `number` that another process of this run was sent for one of its own; 0 is none."""
    if number and _state.wanted is None:
        _state.wanted, _state.since = number, time.monotonic()


def end_if_wanted() -> None:
    """Raise `Stopped` if a signal asked for the end."""
    if _state.wanted is not None:
        raise Stopped(_state.wanted)


def _on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - Python calls it with the frame
    now = time.monotonic()
    if _state.wanted is not None:
        if now - _state.since > REPEAT_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        return
    _state.wanted, _state.since = number, now
    if not _state.deferring:
        raise Stopped(number)
    if not distributed.is_first():
        return
    # Written past Python's buffers, which the work may be in the middle of writing to.
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(2, f"\n{signal.Signals(number).name}: a checkpoint, then the end; again to end at once\n".encode())


def _leave_signals_to_parent() -> None:
    if _state.listening:
        # Blocked, not ignored: torch gives its workers a handler of SIGTERM after this.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


os.register_at_fork(after_in_child=_leave_signals_to_parent)
