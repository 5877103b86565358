"""Progress of long jobs: bars with time left on a terminal, a line now and then in a log file."""

import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from subcam.runtime import distributed

Item = TypeVar("Item")

console = Console(stderr=False)
_STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LINE_SECONDS = 30.0
"""How often a job says how far it is when its output is no terminal."""


class Bar:
    """How far one job is: `advance` it, and show a `note` such as the current loss."""

    def __init__(self, title: str, total: int, done: int, progress: Progress | None) -> None:
        self.title, self.total, self.done, self.note = title, total, done, ""
        self._progress = progress
        self._task = progress.add_task(title, total=total, completed=done, note="") if progress else None
        self._started = self._printed = time.monotonic()
        self._at_start = done

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more items are done."""
        self.done += count
        self.note = note or self.note
        if self._progress and self._task is not None:
            self._progress.update(self._task, advance=count, note=self.note)
            return
        now = time.monotonic()
        if now - self._printed > LINE_SECONDS:
            self._printed = now
            rate = (self.done - self._at_start) / (now - self._started)
            left = (self.total - self.done) / rate if rate else float("inf")
            say(f"{self.title}: {self.done}/{self.total}, {left:.0f} s left {self.note}".rstrip())


@contextmanager
def bar(title: str, total: int, *, done: int = 0) -> Iterator[Bar]:
    """Show progress of a job of `total` items, `done` of them done before. Of several processes the first shows its."""
    if not console.is_terminal or not distributed.is_first():
        yield Bar(title, total, done, None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(title, total, done, progress)


def track(items: Iterable[Item], title: str, total: int) -> Iterator[Item]:
    """Go through `items` with a bar."""
    with bar(title, total) as current:
        for item in items:
            yield item
            current.advance()


def harmless(text: str) -> str:
    """A text for a terminal: what would steer it, or is no UTF-8, is written out; names come from anywhere."""
    plain = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return _STEERS.sub(lambda found: found[0].encode("unicode_escape").decode(), plain)


def say(text: str) -> None:
    """Print a line for the person at the terminal; names of classes and files may stand in it, whatever their signs.

    Of several processes only the first prints.
    """
    if not distributed.is_first():
        return
    console.print(harmless(text), markup=False, highlight=False, soft_wrap=True)
    sys.stdout.flush()
