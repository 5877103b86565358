"""Finds what is wrong with a data set before hours are spent on it, with the eyes of a run.

In: the settings of a data set. Out: an `Audit`: counts, findings with their files, and what recipe fits. Every file is
read and none ends the audit; only a data set without a usable list of images does.
"""

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from subcam.audit.duplicates_and_masks import duplicate_findings, mask_findings, overlap_findings
from subcam.audit.files import Facts, facts_of, file_findings, turns_of
from subcam.audit.finding import Example, Finding, Severity, counted, in_order
from subcam.audit.labels import co_occurrence, count_classes, fitting_subcategories, label_findings
from subcam.data.dataset import ALL, Splits, open_splits, require_same_classes
from subcam.data.files import images_below
from subcam.data.inspection import inspect_all
from subcam.data.readers.voc import VOC_CLASSES
from subcam.data.records import MOST_CLASSES, ImageSet, Record
from subcam.data.settings import DatasetSettings
from subcam.errors import BadInputError
from subcam.runtime.progress import bar

_LARGE_VOC = 5000
_COCO_CLASSES = 80


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """One list of images; `learned` says whether it is the one that is learned from."""

    name: str
    learned: bool
    images: int
    masks: int


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One class.

    images: of the training images; share: of all of them; alone: those without any other class.
    scored: images in each scored split, in the order of the splits.
    area: mean share of a mask where it has the class, None where no mask has it.
    """

    name: str
    images: int
    share: float
    alone: int
    scored: tuple[int, ...]
    area: float | None


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Smallest, middle and largest of the images' sides in pixels, and of files in bytes; kinds of files."""

    width: tuple[int, int, int]
    height: tuple[int, int, int]
    file_size: tuple[int, int, int]
    kinds: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What is in a data set and what is wrong with it.

    understood: how the folder was read, in a line.
    together: images with both classes, by class and class; the diagonal holds each class's own.
    subcategories: K that fits the paper's discovery; recipe, reason: what to run, and why that.
    seconds: for reading every file once, on this machine.
    """

    root: Path
    layout: str
    understood: str
    splits: tuple[SplitSummary, ...]
    classes: tuple[ClassRow, ...]
    together: tuple[tuple[int, ...], ...]
    sizes: Sizes | None
    findings: tuple[Finding, ...]
    recipe: str
    reason: str
    subcategories: int
    seconds: float

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings that matter so much."""
        return tuple(finding for finding in self.findings if finding.severity == severity)


def audit_dataset(settings: DatasetSettings, *, work_folder: Path, workers: int | None = None) -> Audit:
    """Look into every file that a run with these settings would use.

    Args:
        settings: which images. Where `on_bad_input` is "stop", a file that cannot be used is a finding that stops.
        work_folder: where masks are drawn that stand in a COCO file.
        workers: threads that decode; None takes one a core, at most 8.

    Raises:
        SubcamError: there are no images to look at: no such folder or split, no list, nothing in it.
    """
    started = time.monotonic()
    splits = open_splits(replace(settings, on_bad_input="skip"), work_folder=work_folder)
    train = splits.read(splits.train)
    scored = {split: train if splits.is_train(split) else splits.read(split) for split in splits.scored}
    for split, images in scored.items():
        require_same_classes(train, images, split=split)
    sets = [train, *(images for images in scored.values() if images is not train)]
    records = list({record.image: record for images in sets for record in images.records}.values())
    facts: list[Facts] = []
    with bar("reading images", len(records)) as progress:
        for record, inspected in zip(records, inspect_all(records, workers=workers), strict=True):
            facts.append(facts_of(record, inspected, train.mask_values))
            progress.advance()
    turns = _turns(sets, dict(zip((record.image for record in records), facts, strict=True)))
    records = [replace(record, mask_turn=turns[record.image]) for record in records]
    findings = _findings(settings, splits, train, scored, records, facts)
    recipe, reason = _recipe(splits.layout, train)
    return Audit(
        root=Path(settings.root),
        layout=splits.layout,
        understood=splits.said_of(settings.root),
        splits=_split_summaries(splits, train, scored),
        classes=_class_rows(train, scored, facts),
        together=tuple(map(tuple, co_occurrence(train).tolist())),
        sizes=_sizes(facts),
        findings=in_order(findings),
        recipe=recipe,
        reason=reason,
        subcategories=fitting_subcategories(count_classes(train)),
        seconds=time.monotonic() - started,
    )


