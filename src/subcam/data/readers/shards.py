"""Reads WebDataset shards: tar files of images and their labels, without unpacking them.

In: a folder of `train-*.tar`, `val-*.tar`, ... In a tar, files of one image share a name up to its first dot:
`cat7.jpg`, with its classes in `cat7.json` ({"labels": ["cat", "sofa"]}), `cat7.txt` (names separated by `;`) or
`cat7.cls` (the number of one class of `classes.txt`), and its mask, if it has one, in `cat7.mask.png`. Out: an
`ImageSet` whose paths go on through the archives; `subcam.data.image_file.read_file` reads them.
"""

import contextlib
import io
import json
import logging
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from subcam.checks.arguments import takes_arrays
from subcam.data.image_file import read_file
from subcam.data.readers.class_names import chosen_classes, is_background, is_missing, listed_classes
from subcam.data.readers.csv_file import read_lines
from subcam.data.readers.label_table import missing_label
from subcam.data.readers.tar_member import member_names, read_member, repeated_names
from subcam.data.records import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    ImageSet,
    Record,
    Skipped,
    first_of,
    mask_values_of,
    require_name,
    require_room,
    suggest,
)
from subcam.data.settings import OnBadInput
from subcam.errors import BadInputError
from subcam.runtime.documents.json_text import loads
from subcam.runtime.documents.regular_file import is_there, read_bytes
from subcam.runtime.files import atomic_write, below

MASK = ".mask.png"
CLASSES_FILE = "classes.txt"

_OURS = frozenset({*IMAGE_SUFFIXES, *UNREAD_SUFFIXES, MASK, ".json", ".txt", ".cls"})
_STRAYS = frozenset({"readme", "license", "licence"})
"""What is in an archive beside the samples; hidden files and those without a dot are left out as by WebDataset."""

logger = logging.getLogger(__name__)


class _Sample(NamedTuple):
    """Files in an archive that share a name; ending by ending, as in `.mask.png`, with their names in it.

    doubles: files of an ending that the sample has already, in small or capital letters.
    """

    name: str
    archive: Path
    files: dict[str, str]
    doubles: tuple[str, ...]


@takes_arrays()
def read_shards(
    root: Path,
    *,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    on_bad_input: OnBadInput = "stop",
) -> ImageSet:
    """Read the labels of every image in the shards of a folder.

    In a mask 0 is background, 255 is not scored and i + 1 means class i of `classes.txt`, or of the names in all
    splits, sorted.

    Args:
        root: a folder of tar files.
        split: only shards called `split.tar` or `split-*.tar`; None takes all.
        classes: the names to learn, in this order; all if None. Images with none of them are left out unless they
            have no label at all, and other classes' pixels are not scored.
        on_bad_input: what to do about an image without labels that can be used. A damaged archive always raises.

    Raises:
        BadInputError: no shards, an image without labels, or an unknown class; names the archive and the image.
    """
    archives = [path for path in sorted(root.glob("*.tar")) if split is None or _split_of(path) == split]
    if not archives:
        pattern = "NAME.tar" if split is None else f"{split}.tar or {split}-NUMBER.tar"
        there = ", ".join(shard_splits(root))
        raise BadInputError(
            f"{root}: expected shards called {pattern}, got none{there and f'; there are those of {there}'}; check the"
            " folder and the split"
        )
    file = root / CLASSES_FILE
    listed = read_lines(file) if is_there(file) else ()
    known = listed_classes(listed, where=str(file)) or _all_names(root)
    if not known:
        raise BadInputError(
            f"{first_of([str(archive) for archive in archives])}: expected images with their labels beside them (a.jpg"
            " with a.cls, a.txt or a.json), got none; `subcam data shards` writes such archives"
        )
    chosen = chosen_classes(classes, known, where=str(file if listed else root))
    among, places = dict.fromkeys(known), {name: index for index, name in enumerate(chosen)}
    records: dict[str, Record] = {}
    skipped: list[Skipped] = []
    for sample in (sample for archive in archives for sample in _samples(archive)):
        try:
            if sample.name in records:
                raise BadInputError(
                    f"{sample.archive}: {sample.name!r} stands in two places; outputs are named after it, so rename one"
                )
            names, record = _record(sample, among, places, listed)
        except BadInputError as error:
            if on_bad_input == "stop":
                raise
            skipped.append(Skipped(file=str(sample.archive / sample.name), reason=str(error)))
            continue
        if not names or record.labels:
            records[sample.name] = record
    if not records:
        first = f"; the first: {skipped[0].reason}" if skipped else ""
        raise BadInputError(f"{root}: expected images with one of {', '.join(chosen)}, got none{first}")
    if any(record.mask for record in records.values()):
        require_room(known, where=str(root))
    return ImageSet(
        class_names=chosen,
        records=tuple(records.values()),
        mask_values=mask_values_of(known, chosen),
        skipped=tuple(skipped),
    )


