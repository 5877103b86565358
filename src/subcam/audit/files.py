"""What is wrong with single files: damaged ones, unusual sizes and kinds, masks that do not fit.

In: what `subcam.data.inspection` read of each record's files. Out: findings.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from subcam.audit.finding import Example, Finding, Severity, counted
from subcam.data.image_file import named_otherwise
from subcam.data.images import check_mask_size, check_mask_values
from subcam.data.inspection import Grid, ImageFacts, Inspected, MaskFacts, grid_of, turns_by_grid
from subcam.data.records import Record
from subcam.errors import BadInputError

TINY = 100
"""An image whose longer side has fewer pixels has few cells on a network's grid."""

HUGE = 4_000_000
"""Pixels of an image that is large: maps are computed at full size and at twice that."""

LONG = 4
"""Sides in a larger ratio than this are named."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskOutcome:
    """A mask by what its values mean: pixels of 0 background, 1..C classes, 255 not scored.

    wrong: the kind of what is wrong with it, "" if nothing is. problem: the same in words.
    grid: on which of its image's pixels it may lie; None where that is unknown or it does not fit.
    """

    counts: dict[int, int]
    wrong: str = ""
    problem: str = ""
    grid: Grid | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of one record's files. image: None where it cannot be used; `problem` then says why."""

    image: ImageFacts | None
    problem: str = ""
    mask: MaskOutcome | None = None


def facts_of(record: Record, inspected: Inspected, mask_values: tuple[int, ...]) -> Facts:
    """What a record's files say, by what the values of its mask mean."""
    image = None if isinstance(inspected.image, BadInputError) else inspected.image
    return Facts(
        image=image,
        problem=str(inspected.image) if isinstance(inspected.image, BadInputError) else "",
        mask=_mask_outcome(record, inspected.mask, image, mask_values),
    )


def _mask_outcome(
    record: Record, mask: MaskFacts | BadInputError | None, image: ImageFacts | None, mask_values: tuple[int, ...]
) -> MaskOutcome | None:
    if record.mask is None or mask is None:
        return None
    if isinstance(mask, BadInputError):
        return MaskOutcome(counts={}, wrong="mask-damaged", problem=str(mask))
    try:
        check_mask_values(record.mask, list(mask.counts), mask_values)
    except BadInputError as error:
        return MaskOutcome(counts={}, wrong="mask-values", problem=str(error))
    counts: Counter[int] = Counter()
    for value, count in mask.counts.items():
        counts[mask_values[value]] += count
    grid = grid_of(image, mask) if image is not None else None
    try:
        if image is not None and grid == "neither":
            check_mask_size(record.mask, (mask.height, mask.width), (image.height, image.width))
    except BadInputError as error:
        return MaskOutcome(counts=dict(counts), wrong="mask-size", problem=str(error))
    return MaskOutcome(counts=dict(counts), grid=grid)


def turns_of(facts: Sequence[Facts]) -> tuple[int, ...]:
    """By which EXIF orientation a run turns the mask of each record of a set; those that cannot be used have no say."""
    return turns_by_grid(
        [(each.image.orientation, each.mask.grid if each.mask else None) if each.image else (1, None) for each in facts]
    )


def file_findings(records: Sequence[Record], facts: Sequence[Facts], *, bad: Severity) -> list[Finding]:
    """What single files show; `bad` is how much a file matters that cannot be used, and records know their turns."""
    findings = [
        _finding(
            "image-bad",
            bad,
            [Example(text=each.problem) for each in facts if each.problem],
            "that cannot be read",
            "Copy them again, take them out of the list, or leave them out with --dataset.on-bad-input skip.",
        )
    ]
    masks = {
        "mask-damaged": ("that cannot be read", "Export them again as indexed PNGs."),
        "mask-values": (
            "with values outside the list of classes",
            "Renumber them, or name the missing classes in classes.txt.",
        ),
        "mask-size": ("of another size than their image", "Export them again at the image's size."),
    }
    for kind, (what, advice) in masks.items():
        wrong = [
            Example(text=each.mask.problem, images=(record.image,) if each.image else ())
            for record, each in zip(records, facts, strict=True)
            if each.mask is not None and each.mask.wrong == kind
        ]
        findings.append(_finding(kind, bad, wrong, what, advice, one="mask"))
    unclear = [
        Example(text=record.name, images=(record.image,), mask=record.mask)
        for record, each in zip(records, facts, strict=True)
        if each.mask is not None and each.mask.grid == "either" and record.mask_turn == 1
    ]
    stored = [
        Example(text=record.name, images=(record.image,), mask=record.mask, mask_turn=record.mask_turn)
        for record in records
        if record.mask_turn != 1
    ]
    findings.append(
        _finding(
            "mask-stored",
            "note",
            stored,
            "on the stored pixels of images that EXIF turns",
            "They are turned with their images; where sizes do not tell, as the others of their split.",
            one="mask",
        )
    )
    findings.append(
        _finding(
            "mask-turned",
            "note",
            unclear,
            "of images that EXIF turns, which fit them turned or not",
            "They are taken for masks of the upright image: look at them, or save the images upright.",
            one="mask",
        )
    )
    findings += [*_size_findings(records, facts), _name_finding(records, facts), _kind_finding(records, facts)]
    return [finding for finding in findings if finding is not None]


