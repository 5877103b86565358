"""What is printed: lines, tables, bars with time left on a terminal or a line now and then; kept in a run's log."""

import errno
import logging
import os
import re
import stat
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TypeVar

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from subcam.errors import RunFolderError, SubcamError
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


class HarmlessLines(logging.Formatter):
    """Lines of Python's logging for a terminal; names of classes and files stand in them too."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return harmless(super().format(record))


_TITLE_WIDTH = 78
"""Columns that a table takes at least where its title is as long."""


def text_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str = "",
    text_columns: int = 1,
    sections: Collection[int] = (),
    wrap_numbers: bool = True,
) -> Table:
    """A table for `show`. Title, names of columns and cells are shown as they stand: none of their signs is mark-up.

    Args:
        columns: their names.
        rows: the text of each cell.
        title: above the table.
        text_columns: how many of the first columns hold words, which fold where they are long; the others hold numbers.
        sections: rows that have a rule above them.
        wrap_numbers: whether columns of numbers, and their names, may fold too.
    """
    heading = Text(harmless(title)) if title else None
    least = min(heading.cell_len + 1, _TITLE_WIDTH) if heading else None  # a title folds where its table ends
    table = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), min_width=least)
    for place, column in enumerate(columns):
        if place < text_columns:
            table.add_column(Text(harmless(column)), overflow="fold")
        else:
            table.add_column(Text(harmless(column)), justify="right", no_wrap=not wrap_numbers)
    for place, row in enumerate(rows):
        if place in sections:
            table.add_section()
        table.add_row(*(Text(harmless(cell)) for cell in row))
    return table


LOG_WIDTH = 200
"""Columns of a log, in which no table is cut."""

_logs: list[Console] = []
"""Where what is printed goes as well; the last one counts."""


@contextmanager
def log_to(path: Path, *, title: str = "") -> Iterator[None]:
    """Append what is printed inside the block to a text file as well, and how the block ended if by an error.

    Of several processes the first does so, which is the one that prints.

    Args:
        path: of the file.
        title: a line that comes first, with the time.

    Raises:
        RunFolderError: the file cannot be written.
    """
    if not distributed.is_first():
        yield
        return
    with _opened(path) as file:
        log = Console(file=file, width=LOG_WIDTH, color_system=None, force_terminal=False, legacy_windows=False)
        if title:
            _print(log, f"--- {datetime.now(UTC).isoformat(sep=' ', timespec='seconds')} {title}")
        _logs.append(log)
        try:
            yield
        except BaseException as error:
            # A user's mistake says all by itself; of other errors the kind matters too.
            kind = "" if isinstance(error, SubcamError) else f"{type(error).__name__}: "
            _print(log, f"ended by an error: {kind}{error}")
            raise
        finally:
            _logs.remove(log)


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """A text file, made if it is not there, to whose end lines are written as they come; never what is no file."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileExistsError(errno.EEXIST, "it is no file")
    except OSError as error:
        raise RunFolderError(f"cannot write {path} ({error.strerror}); move away what is there") from error
    with os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace", buffering=1) as file:
        yield file


def show(table: Table) -> None:
    """Print a table, of several processes in the first."""
    if distributed.is_first():
        for each in (console, *_logs[-1:]):
            each.print(table)


_silenced: list[bool] = []


@contextmanager
def silence() -> Iterator[None]:
    """Let `say` print nothing inside the block, such as while a run is planned that says the same when it is done."""
    _silenced.append(True)
    try:
        yield
    finally:
        _silenced.pop()


def _print(to: Console, text: str) -> None:
    to.print(harmless(text), markup=False, emoji=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line for the person at the terminal; names of classes and files may stand in it, whatever their signs.

    Of several processes only the first prints.
    """
    if _silenced or not distributed.is_first():
        return
    for each in (console, *_logs[-1:]):
        _print(each, text)
    sys.stdout.flush()