def shard_splits(root: Path) -> tuple[str, ...]:
    """The splits of a folder of shards, by name: what stands before the last hyphen."""
    return tuple(dict.fromkeys(_split_of(path) for path in sorted(root.glob("*.tar"))))


@takes_arrays()
def write_shards(root: Path, image_set: ImageSet, *, split: str, images_each: int = 1000) -> tuple[Path, ...]:
    """Write a set as shards that `read_shards` reads back the same: `split-000000.tar`, ... and `classes.txt`.

    Images and masks are copied as they are. Names lose their dots, at the first of which a shard's names end.

    Raises:
        BadInputError: an image or mask cannot be read; two names differ in dots alone; masks number the classes in
            another way; or there are other classes in the folder already.
        RunFolderError: the disk is full or the folder cannot be written.
    """
    own = list(range(1, image_set.num_classes + 1))
    if image_set.has_masks and list(image_set.mask_values[1 : len(own) + 1]) != own:
        raise BadInputError(f"{root}: expected masks where i + 1 means class i, got a set with other mask values")
    names = [_without_dots(record.name) for record in image_set.records]
    if len(set(names)) < len(names):
        double = Counter(names).most_common(1)[0][0]
        raise BadInputError(f"{root}: two images would be called {double!r}; rename one")
    text = "".join(f"{name}\n" for name in image_set.class_names)
    classes = root / CLASSES_FILE
    if classes.is_file() and read_bytes(classes) != text.encode():
        raise BadInputError(f"{classes}: expected the classes of this set, got others; write into another folder")
    with atomic_write(classes, "w") as file:
        file.write(text)
    written = []
    for start in range(0, len(image_set), images_each):
        path = below(root, f"{split}-{start // images_each:06d}", ".tar")
        with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
            stop = start + images_each
            for name, record in zip(names[start:stop], image_set.records[start:stop], strict=True):
                labels = {"labels": [image_set.class_names[index] for index in record.labels]}
                _add(tar, f"{name}{record.image.suffix.lower()}", read_file(record.image))
                _add(tar, f"{name}.json", json.dumps(labels).encode())
                if record.mask is not None:
                    _add(tar, f"{name}{MASK}", read_file(record.mask))
        written.append(path)
    return tuple(written)


def _samples(archive: Path) -> Iterator[_Sample]:
    files: dict[str, dict[str, str]] = {}
    doubles: dict[str, list[str]] = {}
    repeated = repeated_names(archive)
    for name in member_names(archive):
        path = PurePosixPath(name)
        stem, dot, ending = path.name.partition(".")
        if stem and dot and stem.casefold() not in _STRAYS:
            key = (path.parent / stem).as_posix()
            if name in repeated or f".{ending.lower()}" in files.get(key, {}):
                doubles.setdefault(key, []).append(name)
            files.setdefault(key, {})[f".{ending.lower()}"] = name
    for name, endings in files.items():
        if any(ending in _OURS for ending in endings):
            yield _Sample(name, archive, endings, tuple(doubles.get(name, ())))
        else:
            logger.info("%s: left out %s, which has no ending that is read", archive, ", ".join(endings.values()))


