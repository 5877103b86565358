"""Tables 1 and 2 of a run: scores of response maps by round, and of pseudo masks, for terminal, Markdown and CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from subcam.results import RoundResult, RunResult
from subcam.refine.label_map import VARIANTS
from subcam.run_folder import atomic_write

BEST_NOTE = (
    "* chosen by looking at the masks of the same pictures, so not a score that can be had without masks. Absent"
    " classes are known from the image-level labels of the scored pictures, as is the custom for response maps."
)


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """A table as text: the first two columns are names, the others numbers."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables_of(result: RunResult) -> list[ScoreTable]:
    """Table 2 (response maps by round), then Table 1 (pseudo masks) if the run refined any; empty without masks."""
    splits = list(dict.fromkeys(split for found in result.rounds for split in found.scores))
    tables = []
    if splits:
        tables.append(
            ScoreTable(
                title="Table 2. Response maps by round (per cent)",
                columns=("split", "round", "mIoU", "F-score", "prec.", "recall", "mIoU *", "at *", "mAP"),
                rows=tuple(_round_row(found, split) for split in splits for found in result.rounds),
            )
        )
    if splits and result.refined:
        tables.append(
            ScoreTable(
                title="Table 1. From response maps to pseudo masks (mIoU, per cent)",
                columns=("split", "round", "CAM", "+CRF", "+RW", "+RW+CRF", "CAM *", "+RW *", "alpha *"),
                rows=tuple(
                    _refined_row(result, index, split) for split in splits for index in range(len(result.refined))
                ),
            )
        )
    return tables


def _round_name(found: RoundResult) -> str:
    return f"{found.round_index}" + (" (CAM)" if not found.round_index else " control" if found.control else "")


def _round_row(found: RoundResult, split: str) -> tuple[str, ...]:
    scores = found.scores[split]
    return (
        split,
        _round_name(found),
        *(_percent(scores.fixed[key]) for key in ("miou", "f_score", "precision", "recall")),
        _percent(scores.best["miou"]),
        f"{scores.best_threshold:.2f}",
        _percent(scores.mean_average_precision),
    )


def _refined_row(result: RunResult, index: int, split: str) -> tuple[str, ...]:
    refined = result.refined[index]
    maps = next(found for found in result.rounds if found.round_index == refined.round_index and not found.control)
    scores = refined.scores[split]
    alpha, best = scores.best_walk
    return (
        split,
        _round_name(maps),
        _percent(maps.scores[split].fixed["miou"]),
        *(_percent(scores.variants[variant]["miou"]) for variant in VARIANTS),
        _percent(maps.scores[split].best["miou"]),
        _percent(best),
        f"{alpha:g}",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def explanation(result: RunResult) -> str:
    """What the columns mean: thresholds, lambda, the starred columns."""
    settings = result.settings
    text = f"Without a star: background threshold {settings.evaluate.background_threshold:g}"
    if result.refined:
        masks = settings.refine.masks
        text += f", alpha {masks.crf_alpha:g} before the CRF, {masks.walk_alpha:g} for the random walk"
    text += f". Rounds: lambda = {settings.classify.subcategory_weight:g}, K = {settings.discover.num_subcategories}"
    text += ", control: lambda = 0" if settings.control else ""
    return f"{text}.\n{BEST_NOTE}"


def terminal_table(table: ScoreTable) -> Table:
    """The table for the terminal, 80 columns wide."""
    shown = Table(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for position, column in enumerate(table.columns):
        shown.add_column(column, justify="left" if position < 2 else "right", no_wrap=True)
    previous: Sequence[str] | None = None
    for row in table.rows:
        if previous and (row[0] != previous[0] or ("control" in row[1]) != ("control" in previous[1])):
            shown.add_section()
        shown.add_row(*row)
        previous = row
    return shown


def markdown_table(table: ScoreTable) -> str:
    """The table as Markdown."""
    lines = [f"**{table.title}**", "", "| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(row) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def write_tables(result: RunResult) -> None:
    """Write `summary.md`, `rounds.csv`, `pseudo-masks.csv` and `classes.csv` (IoU by class) into the run's folder."""
    tables = tables_of(result)
    with atomic_write(result.out / "summary.md", "w") as file:
        file.write("\n".join([*map(markdown_table, tables), explanation(result)]) + "\n")
    for table, name in zip(tables, ("rounds.csv", "pseudo-masks.csv"), strict=False):
        _write_csv(result.out / name, [table.columns, *table.rows])
    header = ("split", "round", "maps", "background", *result.class_names)
    rows: list[Sequence[str]] = [header]
    for found in result.rounds:
        for split, scores in found.scores.items():
            name = f"threshold {scores.fixed_threshold:g}"
            rows.append((split, _round_name(found), name, *_percents(scores.fixed["iou"])))
    for refined in result.refined:
        for split, refined_scores in refined.scores.items():
            for variant, values in refined_scores.variants.items():
                rows.append((split, str(refined.round_index), variant, *_percents(values["iou"])))
    _write_csv(result.out / "classes.csv", rows)


def _percents(shares: Sequence[float]) -> list[str]:
    return [f"{100 * share:.2f}" for share in shares]


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic_write(path, "w") as file:
        file.write(text.getvalue())
