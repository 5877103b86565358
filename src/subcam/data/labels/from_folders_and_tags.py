"""Image-level labels from where people already have them: folders named after classes, and tags beside images.

In: a folder. Out: `SourceLabels`: images by their path below the folder, with names. No image is decoded.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from subcam.data.files import find_file, image_named, images_below, looks_like_image, relative_path, require_inside
from subcam.data.readers.csv_file import read_csv, read_text
from subcam.data.readers.json_stream import json_entries
from subcam.data.readers.label_table import IMAGE_KEYS, SCORE_KEYS, TAG_KEYS
from subcam.data.records import Skipped
from subcam.errors import BadInputError
from subcam.runtime.documents.json_text import loads
from subcam.runtime.documents.regular_file import is_there, open_file, require_file

SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Folders of these names hold splits, not classes, if all of a folder's own folders are of such names."""

_NO_CLASSES = frozenset({"images", "masks"})
"""Folders of a data set that has its CSV already."""

Same = Literal["content", "name", "never"]
"""When images in two folders of classes are one image with two labels: equal bytes, equal file names, or never."""


@dataclass(frozen=True, kw_only=True)
class LabelledImage:
    """An image by its POSIX path below the folder, what is in it, and its split ("" where there are none)."""

    image: str
    names: tuple[str, ...]
    split: str = ""


@dataclass(frozen=True, kw_only=True)
class SourceLabels:
    """What a source has; `skipped` is what could not be used, and why, and `understood` how the names were found."""

    images: tuple[LabelledImage, ...]
    skipped: tuple[Skipped, ...] = ()
    understood: str = ""


def labels_from_folders(root: Path, *, same: Same = "content", besides: Sequence[str] = ()) -> SourceLabels:
    """Labels from folders: `root/CLASS/...image`, or `root/SPLIT/CLASS/...image`.

    An image that is in the folders of several classes has all of them; the first place of it is kept.

    Args:
        root: the folder.
        same: how such an image is recognised. Beware of "name" where every folder counts its own 1.jpg, 2.jpg.
        besides: folders in `root` that are no classes.

    Raises:
        BadInputError: no such folder, or none with images in it.
    """
    folders = [folder for folder in _subfolders(root) if folder.name not in besides]
    if {folder.name for folder in folders} <= _NO_CLASSES:
        folders = []
    splits = bool(folders) and all(folder.name.casefold() in SPLIT_NAMES for folder in folders)
    places = [(split.name, folder) for split in folders for folder in _subfolders(split)] if splits else []
    places = places or [("", folder) for folder in folders]
    by_identity: dict[tuple[str, object], tuple[str, dict[str, None]]] = {}
    skipped: list[Skipped] = []
    for split, folder in places:
        below = images_below(folder)
        skipped += below.skipped(root)
        for path in below.images:
            image = path.relative_to(root).as_posix()
            try:
                require_inside(root, path, where=image)
                require_file(path)
                key = (split, _identity(path, same))
            except BadInputError as error:
                skipped.append(Skipped(file=image, reason=str(error)))
                continue
            by_identity.setdefault(key, (image, {}))[1].setdefault(folder.name)
    if not by_identity:
        raise BadInputError(
            f"{root}: expected a folder for each class with images in it, got "
            f"{', '.join(folder.name for folder in _subfolders(root)[:8]) or 'no folders'}; "
            f"give the folder that holds them{_first_of(skipped)}"
        )
    beside = [path for path in root.iterdir() if looks_like_image(path)]
    skipped += [Skipped(file=path.name, reason=f"{path}: in no folder of a class") for path in sorted(beside)]
    images = (
        LabelledImage(image=image, names=tuple(names), split=split)
        for (split, _), (image, names) in by_identity.items()
    )
    how = "the names of folders" if not splits else "the names of folders below those of splits"
    return SourceLabels(images=tuple(images), skipped=tuple(skipped), understood=how)


