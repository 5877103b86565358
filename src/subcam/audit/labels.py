"""What image-level labels alone tell about the maps to come: classes that are rare, everywhere, or never apart.

In: the labels of the training images. Out: findings, counts, and how many sub-categories fit. A class activation map
can only show what tells a class from its absence; where labels never differ, pixels cannot be told apart.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from subcam.audit.finding import Example, Finding, counted
from subcam.data.records import ImageSet
from subcam.data.settings import Layout

FEW = 20
"""A class with fewer images than this is named."""

NEARLY_ALL = 0.95
"""A class in so large a share of the images has too few without it."""

TOGETHER = 0.9
"""Classes are named as a pair where one is in so large a share of the other's images."""

IMAGES_A_SUBCATEGORY = 30
"""The paper's K = 10 stands on 300 images and more of each class of VOC 2012."""

MOST_SUBCATEGORIES = 10

MOST_NAMED = 20
"""Most classes that an advice lists."""


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Images of one class in the training set; `alone` are those without any other class."""

    name: str
    images: int
    alone: int


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Of `of` images of class `given`, `both` show class `other` as well."""

    given: int
    other: int
    both: int
    of: int

    @property
    def share(self) -> float:
        """P(other | given), 0..1."""
        return self.both / self.of


def count_classes(images: ImageSet) -> tuple[ClassCounts, ...]:
    """How many images each class has."""
    labels = images.labels.astype(np.int64)
    alone = labels[labels.sum(1) == 1].sum(0)
    return tuple(
        ClassCounts(name=name, images=int(number), alone=int(lone))
        for name, number, lone in zip(images.class_names, labels.sum(0), alone, strict=True)
    )


def co_occurrence(images: ImageSet) -> Int64[np.ndarray, "classes classes"]:
    """Images with both classes; the diagonal holds those of each class."""
    labels = images.labels.astype(np.int64)
    return labels.T @ labels


def pairs_together(both: Int64[np.ndarray, "classes classes"], *, least: int = FEW) -> tuple[Pair, ...]:
    """Pairs of which one class is (nearly) never seen without the other, the surest first.

    both: as `co_occurrence` gives it.
    least: classes with fewer images are left out, as chance makes pairs of them.
    """
    counts = both.diagonal().tolist()
    pairs = [
        Pair(given=given, other=other, both=int(both[given, other]), of=counts[given])
        for given in range(len(both))
        for other in range(len(both))
        if given != other and counts[given] >= least and both[given, other] >= TOGETHER * counts[given]
    ]
    return tuple(sorted(pairs, key=lambda pair: (-pair.share, -pair.of)))


