"""A data set as a run needs it: images to train on, images to score on, every file checked once."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import get_args

from subcam.checks.arguments import takes_arrays
from subcam.data.check import CheckedImages, check_images
from subcam.data.labels.layout import Reading, reading_of
from subcam.data.labels.read import as_table, read_labels
from subcam.data.labels.source_kind import SourceKind
from subcam.data.readers.coco import coco_files, read_coco
from subcam.data.readers.folder import MASK_FOLDER, image_set_of
from subcam.data.readers.label_table import LabelTable, read_label_table
from subcam.data.readers.shards import read_shards, shard_splits
from subcam.data.readers.toy import write_toy
from subcam.data.readers.voc import read_voc, voc_splits
from subcam.data.records import BACKGROUND, FORBIDDEN, ImageSet, require_room
from subcam.data.settings import DatasetSettings, Layout
from subcam.errors import BadInputError, SettingsError
from subcam.runtime.files import fault_of_name
from subcam.runtime.progress import bar, warn
from subcam.runtime.run_folder import fingerprint

TOY = "toy"
_LONGEST_SPLIT = 100
"""Bytes of a split's name: folders of stages are named after it."""

ALL = "all"
"""The name under which a data set without splits is scored."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The training images and, by split, the images to score (only those that have masks).

    understood: how the folder was read, in a line.
    corrected: by split, the same images where people corrected some of their ground truth.
    without_truth: splits that were to be scored and have no ground-truth masks.

    Raises:
        BadInputError: more classes than the 8 bits of pseudo masks and predictions hold.
    """

    train: CheckedImages
    scored: dict[str, CheckedImages]
    understood: str = ""
    corrected: dict[str, CheckedImages] = field(default_factory=dict)
    without_truth: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_room(self.train.image_set.class_names, where="the training images")

    @property
    def all(self) -> tuple[CheckedImages, ...]:
        """Training images, then those of each scored split; an image may be in several."""
        return self.train, *self.scored.values()

    @property
    def truth(self) -> dict[str, CheckedImages]:
        """By split, the images with the ground truth that they are scored against."""
        return self.scored | self.corrected


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The splits of a data set that a run would use, and how their labels are read.

    read: the images of a split as they are listed; none is opened. None stands for every image.
    train: the training split.
    scored: the splits to score.
    understood: how the labels were read, in a few words.
    """

    layout: Layout
    understood: str
    read: Callable[[str | None], ImageSet]
    train: str | None
    scored: tuple[str, ...]

    def said_of(self, root: str) -> str:
        """How a folder was understood, in a line."""
        return f"{root}: read as layout {self.layout}: {self.understood}"

    def is_train(self, split: str) -> bool:
        """Whether a scored split is the training images themselves."""
        return split == (self.train or ALL)


@takes_arrays()
def open_dataset(settings: DatasetSettings, *, work_folder: Path) -> Dataset:
    """Read labels, check every image and mask, and return what can be used.

    Args:
        settings: which images.
        work_folder: where the generated set, masks drawn from outlines and the record of checked files are kept.

    Raises:
        BadInputError: a file cannot be used and `on_bad_input` is "stop"; or nothing is left to train on.
        SettingsError: there is no such folder or split.
    """
    splits = open_splits(settings, work_folder=work_folder)
    cache = work_folder / "checked-files.json"

    def checked(split: str | None, like: ImageSet | None = None) -> CheckedImages:
        image_set = splits.read(split)
        require_room(image_set.class_names, where=settings.root)
        if like is not None:
            require_same_classes(like, image_set, split=split or ALL)
        with bar(f"checking {split or 'all images'}", len(image_set)) as progress:
            return check_images(
                image_set,
                on_bad_input=settings.on_bad_input,
                cache=cache,
                on_progress=lambda done, _: progress.advance(done - progress.done),
            )

    train = checked(splits.train)
    scored, without_truth = {}, []
    for split in splits.scored:
        images = train if splits.is_train(split) else checked(split, train.image_set)
        if images.classes_in_masks:
            scored[split] = images
        elif not images.image_set.has_masks:
            without_truth.append(split)
        elif split in settings.scored_splits:
            raise BadInputError(
                f"{settings.root}: expected masks to score on {split}, got none with a pixel of any class; mend the "
                "masks, or leave the split's name out"
            )
        else:
            what = "the set" if split == ALL else split
            warn(f"no mask of {what} has a pixel of any class: nothing is scored there")
    understood = "" if settings.root == TOY else splits.said_of(settings.root)
    return Dataset(train=train, scored=scored, understood=understood, without_truth=tuple(without_truth))


def image_files(settings: DatasetSettings, *, work_folder: Path) -> dict[str, Path]:
    """Where each image of a data set lies, by its name; none is opened. Raises as `open_dataset` for what is listed."""
    splits = open_splits(settings, work_folder=work_folder)
    used = [splits.train, *(split for split in splits.scored if not splits.is_train(split))]
    return {record.name: record.image for split in used for record in splits.read(split).records}


def require_same_classes(train: ImageSet, other: ImageSet, *, split: str) -> None:
    """Raise `BadInputError` unless a split has the classes of the training images, in their order."""
    if train.class_names != other.class_names:
        differ = sorted(set(train.class_names) ^ set(other.class_names))
        raise BadInputError(
            f"split {split}: expected the classes of the training images, in their order, got others "
            f"({', '.join(differ[:8]) or 'the order differs'}); list the same in both files, or give --dataset.classes"
        )


def open_splits(settings: DatasetSettings, *, work_folder: Path) -> Splits:
    """Which splits a run would use, by the folder's layout; no image is opened.

    Args:
        settings: which images.
        work_folder: where the generated set and masks drawn from outlines are kept.

    Raises:
        BadInputError: the list of splits cannot be read.
        SettingsError: there is no such folder or split.
    """
    require_root(settings)
    root = Path(settings.root)
    if settings.root == TOY:
        # Named by its settings: a set of other settings is never written over one that earlier rounds were trained on.
        root = write_toy(work_folder / f"toy-{fingerprint(settings.toy)[:10]}", settings.toy)
    reading = reading_of(root, layout=settings.layout, labels=settings.labels)
    by_layout = {"voc": _voc, "coco": _coco, "folder": _folder, "shards": _shards}
    if reading.layout in ("folder", "coco") and reading.source.is_file():
        settings = replace(settings, labels=reading.source.relative_to(root).as_posix())
    splits = by_layout.get(reading.layout, partial(_of_others, reading))(settings, root, work_folder)
    for split in (splits.train, *splits.scored):
        fault = "" if split is None else "it has a /" if "/" in split else fault_of_name(split, longest=_LONGEST_SPLIT)
        if fault:
            raise SettingsError(f"{root}: no split can be called {split!r:.300}: {fault}; rename it")
    if not settings.two_valued_masks:
        return splits
    if splits.layout == "coco":
        raise SettingsError("two_valued_masks is for masks that are files; those of COCO are drawn from its outlines")
    return replace(splits, read=lambda split: _with_two_values(splits.read(split)))


def require_root(settings: DatasetSettings) -> None:
    """Raise `SettingsError` unless images are named, and lie in a folder that is there or are generated."""
    if not settings.root:
        raise SettingsError("no images were named; give --data DIR, or --data toy for the generated set")
    if settings.root != TOY and not Path(settings.root).is_dir():
        file = Path(settings.root)
        how = f"; a file of labels is named so: --data {file.parent} --dataset.labels {file.name}" * file.is_file()
        raise SettingsError(f"{file} is no folder; --data takes a folder of images with labels, or 'toy'{how}")


def _with_two_values(images: ImageSet) -> ImageSet:
    """The set with masks in which 255 is its one class."""
    if images.num_classes != 1:
        raise SettingsError(
            f"two_valued_masks is for one class, got {images.num_classes}; give masks where i + 1 means class i"
        )
    return replace(images, mask_values=(BACKGROUND, *[FORBIDDEN] * 254, 1))


def _voc(settings: DatasetSettings, root: Path, work_folder: Path) -> Splits:
    lists = voc_splits(root)
    own = [split for split in lists if split in ("train_aug", "train")]
    own = own or [split for split in lists if split not in ("val", "test")]
    own = ["train_aug"] if "train_aug" in own else own
    if len(own) > 1 and not settings.train_split:
        raise SettingsError(f"{root} has several splits to train on; choose one of {', '.join(own)} as train_split")
    train = settings.train_split or (own[0] if own else "train_aug" if lists else None)

    def read(split: str | None) -> ImageSet:
        return read_voc(
            root,
            split=split,
            classes=settings.classes or None,
            mask_folder=work_folder,
            on_bad_input=settings.on_bad_input,
        )

    held_out = tuple(split for split in ("train", "val") if split in lists)
    understood = "JPEGImages, and the annotations or masks beside them"
    scored = settings.scored_splits or held_out or (train or ALL,)
    return Splits(layout="voc", understood=understood, read=read, train=train, scored=scored)


def _coco(settings: DatasetSettings, root: Path, work_folder: Path) -> Splits:
    files = coco_files(root, labels=settings.labels)
    split_names = [split for split in files if split is not None]
    if not files:
        raise SettingsError(
            f"{root} has no annotations/instances_*.json; name a COCO file in it with --dataset.labels FILE.json"
        )
    if not split_names and (settings.train_split or settings.scored_splits):
        raise SettingsError(f"{root / settings.labels} has no splits; leave their names out")
    own = [split for split in split_names if split.startswith("train")] or split_names
    if len(own) > 1 and not settings.train_split:
        raise SettingsError(f"{root} has several splits to train on; choose one of {', '.join(own)} as train_split")
    train = settings.train_split or (own[0] if split_names else None)
    year = (train or "").removeprefix("train")
    held_out = [split for split in split_names if split.startswith("val") and split != train]
    same_year = [split for split in held_out if year and split.endswith(year)]
    scored = settings.scored_splits or tuple(same_year or held_out) or (train or ALL,)
    drawn = {None if split == ALL and not split_names else split for split in scored}

    def read(split: str | None) -> ImageSet:
        return read_coco(
            root,
            split=split,
            labels=settings.labels,
            classes=settings.classes or None,
            crowd_labels=settings.crowd_labels,
            crowd_masks=settings.crowd_masks,
            mask_folder=work_folder if split in drawn or settings.train_masks else None,
            on_bad_input=settings.on_bad_input,
        )

    understood = f"the categories in {', '.join(path.name for path in files.values())}"
    return Splits(layout="coco", understood=understood, read=read, train=train, scored=scored)


def _folder(settings: DatasetSettings, root: Path, _: Path) -> Splits:
    table = read_label_table(root / settings.labels)
    what = f"columns {', '.join(table.class_columns[:5])}" if table.class_columns else "names"
    understood = f"the {what} in {settings.labels}"
    return _of_table(settings, root, table, layout="folder", understood=understood)


def _of_others(reading: Reading, settings: DatasetSettings, root: Path, _: Path) -> Splits:
    """Labels of another program: as those of a CSV that `subcam data labels` writes of them."""
    kind = next(kind for kind in get_args(SourceKind) if kind == reading.layout)
    labels = read_labels(reading.source, kind, root=root, besides=(MASK_FOLDER,), crowd_labels=settings.crowd_labels)
    if labels.skipped and settings.on_bad_input == "stop":
        raise BadInputError(
            f"{labels.skipped[0].reason} ({len(labels.skipped)} of {len(labels.skipped) + len(labels.images)} entries "
            "cannot be used; --dataset.on-bad-input skip leaves them out)"
        )
    table = as_table(labels, path=reading.source)
    return _of_table(settings, root, table, layout=reading.layout, understood=labels.understood)


def _of_table(settings: DatasetSettings, root: Path, table: LabelTable, *, layout: Layout, understood: str) -> Splits:
    def read(split: str | None) -> ImageSet:
        return image_set_of(
            table, root=root, split=split, classes=settings.classes or None, on_bad_input=settings.on_bad_input
        )

    split_names = table.splits
    if not split_names and (settings.train_split or settings.scored_splits):
        raise SettingsError(f"{table.path} has no column 'split'; add it or leave the splits' names out")
    own = [split for split in split_names if split.casefold() in ("train", "training")]
    train = (settings.train_split or (own[0] if own and layout != "folder" else "train")) if split_names else None
    scored = settings.scored_splits or tuple(split for split in split_names if split != train) or (train or ALL,)
    return Splits(layout=layout, understood=understood, read=read, train=train, scored=scored)


def _shards(settings: DatasetSettings, root: Path, _: Path) -> Splits:
    def read(split: str | None) -> ImageSet:
        return read_shards(root, split=split, classes=settings.classes or None, on_bad_input=settings.on_bad_input)

    split_names = shard_splits(root)
    own = [split for split in split_names if "train" in split] or list(split_names)
    own = ["train_aug"] if "train_aug" in own else own
    if len(own) > 1 and not settings.train_split:
        raise SettingsError(f"{root} has several splits to train on; choose one of {', '.join(own)} as train_split")
    train = settings.train_split or (own[0] if own else None)
    scored = settings.scored_splits or tuple(split for split in split_names if split != train) or (train or ALL,)
    return Splits(layout="shards", understood="the tar files", read=read, train=train, scored=scored)


def union(*parts: CheckedImages) -> CheckedImages:
    """The images of several checked sets of one data set, each once, in order of first appearance."""
    first = parts[0].image_set
    by_name = {
        record.name: (record, size)
        for part in reversed(parts)
        for record, size in zip(part.image_set.records, part.sizes, strict=True)
    }
    order = dict.fromkeys(record.name for part in parts for record in part.image_set.records)
    skipped = dict.fromkeys(skip for part in parts for skip in part.image_set.skipped)
    return CheckedImages(
        image_set=replace(first, records=tuple(by_name[name][0] for name in order), skipped=tuple(skipped)),
        sizes=tuple(by_name[name][1] for name in order),
        digest=fingerprint(*(part.digest for part in parts)),
        classes_in_masks=frozenset().union(*(part.classes_in_masks for part in parts)),
    )
