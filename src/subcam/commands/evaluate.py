"""`subcam evaluate`: scores of a folder of masks against another, on the terminal and as files."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from subcam.checks.fields import Range, Settings
from subcam.commands.flags import read_flags
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
class Arguments(Settings):
    """What to score.

    Attributes:
        predictions: a folder of masks, one that `subcam predict` wrote, or that of a run, whose pseudo masks are meant.
        truth: a folder of masks, or one in PASCAL VOC's layout.
        classes: names of the predicted values 1, 2, ..., or a file of them (.txt, .csv); else those of `classes.csv` or
            `classes.txt` in the folder.
        truth_classes: the same for the ground truth's values; VOC's twenty in a VOC folder.
        list: a file of the names to score, one a line, such as a split of VOC; else every ground-truth mask.
        num_classes: how many classes there are, background included, for classes without names.
        ignore: the value that is not scored; -1 for none.
        missing: what to do about masks without a prediction.
        unlabelled: what to do about predicted pixels of the ignored value.
        two_valued: the masks hold 0 and 255, and 255 is the one class.
        out: a folder for scores.json, scores.csv (by class) and confusion.csv, each replaced if it is there.
    """

    predictions: Path
    truth: Path
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...|FILE")] = ()
    truth_classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...|FILE")] = ()
    list: Path | None = None
    num_classes: Annotated[int, Range(1, 65_536)] | None = None
    ignore: Annotated[int, Range(-1, 65_535)] = 255
    missing: WhenMissing = "stop"
    unlabelled: WhenUnlabelled = "stop"
    two_valued: bool = False
    out: Path | None = None


def evaluate(words: list[str]) -> None:
    """`subcam evaluate --predictions DIR --truth DIR`."""
    given = read_flags(Arguments, words, prog="subcam evaluate", description=DESCRIPTION)

    from subcam.data.readers.voc import read_names
    from subcam.export.mask_folder import class_names_in, open_masks
    from subcam.metrics.folders import score_folders
    from subcam.runtime.progress import say, show

    predictions = open_masks(given.predictions, class_names=class_names_in(given.classes))
    truth = open_masks(given.truth, class_names=class_names_in(given.truth_classes))
    if given.list is not None:
        truth = truth.only(read_names(given.list))
    result = score_folders(
        predictions.files,
        truth.files,
        class_names=predictions.class_names,
        true_class_names=truth.class_names,
        num_classes=given.num_classes,
        ignore=given.ignore,
        missing=given.missing,
        unlabelled=given.unlabelled,
        two_valued=given.two_valued,
        colours=dict(predictions.colours),
        true_colours=dict(truth.colours),
    )
    show(table_of(result))
    say(summary_line(result))
    if predictions.class_names is None and truth.class_names is not None:
        say("the predictions do not name their classes; those of the ground truth are used (--classes names others)")
    for note in notes(result, given.missing, given.unlabelled):
        say(note)
    if given.out is not None:
        write_scores(given.out, result, given)
        say(f"scores.json, scores.csv and confusion.csv in {given.out}")


COLUMNS = ("IoU", "precision", "recall", "F-score")


def class_rows(result: "FolderScores") -> list[tuple[str, int, tuple[float, ...]]]:
    """Name, true pixels and scores (IoU, precision, recall, F) of each class."""
    scores = result.scores
    values = zip(scores.iou, scores.precision, scores.recall, scores.class_f_score, strict=True)
    pixels = scores.matrix.sum(1)
    return [
        (name, int(count), tuple(map(float, row)))
        for name, count, row in zip(result.class_names, pixels, values, strict=True)
    ]


def means(result: "FolderScores") -> dict[str, float]:
    """The scores of the whole set by name, as shares."""
    scores = result.scores
    return {
        "miou": scores.miou,
        "mean_precision": scores.mean_precision,
        "mean_recall": scores.mean_accuracy,
        "f_score": scores.f_score,
        "pixel_accuracy": scores.pixel_accuracy,
        "frequency_weighted_iou": scores.frequency_weighted_iou,
    }


def table_of(result: "FolderScores") -> "Table":
    """The table for the terminal, in per cent; a class that is in no mask has no score."""
    from subcam.runtime.progress import text_table

    rows = [[name, *map(_percent, values)] for name, _, values in class_rows(result)]
    mean = means(result)
    rows.append(["mean", *(_percent(mean[key]) for key in ("miou", "mean_precision", "mean_recall", "f_score"))])
    title = "Scores by class (per cent)"
    return text_table(("class", *COLUMNS), rows, title=title, sections=[len(rows) - 1])


def summary_line(result: "FolderScores") -> str:
    """The scores of the whole set in one line."""
    mean = means(result)
    return (
        f"{result.images} masks: mIoU {_percent(mean['miou'])}, pixel accuracy {_percent(mean['pixel_accuracy'])}, "
        f"frequency-weighted IoU {_percent(mean['frequency_weighted_iou'])}; means over the classes in the ground truth"
    )


def notes(result: "FolderScores", missing: WhenMissing, unlabelled: WhenUnlabelled) -> list[str]:
    """What a reader of the scores must know: what was left out or filled in."""
    lines = []
    if result.missing:
        how = "left out" if missing == "skip" else "counted as all background"
        lines.append(f"{len(result.missing)} masks have no prediction and were {how}: {', '.join(result.missing[:5])}")
    if result.unlabelled:
        how = "left out" if unlabelled == "skip" else "counted as background"
        lines.append(f"{_percent(result.unlabelled)} per cent of the pixels have no predicted label and were {how}")
    if result.not_scored:
        lines.append(f"not scored, for the predictions do not know them: {', '.join(result.not_scored)}")
    return lines


def write_scores(out: Path, result: "FolderScores", given: Arguments) -> None:
    """Write scores.json, scores.csv and confusion.csv (rows true, columns predicted, pixels) into `out`."""
    classes = [
        {"class": name, "true_pixels": pixels, "iou": row[0], "precision": row[1], "recall": row[2], "f_score": row[3]}
        for name, pixels, row in class_rows(result)
    ]
    content: dict[str, Any] = {
        "predictions": given.predictions,
        "truth": given.truth,
        "images": result.images,
        **means(result),
        "classes": classes,
        "confusion": result.scores.matrix,
        "missing": result.missing,
        "missing_were": given.missing,
        "unlabelled_share": result.unlabelled,
        "unlabelled_were": given.unlabelled,
        "not_scored": result.not_scored,
        "ignored_value": given.ignore,
        "versions": versions(),
    }
    from subcam.runtime.run_folder import RunFolder

    with RunFolder(path=out).lock(leave=False):
        write_json(out / "scores.json", content)
        with atomic_write(out / "scores.csv", "w") as file:
            table = csv.DictWriter(file, list(classes[0]), lineterminator="\n")
            table.writeheader()
            table.writerows(classes)
        with atomic_write(out / "confusion.csv", "w") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["true", *result.class_names])
            rows.writerows(
                [name, *counts] for name, counts in zip(result.class_names, result.scores.matrix.tolist(), strict=True)
            )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share == share else "-"
