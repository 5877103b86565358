"""Tables 1 and 2 of a run: every round's scores, for the terminal, as Markdown and as CSV."""

import csv
import io
from collections.abc import Iterator

from rich.table import Table

from subcam.pipeline import RoundResult, RunResult
from subcam.run_folder import atomic_write

COLUMNS = (
    "round",
    "split",
    "lambda",
    "threshold",
    "mIoU",
    "F-score",
    "precision",
    "recall",
    "best mIoU *",
    "best F-score *",
    "at threshold *",
    "mAP",
)
BEST_NOTE = (
    "* chosen by looking at the masks of the same pictures, so not a score that can be had without masks. Absent"
    " classes are known from the image-level labels of the scored pictures, as is the custom for response maps."
)


def rounds_rows(result: RunResult) -> Iterator[tuple[str, ...]]:
    """One row a split and round (mIoU, F-score, mAP in per cent), those of the control after those of the method."""
    splits = list(dict.fromkeys(split for found in result.rounds for split in found.scores))
    for split in splits:
        for found in result.rounds:
            yield _row(result, found, split)


def _row(result: RunResult, found: RoundResult, split: str) -> tuple[str, ...]:
    scores = found.scores[split]
    weight = 0.0 if found.control or not found.round_index else result.settings.classify.subcategory_weight
    title = f"{found.round_index}" + (" (CAM)" if not found.round_index else " control" if found.control else "")
    return (
        title,
        split,
        f"{weight:g}",
        f"{scores.fixed_threshold:g}",
        *(_percent(scores.fixed[key]) for key in ("miou", "f_score", "precision", "recall")),
        *(_percent(scores.best[key]) for key in ("miou", "f_score")),
        f"{scores.best_threshold:.2f}",
        _percent(scores.mean_average_precision),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def rounds_table(result: RunResult) -> Table:
    """The rows as a table for the terminal."""
    table = Table(title="Response maps by round (per cent)", caption=BEST_NOTE, caption_justify="left")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in ("round", "split") else "right")
    previous = None
    for row in rounds_rows(result):
        if previous and (row[1] != previous[1] or ("control" in row[0]) != ("control" in previous[0])):
            table.add_section()
        table.add_row(*row)
        previous = row
    return table


def rounds_markdown(result: RunResult) -> str:
    """The rows as Markdown, with the note on the best threshold."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(row) + " |" for row in rounds_rows(result)]
    return "\n".join(lines) + f"\n\n{BEST_NOTE}\n"


def write_tables(result: RunResult) -> None:
    """Write `summary.md`, `rounds.csv` and `classes.csv` (IoU by class) into the run's folder."""
    with atomic_write(result.out / "summary.md", "w") as file:
        file.write(rounds_markdown(result))
    _write_csv(result, "rounds.csv", [COLUMNS, *rounds_rows(result)])
    header = ("round", "split", "control", "threshold", "background", *result.class_names)
    rows = [
        (
            found.round_index,
            split,
            found.control,
            scores.fixed_threshold,
            *(f"{100 * v:.2f}" for v in scores.fixed["iou"]),
        )
        for found in result.rounds
        for split, scores in found.scores.items()
    ]
    _write_csv(result, "classes.csv", [header, *rows])


def _write_csv(result: RunResult, name: str, rows: list) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with atomic_write(result.out / name, "w") as file:
        file.write(text.getvalue())