def _all_names(root: Path) -> tuple[str, ...]:
    """The classes of all shards, sorted; those that cannot be read are for who reads them to name."""
    names: set[str] = set()
    for sample in (sample for archive in sorted(root.glob("*.tar")) for sample in _samples(archive)):
        with contextlib.suppress(BadInputError):
            names.update(name for name in _classes_of(sample, ()) if not is_missing(name))
    return tuple(sorted(names))


def _record(
    sample: _Sample, known: Mapping[str, None], places: Mapping[str, int], listed: Sequence[str]
) -> tuple[tuple[str, ...], Record]:
    """All names of a sample, and it as a record of those that are learned, by their `places`."""
    require_name(sample.name, where=str(sample.archive))
    images = [sample.files[ending] for ending in IMAGE_SUFFIXES if ending in sample.files]
    if sample.doubles:
        raise BadInputError(f"{sample.archive}: {sample.doubles[0]} stands in it twice; write the archive again")
    if len(images) > 1:
        raise BadInputError(
            f"{sample.archive}: {sample.name} has several images, {', '.join(images)}: which is meant cannot be told; "
            f"name a mask {sample.name}{MASK}, and leave others out"
        )
    if not images:
        raise BadInputError(
            f"{sample.archive}: {sample.name} has no image of a kind that is read ({', '.join(IMAGE_SUFFIXES)}), only "
            f"{', '.join(sample.files)}"
        )
    names = _classes_of(sample, listed)
    for name in names:
        if name not in known:
            if is_missing(name):
                raise missing_label(name, f"{sample.archive}: {sample.name}")
            raise BadInputError(
                f"{sample.archive}: unknown class name {name!r} of {sample.name}: {suggest(name, known)}"
            )
    return names, Record(
        name=sample.name,
        image=sample.archive / images[0],
        labels=tuple(sorted(places[name] for name in set(names) if name in places)),
        mask=sample.archive / sample.files[MASK] if MASK in sample.files else None,
    )


def _classes_of(sample: _Sample, listed: Sequence[str]) -> tuple[str, ...]:
    """The names of a sample; `listed` are those of `classes.txt`, which numbers are of."""
    archive, files = sample.archive, sample.files
    try:
        if ".json" in files:
            names = loads(read_member(archive, files[".json"]))["labels"]
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise TypeError("labels must be a list of names")
        elif ".txt" in files:
            names = [part.strip() for part in read_member(archive, files[".txt"]).decode("utf-8").split(";")]
        elif ".cls" in files:
            names = [_listed_name(read_member(archive, files[".cls"]).decode("utf-8"), listed)]
        else:
            raise BadInputError(f"{archive}: {sample.name} has no labels (.json, .txt or .cls); add them")
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadInputError(
            f"{archive}: the labels of {sample.name} cannot be read ({type(error).__name__}: {error}); expected "
            f'{{"labels": [names]}} in .json, names separated by ; in .txt, or a number of {CLASSES_FILE} in .cls'
        ) from error
    return tuple(name for name in names if name and not is_background(name))


def _listed_name(number: str, listed: Sequence[str]) -> str:
    """The name of a class by its number, the place of its line in `classes.txt`, counted from 0.

    Raises:
        ValueError: no such number; one below 0 counts from nowhere.
    """
    if not listed:
        raise ValueError(f"there is no {CLASSES_FILE}")
    if not 0 <= int(number) < len(listed):
        raise ValueError(f"expected a number in 0..{len(listed) - 1}, got {number.strip()}")
    return listed[int(number)]


def _without_dots(name: str) -> str:
    path = PurePosixPath(name)
    return (path.parent / path.name.replace(".", "_")).as_posix()


def _split_of(path: Path) -> str:
    return path.stem.rpartition("-")[0] or path.stem


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
