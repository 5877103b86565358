"""Results as tables: for a terminal, with what an earlier run found beside them, and as Markdown for the docs."""

from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from benchmarks import goals
from benchmarks.record import Growth, Results, Row
from subcam.errors import BadInputError
from subcam.runtime.files import atomic_write

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
GOALS_BEGIN, GOALS_END = "<!-- goals: begin -->", "<!-- goals: end -->"
"""What stands between these lines of a page is written by `python -m benchmarks --markdown`."""

HEADINGS = (
    "stage",
    "case",
    "time",
    "CPU",
    "a second",
    "beside",
    "its time",
    "its CPU",
    "ratio",
    "peak",
    "its peak",
    "difference",
    "bound",
)
GROWTH_HEADINGS = ("what", "images", "time", "a second", "peak", "above the first")
NOTHING = "-"


def cells(row: Row) -> tuple[str, ...]:
    """A row in words, in the order of `HEADINGS`."""
    return (
        row.stage,
        row.case,
        duration(row.seconds),
        _duration(row.cpu_seconds),
        f"{row.throughput:.3g} {row.unit}",
        row.other or NOTHING,
        _duration(row.other_seconds),
        _duration(row.other_cpu_seconds),
        _times(row.ratio),
        _mib(row.peak_mib),
        _mib(row.other_peak_mib),
        NOTHING if row.difference is None else f"{row.difference:.1e}",
        "; ".join(_bounds(row)) or NOTHING,
    )


def growth_cells(growth: Sequence[Growth]) -> list[tuple[str, ...]]:
    """Rows in the order of `GROWTH_HEADINGS`; each beside the first of its kind."""
    first: dict[str, Growth] = {}
    found: list[tuple[str, ...]] = []
    for one in growth:
        base = first.setdefault(one.stage, one)
        above = f"{one.peak_mib - base.peak_mib:+.0f} MiB" if one is not base else NOTHING
        rate = f"{one.count / one.seconds:.3g}"
        found.append((one.stage, f"{one.count}", duration(one.seconds), rate, _mib(one.peak_mib), above))
    return found


def to_table(results: Results, *, against: Results | None = None) -> Table:
    """The rows for a terminal; `against` adds how many times as fast as then each is now."""
    table = Table(title=about(results), title_justify="left")
    headings = (*HEADINGS, "then / now") if against else HEADINGS
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("stage", "case", "beside", "bound") else "right")
    earlier = {row.key: row for row in against.rows} if against else {}
    for row in results.rows:
        then = earlier.get(row.key)
        table.add_row(*cells(row), *([_times(then.seconds / row.seconds if then else None)] if against else []))
    return table


def to_growth_table(growth: Sequence[Growth]) -> Table:
    """Peak memory by number of images, for a terminal."""
    table = Table(*GROWTH_HEADINGS)
    for row in growth_cells(growth):
        table.add_row(*row)
    return table


def to_goal_table(results: Results) -> Table:
    """How far the goals are reached, for a terminal."""
    table = Table(*goals.HEADINGS)
    for row in goals.cells(results.rows):
        table.add_row(*row)
    return table


def to_goal_markdown(results: Results) -> str:
    """The goals, and what they were measured on."""
    return f"{about(results)}.\n\n{_markdown(goals.HEADINGS, goals.cells(results.rows))}"


def to_markdown(results: Results) -> str:
    """Both tables and what they were measured on."""
    parts = [f"{about(results)}. A star marks a bound that was missed.", _markdown(HEADINGS, map(cells, results.rows))]
    if results.growth:
        parts.append("Highest resident memory of whole processes:")
        parts.append(_markdown(GROWTH_HEADINGS, growth_cells(results.growth)))
    return "\n\n".join(parts)


def write_markdown(path: Path, results: Results) -> None:
    """Put the tables between the marks of a page, in place of what stood there, and the goals if there are rows of any.

    Raises:
        BadInputError: the page has no marks; names it.
    """
    between_marks(path, to_markdown(results), begin=BEGIN, end=END)
    if goals.are_measured(results):
        between_marks(path, to_goal_markdown(results), begin=GOALS_BEGIN, end=GOALS_END)


def between_marks(path: Path, content: str, *, begin: str, end: str) -> None:
    """Put `content` between two lines of a page, in place of what stood there.

    Raises:
        BadInputError: the page has not each of them once; names it.
    """
    text = path.read_text("utf-8") if path.is_file() else ""
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise BadInputError(f"{path}: expected the lines {begin} and {end} once each, to write between; add them")
    before, after = text.split(begin)[0], text.split(end)[1]
    with atomic_write(path, "w") as file:
        file.write(f"{before}{begin}\n\n{content}\n\n{end}{after}")


def about(results: Results) -> str:
    """Date, machine, threads, load, versions and peers in one line."""
    machine, versions = results.machine, results.versions
    load = f"load average {results.load[0]:.2g} before and {results.load[1]:.2g} after, " if results.load else ""
    peers = f"; peers: {', '.join(f'{name} {version}' for name, version in results.peers.items())}"
    quick = ", quick: times say nothing" if results.quick else ""
    return (
        f"{results.date}, {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{results.threads} thread{'s' if results.threads > 1 else ''}, {load}Python {versions['python']}, "
        f"torch {versions['torch']}, subcam {versions['subcam']}{peers if results.peers else ''}{quick}"
    )


def duration(seconds: float) -> str:
    """Three digits, in microseconds to seconds."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def _duration(seconds: float | None) -> str:
    return NOTHING if seconds is None else duration(seconds)


def _bounds(row: Row) -> list[str]:
    names = {"ratio": "ratio", "memory_ratio": "memory ratio", "difference": "difference"}
    marks = {True: "", False: " *", None: " (not measured)"}
    return [
        f"{names[bound.of]} {'>=' if bound.at_least else '<='} {bound.limit:g}{marks[bound.met(row)]}"
        for bound in row.bounds
    ]


def _times(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.3g}"


def _mib(peak: float | None) -> str:
    return NOTHING if peak is None else f"{peak:.0f} MiB"


def _markdown(headings: Sequence[str], rows: "Sequence[Sequence[str]] | map[tuple[str, ...]]") -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
