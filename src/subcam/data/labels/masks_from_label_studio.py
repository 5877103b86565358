"""Masks that people drew in Label Studio, from the JSON of its tasks, as indexed PNGs.

In: the export and the folder of images. Out: a folder of masks under the images' names with `classes.txt`; 0 is
background, 1.. the classes, 255 what was drawn without saying what it is.
"""

import errno
import math
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from subcam.data.files import ImagesByEnd, name_of
from subcam.data.image_file import open_image, read_file
from subcam.data.images import SWAPS_SIDES, orientation_of, turned, upright_size, voc_palette, write_mask
from subcam.data.labels.drawn_regions import drawn, shape_of
from subcam.data.labels.label_studio_tasks import (
    NotAnnotatedError,
    address_of,
    is_drawn,
    is_full,
    name_in,
    results_of,
    submitted,
    tasks_of,
    texts,
)
from subcam.data.readers.class_names import (
    is_background,
    is_ignored,
    is_missing,
    listed_classes,
    write_legend,
)
from subcam.data.records import (
    BACKGROUND,
    IGNORE_INDEX,
    Skipped,
    require_class_names,
    require_name,
    require_room,
    suggest,
)
from subcam.errors import BadInputError, RunFolderError
from subcam.runtime.files import below, explained


@dataclass(frozen=True, kw_only=True)
class WrittenMasks:
    """What was written, and what was not.

    counts: of each class, in the order of its value, in how many masks it has pixels.
    skipped: tasks and images that were left out, as nobody said what they show. waiting: those of them that nobody has
        annotated yet.
    several: images of which more than one annotation counted; the newest was taken.
    turned: masks that were drawn on the stored pixels of an image that EXIF turns, and turned with them.
    unclear: regions without one label, whose pixels are 255.
    not_drawn: how many regions there were of each type that has no area or is not known.
    """

    masks: int
    counts: dict[str, int]
    skipped: tuple[Skipped, ...]
    waiting: tuple[Skipped, ...]
    several: int
    turned: int
    unclear: int
    not_drawn: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class _Region:
    """One thing that was drawn: entries of equal id are one. names: its labels, whatever they mean."""

    where: str
    type: str
    value: Mapping[str, Any]
    names: tuple[str, ...]
    size: tuple[Any, Any]

    @property
    def name(self) -> str | None:
        """Its label; None if it has none, several, or a word that says nothing."""
        name = self.names[0] if len(self.names) == 1 else ""
        return None if is_missing(name) or is_ignored(name) else name


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """The annotation of an image that counts: `place` in the submitted ones of task number `task`."""

    task: int
    place: int
    image: Path
    when: tuple[float, int, int]
    names: frozenset[str]


def masks_from_label_studio(
    path: Path,
    *,
    root: Path,
    out: Path,
    class_names: Sequence[str] | None = None,
    known: Mapping[Path, str] | None = None,
) -> WrittenMasks:
    """Write the masks of an export of Label Studio (JSON), whole or not at all.

    Brushes, polygons, rectangles and ellipses are drawn in the order of the file, later ones over earlier ones. A task
    that was skipped, that nobody opened, or in which nothing with an area was drawn though something else was said, is
    left out; one that was submitted with nothing is background. Of several annotations the newest counts that was not
    cancelled. A task's image is found as `labels_from_label_studio` does.

    Args:
        path: the JSON file.
        root: the folder of the images.
        out: the folder to make; it must not be there, or be empty.
        class_names: the classes of the values 1, 2, ...; None takes those that occur, sorted.
        known: the images that may be meant, below `root`, and what their masks are called; a task of another image is
            an error then. None for all images there, a task of none of which is left out.

    Raises:
        BadInputError: the file is no such export, a region is damaged or not of its image's size, a label is none of
            the classes, or no task can be used.
        RunFolderError: the folder holds something, or cannot be written.
    """
    _require_empty(out)
    chosen, skipped, waiting, several = _choose(path, root, known)
    if not chosen:
        why = f"; the first: {skipped[0].reason}" if skipped else ""
        raise BadInputError(f"{path}: expected tasks in which masks were drawn, got none that can be used{why}")
    found = sorted(frozenset[str]().union(*(entry.names for entry in chosen.values())))
    classes = _classes(path, found, class_names)
    values = {name: value for value, name in enumerate(classes, start=1)}
    counts: Counter[int] = Counter()
    not_drawn: Counter[str] = Counter()
    turns, unclear = 0, 0
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        # beside the folder, so that it appears whole
        partial = out.absolute().with_name(f".{secrets.token_hex(8)}.partial")
        partial.mkdir()
        try:
            palette = voc_palette()
            for name, image, regions in _drawings(path, chosen):
                mask, turn = _mask(image, [region for region in regions if shape_of(region.value)], values)
                write_mask(below(partial, name, ".png"), mask, palette=palette, durable=False)
                counts.update(np.unique(mask).tolist())
                turns += turn
                not_drawn.update(region.type for region in regions if not shape_of(region.value))
                unclear += sum(region.name is None for region in regions if shape_of(region.value))
            write_legend(partial, classes)
            _appear(partial, out)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return WrittenMasks(
        masks=len(chosen),
        counts={name: counts[value] for name, value in values.items()},
        skipped=tuple(skipped),
        waiting=tuple(skip for skip in skipped if skip in waiting),
        several=several,
        turned=turns,
        unclear=unclear,
        not_drawn=dict(not_drawn),
    )


