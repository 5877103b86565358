"""Progress where the output is no terminal: a line now and then, with the time that is left; what quiet leaves."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from subcam.runtime import progress
from subcam.runtime.progress import (
    LINE_SECONDS,
    Bar,
    about,
    bar,
    close,
    duration,
    log_to,
    on_course,
    quiet,
    say,
    show,
    text_table,
    track,
    warn,
)


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


def test_the_time_left_is_that_of_the_items_after_the_first_batch(at: Callable, lines: list[str]) -> None:
    """What an earlier run had done took this one no time, and the first batch waits for compilation."""
    with bar("classify", 100, done=40) as job:
        at(50)
        job.advance(10)
        assert lines == ["classify: 50/100"]
        at(51)
        job.advance(10)
        assert job.seconds_left is None, "too early to tell"
        at(LINE_SECONDS + 70)
        job.advance(5, note="loss 0.5")
        assert lines[1:] == ["classify: 65/100, about 2 min left, loss 0.5"]  # 15 items in 50 s
        assert job.seconds_left == pytest.approx(35 * 50 / 15)
        assert job.seconds_of_all == pytest.approx(100 * 50 / 15)
        at(LINE_SECONDS + 75)
        job.advance(20)
        assert len(lines) == 2


def test_a_bar_on_a_longer_way_says_where_and_how_long(at: Callable, lines: list[str]) -> None:
    class Way:
        place = "stage 2 of 7"
        left: float | None = 700.0

        def began(self, bar: Bar) -> None:
            assert bar.title == "classify"

        def seconds_left(self) -> float | None:
            return self.left

    with on_course(way := Way()), bar("classify", 100) as job:
        for seconds in (10, 42):
            at(seconds)
            job.advance(10)
        way.left = None
        at(80)
        job.advance(10)
    assert lines == [
        "stage 2 of 7, classify: 20/100, about 4 min left of this stage, 12 min left of the run",
        "stage 2 of 7, classify: 30/100, about 4 min left",
    ]


@pytest.mark.parametrize(
    ("seconds", "exact", "rounded"),
    [
        (0.04, "0 s", "about 5 s"),
        (0.44, "0.4 s", "about 5 s"),
        (9.49, "9.5 s", "about 10 s"),
        (59.4, "59 s", "about 1 min"),
        (123, "2 min 3 s", "about 2 min"),
        (3599.6, "1 h", "about 1 h"),
        (3599.4, "59 min 59 s", "about 1 h"),
        (4320, "1 h 12 min", "about 1 h 12 min"),
        (183_600, "2 days 3 h", "about 2 days 3 h"),
    ],
)
def test_times_for_people(seconds: float, exact: str, rounded: str) -> None:
    assert (duration(seconds), about(seconds)) == (exact, rounded)


def test_quiet_prints_warnings_and_closing_lines_and_the_log_has_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with quiet(), log_to(tmp_path / "run.log", title="subcam run"):
        say("one")
        warn("two")
        show(text_table(["three"], [["cell"]]))
        close("four", "five")
    assert capsys.readouterr().out == "warning: two\nfour\nfive\n"
    log = (tmp_path / "run.log").read_text("utf-8")
    for text in ("one", "warning: two", "four\nfive"):
        assert re.search(rf"^\d\d:\d\d:\d\d .*{text}$", log, re.MULTILINE), text
    assert "cell" in log
    say("six")
    assert capsys.readouterr().out == "six\n"


def test_items_pass_through(lines: list[str]) -> None:
    assert list(track(iter("abc"), "letters", 3)) == ["a", "b", "c"]
    assert lines == []