def labels_from_tag_files(root: Path) -> SourceLabels:
    """Labels from `NAME.txt` beside each image: tags separated by commas or lines, as in training sets of CLIP.

    Raises:
        BadInputError: no such folder, or no image with a text file.
    """
    below = images_below(root)
    images, skipped = [], list(below.skipped(root))
    for path in below.images:
        image, text = path.relative_to(root).as_posix(), path.with_suffix(".txt")
        try:
            require_inside(root, path, where=image)
            require_file(path)
            if not is_there(text):
                raise BadInputError(f"{path}: expected its tags in {text.name} beside it, got no such file")
            require_inside(root, text, where=image)
            images.append(LabelledImage(image=image, names=tags_of(read_text(text), where=str(text))))
        except BadInputError as error:
            skipped.append(Skipped(file=image, reason=str(error)))
    if not images:
        raise BadInputError(
            f"{root}: expected images with a text file of tags beside each, got none; give the folder that "
            f"holds both{_first_of(skipped)}"
        )
    return SourceLabels(images=tuple(images), skipped=tuple(skipped), understood="the texts beside images")


def labels_from_tag_table(path: Path, *, root: Path, least_score: float | None = None) -> SourceLabels:
    """Labels from one file of tags: JSON, JSON lines or CSV.

    JSON: an object of tags by image, or a list of objects; JSON lines: one such object a line; CSV: one such row. The
    image stands under one of image, file_name, filename, file, path, ImageID; its tags under one of labels, tags, tag,
    label, LabelName, text, caption, as a list or as a text with commas. Several entries of an image are put together.
    Under confidence or score may stand how sure its tags are: 0 says that they are not in the image.

    Args:
        path: the file.
        root: the folder that its paths are relative to.
        least_score: tags of this score or more are in the image, others not; None takes scores of 0 and 1 alone.

    Raises:
        BadInputError: the file cannot be read, or no entry of it can be used.
    """
    images: list[LabelledImage] = []
    skipped: list[Skipped] = []
    keys: dict[str, None] = {}
    for where, entry in _tag_entries(path):
        written = entry.image
        try:
            if entry.fault:
                raise BadInputError(entry.fault)
            if not isinstance(written, str) or entry.tags is None:
                raise BadInputError(
                    f"{where}: expected an image ({', '.join(IMAGE_KEYS)}) and its tags ({', '.join(TAG_KEYS)})"
                )
            image = _image_of(root, written, where)
            names = tags_of(entry.tags, where=where)
            present = entry.score is None or _is_present(entry.score, least_score, where)
            images.append(LabelledImage(image=image, names=names if present else (), split=entry.split))
            keys |= dict.fromkeys(entry.keys)
        except BadInputError as error:
            skipped.append(Skipped(file=where if written is None else str(written), reason=str(error)))
    if not images:
        why = f"; the first: {skipped[0].reason}" if skipped else ""
        raise BadInputError(f"{path}: expected images with tags, got none that can be used{why}")
    _refuse_numbers(path, images)
    understood = f"what stands under {', '.join(keys)}" if keys else "the names of each image"
    return SourceLabels(images=merged(images), skipped=tuple(skipped), understood=understood)


def _image_of(root: Path, written: str, where: str) -> str:
    """As `find_image`; a name without a suffix, as Open Images has it, is that of the image of this name."""
    if not looks_like_image(Path(written)):
        below = relative_path(written, root=root, where=where)
        found = image_named(root, below.as_posix()) or image_named(root / "images", below.as_posix())
        if found is not None:
            require_inside(root, found, where=where)
            return found.relative_to(root).as_posix()
    return find_image(root, written, where)


def _is_present(score: Any, least_score: float | None, where: str) -> bool:
    try:
        value = float(score)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value <= 1:
        raise BadInputError(f"{where}: expected a score in 0..1, got {str(score)[:40]!r}; correct it")
    if least_score is None and value not in (0, 1):
        raise BadInputError(
            f"{where}: expected a score of 0 or 1, got {value:g}: whether the image shows it is unknown; give the "
            "least score that counts with --least-score"
        )
    return value >= (1 if least_score is None else least_score)


def _refuse_numbers(path: Path, images: Iterable[LabelledImage]) -> None:
    """Raise `BadInputError` if all tags are numbers with a fraction: no class is called so."""
    names = {name for image in images for name in image.names}
    if names and all(re.fullmatch(r"-?\d*\.\d+(e[+-]?\d+)?", name, re.IGNORECASE) for name in names):
        raise BadInputError(f"{path}: expected names of classes, got the numbers {', '.join(sorted(names)[:3])}, ...")


