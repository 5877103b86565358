"""A data set as a run needs it: pictures to train on, pictures to score on, every file checked once."""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from subcam.data.check import CheckedImages, check_images
from subcam.data.folder import folder_splits, read_folder
from subcam.data.records import ImageSet, OnBadInput
from subcam.data.toy import ToySettings, write_toy
from subcam.data.voc import read_voc
from subcam.errors import SettingsError
from subcam.progress import bar
from subcam.run_folder import fingerprint

log = logging.getLogger(__name__)

TOY = "toy"
ALL = "all"
"""The name under which a data set without splits is scored."""


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """Which pictures.

    Attributes:
        root: a folder in PASCAL VOC's layout, a folder with a CSV of labels, or "toy" for the generated set.
        layout: "auto" takes VOC's where there is a folder JPEGImages.
        labels: name of the CSV in a plain folder.
        train_split: pictures whose labels are learned from; empty for the layout's own (VOC: train_aug, else train).
        scored_splits: pictures scored against masks; empty for the layout's own (VOC: train and val, else val, or the
            training pictures where there are no splits).
        classes: the classes worth learning, all if empty. Other classes' pixels are not scored.
        on_bad_input: stop at the first file that cannot be used, or leave such files out, counted and named.
    """

    root: Annotated[str, tyro.conf.arg(name="data", prefix_name=False, metavar="DIR|toy")] = ""
    layout: Literal["auto", "voc", "folder"] = "auto"
    labels: str = "labels.csv"
    train_split: str = ""
    scored_splits: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    on_bad_input: OnBadInput = "stop"
    toy: ToySettings = field(default_factory=ToySettings)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The training pictures and, by split, the pictures to score (only those that have masks)."""

    train: CheckedImages
    scored: dict[str, CheckedImages]

    @property
    def all(self) -> tuple[CheckedImages, ...]:
        """Training pictures, then those of each scored split; a picture may be in several."""
        return self.train, *self.scored.values()


def open_dataset(settings: DatasetSettings, *, work_folder: Path) -> Dataset:
    """Read labels, check every picture and mask, and return what can be used.

    Args:
        settings: which pictures.
        work_folder: where the generated set and the record of checked files are kept.

    Raises:
        BadInputError: a file cannot be used and `on_bad_input` is "stop"; or nothing is left to train on.
        SettingsError: there is no such folder or split.
    """
    root = Path(settings.root)
    if settings.root == TOY:
        # Named by its settings: a set of other settings is never written over one that earlier rounds were trained on.
        root = write_toy(work_folder / f"toy-{fingerprint(settings.toy)[:10]}", settings.toy)
    if not settings.root:
        raise SettingsError("no pictures were named; give --data DIR, or --data toy for the generated set")
    if not root.is_dir():
        raise SettingsError(f"{root} is no folder; --data takes a folder of pictures with labels, or 'toy'")
    voc = settings.layout == "voc" or (settings.layout == "auto" and (root / "JPEGImages").is_dir())

    def read(split: str | None) -> ImageSet:
        classes = settings.classes or None
        if voc:
            return read_voc(root, split=split or "train_aug", classes=classes, on_bad_input=settings.on_bad_input)
        return read_folder(
            root, labels=settings.labels, split=split, classes=classes, on_bad_input=settings.on_bad_input
        )

    train_split, scored_splits = _splits(settings, root, voc=voc)
    cache = work_folder / "checked-files.json"

    def checked(split: str | None) -> CheckedImages:
        image_set = read(split)
        with bar(f"checking {split or 'all pictures'}", len(image_set)) as progress:
            return check_images(
                image_set,
                on_bad_input=settings.on_bad_input,
                cache=cache,
                on_progress=lambda done, _: progress.advance(done - progress.done),
            )

    train = checked(train_split)
    scored = {}
    for split in scored_splits:
        images = train if split == (train_split or ALL) else checked(split)
        if images.image_set.has_masks:
            scored[split] = images
        else:
            log.warning("no picture of split %s has a mask: it is not scored", split)
    return Dataset(train=train, scored=scored)


def _splits(settings: DatasetSettings, root: Path, *, voc: bool) -> tuple[str | None, tuple[str, ...]]:
    """The training split (None: every picture) and the scored ones."""
    if voc:
        lists = {path.stem for path in (root / "ImageSets" / "Segmentation").glob("*.txt")}
        own = "train" if "train" in lists and "train_aug" not in lists else "train_aug"
        scored = tuple(split for split in ("train", "val") if split in lists)
        return settings.train_split or own, settings.scored_splits or scored
    there = folder_splits(root, labels=settings.labels)
    if not there and (settings.train_split or settings.scored_splits):
        raise SettingsError(f"{root / settings.labels} has no column 'split'; add it or leave the splits' names out")
    if not there:
        return None, (ALL,)
    train = settings.train_split or "train"
    return train, settings.scored_splits or tuple(split for split in there if split != train) or (train,)


def union(*parts: CheckedImages) -> CheckedImages:
    """The pictures of several checked sets of one data set, each once, in order of first appearance."""
    first = parts[0].image_set
    found = {
        record.name: (record, size)
        for part in reversed(parts)
        for record, size in zip(part.image_set.records, part.sizes, strict=True)
    }
    order = dict.fromkeys(record.name for part in parts for record in part.image_set.records)
    skipped = dict.fromkeys(skip for part in parts for skip in part.image_set.skipped)
    return CheckedImages(
        image_set=replace(first, records=tuple(found[name][0] for name in order), skipped=tuple(skipped)),
        sizes=tuple(found[name][1] for name in order),
        digest=fingerprint(*(part.digest for part in parts)),
    )
