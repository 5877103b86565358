"""Finds files: the images below a folder, the image or mask of a name, the file that a list writes down.

Out: paths. No image is opened here, and none leaves the folder that was given.
"""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from subcam.data.records import IMAGE_SUFFIXES, UNREAD_SUFFIXES, Skipped
from subcam.errors import BadInputError
from subcam.runtime.files import fault_of_name


@dataclass(frozen=True, kw_only=True)
class FolderImages:
    """What lies below a folder, sorted.

    images: files of a kind that is read, by suffix.
    unread: files that are images by their suffix and of a kind that is not read, such as .heic.
    """

    images: tuple[Path, ...]
    unread: tuple[Path, ...]

    def skipped(self, root: Path) -> tuple[Skipped, ...]:
        """The unread files as entries that were left out, named by their path below `root`."""
        return tuple(
            Skipped(file=path.relative_to(root).as_posix(), reason=f"{path}: {advice_on_kind(path)}")
            for path in self.unread
        )


def is_image(path: PurePath) -> bool:
    """Whether a file is of a kind that is read, by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def looks_like_image(path: PurePath) -> bool:
    """Whether a file is an image by its suffix, read or not."""
    return is_image(path) or path.suffix.lower() in UNREAD_SUFFIXES


def advice_on_kind(path: PurePath) -> str:
    """What to do about an image of a kind that is not read."""
    return f"expected an image of a kind that is read, got {path.suffix.lower()}; convert it to JPEG or PNG"


def images_below(folder: Path, *, exclude: Path | None = None) -> FolderImages:
    """The images in a folder and its sub-folders; what is hidden (a name that begins with a dot) is left out.

    exclude: a folder that is not entered, with its links resolved.

    Raises:
        BadInputError: there is no such folder, or a folder in it cannot be read.
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder}: expected a folder of images, got none; check its name")

    def refuse(error: OSError) -> None:
        raise BadInputError(f"{error.filename}: cannot be read ({error.strerror}); check its rights") from error

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".") and Path(parent, name).resolve() != exclude]
        files += [Path(parent, name) for name in names if not name.startswith(".") and looks_like_image(PurePath(name))]
    files = sorted(path for path in files if path.is_file())
    return FolderImages(
        images=tuple(path for path in files if is_image(path)),
        unread=tuple(path for path in files if not is_image(path)),
    )


def name_of(path: PurePath) -> str:
    """The name of a file's record: its path without suffix, POSIX."""
    return path.with_suffix("").as_posix()


def image_named(folder: Path, name: str, *, first: str = ".jpg") -> Path | None:
    """The image of a record's name in a folder, whatever its kind; None if there is none.

    first: the suffix to look for before all others.
    """
    candidates = (folder / f"{name}{suffix}" for suffix in dict.fromkeys([first, *IMAGE_SUFFIXES]))
    return next((path for path in candidates if path.is_file()), None)


def mask_named(folder: Path, name: str) -> Path | None:
    """The mask of a record's name in a folder of masks; None if there is none."""
    path = folder / f"{name}.png"
    return path if path.is_file() else None


def files_by_name(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files below a folder by the name of their record; several where they differ in their suffix alone."""
    by_name: dict[str, list[Path]] = {}
    for path in files:
        by_name.setdefault(name_of(path.relative_to(folder)), []).append(path)
    return by_name


def relative_path(written: str, *, root: Path | str, where: str) -> PurePosixPath:
    r"""A path as a list has it, with / or \, below `root`.

    root: as errors name the folder.

    Raises:
        BadInputError: it is absolute, empty, leads out with '..', or no file can be called so; names `where` it stands.
    """
    path = PurePosixPath(written.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(written).drive or ".." in path.parts or not path.name:
        raise BadInputError(
            f"{where}: expected a path inside {root} without '..', got {written!r:.300}; write it relative"
        )
    fault = fault_of_name(path.as_posix())
    if fault:
        raise BadInputError(f"{where}: expected a path inside {root}, got {written!r:.300}: {fault}; correct it")
    return path


def find_file(written: str, folders: Sequence[Path], *, where: str, root: Path | None = None) -> Path:
    r"""The file that a list writes down: the first below one of `folders`.

    Args:
        written: its path in one of the folders, with / or \; an accent may be stored composed or decomposed.
        folders: where to look, in this order.
        where: where it is written, for errors.
        root: what it must lie in after links are followed; None: in the folder below which it is.

    Raises:
        BadInputError: the path leads out of the folders, by itself or by a link, or there is no such file.
    """
    path = relative_path(written, root=root or folders[0], where=where)
    for form in ("NFC", "NFD"):  # a Mac may have stored the name decomposed
        for folder in folders:
            candidate = folder / unicodedata.normalize(form, path.as_posix())
            if candidate.is_file():
                require_inside(root or folder, candidate, where=where)
                return candidate
    raise BadInputError(
        f"{where}: {written!r} is no file in {' or '.join(map(str, folders))}; restore it or correct the name "
        "(capital letters count, and the suffix is part of it)"
    )


def require_inside(root: Path, file: Path, *, where: str) -> None:
    """Raise `BadInputError` if a file is a link that leads out of `root`; the folder `root` itself may be a link."""
    if not file.resolve().is_relative_to(root.resolve()):
        raise BadInputError(
            f"{where}: {file} is a link to {file.resolve()}, outside {root}; put the image itself there, or give the "
            "folder that holds it"
        )
