"""Decodes every image and mask once before hours are spent on them, and fingerprints what was found.

In: an `ImageSet`. Out: the images that can be used, their sizes, and a digest of all that the results depend on.
"""

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subcam.data.images import (
    check_mask_size,
    check_mask_values,
    open_image,
    read_file,
    read_indices,
    upright_rgb,
)
from subcam.data.readers.tar_member import status_of
from subcam.data.records import BACKGROUND, IGNORE_INDEX, ImageSet, OnBadInput, Record, Skipped
from subcam.errors import BadInputError
from subcam.runtime.files import atomic_write

_CACHE_FORMAT = 1
_AT_ONCE = 1024
"""Records handed to the threads at a time, so that an error or Ctrl-C does not wait for a whole large set."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CheckedImages:
    """Images that were decoded once.

    image_set: those that can be used; the others are added to its `skipped`.
    sizes: height and width of each upright image, in the order of the records.
    digest: SHA-256 over class names, mask values and, of each record, name, labels and the bytes of image and mask.
        Equal digests mean equal input, wherever the files lie.
    """

    image_set: ImageSet
    sizes: tuple[tuple[int, int], ...]
    digest: str


@dataclass(frozen=True, kw_only=True)
class _FileFacts:
    """What was found in one file; `values` are the stored values of a mask, None for an image.

    size, modified_ns: of the file on the disk; for an image in a tar, of the tar.
    """

    size: int
    modified_ns: int
    sha256: str
    height: int
    width: int
    values: tuple[int, ...] | None = None


_Facts = dict[str, _FileFacts]
_Outcome = tuple[_FileFacts, _FileFacts | None] | BadInputError


def check_images(
    image_set: ImageSet,
    *,
    on_bad_input: OnBadInput = "stop",
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckedImages:
    """Decode every image and mask of a set.

    Args:
        image_set: what a reader returned.
        on_bad_input: "stop" raises the first error in the set's order; "skip" leaves the image out and names it. An
            image whose mask is bad counts as bad.
        cache: a JSON file of what was found; files of the same path, size and time of change are not decoded again.
        workers: threads; None takes one a core, at most 8.
        on_progress: called with (images done, images in all).

    Raises:
        BadInputError: a bad file where `on_bad_input` is "stop", or nothing that can be used.
    """
    known = _read_cache(cache) if cache is not None else {}
    facts = dict(known)
    outcomes: list[_Outcome] = []
    try:
        with contextlib.closing(_check_all(image_set, known, workers)) as checks:
            for record, outcome in zip(image_set.records, checks, strict=True):
                if isinstance(outcome, BadInputError):
                    if on_bad_input == "stop":
                        raise outcome
                else:
                    paths = (record.image, record.mask)
                    facts |= {_key(path): fact for path, fact in zip(paths, outcome, strict=True) if path and fact}
                outcomes.append(outcome)
                if on_progress is not None:
                    on_progress(len(outcomes), len(image_set))
    finally:
        # also after an error or Ctrl-C: what was decoded need not be decoded again
        if cache is not None and facts != known:
            _write_cache(cache, facts)
    return _gather(image_set, outcomes)


def _gather(image_set: ImageSet, outcomes: list[_Outcome]) -> CheckedImages:
    good = [outcome for outcome in outcomes if not isinstance(outcome, BadInputError)]
    checked = image_set.where(
        [not isinstance(outcome, BadInputError) for outcome in outcomes],
        tuple(
            Skipped(file=str(record.image), reason=str(outcome))
            for record, outcome in zip(image_set.records, outcomes, strict=True)
            if isinstance(outcome, BadInputError)
        ),
    )
    if not good:
        first = f"; the first: {checked.skipped[0].reason}" if checked.skipped else ""
        raise BadInputError(f"expected at least one usable image, got none of {len(image_set)}{first}")
    digest = hashlib.sha256(json.dumps([checked.class_names, checked.mask_values]).encode())
    for record, (image, mask) in zip(checked.records, good, strict=True):
        digest.update(json.dumps([record.name, record.labels, image.sha256, mask.sha256 if mask else None]).encode())
    seen = {checked.mask_values[value] for _, mask in good if mask for value in mask.values or ()}
    if checked.has_masks and seen <= {BACKGROUND, IGNORE_INDEX}:
        logger.warning(
            "no mask has a pixel of any class: in a mask, 0 is background, 255 is not scored and classes count from 1"
        )
    return CheckedImages(
        image_set=checked,
        sizes=tuple((image.height, image.width) for image, _ in good),
        digest=digest.hexdigest(),
    )


def _check_all(image_set: ImageSet, known: _Facts, workers: int | None) -> Generator[_Outcome, None, None]:
    def check(record: Record) -> _Outcome:
        try:
            return _check_record(record, image_set.mask_values, known)
        except BadInputError as error:
            return error

    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(image_set), _AT_ONCE):
            yield from pool.map(check, image_set.records[start : start + _AT_ONCE])


def _check_record(record: Record, mask_values: tuple[int, ...], known: _Facts) -> tuple[_FileFacts, _FileFacts | None]:
    image = _facts_of(record.image, known, is_mask=False)
    if record.mask is None:
        return image, None
    mask = _facts_of(record.mask, known, is_mask=True)
    check_mask_size(record.mask, (mask.height, mask.width), (image.height, image.width))
    check_mask_values(record.mask, list(mask.values or ()), mask_values)
    return image, mask


def _facts_of(path: Path, known: _Facts, *, is_mask: bool) -> _FileFacts:
    try:
        status = status_of(path)
        stamp = (status.st_size, status.st_mtime_ns)
    except OSError:
        stamp = (-1, -1)  # read_file says what is wrong
    earlier = known.get(_key(path))
    if earlier and (earlier.size, earlier.modified_ns) == stamp and (earlier.values is not None) == is_mask:
        return earlier
    data = read_file(path)
    values = None
    if is_mask:
        indices = read_indices(path, data=data)
        height, width = indices.shape
        values = tuple(np.unique(indices).tolist())
    else:
        with open_image(path, data=data) as image:
            rgb = upright_rgb(image, path)
        height, width = rgb.height, rgb.width
    return _FileFacts(
        size=stamp[0],
        modified_ns=stamp[1],
        sha256=hashlib.sha256(data).hexdigest(),
        height=height,
        width=width,
        values=values,
    )


def _key(path: Path) -> str:
    return str(path.absolute())


def _read_cache(path: Path) -> _Facts:
    """What an earlier check found; nothing if there is no such file or it was written by another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _CACHE_FORMAT:
            return {}
        return {
            key: _FileFacts(**(entry | {"values": None if entry["values"] is None else tuple(entry["values"])}))
            for key, entry in content["files"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        logger.warning("%s cannot be read (%s); every image is decoded again", path, error)
        return {}


def _write_cache(path: Path, facts: _Facts) -> None:
    with atomic_write(path, "w") as file:
        json.dump({"format": _CACHE_FORMAT, "files": {key: vars(fact) for key, fact in facts.items()}}, file)
