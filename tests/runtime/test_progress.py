"""Progress where the output is no terminal: a line now and then, with the time that is left."""

from collections.abc import Callable

import pytest

from subcam.runtime import progress
from subcam.runtime.progress import LINE_SECONDS, bar, track


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def set_clock(seconds: float) -> None:
        now[0] = seconds

    return set_clock


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    monkeypatch.setattr(type(progress.console), "is_terminal", False)
    return said


def test_the_time_left_is_that_of_the_items_done_since_the_start(at: Callable, lines: list[str]) -> None:
    """What an earlier run had done took this one no time."""
    with bar("classify", 100, done=40) as job:
        at(10)
        job.advance(10)
        assert lines == []
        at(LINE_SECONDS + 10)
        job.advance(10, note="loss 0.5")
        assert lines == ["classify: 60/100, 80 s left loss 0.5"]  # 20 items in 40 s
        at(LINE_SECONDS + 20)
        job.advance(20)
        assert len(lines) == 1
        at(2 * LINE_SECONDS + 20)
        job.advance(10)
        assert lines[1:] == ["classify: 90/100, 16 s left loss 0.5"]  # 50 items in 80 s


def test_items_pass_through(lines: list[str]) -> None:
    assert list(track(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    assert lines == []
