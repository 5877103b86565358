"""Checks every image and mask before hours are spent on them, and fingerprints the set.

In: an `ImageSet`. Out: the images that can be used, their sizes, and a digest of all that the results depend on.
"""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from subcam.checks.arguments import takes_arrays
from subcam.data.image_file import named_otherwise
from subcam.data.images import check_mask_size, check_mask_values
from subcam.data.inspection import (
    ImageFacts,
    Inspected,
    MaskFacts,
    grid_of,
    inspect_all,
    inspect_image,
    inspect_mask,
    mask_turns,
)
from subcam.data.readers.tar_member import stamp_of
from subcam.data.records import BACKGROUND, IGNORE_INDEX, ImageSet, Record, Skipped, first_of
from subcam.data.settings import OnBadInput
from subcam.errors import BadInputError
from subcam.runtime.documents.json_text import loads
from subcam.runtime.documents.regular_file import read_bytes
from subcam.runtime.files import atomic_write

_CACHE_FORMAT = 5

_Facts = TypeVar("_Facts", ImageFacts, MaskFacts)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CheckedImages:
    """Images that were decoded once.

    image_set: those that can be used; the others are added to its `skipped`.
    sizes: height and width of each upright image, in the order of the records.
    digest: SHA-256 over class names, mask values and, of each record, name, labels and the bytes of image and mask.
        Equal digests mean equal input, wherever the files lie.
    classes_in_masks: indices of the classes that have a pixel in any mask; without one there is nothing to score.
    """

    image_set: ImageSet
    sizes: tuple[tuple[int, int], ...]
    digest: str
    classes_in_masks: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class _Remembered:
    """Facts of one file, and its stamp (`tar_member.stamp_of`) when they were true."""

    stamp: tuple[int, ...]
    facts: ImageFacts | MaskFacts


_Outcome = tuple[ImageFacts, MaskFacts | None] | BadInputError


