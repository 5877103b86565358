"""Looks into every image and mask once: whether it can be used, its size and kind, and digests of its content.

In: records. Out: facts of each file, and what is wrong with it in words; no file ends the survey.
"""

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from subcam.audit.finding import Example, Finding, Severity, counted
from subcam.data.images import (
    check_mask_size,
    check_mask_values,
    open_image,
    read_file,
    read_indices,
    upright_rgb,
)
from subcam.data.records import Record
from subcam.errors import BadInputError

TINY = 100
"""An image whose longer side has fewer pixels has few cells on a network's grid."""

HUGE = 4_000_000
"""Pixels of an image that is large: maps are computed at full size and at twice that."""

LONG = 4
"""Sides in a larger ratio than this are named."""

_AT_ONCE = 256
_ORIENTATION = 0x0112


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """What is in the file of an image; sizes are of the upright image. `problem` says why it cannot be used."""

    height: int = 0
    width: int = 0
    file_size: int = 0
    kind: str = ""
    traits: tuple[str, ...] = ()
    content: bytes = b""
    pixels: bytes = b""
    problem: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskFacts:
    """What is in a mask: pixels by meaning (0 background, 1..C, 255). `wrong` is the kind of what is wrong with it."""

    counts: dict[int, int]
    wrong: str = ""
    problem: str = ""


Facts = tuple[ImageFacts, MaskFacts | None]


def look_at_all(
    records: Sequence[Record], mask_values: tuple[int, ...], *, workers: int | None = None
) -> Generator[Facts, None, None]:
    """Facts of each record's files in turn; a few hundred records are in work at a time.

    workers: threads, as decoding lets others run; None takes one a core, at most 8.
    """
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(records), _AT_ONCE):
            yield from pool.map(lambda record: look_at(record, mask_values), records[start : start + _AT_ONCE])


def look_at(record: Record, mask_values: tuple[int, ...]) -> Facts:
    """Facts of one record's files."""
    try:
        image = _image(record.image)
    except BadInputError as error:
        image = ImageFacts(problem=str(error))
    if record.mask is None:
        return image, None
    size = None if image.problem else (image.height, image.width)
    return image, _mask(record.mask, mask_values, size)


def _image(path: Path) -> ImageFacts:
    data = read_file(path)
    with open_image(path, data=data) as image:
        kind, traits = image.format or "", _traits(image, data)
        rgb = upright_rgb(image, path)
    digest = hashlib.blake2b(f"{rgb.width} {rgb.height} ".encode(), digest_size=16)
    digest.update(rgb.tobytes())
    return ImageFacts(
        height=rgb.height,
        width=rgb.width,
        file_size=len(data),
        kind=kind,
        traits=traits,
        content=hashlib.blake2b(data, digest_size=16).digest(),
        pixels=digest.digest(),
    )


def _traits(image: Image.Image, data: bytes) -> tuple[str, ...]:
    """What is unusual about an image's kind; it is read all the same."""
    mode = image.mode
    found = {
        "grey": mode in ("1", "L", "LA", "F") or mode.startswith("I"),
        "palette": mode == "P",
        "CMYK": mode == "CMYK",
        "16-bit": mode.startswith("I") or (data[:8] == b"\x89PNG\r\n\x1a\n" and data[24] == 16),
        "see-through": "A" in mode.upper() or "transparency" in image.info,
        "several frames": getattr(image, "n_frames", 1) > 1,
    }
    # damaged EXIF is the decoder's to complain of
    with contextlib.suppress(Exception):
        found["turned by EXIF"] = int(image.getexif().get(_ORIENTATION, 1)) in range(2, 9)
    return tuple(trait for trait, has in found.items() if has)


def _mask(path: Path, mask_values: tuple[int, ...], size: tuple[int, int] | None) -> MaskFacts:
    try:
        indices = read_indices(path)
    except BadInputError as error:
        return MaskFacts(counts={}, wrong="mask-damaged", problem=str(error))
    stored = np.bincount(indices.ravel(), minlength=256)
    counts: Counter[int] = Counter()
    for value in np.flatnonzero(stored).tolist():
        counts[mask_values[value]] += int(stored[value])
    try:
        check_mask_values(path, np.flatnonzero(stored).tolist(), mask_values)
    except BadInputError as error:
        return MaskFacts(counts={}, wrong="mask-values", problem=str(error))
    try:
        check_mask_size(path, indices.shape, size)
    except BadInputError as error:
        return MaskFacts(counts=dict(counts), wrong="mask-size", problem=str(error))
    return MaskFacts(counts=dict(counts))


