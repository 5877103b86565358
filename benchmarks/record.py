"""What a run of the benchmarks found, as a JSON file that a later run can be held against."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from subcam.errors import BadInputError
from subcam.runtime.files import read_json, write_json
from subcam.runtime.resources import versions

FORMAT = 1
PROCESSOR = {"family": "cpu family", "model": "model"}
"""What tells one AMD EPYC from another, and its name in /proc/cpuinfo."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a row has to reach: the other way's time or memory over ours at least, a difference at most."""

    of: Literal["ratio", "memory_ratio", "difference"]
    limit: float

    @property
    def at_least(self) -> bool:
        """Whether the limit is the least that will do."""
        return self.of != "difference"

    def met(self, row: "Row") -> bool | None:
        """Whether the row reaches it; None where that was not measured."""
        found = getattr(row, self.of)
        if found is None:
            return None
        return found >= self.limit if self.at_least else found <= self.limit


@dataclass(frozen=True, kw_only=True)
class Row:
    """One stage on one case, beside a plain way of doing the same; None where something was not measured.

    stage, case: what was done, and with what.
    items, unit: how many of what one call does, such as 16 images.
    seconds, other_seconds: of one call, on the clock; medians over turns.
    cpu_seconds, other_cpu_seconds: of one call, of processor, all threads together.
    other: the plain way; empty where there is none.
    ratio: its time over ours, the median over turns.
    peak_mib, other_peak_mib: growth of resident memory during a first call.
    difference: largest distance of the two results.
    """

    stage: str
    case: str
    seconds: float
    items: int = 1
    unit: str = "images"
    other: str = ""
    other_seconds: float | None = None
    ratio: float | None = None
    peak_mib: float | None = None
    other_peak_mib: float | None = None
    difference: float | None = None
    cpu_seconds: float | None = None
    other_cpu_seconds: float | None = None
    bounds: tuple[Bound, ...] = ()

    @property
    def throughput(self) -> float:
        """Items a second."""
        return self.items / self.seconds

    @property
    def memory_ratio(self) -> float | None:
        """The plain way's memory over ours, which counts as 0.1 MiB at least."""
        if self.peak_mib is None or self.other_peak_mib is None:
            return None
        return self.other_peak_mib / max(self.peak_mib, 0.1)

    @property
    def cpu_ratio(self) -> float | None:
        """The plain way's seconds of processor over ours."""
        if self.cpu_seconds is None or self.other_cpu_seconds is None or not self.cpu_seconds:
            return None
        return self.other_cpu_seconds / self.cpu_seconds

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same row in another run."""
        return self.stage, self.case, self.other


@dataclass(frozen=True, kw_only=True)
class Growth:
    """One whole process with `count` images: how long it ran and its highest resident memory."""

    stage: str
    count: int
    seconds: float
    peak_mib: float


@dataclass(frozen=True, kw_only=True)
class Results:
    """All rows of a run, with what they were measured on.

    load: the machine's load average (of one minute) before and after.
    peers: versions of the packages that ours is held against; "absent" where one is not installed.
    """

    rows: tuple[Row, ...]
    growth: tuple[Growth, ...] = ()
    quick: bool = False
    threads: int = 1
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    load: tuple[float, float] | None = None
    peers: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=versions)

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_json(path, {"format": FORMAT, **vars(self)})

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Read what `write` wrote.

        Raises:
            BadInputError: it is no such file.
        """
        try:
            value = read_json(path)
            if value.pop("format") != FORMAT:
                raise ValueError("another format")
            rows = tuple(
                Row(**row | {"bounds": tuple(Bound(**bound) for bound in row["bounds"])}) for row in value.pop("rows")
            )
            growth = tuple(Growth(**one) for one in value.pop("growth"))
            load = value.pop("load", None)  # not in files of 0.1.0
            return cls(rows=rows, growth=growth, load=load and tuple(load), **value)
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                f"{path} holds no results of benchmarks ({type(error).__name__}: {error}); make them with --json"
            ) from error


def merged(earlier: Results, later: Results) -> Results:
    """The later results with what only the earlier ones hold; date and versions are the later ones', load the higher.

    Raises:
        BadInputError: the two were not measured on one machine with as many threads, or one of them was quick.
    """
    for name in ("machine", "threads", "quick"):
        before, now = getattr(earlier, name), getattr(later, name)
        if before != now:
            raise BadInputError(
                f"the earlier results were measured with {name} = {before}, these with {now}: rows of both in one file "
                "would look alike; give --json another file"
            )
    new = {row.key for row in later.rows}
    growth = {(one.stage, one.count): one for one in (*earlier.growth, *later.growth)}
    return Results(
        **vars(later)
        | {
            "rows": (*(row for row in earlier.rows if row.key not in new), *later.rows),
            "growth": tuple(growth[key] for key in sorted(growth)),
            "load": _higher(earlier.load, later.load),
        }
    )


def _higher(one: tuple[float, float] | None, other: tuple[float, float] | None) -> tuple[float, float] | None:
    if one is None or other is None:
        return one or other
    return max(one[0], other[0]), max(one[1], other[1])


def machine() -> dict[str, Any]:
    """Processor, cores, memory and system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
    }


def missed(rows: Sequence[Row]) -> list[str]:
    """The bounds that rows were measured for and do not reach, in words."""
    return [
        f"{row.stage}, {row.case}: expected {bound.of} {'>=' if bound.at_least else '<='} {bound.limit:g}, "
        f"got {getattr(row, bound.of):.3g}"
        for row in rows
        for bound in row.bounds
        if bound.met(row) is False
    ]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    said = {line.partition(":")[0].strip(): line.partition(":")[2].strip() for line in lines}
    if "model name" not in said:
        return platform.processor() or platform.machine()
    which = ", ".join(f"{what} {said[key]}" for what, key in PROCESSOR.items() if key in said)
    return f"{said['model name']} ({which})" if which else said["model name"]