def _require_empty(out: Path) -> None:
    if out.is_symlink() or (out.exists() and not out.is_dir()) or (out.is_dir() and any(os.scandir(out))):
        raise RunFolderError(f"{out}: expected a new or empty folder for the masks, got one in use; give another")


def _appear(partial: Path, out: Path) -> None:
    """Give a folder its name, unless another process has filled one of this name meanwhile."""
    _require_empty(out)
    try:
        partial.replace(out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise RunFolderError(f"{out}: another process has written into it; give another folder") from error
        raise


def _classes(path: Path, found: Sequence[str], given: Sequence[str] | None) -> tuple[str, ...]:
    if given is None and not found:
        raise BadInputError(f"{path}: expected regions with labels, got none; say the classes with --classes")
    if given is None:
        where, classes = str(path), tuple(found)
    else:
        where, classes = "--classes", listed_classes(given, where="--classes")
        for name in found:
            if name not in classes:
                raise BadInputError(f"{path}: label {name!r:.100} is none of the classes: {suggest(name, classes)}")
    require_class_names(classes, where=where)
    require_room(classes, where=where)
    return classes


def _choose(
    path: Path, root: Path, known: Mapping[Path, str] | None
) -> tuple[dict[str, _Chosen], list[Skipped], set[Skipped], int]:
    """The annotation of each image, by the name of its mask.

    With it, what was left out, what of that nobody has annotated, and how many images had several annotations.
    """
    by_end = ImagesByEnd(root, None if known is None else tuple(known))
    by_name = {name: image for image, name in (known or {}).items()}
    strangers: list[str] = []
    chosen: dict[str, _Chosen] = {}
    unknown: list[tuple[str, Skipped]] = []
    waiting: set[Skipped] = set()
    several: set[str] = set()
    for number, (where, task) in enumerate(tasks_of(path)):
        if not is_full(task) and "data" not in task:
            raise BadInputError(f"{where}: expected a task with its annotations, got JSON-MIN; export it as JSON")
        name, address = "", where
        try:
            address = address_of(task, where)
            try:
                image = by_name.get(name_in(task)) or by_end.find(address, where=where)
            except BadInputError as error:
                strangers.append(str(error))
                raise
            name = name_of(image.relative_to(root)) if known is None else known[image]
            require_name(name, where=where)
            kept = submitted(task, where)
            times = [_when(annotation, number, where) for annotation in kept]
            place = max(range(len(kept)), key=lambda place: (times[place], place))
            names = _names(kept[place], where)
        except BadInputError as error:
            skip = Skipped(file=address, reason=str(error))
            unknown.append((name, skip))
            if isinstance(error, NotAnnotatedError):
                waiting.add(skip)
            continue
        earlier = chosen.get(name)
        if earlier is not None and earlier.image != image:
            raise BadInputError(f"{where}: {image} and {earlier.image} would have one mask, {name}.png; rename one")
        if len(kept) > 1 or earlier is not None:
            several.add(name)
        if earlier is None or times[place] > earlier.when:
            chosen[name] = _Chosen(task=number, place=place, image=image, when=times[place], names=names)
    if strangers and known is not None:
        raise BadInputError(
            f"{path}: expected tasks of the run's {len(known)} images, got {len(strangers)} of others:"
            f" {'; '.join(strangers[:3])}{'; ...' if len(strangers) > 3 else ''}"
        )
    skipped = [skip for name, skip in unknown if name not in chosen]  # another task may say what an image shows
    return chosen, skipped, waiting, len(several)


def _when(annotation: Mapping[str, Any], task: int, where: str) -> tuple[float, int, int]:
    """When an annotation was last changed, in seconds, then its id, then its task, to tell which is newer."""
    written = annotation.get("updated_at") or annotation.get("created_at")
    identity = annotation.get("id")
    number = identity if isinstance(identity, int) else 0
    if written is None:
        return -math.inf, number, task
    try:
        if isinstance(written, int | float) and math.isfinite(written):
            return float(written), number, task
        time = datetime.fromisoformat(written)
    except (TypeError, ValueError, OverflowError) as error:
        got = f"{written!r:.40}"
        raise BadInputError(f"{where}: updated_at: expected a date and time, got {got}; export it again") from error
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp(), number, task


def _names(annotation: Mapping[str, Any], where: str) -> frozenset[str]:
    """The classes in an annotation, without background.

    Raises:
        BadInputError: nothing that has an area was drawn, though something else was said; or on a turned view.
    """
    results = results_of(annotation, where)
    if any(result.get("image_rotation") not in (None, 0) for result in results):
        raise BadInputError(
            f"{where}: was drawn on a view that was turned in Label Studio; turn it back there, or leave it out"
        )
    regions = [region for region in _regions(results, where) if shape_of(region.value)]
    if results and not regions:
        raise BadInputError(f"{where}: has results, but no region with an area; draw what is in the image")
    return frozenset(region.name for region in regions if region.name is not None and not is_background(region.name))


def _regions(results: Sequence[Mapping[str, Any]], where: str) -> list[_Region]:
    """What was drawn, in order: a rectangle and its labels, and what else is said of it, are entries of one id."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for number, result in enumerate(results):
        identity = result.get("id")
        groups.setdefault(identity if isinstance(identity, str) else number, []).append(result)
    regions = []
    for group in groups.values():
        places = [entry for entry in group if is_drawn(entry) or str(entry.get("type")).endswith("labels")]
        values = [entry["value"] for entry in places if isinstance(entry.get("value"), dict)]
        if not values:
            continue
        value = next((value for value in values if shape_of(value)), values[0])
        named = (texts(entry["value"].get(kind)) for entry in places for kind in _label_keys(entry))
        names = dict.fromkeys(" ".join(name.split()) for these in named for name in these)
        number = next(number for number, result in enumerate(results) if result is places[0])
        regions.append(
            _Region(
                where=f"{where}, result {number}",
                type=str(places[0].get("type"))[:40],
                value=value,
                names=tuple(names),
                size=(places[0].get("original_height"), places[0].get("original_width")),
            )
        )
    return regions


def _label_keys(entry: Mapping[str, Any]) -> list[str]:
    kind = str(entry.get("type"))
    return [kind] if kind.endswith("labels") and isinstance(entry.get("value"), dict) else []


def _drawings(path: Path, chosen: Mapping[str, _Chosen]) -> Iterator[tuple[str, Path, list[_Region]]]:
    """Name, image and regions of each mask, in the order of the file, which is read again: it may be large."""
    by_task = {entry.task: (name, entry) for name, entry in chosen.items()}
    for number, (where, task) in enumerate(tasks_of(path)):
        if number in by_task:
            name, entry = by_task[number]
            yield name, entry.image, _regions(results_of(submitted(task, where)[entry.place], where), where)


def _mask(image: Path, regions: Sequence[_Region], values: Mapping[str, int]) -> tuple[UInt8[np.ndarray, "h w"], bool]:
    """The mask of an image, and whether it was turned with the stored pixels."""
    with open_image(image, data=read_file(image)) as opened:
        upright, orientation = upright_size(opened), orientation_of(opened)
    sizes = [region.size for region in regions if region.size != (None, None)]
    swapped = bool(sizes) and all(size == upright[::-1] for size in sizes)
    stored = orientation in SWAPS_SIDES and upright[0] != upright[1] and swapped
    size = upright[::-1] if stored else upright
    mask = np.full(size, BACKGROUND, np.uint8)
    for region in regions:
        if region.size not in ((None, None), size):
            raise BadInputError(
                f"{region.where}: original_width, original_height: expected those of {image}, {upright[1]} x "
                f"{upright[0]}, got {region.size[1]!r:.20} x {region.size[0]!r:.20}; give the images that were drawn on"
            )
        name = region.name
        value = IGNORE_INDEX if name is None else BACKGROUND if is_background(name) else values[name]
        try:
            mask[drawn(region.value, size)] = value
        except BadInputError as error:
            raise BadInputError(f"{region.where}: {error}; export the tasks again") from error
    return (turned(mask, orientation), True) if stored else (mask, False)
