"""`subcam compare A B ...`: runs and folders of masks side by side on the same images, with intervals."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from subcam.checks.fields import Count, Range, Seed, Settings
from subcam.commands.flags import read_flags
from subcam.errors import SettingsError
from subcam.runtime.files import write_json

if TYPE_CHECKING:
    from subcam.export.compare import Truth
    from subcam.metrics.agreement import Agreement
    from subcam.metrics.paired import Paired

DESCRIPTION = """Score runs and folders of masks side by side, on the images that all of them have.

Differences are to the first. Their intervals hold 95 of 100 resamplings of the images (paired bootstrap): where 0 is
outside, the images at hand are enough to tell the two apart. They do not say how another seed would come out. Without
ground truth only how far they agree can be said.
"""


@dataclass(frozen=True, kw_only=True)
class Arguments(Settings):
    """What to compare.

    Attributes:
        folders: each that of a run, whose pseudo masks are meant, or of masks.
        truth: a folder of ground-truth masks, or one in PASCAL VOC's layout; else those of the first run's data set,
            if it has some.
        data: where the first run's images are now, if they have moved.
        list: a file of the names to score, one a line, such as a split of VOC; else every image that all have.
        classes: names of the values 1, 2, ... of folders that do not say them, or a file of these (.txt, .csv).
        resamples: resamplings of the images.
        seed: of the resampling.
        images: how many of the images in which two differ most are listed.
        out: a file for all numbers (.json), replaced if it is there.
        page: a file for a page of all that (.html) with the images that differ most, replaced if it is there.
        page_images: how many of these images the page shows, of each two.
        image_folder: the folder of the images, for the page; else those of the first run's data set.
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
    page: Path | None = None
    page_images: Annotated[int, Range(0, 1000)] = 24
    image_folder: Path | None = None


def compare(words: list[str]) -> None:
    """`subcam compare A B ... [--truth DIR]`."""
    given = read_flags(Arguments, words, prog="subcam compare", description=DESCRIPTION)

    from subcam.data.readers.voc import read_names
    from subcam.export.compare import agreeing, open_folders, scored
    from subcam.export.images import find_images
    from subcam.export.mask_folder import class_names_in
    from subcam.report.tables.comparison import class_table, numbers, table_of
    from subcam.runtime.progress import say, show

    if given.page is not None and given.page.suffix.lower() not in (".html", ".htm"):
        raise SettingsError(f"--page {given.page}: expected the name of a page, such as compare.html")
    of_run = run_images(given.folders, data=given.data)
    side = open_folders(
        given.folders,
        truth=given.truth or (of_run.truth if of_run else None),
        names=None if given.list is None else read_names(given.list),
        classes=class_names_in(given.classes),
    )
    files = of_run.files if of_run else {}
    if given.image_folder is not None:
        found_images = find_images(side.images, given.image_folder)
        files = {name: given.image_folder / found_images.file_name(name) for name in side.images}
    drawing = {"resamples": given.resamples, "seed": given.seed}
    found = agreeing(side, **drawing) if side.truth is None else scored(side, **drawing)
    for table in (table_of(found), class_table(found)):
        show(table)
    for index, label in enumerate(found.labels[1:], start=1):
        _list_images(found, index, label, most=given.images)
    drawn = f"{found.resamples} resamplings with seed {found.seed}"
    if side.truth is None:
        say(f"{len(found.images)} images, {drawn}")
        say("there is no ground truth: this says how far they agree, not which is right; --truth DIR scores them")
    else:
        say(f"{len(found.images)} images, {drawn}; differences are to {found.labels[0]}")
    if given.out is not None:
        write_json(given.out, numbers(found))
        say(f"all numbers in {given.out}")
    if given.page is not None:
        from subcam.report.compare_page import write_comparison

        write_comparison(given.page, side, found, images=files, most=given.page_images, words=words)
        say(f"page: {given.page}")


@dataclass(frozen=True, kw_only=True)
class RunImages:
    """The images of a run's data set by name, and its ground truth, if it has some."""

    files: dict[str, Path]
    truth: "Truth | None"


def run_images(folders: tuple[Path, ...], *, data: str) -> RunImages | None:
    """The images of the first folder that is a run's, from its data set; None if none is.

    Raises:
        SubcamError: they are not where they were, or one of the files cannot be used.
    """
    from subcam.data.images import read_mask
    from subcam.export.compare import Truth
    from subcam.runtime.run_folder import RECORD

    run = next((folder for folder in folders if (folder / RECORD).is_file()), None)
    if run is None:
        return None

    from subcam.results import open_images, read_run

    dataset = open_images(read_run(run), data=data)
    read = {}
    for split in dataset.scored.values():
        for record in split.image_set.records:
            if record.mask is not None:
                values = split.image_set.mask_values
                read[record.name] = partial(read_mask, record.mask, values, turn=record.mask_turn)
    return RunImages(
        files={record.name: record.image for split in dataset.all for record in split.image_set.records},
        truth=Truth(read=read, class_names=dataset.train.image_set.class_names) if read else None,
    )


def _list_images(found: "Paired | Agreement", index: int, label: str, *, most: int) -> None:
    """Say on which images a set differs most from the first."""
    from subcam.metrics.paired import Paired
    from subcam.runtime.progress import say

    if isinstance(found, Paired):
        what = "differ most in (mIoU of the image, per cent)"
        lines = [
            f"  {name}: {100 * first:.1f} -> {100 * other:.1f}"
            for name, first, other in found.images_that_differ(index, most=most)
        ]
    else:
        what = "agree least on (mean IoU of the two, per cent)"
        lines = [f"  {name}: {100 * share:.1f}" for name, share in found.images_that_differ(index, most=most)]
    if lines:
        say(f"{label} and {found.labels[0]} {what}:")
    for line in lines:
        say(line)