def fitting_subcategories(counts: tuple[ClassCounts, ...]) -> int:
    """K for the paper's discovery: 30 images a sub-category in the class of middle size, 10 at most."""
    sizes = [count.images for count in counts if count.images]
    return min(MOST_SUBCATEGORIES, max(1, int(np.median(sizes)) // IMAGES_A_SUBCATEGORY)) if sizes else 1


WITHOUT_CLASS: dict[Layout, str] = {
    "folder": "with an empty cell (or only zeros) as their labels",
    "folders": "in a folder called background",
    "label-studio": "submitted without a label",
    "cvat": "without a shape or tag",
    "yolo": "with an empty text, or none",
    "xml": "with an annotation that names no object",
    "voc": "with an annotation that names no object",
    "tags": "with an empty text",
    "shards": 'with {"labels": []} as their JSON',
    "coco": "and have `subcam data labels FILE` write a CSV of COCO's file, as its layout leaves out images of nothing",
}
"""How an image that shows none of the classes is added, in each layout."""


def label_findings(images: ImageSet, *, layout: Layout) -> list[Finding]:
    """What the labels of the training images tell; the advice is for this layout."""
    return [
        *_rare(images),
        *_everywhere(images, layout),
        *_together(images),
        *_never_alone(images),
        *_unlabelled(images),
    ]


def _rare(images: ImageSet) -> list[Finding]:
    counts = sorted(count_classes(images), key=lambda count: count.images)
    empty = [count for count in counts if not count.images]
    few = [count for count in counts if 0 < count.images < FEW]
    findings = []
    if empty:
        findings.append(
            Finding(
                kind="class-empty",
                severity="warning",
                title=f"{counted(len(empty), 'class', 'classes')} without a single training image",
                advice=f"Nothing can be learned of them: add images{_or_leave_out(images, empty)}.",
                examples=tuple(Example(text=count.name) for count in empty),
            )
        )
    if few:
        findings.append(
            Finding(
                kind="class-few",
                severity="warning",
                title=f"{counted(len(few), 'class', 'classes')} with fewer than {FEW} training images",
                advice="Expect poor maps and unsteady sub-categories of them: add images, give classes that may be one "
                f"the same name{_or_leave_out(images, [*empty, *few])}.",
                examples=tuple(Example(text=f"{count.name}: {counted(count.images, 'image')}") for count in few),
            )
        )
    return findings


def _or_leave_out(images: ImageSet, counts: Sequence[ClassCounts]) -> str:
    """How a run leaves classes out: by the names of the others, if there are any."""
    out = {count.name for count in counts}
    rest = [name for name in images.class_names if name not in out]
    if not rest or not out:
        return ""
    names = shlex.join(rest) if len(rest) <= MOST_NAMED else f"and the {len(rest)} others"
    return f", or leave them out with --dataset.classes {names}"


def _everywhere(images: ImageSet, layout: Layout) -> list[Finding]:
    total = len(images)
    counts = [count for count in count_classes(images) if count.images >= NEARLY_ALL * total]
    if not counts:
        return []
    missing = {count.name: total - count.images for count in counts}
    every = not all(missing.values())
    return [
        Finding(
            kind="class-everywhere",
            severity="warning",
            title=f"{counted(len(counts), 'class', 'classes')} in {'every' if every else 'nearly every'} image",
            advice="A map shows what tells a class from its absence, and there are no images without "
            f"{'these classes' if len(counts) > 1 else 'this class'}: add images that show none of the classes, "
            f"{WITHOUT_CLASS[layout]}.",
            examples=tuple(Example(text=f"{name}: not in {counted(left, 'image')}") for name, left in missing.items()),
        )
    ]


def _together(images: ImageSet) -> list[Finding]:
    both = co_occurrence(images)
    pairs = pairs_together(both)
    if not pairs:
        return []
    names = images.class_names
    always = sum(pair.both == pair.of for pair in pairs)
    return [
        Finding(
            kind="classes-together",
            severity="warning",
            title=f"{counted(len(pairs), 'class', 'classes')} (nearly) never without another"
            f"{f', {always} of them never' if always else ''}",
            advice="Maps of such a class light up on the other as well, as nothing tells them apart: add images of "
            "one without the other, or give both the same name.",
            examples=tuple(
                Example(
                    text=f"{names[pair.given]}: {pair.both} of {pair.of} images also show {names[pair.other]} "
                    f"({pair.share:.0%})"
                )
                for pair in pairs
            ),
        )
    ]


def _never_alone(images: ImageSet) -> list[Finding]:
    counts = [count for count in count_classes(images) if count.images >= FEW and not count.alone]
    if not counts or len(images.class_names) < 2:
        return []
    return [
        Finding(
            kind="never-alone",
            severity="note",
            title=f"{counted(len(counts), 'class', 'classes')} in no image alone",
            advice="Every image of it shows another class as well: some images of it alone help the maps to tell "
            "it from the others.",
            examples=tuple(Example(text=f"{count.name}: {counted(count.images, 'image')}") for count in counts),
        )
    ]


def _unlabelled(images: ImageSet) -> list[Finding]:
    without = [record for record in images.records if not record.labels]
    if not without:
        return []
    return [
        Finding(
            kind="unlabelled",
            severity="warning" if 2 * len(without) > len(images) else "note",
            title=f"{counted(len(without), 'training image')} without a label ({len(without) / len(images):.0%})",
            advice="They are learned from as images that show none of the classes. Label those that do show one.",
            examples=tuple(Example(text=record.name, images=(record.image,)) for record in without),
        )
    ]
