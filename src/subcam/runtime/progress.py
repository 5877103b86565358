"""What is printed: lines, tables, bars with time left on a terminal or a line now and then; kept in a run's log."""

import errno
import logging
import math
import os
import re
import stat
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from subcam.errors import RunFolderError, SubcamError
from subcam.runtime import distributed

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")

console = Console(stderr=False)
_STEERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LINE_SECONDS = 30.0
"""How often a job says how far it is when its output is no terminal."""

STEADY_SECONDS = 2.0
"""How long a job is watched after its first batch before it says how long the rest will take."""

_SHOWN_SECONDS = 0.5


class Bar:
    """How far one job is: `advance` it, and show a `note` such as the current loss.

    How long an item takes is measured from the end of the first batch on: that one waits for kernels to be compiled.
    """

    def __init__(self, title: str, total: int, done: int, progress: "Progress | None") -> None:
        self.title, self.total, self.done, self.note = title, total, done, ""
        self.started = self._printed = self.last = time.monotonic()
        self._at_start, self._first = done, (self.started, done)
        self._course = _courses[-1] if _courses else None
        if self._course:
            self._course.began(self)
        self._progress, self._task = progress, None
        if progress:
            named = f"{self._course.place}, {title}" if self._course else title
            self._task = progress.add_task(named, total=total, completed=done, left="", note="")

    def advance(self, count: int = 1, note: str = "") -> None:
        """`count` more items are done."""
        self.done += count
        self.note = note or self.note
        self.last = now = time.monotonic()
        if self._first[1] == self._at_start:
            self._first = (now, self.done)
        if self._progress and self._task is not None:
            if now - self._printed > _SHOWN_SECONDS:
                self._printed = now
                self._progress.update(self._task, left=", ".join(self._left()))
            self._progress.update(self._task, advance=count, note=self.note)
        elif now - self._printed > LINE_SECONDS:
            self._printed = now
            named = f"{self._course.place}, {self.title}" if self._course else self.title
            say(": ".join([named, ", ".join([f"{self.done}/{self.total}", *self._left(), *filter(None, [self.note])])]))

    @property
    def seconds_of_item(self) -> float | None:
        """How long an item takes; None where it is too early to tell."""
        since, at = self._first
        steady = at > self._at_start and self.done > at and self.last - since >= STEADY_SECONDS
        return (self.last - since) / (self.done - at) if steady else None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest of the job takes; None where it is too early to tell."""
        each = self.seconds_of_item
        return None if each is None else (self.total - self.done) * each

    @property
    def seconds_of_all(self) -> float:
        """How long the whole job takes without what was done before and without the first batch's delay."""
        each, own = self.seconds_of_item, self.done - self._at_start
        if each is None:
            each = (self.last - self.started) / own if own else 0.0
        return self.total * each

    def _left(self) -> list[str]:
        """The time that is left of the job, and of all of which it is a part, as far as they are known."""
        left, of_run = self.seconds_left, self._course.seconds_left() if self._course else None
        if left is None:
            return []
        if of_run is None:
            return [f"{about(left)} left"]
        return [f"{about(left)} left of this stage", f"{_rounded(of_run)} left of the run"]


@runtime_checkable
class Course(Protocol):
    """A longer way of which each bar inside `on_course` is a part.

    place: where on it one is, such as "stage 5 of 14".
    """

    place: str

    def began(self, bar: Bar) -> None:
        """A job has begun."""

    def seconds_left(self) -> float | None:
        """How long the way takes from here; None where nothing is known."""


_courses: list[Course] = []


@contextmanager
def on_course(course: Course) -> Iterator[None]:
    """Let the bars inside the block say where on a longer way they are."""
    _courses.append(course)
    try:
        yield
    finally:
        _courses.pop()


def duration(seconds: float) -> str:
    """A time for people: 0.4 s, 41 s, 2 min 3 s, 1 h 12 min, 2 days 3 h."""
    if seconds < 9.5:
        return f"{round(seconds, 1):g} s"
    if round(seconds) < _HOUR:
        (whole, rest), units = divmod(round(seconds), 60), ("min", "s")
    elif round(seconds) < 2 * _DAY:
        (whole, rest), units = divmod(round(seconds / 60), 60), ("h", "min")
    else:
        (whole, rest), units = divmod(round(seconds / _HOUR), 24), ("days", "h")
    return " ".join(f"{count} {unit}" for count, unit in zip((whole, rest), units, strict=True) if count)


def about(seconds: float) -> str:
    """A time that is only estimated: to five seconds below a minute and a half, minutes below two hours, and so on."""
    return f"about {_rounded(seconds)}"


def _rounded(seconds: float) -> str:
    step = next(step for step, most in _STEPS if seconds < most)
    return duration(max(step, step * round(seconds / step)))


_HOUR, _DAY = 3600, 86400
_STEPS = ((5, 90), (60, 2 * _HOUR), (600, _DAY), (_HOUR, math.inf))


@contextmanager
def bar(title: str, total: int, *, done: int = 0) -> Iterator[Bar]:
    """Show progress of a job of `total` items, `done` of them done before. Of several processes the first shows its."""
    if not console.is_terminal or not distributed.is_first() or _quiet:
        yield Bar(title, total, done, None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # only a terminal

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
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

    Before what `say`, `warn` and `close` print stands the time (UTC). Of several processes the first does so, which is
    the one that prints.

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


_quiet: list[bool] = []


@contextmanager
def quiet(*, wanted: bool = True) -> Iterator[None]:
    """Print nothing inside the block but what `warn` and `close` say, and errors; a run's log has all of it."""
    if wanted:
        _quiet.append(True)
    try:
        yield
    finally:
        if wanted:
            _quiet.pop()


def is_quiet() -> bool:
    """Whether only warnings, errors and closing lines are printed."""
    return bool(_quiet)


def show(table: Table) -> None:
    """Print a table, of several processes in the first."""
    if distributed.is_first():
        for each in (*([] if _quiet else [console]), *_logs[-1:]):
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
    timed = f"{datetime.now(UTC):%H:%M:%S} {text}" if to in _logs else text
    to.print(harmless(timed), markup=False, emoji=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a line for the person at the terminal; names of classes and files may stand in it, whatever their signs.

    Of several processes only the first prints.
    """
    _say(text, even_if_quiet=False)


def warn(text: str) -> None:
    """Print a line that a person should not miss."""
    _say(f"warning: {text}", even_if_quiet=True)


def close(*lines: str) -> None:
    """Print the last lines of a command: where its results are, and what comes next."""
    _say("\n".join(lines), even_if_quiet=True)


def _say(text: str, *, even_if_quiet: bool) -> None:
    if _silenced or not distributed.is_first():
        return
    for each in (*([] if _quiet and not even_if_quiet else [console]), *_logs[-1:]):
        _print(each, text)
    sys.stdout.flush()
