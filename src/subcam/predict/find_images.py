"""Images without labels, from files, folders and lists: which they are, and under which names their outputs go.

A name is a relative path without '..' and without suffix, so that no output leaves its folder.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from subcam.data.records import Record
from subcam.errors import BadInputError, SettingsError

SUFFIXES = (".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""What counts as an image in a folder; a file that is named itself may have any."""

OUTPUT_SUFFIXES = (".png", ".jpg", ".npz")


def find_images(
    inputs: Sequence[Path], *, lists: Sequence[Path] = (), outputs: Path | None = None
) -> tuple[Record, ...]:
    """The images that files, folders and lists name, each once, in a fixed order; none is opened.

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
    found: dict[str, Path] = {}
    for name, path in _named(inputs, lists, outputs.resolve() if outputs else None):
        first = found.setdefault(name, path)
        if os.path.abspath(first) != os.path.abspath(path):  # noqa: PTH100 - a link is another image than its target
            raise SettingsError(
                f"{first} and {path} would both be written as {name}.png; rename one, or predict them into folders of"
                " their own"
            )
    for name, path in found.items():
        for parent in PurePath(name).parents:
            other = found.get(parent.with_suffix("").as_posix()) if parent.suffix in OUTPUT_SUFFIXES else None
            if other is not None:
                raise SettingsError(
                    f"an output of {other} would have the name of the folder for {path}; rename one, or predict them"
                    " into folders of their own"
                )
    return tuple(Record(name=name, image=path, labels=()) for name, path in found.items())


def _named(inputs: Sequence[Path], lists: Sequence[Path], excluded: Path | None) -> Iterator[tuple[str, Path]]:
    for path in inputs:
        if path.is_dir():
            if path.resolve() == excluded:
                raise SettingsError(f"{path} is the folder of the outputs too; choose another --out")
            below = sorted(_images_in(path, excluded))
            if not below:
                raise BadInputError(f"{path}: expected images in this folder ({' '.join(SUFFIXES)}), got none")
            yield from ((_name(file.relative_to(path)), file) for file in below)
        elif path.is_file():
            yield _name(PurePath(path.name)), path
        else:
            raise BadInputError(f"{path}: no such file or folder; check the path")
    for path in lists:
        listed = _listed_in(path)
        # Made absolute by words alone: a name does not depend on where links lead.
        absolute = [PurePath(os.path.abspath(file)) for file in listed]  # noqa: PTH100
        top = os.path.commonpath([file.parent for file in absolute])
        yield from ((_name(file.relative_to(top)), given) for file, given in zip(absolute, listed, strict=True))


def _images_in(folder: Path, excluded: Path | None) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise BadInputError(f"{error.filename}: cannot be read ({error.strerror}); check its rights") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and Path(parent, name).resolve() != excluded]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield Path(parent, name)


def _listed_in(path: Path) -> list[Path]:
    """The paths in a list, byte for byte as the file system has them."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: the list cannot be read ({error.strerror}); check the path") from error
    lines = [os.fsdecode(line.strip()) for line in data.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip()]
    if not lines:
        raise BadInputError(f"{path}: expected paths of images, one a line, got none")
    for line in lines:
        if "\0" in line or not Path(line).name:
            raise BadInputError(f"{path}: expected paths of images, one a line, got {line!r}; correct the list")
    return [Path(line) for line in lines]


def _name(path: PurePath) -> str:
    return path.with_suffix("").as_posix()
