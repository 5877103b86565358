"""The one look at each file: what `subcam data check` reports of it and what a run must know before it starts.

In: records. Out: facts of each image and mask, or the error that says why it cannot be used. Each file is read once.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import Image

from subcam.data.image_file import kind_of, open_image, read_file
from subcam.data.images import SWAPS_SIDES, orientation_of, read_indices, upright_rgb
from subcam.data.records import Record
from subcam.errors import BadInputError

_RECORDS_AT_ONCE = 256
"""Records handed to the threads at a time, so that an error or Ctrl-C does not wait for a whole large set."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_DEPTH_AT = 24

Facts = TypeVar("Facts")


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """One image that can be used.

    height, width: of the upright image.
    file_size: bytes. kind: what its bytes are, as in `records.SUFFIXES_BY_KIND`.
    traits: what is unusual about it, such as "grey" or "CMYK"; it is read all the same.
    sha256: of the file. pixels: a digest of size and RGB values, equal for equal images in other files; "" where it was
        not asked for.
    orientation: that of EXIF, 1 where there is none. height and width are those after it was applied.
    """

    height: int
    width: int
    file_size: int
    kind: str
    traits: tuple[str, ...]
    sha256: str
    pixels: str
    orientation: int = 1


@dataclass(frozen=True, kw_only=True)
class MaskFacts:
    """One mask that can be read; `counts` are its pixels by stored value."""

    height: int
    width: int
    sha256: str
    counts: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """Facts of a record's files, or why one cannot be used; `mask` is None where the record has none."""

    image: ImageFacts | BadInputError
    mask: MaskFacts | BadInputError | None


def inspect_image(path: Path, *, pixel_digest: bool = True) -> ImageFacts:
    """Decode an image.

    pixel_digest: whether to compute `ImageFacts.pixels`, which takes as long as decoding.

    Raises:
        BadInputError: see `read_image`.
    """
    data = read_file(path)
    with open_image(path, data=data) as image:
        kind, traits = kind_of(image), _traits(image, data)
        rgb = upright_rgb(image, path)
        orientation = orientation_of(image)
    return ImageFacts(
        height=rgb.height,
        width=rgb.width,
        file_size=len(data),
        kind=kind,
        traits=traits,
        sha256=hashlib.sha256(data).hexdigest(),
        pixels=_digest_of_pixels(rgb) if pixel_digest else "",
        orientation=orientation,
    )


Grid = Literal["upright", "stored", "either", "neither"]
"""Of which of its pixels an image's mask is, by their sizes: those that EXIF turned, those that are stored, or both."""


def grid_of(image: ImageFacts, mask: MaskFacts) -> Grid:
    """On which of an image's pixels its mask may lie."""
    size, upright = (mask.height, mask.width), (image.height, image.width)
    swaps = image.orientation in SWAPS_SIDES
    if size == upright:
        return "either" if image.orientation in range(2, 9) and not (swaps and size != size[::-1]) else "upright"
    return "stored" if swaps and size == upright[::-1] else "neither"


def mask_turns(facts: Sequence[tuple[ImageFacts, MaskFacts | None]]) -> tuple[int, ...]:
    """By which EXIF orientation each mask is to be turned, 1 for none.

    Masks that lie on the stored pixels are turned with them. Where the sizes fit either way, as of an image that is
    turned by 180 degrees, a mask lies as the others of its set do where all of these lie on stored pixels, else on the
    upright image, as most tools show it.
    """
    return turns_by_grid([(image.orientation, grid_of(image, mask) if mask else None) for image, mask in facts])


def turns_by_grid(masks: Sequence[tuple[int, Grid | None]]) -> tuple[int, ...]:
    """`mask_turns` of a set by each image's orientation and the grid of its mask; None where it has no mask."""
    turned = {grid for orientation, grid in masks if grid and orientation != 1}
    stored = {"stored", "either"} if turned - {"either"} == {"stored"} else {"stored"}
    return tuple(orientation if grid in stored else 1 for orientation, grid in masks)


def inspect_mask(path: Path) -> MaskFacts:
    """Decode a mask.

    Raises:
        BadInputError: see `read_indices`.
    """
    data = read_file(path)
    indices = read_indices(path, data=data)
    counts = np.bincount(indices.ravel(), minlength=256)
    return MaskFacts(
        height=indices.shape[0],
        width=indices.shape[1],
        sha256=hashlib.sha256(data).hexdigest(),
        counts={value: int(counts[value]) for value in np.flatnonzero(counts).tolist()},
    )


def inspect_all(
    records: Sequence[Record],
    *,
    workers: int | None = None,
    image_facts: Callable[[Path], ImageFacts] = inspect_image,
    mask_facts: Callable[[Path], MaskFacts] = inspect_mask,
) -> Generator[Inspected, None, None]:
    """Inspect each record's files, in order; a bad file ends nothing.

    Args:
        records: what to inspect.
        workers: threads, as decoding lets others run; None takes one a core, at most 8.
        image_facts: where facts of an image come from, such as a cache before `inspect_image`.
        mask_facts: likewise of a mask.
    """

    def inspect(record: Record) -> Inspected:
        return Inspected(
            image=_facts_or_error(image_facts, record.image),
            mask=None if record.mask is None else _facts_or_error(mask_facts, record.mask),
        )

    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(records), _RECORDS_AT_ONCE):
            yield from pool.map(inspect, records[start : start + _RECORDS_AT_ONCE])


def _digest_of_pixels(rgb: Image.Image) -> str:
    digest = hashlib.blake2b(f"{rgb.width} {rgb.height} ".encode(), digest_size=16)
    digest.update(rgb.tobytes())
    return digest.hexdigest()


def _facts_or_error(facts: Callable[[Path], Facts], path: Path) -> Facts | BadInputError:
    try:
        return facts(path)
    except BadInputError as error:
        return error
    except MemoryError as error:
        raise MemoryError(str(error) or f"while {path} was read") from error


def _traits(image: Image.Image, data: bytes) -> tuple[str, ...]:
    mode = image.mode
    present = {
        "grey": mode in ("1", "L", "LA", "F") or mode.startswith("I"),
        "palette": mode == "P",
        "CMYK": mode == "CMYK",
        "16-bit": mode.startswith("I") or (data[:8] == _PNG_SIGNATURE and data[_PNG_DEPTH_AT] == 16),
        "see-through": "A" in mode.upper() or "transparency" in image.info,
    }
    # What is damaged in later frames or in EXIF is for the decoder to complain of, if it needs them.
    with contextlib.suppress(Exception):
        present["several frames"] = getattr(image, "n_frames", 1) > 1
    with contextlib.suppress(Exception):
        present["turned by EXIF"] = orientation_of(image) in range(2, 9)
    return tuple(trait for trait, is_present in present.items() if is_present)