def _size_findings(records: Sequence[Record], facts: Sequence[Facts]) -> tuple[Finding | None, ...]:
    usable = [(record, each.image) for record, each in zip(records, facts, strict=True) if each.image]

    def shown(entries: list[tuple[Record, ImageFacts]]) -> list[Example]:
        return [
            Example(text=f"{record.name}: {image.width} x {image.height}", images=(record.image,))
            for record, image in entries
        ]

    def pixels(entry: tuple[Record, ImageFacts]) -> int:
        return entry[1].height * entry[1].width

    tiny = sorted((entry for entry in usable if max(entry[1].height, entry[1].width) < TINY), key=pixels)
    huge = sorted((entry for entry in usable if pixels(entry) > HUGE), key=pixels, reverse=True)
    long = [
        entry for entry in usable if max(entry[1].height, entry[1].width) > LONG * min(entry[1].height, entry[1].width)
    ]
    return (
        _finding(
            "tiny",
            "warning",
            shown(tiny),
            f"smaller than {TINY} pixels",
            "A network's grid has only a few cells on them: take larger originals if there are any.",
        ),
        _finding(
            "huge",
            "warning",
            shown(huge),
            f"of more than {HUGE / 1e6:.0f} megapixels",
            "Maps are computed at full size and at twice that, which takes long and much memory: scale the images "
            "down, to a long side of 500 to 1,000 pixels, say (masks too, without smoothing).",
        ),
        _finding(
            "long",
            "note",
            shown(long),
            f"more than {LONG} times as long as wide",
            "Training sees square crops of them. Cut them into pieces if objects are small.",
        ),
    )


def _name_finding(records: Sequence[Record], facts: Sequence[Facts]) -> Finding | None:
    return _finding(
        "misnamed",
        "note",
        [
            Example(text=f"{record.image}: {named_otherwise(record.image, each.image.kind)}", images=(record.image,))
            for record, each in zip(records, facts, strict=True)
            if each.image and named_otherwise(record.image, each.image.kind)
        ],
        "of another kind than the name says",
        "They are read by what is in them. Rename them, in the list as well, if other programs refuse them.",
    )


def _kind_finding(records: Sequence[Record], facts: Sequence[Facts]) -> Finding | None:
    unusual = [
        (record, each.image.traits)
        for record, each in zip(records, facts, strict=True)
        if each.image and each.image.traits
    ]
    if not unusual:
        return None
    counts = Counter(trait for _, traits in unusual for trait in traits)
    return Finding(
        kind="kinds",
        severity="note",
        title="images that are not plain colour: "
        + ", ".join(f"{number:,} {trait}" for trait, number in counts.most_common()),
        advice="All of them are read: turned upright, as 8-bit RGB, see-through pixels on white, the first frame.",
        examples=tuple(
            Example(text=f"{record.name}: {', '.join(traits)}", images=(record.image,)) for record, traits in unusual
        ),
    )


def _finding(
    kind: str, severity: Severity, examples: list[Example], what: str, advice: str, *, one: str = "image"
) -> Finding | None:
    if not examples:
        return None
    title = f"{counted(len(examples), one)} {what}"
    return Finding(kind=kind, severity=severity, title=title, advice=advice, examples=tuple(examples))