def file_findings(records: Sequence[Record], facts: Sequence[Facts], *, bad: Severity) -> list[Finding]:
    """What the files tell; `bad` is how much a file matters that cannot be used."""
    found = [
        _found(
            "image-bad",
            bad,
            [Example(text=image.problem) for image, _ in facts if image.problem],
            "that cannot be read",
            "Copy them again, or take them out of the list.",
        )
    ]
    masks = {
        "mask-damaged": ("that cannot be read as masks", "Export them again as indexed PNGs."),
        "mask-values": ("with values outside the list of classes", "Renumber them, or name the missing classes."),
        "mask-size": ("of another size than their image", "Export them again at the image's size."),
    }
    for kind, (what, advice) in masks.items():
        wrong = [
            Example(text=mask.problem, images=() if image.problem else (record.image,))
            for record, (image, mask) in zip(records, facts, strict=True)
            if mask is not None and mask.wrong == kind
        ]
        found.append(_found(kind, bad, wrong, what, advice, one="mask"))
    return (
        [finding for finding in found if finding is not None] + _sizes(records, facts) + _traits_found(records, facts)
    )


def _sizes(records: Sequence[Record], facts: Sequence[Facts]) -> list[Finding]:
    good = [(record, image) for record, (image, _) in zip(records, facts, strict=True) if not image.problem]

    def shown(entries: list[tuple[Record, ImageFacts]]) -> list[Example]:
        return [
            Example(text=f"{record.name}: {image.width} x {image.height}", images=(record.image,))
            for record, image in entries
        ]

    tiny = sorted((e for e in good if max(e[1].height, e[1].width) < TINY), key=lambda e: e[1].height * e[1].width)
    huge = sorted((e for e in good if e[1].height * e[1].width > HUGE), key=lambda e: -e[1].height * e[1].width)
    long = [e for e in good if max(e[1].height, e[1].width) > LONG * min(e[1].height, e[1].width)]
    found = (
        _found(
            "tiny",
            "warning",
            shown(tiny),
            f"smaller than {TINY} pixels",
            "A network's grid has only a few cells on them: take larger originals if there are any.",
        ),
        _found(
            "huge",
            "warning",
            shown(huge),
            f"of more than {HUGE / 1e6:.0f} megapixels",
            "Maps are computed at full size and at twice that, which takes long and much memory: scale the images "
            "down, to a long side of 500 to 1,000 pixels, say (masks too, without smoothing).",
        ),
        _found(
            "long",
            "note",
            shown(long),
            f"more than {LONG} times as long as wide",
            "Training sees square crops of them. Cut them into pieces if objects are small.",
        ),
    )
    return [finding for finding in found if finding is not None]


def _traits_found(records: Sequence[Record], facts: Sequence[Facts]) -> list[Finding]:
    counts = Counter(trait for image, _ in facts for trait in image.traits)
    if not counts:
        return []
    return [
        Finding(
            kind="kinds",
            severity="note",
            title="images that are not plain colour: "
            + ", ".join(f"{number:,} {trait}" for trait, number in counts.most_common()),
            advice="All of them are read: turned upright, as 8-bit RGB, see-through pixels on white, the first frame.",
            examples=tuple(
                Example(text=f"{record.name}: {', '.join(image.traits)}", images=(record.image,))
                for record, (image, _) in zip(records, facts, strict=True)
                if image.traits
            ),
        )
    ]


def _found(
    kind: str, severity: Severity, examples: list[Example], what: str, advice: str, *, one: str = "image"
) -> Finding | None:
    if not examples:
        return None
    title = f"{counted(len(examples), one)} {what}"
    return Finding(kind=kind, severity=severity, title=title, advice=advice, examples=tuple(examples))
