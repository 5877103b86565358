"""Work on items side by side: what is handed out, what is kept when one fails, what is left out."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest

from subcam.errors import BadInputError
from subcam.runtime import parallel
from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.parallel import for_each

ITEMS = tuple(f"{index:02d}" for index in range(20))


def never(item: str) -> bool:
    return False


@pytest.fixture
def threads(machine: MachineSettings) -> Callable[[int], MachineSettings]:
    return lambda count: replace(machine, threads=count)


def test_items_are_worked_on_side_by_side(threads: Callable) -> None:
    """Each waits for another: on one thread alone this would break the barrier."""
    meeting = threading.Barrier(2)

    def work(item: str) -> None:
        meeting.wait(timeout=10)

    for_each(work, ITEMS, title="", machine=threads(2), done=never)


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_than_two_items_a_thread_are_handed_out(
    threads: Callable, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    open_futures: set[Future] = set()
    most: list[int] = []

    class Counting(parallel.ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Future:
            future = super().submit(*args, **kwargs)
            open_futures.add(future)
            most.append(sum(not future.done() for future in open_futures))
            return future

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Counting)
    for_each(lambda item: time.sleep(0.005), ITEMS, title="", machine=threads(count), done=never)
    assert len(most) == len(ITEMS)
    assert max(most) <= 2 * count


def test_the_first_error_surfaces_and_what_is_done_stays_done(threads: Callable) -> None:
    finished: set[str] = set()

    def work(item: str) -> None:
        if item == "05" and "05" not in mended:
            raise BadInputError(f"{item} is bad")
        finished.add(item)

    mended: set[str] = set()
    with pytest.raises(BadInputError, match=r"05 is bad"):
        for_each(work, ITEMS, title="", machine=threads(1), done=lambda item: item in finished)
    assert finished >= {"00", "01", "02", "03", "04"}
    assert len(finished) < 9, "the work went on after the error"

    before = set(finished)
    mended.add("05")
    again: list[str] = []

    def rest(item: str) -> None:
        again.append(item)
        work(item)

    for_each(rest, ITEMS, title="", machine=threads(1), done=lambda item: item in finished)
    assert sorted(again) == sorted(set(ITEMS) - before)


def test_an_interrupt_drops_what_has_not_begun(threads: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    both_begun, release = threading.Barrier(3), threading.Event()

    def work(item: str) -> None:
        begun.append(item)
        if item in ("00", "01"):
            both_begun.wait(10)
        release.wait(10)

    def interrupted(*args: object, **kwargs: object) -> None:
        both_begun.wait(10)
        raise KeyboardInterrupt

    class Releasing(parallel.ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            release.set()
            super().shutdown(wait=wait)

    monkeypatch.setattr(parallel, "wait", interrupted)
    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Releasing)
    with pytest.raises(KeyboardInterrupt):
        for_each(work, ITEMS, title="", machine=threads(2), done=never)
    assert sorted(begun) == ["00", "01"]


def test_of_several_processes_each_works_on_its_share(threads: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel.distributed, "share", lambda items: list(items[1::2]))
    worked: list[str] = []
    for_each(worked.append, ITEMS, title="", machine=threads(1), done=lambda item: item == "03")
    assert worked == [item for item in ITEMS[1::2] if item != "03"]


def must_not(item: str) -> None:
    raise AssertionError(f"{item} was worked on")


def test_nothing_left_is_no_work(threads: Callable) -> None:
    for_each(must_not, ITEMS, title="", machine=threads(2), done=lambda item: True)
    for_each(must_not, (), title="", machine=threads(0), done=never)
