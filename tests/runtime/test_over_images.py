"""Work on images side by side: what is handed out, what is kept when one fails, what is left out."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from subcam.data.records import Record
from subcam.errors import BadInputError
from subcam.refine import parallel
from subcam.refine.parallel import over_images
from subcam.runtime.devices import MachineSettings

RECORDS = tuple(Record(name=f"{index:02d}", image=Path(f"{index:02d}.png"), labels=()) for index in range(20))


def never(record: Record) -> bool:
    return False


@pytest.fixture
def threads(machine: MachineSettings) -> Callable[[int], MachineSettings]:
    return lambda count: replace(machine, threads=count)


def test_images_are_worked_on_side_by_side(threads: Callable) -> None:
    """Each waits for another: on one thread alone this would break the barrier."""
    meeting = threading.Barrier(2)

    def work(record: Record) -> None:
        meeting.wait(timeout=10)

    over_images(work, RECORDS, title="", machine=threads(2), done=never)


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_than_two_images_a_thread_are_handed_out(
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
    over_images(lambda record: time.sleep(0.005), RECORDS, title="", machine=threads(count), done=never)
    assert len(most) == len(RECORDS)
    assert max(most) <= 2 * count


def test_the_first_error_surfaces_and_what_is_done_stays_done(threads: Callable) -> None:
    finished: set[str] = set()

    def work(record: Record) -> None:
        if record.name == "05" and "05" not in mended:
            raise BadInputError(f"{record.image} is bad")
        finished.add(record.name)

    mended: set[str] = set()
    with pytest.raises(BadInputError, match=r"05\.png is bad"):
        over_images(work, RECORDS, title="", machine=threads(1), done=lambda record: record.name in finished)
    assert finished >= {"00", "01", "02", "03", "04"}
    assert len(finished) < 9, "the work went on after the error"

    before = set(finished)
    mended.add("05")
    again: list[str] = []

    def rest(record: Record) -> None:
        again.append(record.name)
        work(record)

    over_images(rest, RECORDS, title="", machine=threads(1), done=lambda record: record.name in finished)
    assert sorted(again) == sorted({record.name for record in RECORDS} - before)


def test_an_interrupt_drops_what_has_not_begun(threads: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    both_begun, release = threading.Barrier(3), threading.Event()

    def work(record: Record) -> None:
        begun.append(record.name)
        if record.name in ("00", "01"):
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
        over_images(work, RECORDS, title="", machine=threads(2), done=never)
    assert sorted(begun) == ["00", "01"]


def must_not(record: Record) -> None:
    raise AssertionError(f"{record.name} was worked on")


def test_nothing_left_is_no_work(threads: Callable) -> None:
    over_images(must_not, RECORDS, title="", machine=threads(2), done=lambda record: True)
    over_images(must_not, (), title="", machine=threads(0), done=never)