def _turns(sets: Sequence[ImageSet], facts: Mapping[Path, Facts]) -> dict[Path, int]:
    """How a run turns the mask of each image: each split by itself; of an image in two, the first counts."""
    turns: dict[Path, int] = {}
    for images in sets:
        own = turns_of([facts[record.image] for record in images.records])
        for record, turn in zip(images.records, own, strict=True):
            turns.setdefault(record.image, turn)
    return turns


def _findings(
    settings: DatasetSettings,
    splits: Splits,
    train: ImageSet,
    scored: dict[str, ImageSet],
    records: Sequence[Record],
    facts: Sequence[Facts],
) -> list[Finding]:
    bad: Severity = "stop" if settings.on_bad_input == "stop" else "warning"
    names = {record.name for record in train.records}
    held_out = {record.name for images in scored.values() for record in images.records} - names
    findings = [
        *_rows(train, scored, bad),
        *file_findings(records, facts, bad=bad),
        *_too_many(train),
        *label_findings(train, layout=splits.layout),
        *overlap_findings(train, scored),
        *duplicate_findings(records, facts, train=names, held_out=held_out),
        *mask_findings(records, facts, train.class_names),
        *_without_masks(scored),
    ]
    usable = {record.image for record, each in zip(records, facts, strict=True) if each.image}
    if not any(record.image in usable for record in train.records):
        findings.append(
            Finding(
                kind="nothing-left",
                severity="stop",
                title="no training image can be read",
                advice="Check that these are the right files.",
            )
        )
    if splits.layout in ("folder", "label-studio", "cvat"):
        findings += _unlisted(Path(settings.root), records, chosen=bool(settings.classes))
    return findings


def _too_many(train: ImageSet) -> list[Finding]:
    if train.num_classes <= MOST_CLASSES:
        return []
    return [
        Finding(
            kind="classes-too-many",
            severity="stop",
            title=f"{train.num_classes:,} classes, where a mask has values for {MOST_CLASSES}",
            advice="Choose some with --dataset.classes, or give several the same name.",
        )
    ]


def _rows(train: ImageSet, scored: dict[str, ImageSet], bad: Severity) -> list[Finding]:
    skipped = dict.fromkeys(skip.reason for images in (train, *scored.values()) for skip in images.skipped)
    if not skipped:
        return []
    return [
        Finding(
            kind="entry-bad",
            severity=bad,
            title=f"{counted(len(skipped), 'entry', 'entries')} of the list that cannot be used",
            advice="Correct what is named, or leave it out with --dataset.on-bad-input skip.",
            examples=tuple(Example(text=reason) for reason in skipped),
        )
    ]


def _without_masks(scored: dict[str, ImageSet]) -> list[Finding]:
    without = [split for split, images in scored.items() if not images.has_masks]
    if not without:
        return []
    which = "no image has a mask" if without == [ALL] else f"no image of {', '.join(without)} has a mask"
    return [
        Finding(
            kind="no-masks",
            severity="note",
            title=f"{which}: nothing is scored there",
            advice="Masks of some dozen images are enough to see whether the result is any good.",
        )
    ]


