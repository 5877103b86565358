"""Images without labels, from files, folders and lists: which they are, and under which names their outputs go.

A name is a relative path without '..' and without suffix, so that no output leaves its folder.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from subcam.data.files import images_below, name_of
from subcam.data.records import IMAGE_SUFFIXES, Record, Skipped
from subcam.errors import BadInputError, SettingsError
from subcam.runtime.documents.regular_file import read_bytes

OUTPUT_SUFFIXES = (".png", ".jpg", ".npz")


@dataclass(frozen=True, kw_only=True)
class ImagesToPredict:
    """Images in a fixed order, each once; `unread`: those of a kind not read, and whose name no output can have."""

    records: tuple[Record, ...]
    unread: tuple[Skipped, ...]


def find_images(inputs: Sequence[Path], *, lists: Sequence[Path] = (), outputs: Path | None = None) -> ImagesToPredict:
    """The images that files, folders and lists name; none is opened.

    Of a folder all images in it and its sub-folders are taken, hidden ones left out, and named by their path in it. A
    file is named by its own name. Paths in a list, one a line, are relative to the current folder and named by their
    path below the deepest folder that holds all of the list.

    Args:
        inputs: files and folders.
        lists: text files of paths.
        outputs: where outputs go; what lies in it is no input, even where it is in a folder of `inputs`.

    Raises:
        BadInputError: an input cannot be read, or a folder or list has no images.
        SettingsError: two images would have one output, `outputs` is an input itself, or nothing was named.
    """
    if not inputs and not lists:
        raise SettingsError("no images were named; give files or folders, or --list with a file of paths")
    named: list[tuple[str, Path]] = []
    unread: dict[str, Skipped] = {}
    for path in inputs:
        if path.is_dir():
            images, left_out = _in_folder(path, outputs.resolve() if outputs else None)
            named += images
            unread |= {skip.reason: skip for skip in left_out}
        elif path.is_file():
            named.append((name_of(PurePath(path.name)), path))
        else:
            raise BadInputError(f"{path}: no such file or folder; check the path")
    for path in lists:
        named += _in_list(path)
    records = []
    for name, path in _by_name(named).items():
        try:
            records.append(Record(name=name, image=path, labels=()))
        except BadInputError as error:
            unread[str(error)] = Skipped(file=str(path), reason=str(error))
    return ImagesToPredict(records=tuple(records), unread=tuple(unread.values()))


def _by_name(named: Sequence[tuple[str, Path]]) -> dict[str, Path]:
    by_name: dict[str, Path] = {}
    for name, path in named:
        first = by_name.setdefault(name, path)
        if os.path.abspath(first) != os.path.abspath(path):  # noqa: PTH100 - a link is another image than its target
            raise SettingsError(
                f"{first} and {path} would both be written as {name}.png; rename one, or predict them into folders of"
                " their own"
            )
    for name, path in by_name.items():
        for parent in PurePath(name).parents:
            other = by_name.get(name_of(parent)) if parent.suffix in OUTPUT_SUFFIXES else None
            if other is not None:
                raise SettingsError(
                    f"an output of {other} would have the name of the folder for {path}; rename one, or predict them"
                    " into folders of their own"
                )
    return by_name


def _in_folder(folder: Path, outputs: Path | None) -> tuple[list[tuple[str, Path]], tuple[Skipped, ...]]:
    if folder.resolve() == outputs:
        raise SettingsError(f"{folder} is the folder of the outputs too; choose another --out")
    below = images_below(folder, exclude=outputs)
    unread = tuple(Skipped(file=str(folder / skip.file), reason=skip.reason) for skip in below.skipped(folder))
    if not below.images:
        why = f"; the first that is not read: {unread[0].reason}" if unread else ""
        raise BadInputError(f"{folder}: expected images in this folder ({' '.join(IMAGE_SUFFIXES)}), got none{why}")
    return [(name_of(path.relative_to(folder)), path) for path in below.images], unread


def _in_list(path: Path) -> list[tuple[str, Path]]:
    listed = _paths_in(path)
    # Made absolute by words alone: a name does not depend on where links lead.
    absolute = [PurePath(os.path.abspath(file)) for file in listed]  # noqa: PTH100
    top = os.path.commonpath([file.parent for file in absolute])
    return [(name_of(file.relative_to(top)), given) for file, given in zip(absolute, listed, strict=True)]


def _paths_in(path: Path) -> list[Path]:
    """The paths in a list, byte for byte as the file system has them."""
    try:
        data = read_bytes(path)
    except OSError as error:
        raise BadInputError(f"{path}: the list cannot be read ({error.strerror}); check the path") from error
    lines = [os.fsdecode(line.strip()) for line in data.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
    if not lines:
        raise BadInputError(f"{path}: expected paths of images, one a line, got none")
    for line in lines:
        if "\0" in line or not Path(line).name:
            raise BadInputError(f"{path}: expected paths of images, one a line, got {line!r}; correct the list")
    return [Path(line) for line in lines]
