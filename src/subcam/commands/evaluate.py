"""`subcam evaluate`: scores of a folder of masks against another, on the terminal and as files."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from subcam.metrics.folders import WhenMissing, WhenUnlabelled
from subcam.runtime.files import atomic_write, write_json
from subcam.runtime.resources import versions

if TYPE_CHECKING:
    from rich.table import Table

    from subcam.metrics.folders import FolderScores

DESCRIPTION = """Score a folder of masks (PNGs whose values are classes) against another.

Masks belong together by their path below the folders. Pixels are counted over all masks and divided once, as in
PASCAL VOC. Where both folders say what their classes are called, classes are matched by name.
"""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What to score.

    Attributes:
        predictions: a folder of masks, or one that `subcam predict` wrote.
        truth: a folder of masks, or one in PASCAL VOC's layout.
        classes: names of the predicted values 1, 2, ..., or a file of them (.txt, .csv); else those of `classes.csv` or
            `classes.txt` in the folder.
        truth_classes: the same for the true values; VOC's twenty in a VOC folder.
        list: a file of the names to score, one a line, such as a split of VOC; else every true mask.
        num_classes: background included, for classes without names.
        ignore: the value that is not scored; -1 for none.
        missing: what to do about masks without a prediction.
        unlabelled: what to do about predicted pixels of the ignored value.
        out: a folder for scores.json, scores.csv (by class) and confusion.csv, each replaced if it is there.
    """

    predictions: Path
    truth: Path
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...|FILE")] = ()
    truth_classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...|FILE")] = ()
    list: Path | None = None
    num_classes: int | None = None
    ignore: int = 255
    missing: WhenMissing = "stop"
    unlabelled: WhenUnlabelled = "stop"
    out: Path | None = None


def evaluate(words: list[str]) -> None:
    """`subcam evaluate --predictions DIR --truth DIR`."""
    given = tyro.cli(Arguments, args=words, prog="subcam evaluate", description=DESCRIPTION)

    from subcam.export.mask_folder import class_names_in, open_masks, read_names
    from subcam.metrics.folders import score_folders
    from subcam.runtime.progress import console, say

    predictions = open_masks(given.predictions, class_names=class_names_in(given.classes))
    truth = open_masks(given.truth, class_names=class_names_in(given.truth_classes))
    if given.list is not None:
        truth = truth.only(read_names(given.list))
    found = score_folders(
        predictions.files,
        truth.files,
        class_names=predictions.class_names,
        true_class_names=truth.class_names,
        num_classes=given.num_classes,
        ignore=given.ignore,
        missing=given.missing,
        unlabelled=given.unlabelled,
    )
    console.print(table_of(found))
    say(summary_line(found))
    if predictions.class_names is None and truth.class_names is not None:
        say("the predictions do not say what their values mean: the truth's classes are taken; --classes gives others")
    for note in notes(found, given.missing, given.unlabelled):
        say(note)
    if given.out is not None:
        write_scores(given.out, found, given)
        say(f"scores.json, scores.csv and confusion.csv in {given.out}")


COLUMNS = ("IoU", "precision", "recall", "F-score")


def class_rows(found: "FolderScores") -> list[tuple[str, int, tuple[float, ...]]]:
    """Name, true pixels and scores (IoU, precision, recall, F) of each class."""
    scores = found.scores
    values = zip(scores.iou, scores.precision, scores.recall, scores.class_f_score, strict=True)
    pixels = scores.matrix.sum(1)
    return [
        (name, int(count), tuple(map(float, row)))
        for name, count, row in zip(found.class_names, pixels, values, strict=True)
    ]


def means(found: "FolderScores") -> dict[str, float]:
    """The scores of the whole set by name, as shares."""
    scores = found.scores
    return {
        "miou": scores.miou,
        "mean_precision": scores.mean_precision,
        "mean_recall": scores.mean_accuracy,
        "f_score": scores.f_score,
        "pixel_accuracy": scores.pixel_accuracy,
        "frequency_weighted_iou": scores.frequency_weighted_iou,
    }


def table_of(found: "FolderScores") -> "Table":
    """The table for the terminal, in per cent; a class that is in no mask has no score."""
    from rich import box
    from rich.table import Table

    shown = Table(title="Scores by class (per cent)", title_justify="left", box=box.SIMPLE_HEAD)
    shown.add_column("class")
    for column in COLUMNS:
        shown.add_column(column, justify="right")
    for name, _, values in class_rows(found):
        shown.add_row(name, *(_percent(value) for value in values))
    shown.add_section()
    mean = means(found)
    shown.add_row("mean", *(_percent(mean[key]) for key in ("miou", "mean_precision", "mean_recall", "f_score")))
    return shown


def summary_line(found: "FolderScores") -> str:
    """The scores of the whole set in one line."""
    mean = means(found)
    return (
        f"{found.images} masks: mIoU {_percent(mean['miou'])}, pixel accuracy {_percent(mean['pixel_accuracy'])}, "
        f"frequency-weighted IoU {_percent(mean['frequency_weighted_iou'])}; means over classes in the truth"
    )


def notes(found: "FolderScores", missing: WhenMissing, unlabelled: WhenUnlabelled) -> list[str]:
    """What a reader of the scores must know: what was left out or filled in."""
    told = []
    if found.missing:
        how = "left out" if missing == "skip" else "counted as all background"
        told.append(f"{len(found.missing)} masks have no prediction and were {how}: {', '.join(found.missing[:5])}")
    if found.unlabelled:
        how = "left out" if unlabelled == "skip" else "counted as background"
        told.append(f"{_percent(found.unlabelled)} per cent of the pixels have no predicted label and were {how}")
    if found.not_scored:
        told.append(f"not scored, for the predictions do not know them: {', '.join(found.not_scored)}")
    return told


def write_scores(out: Path, found: "FolderScores", given: Arguments) -> None:
    """Write scores.json, scores.csv and confusion.csv (rows true, columns predicted, pixels) into `out`."""
    classes = [
        {"class": name, "true_pixels": pixels, "iou": row[0], "precision": row[1], "recall": row[2], "f_score": row[3]}
        for name, pixels, row in class_rows(found)
    ]
    content: dict[str, Any] = {
        "predictions": given.predictions,
        "truth": given.truth,
        "images": found.images,
        **means(found),
        "classes": classes,
        "confusion": found.scores.matrix,
        "missing": found.missing,
        "missing_were": given.missing,
        "unlabelled_share": found.unlabelled,
        "unlabelled_were": given.unlabelled,
        "not_scored": found.not_scored,
        "ignored_value": given.ignore,
        "versions": versions(),
    }
    write_json(out / "scores.json", content)
    with atomic_write(out / "scores.csv", "w") as file:
        table = csv.DictWriter(file, list(classes[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(classes)
    with atomic_write(out / "confusion.csv", "w") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["true", *found.class_names])
        rows.writerows(
            [name, *counts] for name, counts in zip(found.class_names, found.scores.matrix.tolist(), strict=True)
        )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share == share else "-"