def tags_of(value: Any, *, where: str) -> tuple[str, ...]:
    r"""Tags from a list, or from a text with commas or lines between them; `\(` stands for a parenthesis.

    Raises:
        BadInputError: neither of these; names `where`.
    """
    if isinstance(value, str):
        value = value.replace("\\(", "(").replace("\\)", ")").replace("\n", ",").split(",")
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise BadInputError(
            f"{where}: expected tags as a list or as a text with commas, got {str(value)[:60]!r}; correct them"
        )
    return tuple(dict.fromkeys(tag.strip() for tag in value if tag.strip()))


def find_image(root: Path, written: str, where: str) -> str:
    """The path below `root` of the image that a file names, looked for in `root` and `root/images`.

    Raises:
        BadInputError: it is absolute, leads out of `root`, or there is no such file.
    """
    return find_file(written, (root, root / "images"), where=where, root=root).relative_to(root).as_posix()


@dataclass(frozen=True, kw_only=True)
class _TagEntry:
    """What one entry has: its image as it was written, tags and score.

    keys: under which the tags stood. split: "" where it has none. fault: why the entry cannot be read.
    """

    split: str = ""
    image: Any = None
    tags: Any = None
    score: Any = None
    keys: tuple[str, ...] = ()
    fault: str = ""


def _tag_entries(path: Path) -> Iterator[tuple[str, _TagEntry]]:
    """Where each entry stands, and what it has."""
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        table = read_csv(path)
        for row in table.rows:
            try:
                entry = _entry_of(table.by_column(row))
                if entry.keys == ("labels",) and isinstance(entry.tags, str):  # as a run reads this column
                    entry = replace(entry, tags=entry.tags.replace(";", ",").replace("|", ","))
            except BadInputError as error:
                entry = _TagEntry(fault=str(error))
            yield table.at(row), entry
    elif path.suffix.lower() == ".jsonl":
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if line.strip():
                try:
                    entry = loads(line)
                except ValueError as error:
                    raise BadInputError(f"{path}:{number}: expected JSON, got none ({error}); correct it") from error
                yield f"{path}:{number}", _entry_of(entry)
    else:
        yield from _json_tag_entries(path)


def _json_tag_entries(path: Path) -> Iterator[tuple[str, _TagEntry]]:
    by_image: dict[str, list[Any]] = {}
    for number, (key, entry) in enumerate(json_entries(path)):
        if key == "":
            yield f"{path}: entry {number}", _entry_of(entry)
        elif isinstance(entry, dict):
            yield f"{path}: {key}", replace(_entry_of(entry), image=key)
        else:
            # a list of tags comes tag by tag, a text with commas as one
            by_image.setdefault(key, []).append(entry)
    for key, tags in by_image.items():
        yield f"{path}: {key}", _TagEntry(image=key, tags=tags[0] if len(tags) == 1 else tags)


def _entry_of(entry: Any) -> _TagEntry:
    if not isinstance(entry, dict):
        return _TagEntry()
    plain = {str(key).strip().casefold(): value for key, value in entry.items()}
    image = next((plain[key] for key in IMAGE_KEYS if key in plain), None)
    key = next((key for key in TAG_KEYS if plain.get(key) is not None), None)
    score = next((plain[key] for key in SCORE_KEYS if key in plain), None)
    return _TagEntry(
        image=image,
        tags=plain[key] if key else None,
        score=score,
        keys=(key,) if key else (),
        split=str(plain.get("split") or ""),
    )


def _subfolders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise BadInputError(f"{root}: expected a folder, got none; check its name")
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _identity(path: Path, same: Same) -> object:
    if same == "content":
        try:
            with open_file(path) as file:
                return hashlib.file_digest(file, "blake2b").digest()
        except OSError as error:
            raise BadInputError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    return path.name if same == "name" else path


def _first_of(skipped: list[Skipped]) -> str:
    return f". The first that cannot be used: {skipped[0].reason}" if skipped else ""


def merged(images: Iterable[LabelledImage]) -> tuple[LabelledImage, ...]:
    """The same image named twice as one with the names of both, in order of first appearance."""
    by_path: dict[str, LabelledImage] = {}
    for image in images:
        before = by_path.get(image.image)
        names = dict.fromkeys([*(before.names if before else ()), *image.names])
        split = before.split if before else image.split
        by_path[image.image] = LabelledImage(image=image.image, names=tuple(names), split=split)
    return tuple(by_path.values())
