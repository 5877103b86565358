"""What the rows are to reach, in one list, and the table of how far they do.

A goal names rows by patterns. Where both ways have seconds of processor those decide, which say the same on a machine
that does other things too; of several rows the worst decides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from benchmarks.record import Results, Row

HEADINGS = ("what", "before", "goal", "measured", "met")
NOT_MEASURED = "not measured"


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What some rows are to reach.

    what: in words. before: what was measured before this goal was set, in words.
    benchmark: its name, of `python -m benchmarks NAME`.
    stage, case, other: patterns of `fnmatch` that its rows fit.
    of: "ratio" and "memory" are the other's over ours, at least `limit`; "seconds" are ours and "difference" is that of
        the results, at most `limit`.
    """

    what: str
    before: str
    benchmark: str
    stage: str
    case: str = "*"
    other: str = "*"
    of: Literal["ratio", "memory", "seconds", "difference"] = "ratio"
    limit: float

    @property
    def at_least(self) -> bool:
        """Whether more is better."""
        return self.of in ("ratio", "memory")

    def measured(self, rows: Sequence[Row]) -> float | None:
        """The worst of its rows; None where there is none, or what is asked for was not measured."""
        fitting = [row for row in rows if all(map(fnmatchcase, row.key, (self.stage, self.case, self.other)))]
        found = [value for row in fitting if (value := self._of(row)) is not None]
        return (min if self.at_least else max)(found) if found else None

    def met(self, value: float) -> bool:
        """Whether a measured value is enough."""
        return value >= self.limit if self.at_least else value <= self.limit

    def in_words(self, value: float) -> str:
        """A value with its unit."""
        if self.of == "seconds":
            return f"{value:.3g} s" if value >= 0.1 else f"{1000 * value:.3g} ms"
        return f"{value:.2g}" if self.of == "difference" else f"{value:.3g}x"

    def _of(self, row: Row) -> float | None:
        if self.of == "seconds":
            return row.seconds if row.cpu_seconds is None else row.cpu_seconds
        if self.of == "ratio":
            return row.ratio if row.cpu_ratio is None else row.cpu_ratio
        return row.memory_ratio if self.of == "memory" else row.difference


def _crf(what: str, pattern: str, before: Sequence[float], limits: Sequence[float]) -> tuple[Goal, ...]:
    return tuple(
        Goal(
            what=f"dense CRF, {what}, 500 x 375, C = {classes}, beside pydensecrf",
            before=f"{ratio:g}x",
            benchmark="crf",
            stage="dense CRF",
            case=pattern.format(classes),
            other="pydensecrf",
            limit=limit,
        )
        for classes, ratio, limit in zip((2, 5, 21), before, limits, strict=True)
    )


def _recipe(what: str, of: Literal["ratio", "memory"]) -> Goal:
    return Goal(
        what=f"recipe `small` whole, {what} of 0.1.0 over ours",
        before="1x",
        benchmark="recipe",
        stage="recipe",
        other="subcam 0.1.0",
        of=of,
        limit=2.5,
    )


GOALS = (
    _recipe("processor time", "ratio"),
    _recipe("peak memory", "memory"),
    Goal(
        what="recipe `small` whole, points of mIoU of the pseudo masks below 0.1.0's, at most",
        before="0 (three seeds spread by 1.2)",
        benchmark="recipe",
        stage="recipe",
        other="subcam 0.1.0",
        of="difference",
        limit=1.2,
    ),
    Goal(
        what="first word of a command; `data check` of 300 files",
        before="6.5-7.3 s",
        benchmark="starts",
        stage="start",
        of="seconds",
        limit=1.0,
    ),
    Goal(
        what="first `dense_crf` of a process",
        before="1.3 s",
        benchmark="crf",
        stage="dense CRF",
        case="first call of a process, kernels in the cache",
        of="seconds",
        limit=0.4,
    ),
    Goal(
        what="confusion matrix of a mask beside SC-CAM's",
        before="0.24x",
        benchmark="scores",
        stage="scores",
        case="confusion matrix*",
        other="*SC-CAM*",
        limit=1.5,
    ),
    Goal(
        what="`evaluate` of 1,449 pairs of PNGs beside a plain loop, whole process",
        before="0.74x",
        benchmark="evaluate",
        stage="evaluate",
        limit=2.0,
    ),
    *_crf("psa's settings", "500 x 375, {} classes", (5.7, 7.4, 4.1), (10, 10, 8)),
    *_crf("DeepLab's settings", "500 x 375, {} classes, DeepLab*", (2.8, 2.8, 2.8), (6, 6, 6)),
    Goal(
        what="random walk, 63 x 47 cells, 12 maps, beside 0.1.0",
        before="1x",
        benchmark="earlier",
        stage="random walk",
        case="47 x 63 cells, 12 maps",
        other="subcam 0.1.0",
        limit=1.6,
    ),
    Goal(
        what="response maps of MobileNetV2, 640 x 480, default precision, beside 0.1.0",
        before="1x",
        benchmark="earlier",
        stage="response maps",
        other="subcam 0.1.0",
        limit=2.0,
    ),
    Goal(
        what="training step, MobileNetV2, beside a plain loop with channels last",
        before="0.98x",
        benchmark="training",
        stage="training",
        case="mobilenetv2_100*",
        other="plain loop, channels last",
        limit=1.15,
    ),
    Goal(
        what="training step, ResNet-38, crop 160, beside SC-CAM's loop",
        before="0.94x",
        benchmark="training",
        stage="training",
        case="resnet38*",
        limit=1.0,
    ),
    Goal(
        what="K-means of 100,000 x 1,280, K = 10, beside faiss",
        before="0.48x at 2,000 x 64",
        benchmark="faiss",
        stage="clustering",
        case="*100000 x 1280*",
        other="*faiss*",
        limit=1.0,
    ),
    Goal(
        what="`predict`, DeepLab-v3+ on MobileNetV2, an image more, beside a plain loop",
        before="1.8x",
        benchmark="prediction",
        stage="prediction",
        case="DeepLab-v3+*default precision, each image more",
        limit=2.5,
    ),
    Goal(
        what="`report`, an image more",
        before="58 ms",
        benchmark="report",
        stage="report",
        case="each image more*",
        of="seconds",
        limit=0.015,
    ),
    Goal(
        what="`report`, the rest",
        before="17 s",
        benchmark="report",
        stage="report",
        case="a run with*",
        of="seconds",
        limit=3.0,
    ),
)

BENCHMARKS_OF_GOALS = tuple(dict.fromkeys(goal.benchmark for goal in GOALS if goal.benchmark != "recipe"))
"""What `python -m benchmarks goals` measures; the recipe takes hours and needs data."""


def cells(rows: Sequence[Row], goals: Sequence[Goal] = GOALS) -> list[tuple[str, ...]]:
    """The table in the order of `HEADINGS`."""
    found = []
    for goal in goals:
        value = goal.measured(rows)
        wanted = f"{'>=' if goal.at_least else '<='} {goal.in_words(goal.limit)}"
        shown = NOT_MEASURED if value is None else goal.in_words(value)
        met = "" if value is None else "yes" if goal.met(value) else "no"
        found.append((goal.what, goal.before, wanted, shown, met))
    return found


def are_measured(results: Results) -> bool:
    """Whether any of the goals has a row; the smallest cases are none."""
    return not results.quick and any(goal.measured(results.rows) is not None for goal in GOALS)
