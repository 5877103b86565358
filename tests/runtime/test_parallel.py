"""Threads in order and never far ahead; things alike together and never waiting for long."""

import threading
import time
from collections.abc import Iterator

import pytest

from subcam.runtime.parallel import alike_together, threaded_map


def test_results_come_in_order_and_items_are_not_drawn_far_ahead() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for item in range(40):
            drawn += 1
            yield item

    def work(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return item * item

    for taken, result in enumerate(threaded_map(work, items(), threads=3, ahead=5), start=1):
        assert result == (taken - 1) ** 2
        assert drawn <= taken + 4
    assert taken == 40
    assert list(threaded_map(work, [], threads=1, ahead=1)) == []


def test_work_is_done_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=10)
    assert list(threaded_map(lambda item: meeting.wait() * 0 + item, range(3), threads=3, ahead=3)) == [0, 1, 2]


@pytest.mark.parametrize("where", ["work", "items"])
def test_an_error_ends_it_and_leaves_no_thread(where: str) -> None:
    done: list[int] = []

    def fail_at_three(item: int) -> int:
        if item == 3:
            raise ValueError("three")
        done.append(item)
        return item

    items = map(fail_at_three, range(1000)) if where == "items" else iter(range(1000))
    work = fail_at_three if where == "work" else int
    before = threading.active_count()
    with pytest.raises(ValueError, match="three"):
        list(threaded_map(work, items, threads=2, ahead=4))
    assert threading.active_count() == before
    assert len(done) < 10


def test_leaving_early_ends_the_work() -> None:
    done: list[int] = []
    results = threaded_map(done.append, range(1000), threads=2, ahead=4)
    next(results)
    results.close()
    assert len(done) <= 5


def test_groups_hold_things_alike() -> None:
    words = ["aa", "b", "cc", "dd", "e", "f", "gg"]
    groups = list(alike_together(words, len, most=3, waiting=100))
    assert groups == [["aa", "cc", "dd"], ["b", "e", "f"], ["gg"]]
    assert list(alike_together([], len, most=3, waiting=1)) == []


def test_what_is_like_nothing_goes_alone_at_once() -> None:
    groups = alike_together([1, 2, None, 3], lambda item: item and "number", most=3, waiting=9)
    assert list(groups) == [[None], [1, 2, 3]]


def test_the_group_that_waited_longest_goes_first() -> None:
    drawn = 0

    def items() -> Iterator[int]:
        nonlocal drawn
        for item in (10, 20, 30, 40, 11, 21, 12):
            drawn += 1
            yield item

    found = []
    given = 0
    for group in alike_together(items(), lambda item: item // 10, most=2, waiting=2):
        given += len(group)
        found.append(group)
        assert drawn - given <= 2
    assert found == [[10], [20], [30], [40], [11, 12], [21]]
