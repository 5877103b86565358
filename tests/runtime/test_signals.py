"""The first signal ends the work where nothing is lost, the second at once; children are left out of it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from subcam.runtime import signals
from subcam.runtime.signals import SIGNALS, Stopped, deferred, end_if_wanted, listening, wanted


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def handlers() -> list:
    return [signal.getsignal(number) for number in SIGNALS]


def ended(work: Callable[[], object]) -> Stopped:
    """What the work ends in."""
    with pytest.raises(Stopped) as caught:
        work()
    assert not wanted()
    return caught.value


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 128 + signal.SIGUSR1)]
)
def test_a_signal_raises_where_the_work_is(number: int, status: int) -> None:
    before = handlers()

    def work() -> None:
        with listening():
            send(number)
            pytest.fail("the work went on")

    stop = ended(work)
    assert stop.exit_status == status
    assert isinstance(stop, KeyboardInterrupt)
    assert handlers() == before


def test_a_deferred_signal_is_noted_and_raised_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    done = []

    def work() -> None:
        with listening(), deferred():
            assert not wanted()
            send(signal.SIGTERM)
            assert wanted()
            done.append("the step")

    assert ended(work).args == ("SIGTERM",)
    assert done == ["the step"]
    assert capfd.readouterr().err == "\nSIGTERM: a checkpoint, then the end; again to end at once\n"


def test_a_long_part_of_deferred_work_raises_at_once() -> None:
    def during_it() -> None:
        with listening(), deferred(), deferred(defer=False):
            send(signal.SIGTERM)
            pytest.fail("the work went on")

    def before_it() -> None:
        with listening(), deferred():
            send(signal.SIGTERM)
            with deferred(defer=False):
                pytest.fail("it began though the end was wanted before")

    def after_it() -> None:
        with listening(), deferred():
            with deferred(defer=False):
                assert not wanted()
            send(signal.SIGTERM)
            assert wanted()

    for work in (during_it, before_it, after_it):
        ended(work)


def test_an_error_of_the_work_is_not_hidden_by_the_signal() -> None:
    def work() -> None:
        with listening(), deferred():
            send(signal.SIGTERM)
            raise KeyError("full disk")

    with pytest.raises(KeyError, match="full disk"):
        work()


def test_without_a_signal_nothing_happens() -> None:
    with listening(), deferred():
        end_if_wanted()
    with deferred():
        assert not wanted()


def test_what_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening():
            send(signal.SIGINT)
            assert not wanted()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_change_nothing() -> None:
    def inside() -> list:
        with listening():
            assert threading.current_thread() is not threading.main_thread()
            return handlers()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(inside).result() == handlers()


def test_of_two_that_listen_the_outer_answers() -> None:
    def work() -> None:
        with listening():
            with listening():
                assert not wanted()
            send(signal.SIGTERM)

    ended(work)


def test_the_same_signal_passed_on_by_a_wrapper_counts_once() -> None:
    def work() -> None:
        with listening(), deferred():
            send(signal.SIGTERM)
            send(signal.SIGTERM)
            send(signal.SIGUSR1)
            assert wanted()

    assert ended(work).args == ("SIGTERM",)


SECOND = """
import os, signal, sys
from subcam.runtime import signals
signals.REPEAT_SECONDS = 0.0
with signals.listening(), signals.deferred():
    for number in map(int, sys.argv[1:]):
        os.kill(os.getpid(), number)
        print("went on", flush=True)
"""


@pytest.mark.parametrize("numbers", [(2, 2), (15, 15), (10, 15)])
def test_the_second_signal_ends_the_process_at_once(numbers: tuple[int, int]) -> None:
    words = [sys.executable, "-c", SECOND, *map(str, numbers)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == -numbers[-1]
    assert done.stdout == "went on\n"


def in_child(work: Callable[[], None]) -> int:
    """How a forked process that does `work` ends."""
    process = os.fork()
    if not process:
        work()
        os._exit(7)
    return os.waitpid(process, 0)[1]


def test_children_forked_meanwhile_are_deaf_and_others_are_not() -> None:
    def signalled() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as torch gives its workers a handler of their own
        send(signal.SIGTERM)

    with listening():
        assert os.waitstatus_to_exitcode(in_child(signalled)) == 7
    assert os.waitstatus_to_exitcode(in_child(signalled)) == -signal.SIGTERM
    assert signals._state.wanted is None
