"""One of several runs chosen by masks of some classes and scored on the others, whatever their settings differ in.

    python -m benchmarks.choices_of_runs RUN RUN [RUN ...] [--data DIR] [--choose-on train] [--score-on val]

As `benchmarks.choices` does for the walk's settings, which need no run of their own. The first run is the one whose
settings stand; scores are those of the pseudo masks, over the images that show classes of one half alone.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.choices import OTHERS, THESE, of_halves, scored_images
from subcam.data.images import read_mask
from subcam.data.records import ImageSet
from subcam.errors import SubcamError
from subcam.export.mask_folder import MaskFolder, open_masks
from subcam.metrics.confusion import confusion_matrix
from subcam.results import open_images, read_run
from subcam.runtime.progress import track

FIRST = "the first run"


def count(images: ImageSet, masks: Mapping[str, MaskFolder], title: str) -> dict[frozenset[int], dict[str, np.ndarray]]:
    """The confusion matrix of each run's masks, by the classes that images show."""
    size = images.num_classes + 1
    found: dict[frozenset[int], dict[str, np.ndarray]] = {}
    scored = [record for record in images.records if record.mask is not None]
    for record in track(scored, title, len(scored)):
        assert record.mask is not None
        truth = read_mask(record.mask, images.mask_values, turn=record.mask_turn)
        of_image = found.setdefault(frozenset(record.labels), {})
        for run, folder in masks.items():
            mask = folder.read(record.name, num_classes=images.num_classes)
            matrix = confusion_matrix(mask, truth, num_classes=size)
            of_image[run] = of_image.get(run, np.zeros((size, size), np.int64)) + matrix
    return found


def table_of(
    folders: Sequence[Path], *, choose_on: str, score_on: str, data: str = ""
) -> tuple[Table, dict[str, list[float]]]:
    """The table, and scores by what was chosen how: one for each half.

    Raises:
        SubcamError: runs of one name, of other classes, or without pseudo masks; or as `choices.scored_images` and
            `choices.of_halves`.
    """
    runs = {folder.resolve().name: read_run(folder) for folder in folders}
    classes = {run.result.class_names for run in runs.values()}
    if len(runs) < 2 or len(runs) < len(folders) or len(classes) > 1:
        raise SubcamError(f"expected two or more runs of the same classes and other names, got {', '.join(runs)}")
    masks = {name: open_masks(run.result.out) for name, run in runs.items()}
    first, names = next(iter(runs)), classes.pop()
    dataset = open_images(runs[first], data=data)
    scored_by_split = scored_images(dataset, (choose_on, score_on))
    found = {split: count(images, masks, split) for split, images in scored_by_split.items()}
    table = Table(title=f"A run chosen on {choose_on}, scored on {score_on}", title_justify="left")
    for column in ("scored classes", "chosen", "run", "mIoU"):
        table.add_column(column)
    by_way: dict[str, list[float]] = {}
    for scored, elsewhere, here in of_halves(found, names, choose_on=choose_on, score_on=score_on):
        ways = {OTHERS: max(elsewhere, key=elsewhere.__getitem__), THESE: max(here, key=here.__getitem__), FIRST: first}
        for way, run in ways.items():
            by_way.setdefault(way, []).append(here[run])
            table.add_row(scored, way, run, f"{100 * here[run]:.1f}")
    return table, by_way


def main() -> None:
    """Print the table of some runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data", default="", help="where the runs' images are now, if they have moved")
    parser.add_argument("--choose-on", default="train")
    parser.add_argument("--score-on", default="val")
    given = parser.parse_args()
    table, by_way = table_of(given.runs, choose_on=given.choose_on, score_on=given.score_on, data=given.data)
    Console().print(table)
    print({way: f"{100 * float(np.mean(found)):.1f}" for way, found in by_way.items()}, "in the mean")


if __name__ == "__main__":
    main()
