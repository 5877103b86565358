"""What images have in common and what masks show: duplicates, leaks between splits, labels that contradict a mask.

In: the images of each split and the facts of their files. Out: findings.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from subcam.audit.files import Facts
from subcam.audit.finding import Example, Finding, counted
from subcam.data.records import ImageSet, Record


def duplicate_findings(
    records: Sequence[Record], facts: Sequence[Facts], *, train: set[str], held_out: set[str]
) -> list[Finding]:
    """Images whose pixels are equal, whatever they are called.

    Args:
        records: all images, each once.
        facts: of their files.
        train: names of the images that are learned from.
        held_out: names of those that are scored and not learned from.
    """
    groups: dict[str, list[tuple[Record, str]]] = defaultdict(list)
    for record, each in zip(records, facts, strict=True):
        if each.image:
            groups[each.image.pixels].append((record, each.image.sha256))
    same = [group for group in groups.values() if len(group) > 1]
    leaks, contradictions, others = [], [], []
    for group in same:
        names = {record.name for record, _ in group}
        files = "the same file" if len({content for _, content in group}) == 1 else "the same pixels in other files"
        example = Example(
            text=f"{' = '.join(record.name for record, _ in group)} ({files})",
            images=tuple(record.image for record, _ in group[:4]),
        )
        if names & train and names & held_out:
            leaks.append(example)
        elif len({record.labels for record, _ in group}) > 1:
            contradictions.append(example)
        else:
            others.append(example)
    findings = [
        Finding(
            kind="leak",
            severity="warning",
            title=f"{counted(len(leaks), 'image')} both learned from and scored, under two names",
            advice="Scores on them are too good: take them out of one of the splits.",
            examples=tuple(leaks),
        ),
        Finding(
            kind="duplicate-contradicts",
            severity="warning",
            title=f"{counted(len(contradictions), 'image')} twice or more, with different labels",
            advice="One of the labels is wrong: keep one image with all of its labels, and delete the others and their "
            "entries.",
            examples=tuple(contradictions),
        ),
        Finding(
            kind="duplicate",
            severity="note",
            title=f"{counted(len(others), 'image')} twice or more",
            advice="Each counts more than once: keep one, and delete the others and their entries. Copies that were "
            "scaled or saved anew are not found.",
            examples=tuple(others),
        ),
    ]
    return [finding for finding in findings if finding.examples]


def overlap_findings(train: ImageSet, scored: Mapping[str, ImageSet]) -> list[Finding]:
    """Splits that are partly learned from. One that lies wholly in the training images is meant to (the paper's)."""
    names = {record.name for record in train.records}
    findings = []
    for split, images in scored.items():
        both = [record for record in images.records if record.name in names]
        if both and len(both) < len(images):
            findings.append(
                Finding(
                    kind="overlap",
                    severity="warning",
                    title=f"{counted(len(both), 'image')} of split {split} ({len(images):,}) also learned from",
                    advice="Scores of this split mix both: take the images out of one of the lists.",
                    examples=tuple(Example(text=record.name, images=(record.image,)) for record in both),
                )
            )
    return findings


def mask_findings(records: Sequence[Record], facts: Sequence[Facts], class_names: tuple[str, ...]) -> list[Finding]:
    """Where labels and masks contradict each other, and masks that say nothing."""
    masked = [
        (record, each.mask)
        for record, each in zip(records, facts, strict=True)
        if each.mask is not None and not each.mask.problem
    ]
    if not masked:
        return []
    if not any(mask.counts.keys() - {0, 255} for _, mask in masked):
        return [
            Finding(
                kind="mask-without-class",
                severity="warning",
                title=f"none of {counted(len(masked), 'mask')} has a pixel of any class",
                advice="Nothing is scored. In a mask, 0 is background, 255 is not scored and classes count from 1; of "
                "one class, masks that hold 0 and 255 are read with --dataset.two-valued-masks.",
            )
        ]
    unlabelled, unseen = [], []
    for record, mask in masked:
        pixels = sum(mask.counts.values())
        for value, count in sorted(mask.counts.items(), key=lambda entry: -entry[1]):
            if value not in (0, 255) and value - 1 not in record.labels:
                text = f"{record.name}: {class_names[value - 1]} has {count / pixels:.1%} of the mask and no label"
                unlabelled.append(
                    (
                        count / pixels,
                        Example(text=text, images=(record.image,), mask=record.mask, mask_turn=record.mask_turn),
                    )
                )
        for label in record.labels:
            if label + 1 not in mask.counts:
                ignored = mask.counts.get(255, 0) / pixels
                rest = f" ({ignored:.1%} of it is not scored)" if ignored else ""
                text = f"{record.name}: labelled {class_names[label]}, no such pixel in the mask{rest}"
                unseen.append(Example(text=text, images=(record.image,), mask=record.mask, mask_turn=record.mask_turn))
    findings = []
    if unlabelled:
        examples = [example for _, example in sorted(unlabelled, key=lambda entry: -entry[0])]
        findings.append(
            Finding(
                kind="label-missing",
                severity="warning",
                title=f"{counted(len(examples), 'class of an image', 'classes of images')} in the mask, not in the "
                "labels",
                advice="Learned from as absent: add the label, or correct the mask.",
                examples=tuple(examples),
            )
        )
    if unseen:
        findings.append(
            Finding(
                kind="label-without-pixel",
                severity="note",
                title=f"{counted(len(unseen), 'label')} without a pixel in the image's mask",
                advice="A wrong label, a forgotten object, or one that the mask does not score.",
                examples=tuple(unseen),
            )
        )
    return findings
