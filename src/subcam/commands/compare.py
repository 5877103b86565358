"""`subcam compare A B ...`: runs and folders of masks side by side on the same images, with intervals."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from subcam.checks.fields import Count, Range, Seed, Settings
from subcam.commands.flags import read_flags
from subcam.errors import SettingsError
from subcam.runtime.files import write_json

if TYPE_CHECKING:
    from rich.table import Table

    from subcam.export.compare import Truth
    from subcam.metrics.paired import Interval, Paired

DESCRIPTION = """Score runs and folders of masks side by side, on the images that all of them have.

Differences are to the first. Their intervals hold 95 of 100 resamplings of the images (paired bootstrap): where 0 is
outside, the images at hand are enough to tell the two apart. They do not say how another seed would come out.
"""


@dataclass(frozen=True, kw_only=True)
class Arguments(Settings):
    """What to compare.

    Attributes:
        folders: each that of a run, whose pseudo masks are meant, or of masks.
        truth: a folder of ground-truth masks, or one in PASCAL VOC's layout; else those of the first run's data set.
        data: where the first run's images are now, if they have moved.
        list: a file of the names to score, one a line, such as a split of VOC; else every image that all have.
        classes: names of the values 1, 2, ... of folders that do not say them, or a file of these (.txt, .csv).
        resamples: resamplings of the images.
        seed: of the resampling.
        images: how many of the images in which two differ most are listed.
        out: a file for all numbers (.json), replaced if it is there.
    """

    folders: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="RUN|MASKS")]]
    truth: Path | None = None
    data: str = ""
    list: Path | None = None
    classes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME...|FILE")] = ()
    resamples: Count = 2000
    seed: Seed = 0
    images: Annotated[int, Range(0, 100_000)] = 5
    out: Path | None = None


def compare(words: list[str]) -> None:
    """`subcam compare A B ... [--truth DIR]`."""
    given = read_flags(Arguments, words, prog="subcam compare", description=DESCRIPTION)

    from subcam.data.readers.voc import read_names
    from subcam.export.compare import compare as compare_folders
    from subcam.export.mask_folder import class_names_in
    from subcam.runtime.progress import say, show

    paired = compare_folders(
        given.folders,
        truth=given.truth or truth_of_run(given.folders, data=given.data),
        names=None if given.list is None else read_names(given.list),
        classes=class_names_in(given.classes),
        resamples=given.resamples,
        seed=given.seed,
    )
    show(table_of(paired))
    show(class_table(paired))
    for index, label in enumerate(paired.labels[1:], start=1):
        apart = paired.images_that_differ(index, most=given.images)
        if apart:
            say(f"{label} and {paired.labels[0]} differ most in (mIoU of the image, per cent):")
        for name, first, other in apart:
            say(f"  {name}: {100 * first:.1f} -> {100 * other:.1f}")
    drawn = f"{paired.resamples} resamplings with seed {paired.seed}"
    say(f"{len(paired.images)} images, {drawn}; differences are to {paired.labels[0]}")
    if given.out is not None:
        write_json(given.out, numbers(paired))
        say(f"all numbers in {given.out}")


def truth_of_run(folders: tuple[Path, ...], *, data: str) -> "Truth":
    """The ground truth of the first folder that is a run's, from its data set.

    Raises:
        SettingsError: none is a run's, or its data set has no masks.
    """
    from subcam.data.images import read_mask
    from subcam.export.compare import Truth
    from subcam.results import open_images, read_run
    from subcam.runtime.run_folder import RECORD

    run = next((folder for folder in folders if (folder / RECORD).is_file()), None)
    if run is None:
        raise SettingsError("no run is among the folders, whose data set would have ground truth; give --truth DIR")
    dataset = open_images(read_run(run), data=data)
    read = {}
    for split in dataset.scored.values():
        for record in split.image_set.records:
            if record.mask is not None:
                values = split.image_set.mask_values
                read[record.name] = partial(read_mask, record.mask, values, turn=record.mask_turn)
    if not read:
        raise SettingsError(f"the data set of {run} has no masks to score against; give --truth DIR")
    return Truth(read=read, class_names=dataset.train.image_set.class_names)


def table_of(paired: "Paired") -> "Table":
    """Scores of each, and the difference in mIoU to the first, in per cent."""
    from subcam.runtime.progress import text_table

    columns = ("masks", "mIoU", "pixel accuracy", "difference in mIoU", "95% interval")
    rows = []
    for index, label in enumerate(paired.labels):
        scores = (_percent(paired.miou[index]), _percent(paired.pixel_accuracy[index]))
        rows.append((label, *scores, *(_cells(paired.difference(index)) if index else ("", ""))))
    return text_table(columns, rows, title="Scores (per cent)")


def class_table(paired: "Paired") -> "Table":
    """IoU of each class in the first, and in the others with the interval of the difference, in per cent."""
    from subcam.runtime.progress import text_table

    header = [part for label in paired.labels[1:] for part in (label, "difference", "95% interval")]
    rows = []
    for place, name in enumerate(paired.class_names):
        cells = [_percent(paired.iou[0, place])]
        for index in range(1, len(paired.labels)):
            cells += [_percent(paired.iou[index, place]), *_cells(paired.class_difference(index, place))]
        rows.append((name, *cells))
    return text_table(("class", paired.labels[0], *header), rows, title="IoU by class (per cent)")


def numbers(paired: "Paired") -> dict[str, Any]:
    """All scores, differences and intervals, as shares, and the mIoU of each image."""
    others = range(1, len(paired.labels))
    return {
        "compared": paired.labels,
        "images": len(paired.images),
        "resamples": paired.resamples,
        "seed": paired.seed,
        "miou": dict(zip(paired.labels, paired.miou.tolist(), strict=True)),
        "difference": {paired.labels[index]: paired.difference(index) for index in others},
        "classes": [
            {
                "class": name,
                "iou": dict(zip(paired.labels, paired.iou[:, place].tolist(), strict=True)),
                "difference": {paired.labels[index]: paired.class_difference(index, place) for index in others},
            }
            for place, name in enumerate(paired.class_names)
        ],
        "by_image": {
            name: dict(zip(paired.labels, paired.image_miou[:, place].tolist(), strict=True))
            for place, name in enumerate(paired.images)
        },
    }


def _cells(interval: "Interval") -> tuple[str, str]:
    """A difference, with a star where 0 is outside of its interval, and the interval."""
    if interval.value != interval.value:
        return "-", "-"
    star = " *" if interval.is_sure else ""
    return f"{100 * interval.value:+.1f}{star}", f"{100 * interval.low:+.1f} .. {100 * interval.high:+.1f}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share == share else "-"
