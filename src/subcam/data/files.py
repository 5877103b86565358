"""Finds files: the images below a folder, the image or mask of a name, the file that a list writes down.

Out: paths. No image is opened here, and none leaves the folder that was given.
"""

import functools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from urllib.parse import parse_qs, unquote, urlsplit

from subcam.data.records import IMAGE_SUFFIXES, UNREAD_SUFFIXES, Skipped
from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import is_there
from subcam.runtime.files import fault_of_name


@dataclass(frozen=True, kw_only=True)
class FolderImages:
    """What lies below a folder, sorted.

    images: files of a kind that is read, by suffix; a pipe or a link to nothing too: who reads it says what it is.
    unread: files that are images by their suffix and of a kind that is not read, such as .psd.
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

    Links to folders elsewhere are followed, each folder being entered once; those to a folder in this one, or to one
    that holds it, are not.

    exclude: a folder that is not entered, with its links resolved.

    Raises:
        BadInputError: there is no such folder, or a folder in it cannot be read.
    """
    if not folder.is_dir():
        raise BadInputError(f"{folder}: expected a folder of images, got none; check its name")

    def refuse(error: OSError) -> None:
        raise BadInputError(f"{error.filename}: cannot be read ({error.strerror}); check its rights") from error

    files: list[Path] = []
    top = folder.resolve()
    entered = {top}

    def enters(path: Path) -> bool:
        place = path.resolve()
        if path.name.startswith(".") or place == exclude or place in entered or top.is_relative_to(place):
            return False
        if path.is_symlink() and place.is_relative_to(top):
            return False  # its images are met under their own names
        entered.add(place)
        return True

    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in sorted(folders) if enters(Path(parent, name))]
        files += [Path(parent, name) for name in names if not name.startswith(".") and looks_like_image(PurePath(name))]
    files.sort()
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
    suffixes = dict.fromkeys([first, *IMAGE_SUFFIXES])
    return _first_there(folder, name, (*suffixes, *map(str.upper, suffixes), *map(_capital, suffixes)))


def mask_named(folder: Path, name: str) -> Path | None:
    """The mask of a record's name in a folder of masks; None if there is none."""
    return _first_there(folder, name, (".png", ".PNG", ".Png"))


def _capital(suffix: str) -> str:
    return f".{suffix[1:].capitalize()}"


def _first_there(folder: Path, name: str, suffixes: Sequence[str]) -> Path | None:
    """The first file of this name with one of the suffixes; a Mac may have stored its accents decomposed.

    Where there is no file but a folder, a pipe or a link to nothing, that: who reads it says what it is.
    """
    forms = dict.fromkeys([name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))])

    def candidates() -> Iterator[Path]:
        return (folder / f"{form}{suffix}" for form in forms for suffix in suffixes)

    files = (path for path in candidates() if path.is_file())
    return next(files, None) or next(filter(is_there, candidates()), None)


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
    """Raise `BadInputError` if a file is a link that leads out of `root`, or lies behind one to what holds `root`.

    Folders of images, `root` too, may be links to other places.
    """
    fits = _holds_images(root, file.parent)
    if file.is_symlink():
        try:
            target = file.resolve()
        except (OSError, RuntimeError) as error:  # which of them, is for the version of Python to choose
            raise BadInputError(f"{where}: {file} is a link to itself; put the image there") from error
        fits = target.is_relative_to(root.resolve()) or (fits and target.is_relative_to(file.parent.resolve()))
    if not fits:
        raise BadInputError(
            f"{where}: {file} is a link to {file.resolve()}, outside {root}; put the image itself there, or give the "
            "folder that holds it"
        )


@functools.lru_cache(maxsize=1 << 12)
def _holds_images(root: Path, folder: Path) -> bool:
    """Whether images may lie in a folder below `root`: it is in `root`, or a link on the way leads to another place."""
    return folder.resolve().is_relative_to(root.resolve()) or not _behind_a_link_up(root, folder)


def _behind_a_link_up(root: Path, folder: Path) -> bool:
    """Whether a folder between `root` and `folder` is a link to one that holds `root`: it is no folder of images."""
    between = [path for path in (folder, *folder.parents) if path != root and path.is_relative_to(root)]
    return any(path.is_symlink() and root.resolve().is_relative_to(path.resolve()) for path in between)