def _unlisted(root: Path, records: Sequence[Record], *, chosen: bool) -> list[Finding]:
    """Images that are not used; `chosen` says that those with none of the chosen classes are among them."""
    listed = {record.image.absolute() for record in records}
    folder = root / "images" if (root / "images").is_dir() else root
    mask_folder = root / "masks"
    below = images_below(folder)
    extra, unread = (
        [path for path in paths if path.absolute() not in listed and not path.is_relative_to(mask_folder)]
        for paths in (below.images, below.unread)
    )
    findings = []
    if extra:
        findings.append(
            Finding(
                kind="unlisted",
                severity="note",
                title=f"{counted(len(extra), 'image')} in {folder} that no entry names"
                f"{', or with none of the chosen classes' if chosen else ''}",
                advice="They are not used. Add them with their labels, or without any if they show no class.",
                examples=tuple(Example(text=path.relative_to(root).as_posix(), images=(path,)) for path in extra),
            )
        )
    if unread:
        findings.append(
            Finding(
                kind="unread",
                severity="note",
                title=f"{counted(len(unread), 'image')} of a kind that is not read",
                advice="They are not used. Convert them to JPEG or PNG and add them with their labels.",
                examples=tuple(Example(text=path.relative_to(root).as_posix()) for path in unread),
            )
        )
    return findings


def _split_summaries(splits: Splits, train: ImageSet, scored: dict[str, ImageSet]) -> tuple[SplitSummary, ...]:
    def summary(name: str, images: ImageSet) -> SplitSummary:
        masks = sum(record.mask is not None for record in images.records)
        return SplitSummary(name=name, learned=images is train, images=len(images), masks=masks)

    rest = [summary(split, images) for split, images in scored.items() if images is not train]
    return (summary(splits.train or ALL, train), *rest)


def _class_rows(train: ImageSet, scored: dict[str, ImageSet], facts: Sequence[Facts]) -> tuple[ClassRow, ...]:
    shares: dict[int, list[float]] = {}
    for each in facts:
        if each.mask is not None and not each.mask.problem:
            total = sum(each.mask.counts.values())
            for value, count in each.mask.counts.items():
                shares.setdefault(value, []).append(count / total)
    others = [images.labels.sum(0) for images in scored.values() if images is not train]
    return tuple(
        ClassRow(
            name=count.name,
            images=count.images,
            share=count.images / len(train),
            alone=count.alone,
            scored=tuple(int(numbers[index]) for numbers in others),
            area=statistics.fmean(shares[index + 1]) if index + 1 in shares else None,
        )
        for index, count in enumerate(count_classes(train))
    )


def _sizes(facts: Sequence[Facts]) -> Sizes | None:
    good = [each.image for each in facts if each.image]
    if not good:
        return None

    def spread(values: list[int]) -> tuple[int, int, int]:
        return min(values), int(np.median(values)), max(values)

    return Sizes(
        width=spread([image.width for image in good]),
        height=spread([image.height for image in good]),
        file_size=spread([image.file_size for image in good]),
        kinds=dict(Counter(image.kind for image in good).most_common()),
    )


def _recipe(layout: str, train: ImageSet) -> tuple[str, str]:
    """The recipe that fits, and why."""
    if layout == "voc" and train.class_names == VOC_CLASSES and len(train) >= _LARGE_VOC:
        return "voc12_paper", "PASCAL VOC 2012 with all its classes; needs a GPU, and small serves without one"
    if layout == "coco" and train.num_classes == _COCO_CLASSES and len(train) >= _LARGE_VOC:
        return "coco14", "MS COCO with all its classes; needs a GPU and days, and has not been run yet"
    return "small", "your own images; runs on a CPU or a small GPU"


def require_usable(audit: Audit) -> None:
    """Raise `BadInputError` if a run would stop; names the first reason."""
    stops = audit.of("stop")
    if stops:
        first = stops[0].examples[0].text if stops[0].examples else stops[0].title
        raise BadInputError(
            f"{audit.root}: a run would stop: {'; '.join(finding.title for finding in stops)}. The first: {first}"
        )
