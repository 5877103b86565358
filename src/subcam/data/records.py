"""What every reader returns: which images there are, what is in them, and where their masks lie."""

import difflib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from subcam.errors import BadInputError
from subcam.runtime.files import LONGEST_NAME, fault_of_name

IGNORE_INDEX = 255
BACKGROUND = 0
VALUES = 256
"""A mask of 8 bits may hold so many."""

FORBIDDEN = -1
"""In `mask_values`: a stored value that may not occur; reading a mask that has it is an error."""

LONGEST_RECORD_NAME = LONGEST_NAME - len(".png")
"""Bytes of a part of a record's name: files that are made of it end in a dot and three letters."""

MOST_CLASSES = IGNORE_INDEX - 1
"""More classes have no room in an 8-bit mask."""

SUFFIXES_BY_KIND = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
"""The kinds of images that are read, as Pillow names them, and how their files end. HEIF, as telephones write it, needs
the package pillow-heif; who opens such an image says so."""

UNSHOWN_KINDS = ("TIFF", "JPEG2000", "PPM", "HEIF")
"""Kinds that common browsers, and so the tools that run in one, do not show."""

IMAGE_SUFFIXES = tuple(suffix for suffixes in SUFFIXES_BY_KIND.values() for suffix in suffixes)
"""What counts as an image in a folder or archive. A file that is named itself may have any suffix."""

UNREAD_SUFFIXES = (
    *(".jxl", ".svg", ".psd", ".exr", ".hdr", ".tga", ".ps", ".eps", ".wmf", ".emf"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
)
"""Images of kinds that are not read; where one lies among images, it is named."""

_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\uffff\ud800-\udfff]"
)
"""Characters that are not shown by themselves; the joiners, which scripts and emoji need, are none of them."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One image and what a person said is in it.

    name: unique in its set, a relative POSIX path without suffix; outputs are named after it (`require_name`).
    labels: sorted indices 0..C-1 into the set's `class_names` (background is not a label).
    mask: an indexed PNG of the same size as the upright image, or None.
    mask_turn: the EXIF orientation of the image, where its mask was drawn on the stored pixels and is to be turned with
        them (`subcam.data.check` finds that out); 1 where it lies on the upright image.
    """

    name: str
    image: Path
    labels: tuple[int, ...]
    mask: Path | None = None
    mask_turn: int = 1

    def __post_init__(self) -> None:
        require_name(self.name, where=str(self.image))


def require_name(name: str, *, where: str) -> None:
    """Raise `BadInputError` unless files can be named after a record of this name, below any folder."""
    fault = fault_of_name(name, longest=LONGEST_RECORD_NAME)
    if fault:
        raise BadInputError(f"{where}: outputs cannot be named {name!r:.300}: {fault}; rename it")


def require_class_names(names: Iterable[str], *, where: str = "") -> None:
    """Raise `BadInputError` unless each name can be shown and told from others; names `where` it stands.

    No name has control characters, what turns the direction of writing, or what nobody sees, and each is text in UTF-8.
    """
    for name in names:
        unseen = _UNSEEN.search(name)
        if unseen:
            raise BadInputError(
                f"{where and f'{where}: '}no class can be called {name!r:.300}: it has the character "
                f"U+{ord(unseen[0]):04X}, which no eye sees; rename it"
            )


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file or row that was left out, and why (the text of the error it would have been)."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images with image-level labels.

    class_names: the C parent classes, without background.
    mask_values: 256 entries, or none where no mask is read; a pixel of value v in a mask means class `mask_values[v]`:
        0 background, 1..C parent class + 1, 255 not scored, -1 (`FORBIDDEN`) an error where it occurs.
    """

    class_names: tuple[str, ...]
    records: tuple[Record, ...]
    mask_values: tuple[int, ...]
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        require_class_names(self.class_names)
        if len(self.mask_values) not in (0, VALUES) or not set(self.mask_values) <= {
            *range(FORBIDDEN, self.num_classes + 1),
            IGNORE_INDEX,
        }:
            raise BadInputError(
                f"expected {VALUES} mask_values of -1, 0..{self.num_classes} or {IGNORE_INDEX}, got "
                f"{len(self.mask_values)}, the highest {max(self.mask_values, default='none')}; give one for each value"
            )
        names: set[str] = set()
        for record in self.records:
            labels = record.labels
            inside = not labels or (labels[0] >= 0 and labels[-1] < self.num_classes)
            if not inside or any(one >= other for one, other in itertools.pairwise(labels)):
                raise BadInputError(
                    f"{record.image}: expected sorted indices of the {self.num_classes} classes, got {labels!r:.200}"
                )
            if record.name in names:
                raise BadInputError(f"{record.image}: there are two records called {record.name!r}; rename one")
            names.add(record.name)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def num_classes(self) -> int:
        """C, the number of parent classes (background not counted)."""
        return len(self.class_names)

    @property
    def labels(self) -> UInt8[np.ndarray, "images classes"]:
        """Multi-hot image-level labels."""
        matrix = np.zeros((len(self.records), self.num_classes), np.uint8)
        for row, record in enumerate(self.records):
            matrix[row, list(record.labels)] = 1
        return matrix

    @property
    def has_masks(self) -> bool:
        """Whether any image can be scored against a mask."""
        return any(record.mask is not None for record in self.records)

    def where(self, keep: "np.ndarray | list[bool]", skipped: tuple[Skipped, ...] = ()) -> "ImageSet":
        """The set with only the records whose entry in `keep` is true; `skipped` is added to what was left out."""
        kept = tuple(record for record, flag in zip(self.records, keep, strict=True) if flag)
        return replace(self, records=kept, skipped=self.skipped + skipped)


def mask_values_of(
    known: Sequence[str], chosen: Sequence[str], *, stored_as: Sequence[int] | None = None
) -> tuple[int, ...]:
    """The `mask_values` of masks in which i + 1 means class i of `known`, where only the `chosen` are learned.

    0 stays background and 255 not scored; classes that are not chosen become 255; no other value may occur.

    stored_as: the value of each of `known` in masks, where it is not i + 1.
    """
    values = [FORBIDDEN] * VALUES
    places = {name: place for place, name in enumerate(chosen, start=1)}
    # Classes beyond the values of a mask have none; where there are masks, readers refuse them (`require_room`).
    stored = stored_as or range(1, min(len(known), MOST_CLASSES) + 1)
    for value, name in zip(stored, known[: len(stored)], strict=True):
        if value < IGNORE_INDEX:
            values[value] = places.get(name, IGNORE_INDEX)
    values[BACKGROUND], values[IGNORE_INDEX] = BACKGROUND, IGNORE_INDEX
    return tuple(values)


def require_room(known: Sequence[str], *, where: str) -> None:
    """Raise `BadInputError` if there are more classes than values for them in a mask; names `where`."""
    if len(known) > MOST_CLASSES:
        raise BadInputError(
            f"{where}: expected at most {MOST_CLASSES} classes, which is what the 8 bits of a mask hold, got "
            f"{len(known)}; merge some, or choose some with --dataset.classes"
        )


def first_of(names: Sequence[str], *, shown: int = 5) -> str:
    """The first of many names, for an error."""
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")


def suggest(name: str, known: Iterable[str]) -> str:
    """The part of an error that helps with an unknown name: the closest of the known ones, else all of them."""
    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(repr(by_folded[match]) for match in close)}?"
    listed = sorted(by_folded.values())
    return f"known are: {', '.join(listed[:30])}{', ...' if len(listed) > 30 else ''}"