@takes_arrays()
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
        cache: a JSON file of what is known of each file; one of the same path, size and times of change is not
            decoded again.
        workers: threads; None takes one a core, at most 8.
        on_progress: called with (images done, images in all).

    Raises:
        BadInputError: a bad file where `on_bad_input` is "stop", or nothing that can be used.
    """
    known = _read_cache(cache) if cache is not None else {}
    memory = _Memory(known)
    outcomes: list[_Outcome] = []
    inspected = inspect_all(
        image_set.records, workers=workers, image_facts=memory.image_facts, mask_facts=memory.mask_facts
    )
    try:
        with contextlib.closing(inspected):
            for record, facts in zip(image_set.records, inspected, strict=True):
                outcome = _outcome(record, facts, image_set.mask_values)
                if isinstance(outcome, BadInputError) and on_bad_input == "stop":
                    raise outcome
                outcomes.append(outcome)
                if on_progress is not None:
                    on_progress(len(outcomes), len(image_set))
    finally:
        # also after an error or Ctrl-C: what was decoded need not be decoded again
        if cache is not None and memory.files != known:
            _write_cache(cache, memory.files)
    return _gather(image_set, outcomes)


def _outcome(record: Record, inspected: Inspected, mask_values: tuple[int, ...]) -> _Outcome:
    """Facts of a record that can be used, or its first error."""
    image, mask = inspected.image, inspected.mask
    if isinstance(image, BadInputError):
        return image
    if record.mask is None or mask is None or isinstance(mask, BadInputError):
        return mask if isinstance(mask, BadInputError) else (image, None)
    try:
        if grid_of(image, mask) == "neither":
            check_mask_size(record.mask, (mask.height, mask.width), (image.height, image.width))
        check_mask_values(record.mask, list(mask.counts), mask_values)
    except BadInputError as error:
        return error
    return image, mask


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
    turns = mask_turns(good)
    _say_turned(checked, good, turns)
    records = (replace(record, mask_turn=turn) for record, turn in zip(checked.records, turns, strict=True))
    checked = replace(checked, records=tuple(records))
    digest = hashlib.sha256(json.dumps([checked.class_names, checked.mask_values]).encode())
    for record, (image, mask) in zip(checked.records, good, strict=True):
        turn = [] if record.mask_turn == 1 else [record.mask_turn]
        content = [record.name, record.labels, image.sha256, mask.sha256 if mask else None, *turn]
        digest.update(json.dumps(content).encode())
    misnamed = [
        f"{record.image.name} ({said})"
        for record, (image, _) in zip(checked.records, good, strict=True)
        if (said := named_otherwise(record.image, image.kind))
    ]
    if misnamed:
        logger.warning("%d images are not of the kind that their names say, such as %s", len(misnamed), misnamed[0])
    seen = {checked.mask_values[value] for _, mask in good if mask for value in mask.counts}
    if checked.has_masks and seen <= {BACKGROUND, IGNORE_INDEX}:
        logger.warning(
            "no mask has a pixel of any class: in a mask, 0 is background, 255 is not scored and classes count from 1; "
            "of one class, masks of 0 and 255 are read with --dataset.two-valued-masks"
        )
    return CheckedImages(
        image_set=checked,
        sizes=tuple((image.height, image.width) for image, _ in good),
        digest=digest.hexdigest(),
        classes_in_masks=frozenset(value - 1 for value in seen - {BACKGROUND, IGNORE_INDEX}),
    )


def _say_turned(images: ImageSet, facts: Sequence[tuple[ImageFacts, MaskFacts | None]], turns: Sequence[int]) -> None:
    """Name masks that are turned with their image, and those whose sizes do not tell whether they are to be."""
    turned = [record.name for record, turn in zip(images.records, turns, strict=True) if turn != 1]
    if turned:
        logger.warning(
            "%d masks lie on the stored pixels of images that EXIF turns, and are turned with them: %s",
            len(turned),
            first_of(turned),
        )
    unclear = [
        record.name
        for record, (image, mask), turn in zip(images.records, facts, turns, strict=True)
        if turn == 1 and mask and grid_of(image, mask) == "either"
    ]
    if unclear:
        logger.warning(
            "%d masks fit images that EXIF turns or mirrors, turned or not; they are taken for masks of the upright "
            "image: %s; look at them with `data check`, or save the images upright",
            len(unclear),
            first_of(unclear),
        )


class _Memory:
    """What is known of files; those of the same path, size and times of change are not decoded again."""

    def __init__(self, known: Mapping[str, _Remembered]) -> None:
        self.files = dict(known)

    def image_facts(self, path: Path) -> ImageFacts:
        """As `inspect_image` without the digest of the pixels, which no run needs."""
        return self._facts(path, ImageFacts, partial(inspect_image, pixel_digest=False))

    def mask_facts(self, path: Path) -> MaskFacts:
        """As `inspect_mask`."""
        return self._facts(path, MaskFacts, inspect_mask)

    def _facts(self, path: Path, kind: type[_Facts], inspect: Callable[[Path], _Facts]) -> _Facts:
        key = str(path.absolute())
        try:
            stamp = stamp_of(path)
        except OSError:
            return inspect(path)  # it says what is wrong
        earlier = self.files.get(key)
        if earlier and earlier.stamp == stamp and isinstance(earlier.facts, kind):
            return earlier.facts
        facts = inspect(path)
        self.files[key] = _Remembered(stamp=stamp, facts=facts)
        return facts


def _read_cache(path: Path) -> dict[str, _Remembered]:
    """What an earlier check remembered; nothing of a file that is not there, is another version's, or was changed."""
    try:
        content = loads(read_bytes(path))
        if content["format"] != _CACHE_FORMAT:
            return {}
        if content["sha256"] != _digest(content["files"]):
            raise ValueError("it was changed after it was written")
        return {key: _from_json(entry) for key, entry in content["files"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("%s cannot be read (%s); every image is decoded again", path, error)
        return {}


def _digest(files: Any) -> str:
    """Of what is remembered: no type of a value can tell a height that was edited from the image's own."""
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _from_json(entry: dict[str, Any]) -> _Remembered:
    facts: ImageFacts | MaskFacts
    if "image" in entry:
        facts = ImageFacts(**(entry["image"] | {"traits": tuple(entry["image"]["traits"])}))
    else:
        counts = {int(value): count for value, count in entry["mask"]["counts"].items()}
        facts = MaskFacts(**(entry["mask"] | {"counts": counts}))
    return _Remembered(stamp=tuple(entry["stamp"]), facts=facts)


def _write_cache(path: Path, files: Mapping[str, _Remembered]) -> None:
    content = {
        key: {
            "stamp": entry.stamp,
            "image" if isinstance(entry.facts, ImageFacts) else "mask": vars(entry.facts),
        }
        for key, entry in files.items()
    }
    with atomic_write(path, "w") as file:
        json.dump({"format": _CACHE_FORMAT, "sha256": _digest(content), "files": content}, file)