_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""Label Studio puts eight digits before the name of an image that was uploaded to it."""

_LOST_IN_UPLOADS = re.compile(r"[^-\w.]")
"""And it writes _ for spaces and leaves these characters out."""


def path_in(address: str) -> PurePosixPath:
    """The path that another program's address names: that of `?d=` for Label Studio's local files, else its own."""
    try:
        parts = urlsplit(address.replace("\\", "/"))
    except ValueError:  # no address, but a name with brackets in it
        return PurePosixPath(address.replace("\\", "/"))
    local = parse_qs(parts.query).get("d")
    return PurePosixPath(local[0] if local else unquote(parts.path))


@dataclass(frozen=True)
class ImagesByEnd:
    """The images below a folder, found by the end of what another program calls them; listed when first asked for.

    files: those that may be meant; None for all that lie below `root`.
    """

    root: Path
    files: tuple[Path, ...] | None = None

    @functools.cached_property
    def _by_file_name(self) -> dict[str, list[PurePosixPath]]:
        paths: dict[str, list[PurePosixPath]] = defaultdict(list)
        for path in images_below(self.root).images if self.files is None else self.files:
            below = PurePosixPath(path.relative_to(self.root).as_posix())
            paths[unicodedata.normalize("NFC", below.name)].append(below)
        return paths

    @functools.cached_property
    def _by_uploaded_name(self) -> dict[str, list[PurePosixPath]]:
        paths: dict[str, list[PurePosixPath]] = defaultdict(list)
        for name, below in self._by_file_name.items():
            paths[_as_uploaded(name)] += below
        return paths

    def find(self, address: str, *, where: str) -> Path:
        r"""The image whose path agrees with the address's end in most folders.

        `/data/upload/1/0a1b2c3d-cat.jpg`, `/data/local-files/?d=cat.jpg` and `..\..\upload\cat.jpg` are cat.jpg, and
        `/data/upload/1/0a1b2c3d-my_cat_1.jpg` is "my cat (1).jpg" where there is no my_cat_1.jpg.

        Args:
            address: a URL or path, with / or \.
            where: where it is written, for errors.

        Raises:
            BadInputError: no image has this file name, or several agree equally; or it is a link that leads out.
        """
        path = PurePosixPath(address.replace("\\", "/"))  # a name with ? or % in it may be meant as it stands
        if unicodedata.normalize("NFC", path.name) not in self._by_file_name:
            path = path_in(address)
        name = unicodedata.normalize("NFC", path.name)
        uploaded = _UPLOADED.fullmatch(name)
        candidates = self._by_file_name.get(name) or []
        if not candidates and uploaded:
            as_named = self._by_file_name.get(uploaded[1])
            candidates = as_named or self._by_uploaded_name.get(_as_uploaded(uploaded[1]), [])
        if not candidates:
            raise BadInputError(
                f"{where}: no image {path.name!r} in {self.root}; give the folder with it (--images, of a run --data)"
            )

        def agreement(candidate: PurePosixPath) -> int:
            mine, theirs = candidate.parts[-2::-1], path.parts[-2::-1]
            return max(count for count in range(len(mine) + 1) if mine[:count] == theirs[:count])

        best = max(map(agreement, candidates))
        chosen = [candidate for candidate in candidates if agreement(candidate) == best]
        if len(chosen) > 1:
            raise BadInputError(
                f"{where}: {path.name!r} may be {' or '.join(map(str, chosen))}; rename one, or give a narrower folder"
            )
        found = self.root / chosen[0]
        require_inside(self.root, found, where=where)
        return found


def _as_uploaded(name: str) -> str:
    """What Label Studio makes of the name of an uploaded image, in one form of its accents."""
    return _LOST_IN_UPLOADS.sub("", unicodedata.normalize("NFC", name).strip().replace(" ", "_"))


def find_listed(
    written: str, folders: Sequence[Path], *, by_end: ImagesByEnd, where: str, root: Path | None = None
) -> tuple[Path, PurePosixPath]:
    """The image that another program's list writes down, and its path below one of `folders`, which names it.

    It is looked for as `find_file` does, else by the end of the name. A path that begins in the folder may then only
    have folders too many or too few in front: `train/1.jpg` is never `val/1.jpg`.

    Args:
        written: a path or address.
        folders: where to look, in this order.
        by_end: the images to look among for the end.
        where: where it is written, for errors.
        root: what the image must lie in; None: in the folder below which it is.

    Raises:
        BadInputError: as `find_file`.
    """
    try:
        return find_file(written, folders, where=where, root=root), relative_path(written, root=folders[0], where=where)
    except BadInputError as error:
        try:
            found = by_end.find(written, where=where)
        except BadInputError:
            raise error from None
        homes = (folder for folder in folders if found.is_relative_to(folder))
        below = max(homes, key=lambda folder: len(folder.parts))
        path = PurePosixPath(found.relative_to(below).as_posix())
        if _begins_here(written) and not _ends_alike(path, path_in(written)):
            raise
        return found, path


def _begins_here(written: str) -> bool:
    """Whether a path is relative and leads nowhere else."""
    try:
        relative_path(written, root="", where="")
    except BadInputError:
        return False
    return not urlsplit(written).query


def _ends_alike(path: PurePosixPath, other: PurePosixPath) -> bool:
    """Whether the folders of one path are the last folders of the other."""
    mine, theirs = path.parts[-2::-1], other.parts[-2::-1]
    shared = min(len(mine), len(theirs))
    return mine[:shared] == theirs[:shared]
