"""Unpacks tar and zip archives so that nothing but new files below one folder comes of it, whatever is in them.

In: an archive and a folder. Out: its files, each of which appears whole or not at all. What is there already is
compared and left as it is, so that an interrupted unpacking is simply done again, and nobody's files are lost.
Stricter than the filter "data" of tarfile, which therefore adds nothing here: no links at all, only names that every
system can have, limits on members and bytes, no file replaced, and zip archives by the same rules.
"""

import errno
import gzip
import io
import re
import stat
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

from subcam.errors import BadInputError, SubcamError
from subcam.runtime.documents.regular_file import open_file
from subcam.runtime.files import atomic_write, fault_of_name

_BLOCK = 1 << 20
_LARGEST_HEADER = 1 << 24
_LONGEST_NAME = 200
_NEVER_IN_A_NAME = re.compile(r'[<>:"|?*\\]|[. ]$')
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_GZIP = b"\x1f\x8b"
_ENCRYPTED = 0x1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Far more than an archive is known to hold: files and folders, and bytes of all files together."""

    members: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Whose an archive is.

    refused, damaged: what a person can do about one that is.
    portable: whether names that not every system can have, such as one with a question mark, are refused.
    """

    refused: str
    damaged: str
    portable: bool = True


PUBLISHED = Origin(
    refused="it is not the archive that was published: delete it and give the same command again",
    damaged="delete it and run the same command again",
)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member of an archive: its relative POSIX path, how many bytes it has, and how to read them.

    kind: "other" is what no one may unpack: a link, a device, an encrypted file.
    """

    name: str
    size: int
    kind: Literal["file", "folder", "other"]
    blocks: Callable[[], Iterator[bytes]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How many files an archive has, and how many bytes of them are not in the folder yet."""

    files: int
    missing_bytes: int


def measure(archive: Path, folder: Path, *, limits: Limits) -> Measured:
    """What unpacking `archive` into `folder` will take; nothing is written.

    Raises:
        BadInputError: the archive is damaged or is refused; see `members`.
    """
    files = missing = 0
    for member in members(archive, limits=limits):
        target = folder / member.name
        files += 1
        missing += 0 if target.is_file() and target.stat().st_size == member.size else member.size
    return Measured(files=files, missing_bytes=missing)


def unpack(
    archive: Path,
    folder: Path,
    *,
    limits: Limits,
    on_file: Callable[[], object] = lambda: None,
    origin: Origin = PUBLISHED,
) -> dict[str, int]:
    """Unpack an archive; returns how many files each of its folders has, by their relative POSIX paths.

    Only the contents of files are taken over: no owners, rights or times.

    Args:
        archive: tar, plain or with gzip, or zip.
        folder: where its paths begin.
        limits: more than the archive may hold.
        on_file: called after each file.
        origin: whose it is.

    Raises:
        BadInputError: the archive is damaged or is refused (see `members`), would write through a link that leads out
            of the folder, or a file is there whose contents are others; names it.
        RunFolderError: the disk is full or the folder cannot be written.
    """
    counts: dict[str, int] = {}
    for member in members(archive, limits=limits, origin=origin):
        parent = PurePosixPath(member.name).parent
        if parent.as_posix() not in counts and not (folder / parent).resolve().is_relative_to(folder.resolve()):
            raise BadInputError(
                f"{folder / parent} is a link to outside {folder}; name the folder itself that it leads to, or move "
                "the link away"
            )
        with _naming(archive, origin):
            _write(member, folder / member.name, archive)
        counts[parent.as_posix()] = counts.get(parent.as_posix(), 0) + 1
        on_file()
    return counts


def members(
    archive: Path, *, limits: Limits, wanted: Callable[[str], bool] | None = None, origin: Origin = PUBLISHED
) -> Iterator[Member]:
    """The files of an archive in their order; each must be read before the next is asked for.

    wanted: by their names, which members are looked at, all if it is None; others count for the limits alone.
    origin: whose it is.

    Raises:
        BadInputError: the archive is damaged; or it is refused, for a link or device, an encrypted file, a path that
            leads out of the folder, a name that some system cannot have or takes for another's, or more than `limits`.
    """
    spellings: dict[str, tuple[str, bool]] = {}
    total = count = 0
    with _naming(archive, origin):
        for member in _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive):
            count += 1
            total += member.size
            if count > limits.members or total > limits.bytes:
                raise _RefusedError(f"more than {limits.members} members or {limits.bytes} bytes ({member.name})")
            if wanted is not None and not wanted(member.name):
                continue
            if member.kind == "other":
                raise _RefusedError(f"a link, a device, an encrypted file or the like ({member.name})")
            _check_name(member.name, portable=origin.portable)
            _check_place(PurePosixPath(member.name), member.kind == "file", spellings)
            if member.kind == "file":
                yield member


def _tar_members(archive: Path) -> Iterator[Member]:
    with open_file(archive) as raw:
        packed = raw.read(len(_GZIP)) == _GZIP
        raw.seek(0)
        content = gzip.GzipFile(fileobj=raw) if packed else raw
        reads = _FewReads(content)
        with tarfile.TarFile(fileobj=reads) as tar:  # type: ignore[arg-type]
            for info in tar:
                if info.size < 0:
                    raise tarfile.ReadError(f"{info.name} has {info.size} bytes")
                plain = info.isreg() and not info.issparse()
                yield Member(
                    name=info.name,
                    size=info.size if info.isreg() else 0,
                    kind="file" if plain else "folder" if info.isdir() else "other",
                    blocks=partial(_tar_blocks, tar, info, reads),
                )
                reads.begin()


def _tar_blocks(tar: tarfile.TarFile, info: tarfile.TarInfo, reads: "_FewReads") -> Iterator[bytes]:
    content = tar.extractfile(info)
    reads.begin()
    while content and (block := content.read(_BLOCK)):
        yield block
        reads.begin()


class _FewReads:
    """A file that gives no more than 16 MiB until `begin`: what asks for more is a header made to fill the memory.

    Python reads a header at once, or in pieces (3.14.8).
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._left = _LARGEST_HEADER
        self.seek, self.tell = file.seek, file.tell

    def begin(self) -> None:
        """What was read before is done with: a member's header, or a block of its content."""
        self._left = _LARGEST_HEADER

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise tarfile.ReadError(f"a header of more than {_LARGEST_HEADER} bytes")
        self._left -= size
        return self._file.read(size)


def _zip_members(archive: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for info in file.infolist():
            type_bits = stat.S_IFMT(info.external_attr >> 16)  # 0 where another system than Unix wrote it
            is_folder = info.orig_filename.endswith("/")
            plain = type_bits in (0, stat.S_IFDIR if is_folder else stat.S_IFREG)
            yield Member(
                name=info.orig_filename,
                size=info.file_size,
                kind="other" if not plain or info.flag_bits & _ENCRYPTED else "folder" if is_folder else "file",
                blocks=partial(_zip_blocks, file, info),
            )


def _zip_blocks(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with file.open(info) as content:
        while block := content.read(_BLOCK):
            yield block


def _check_name(name: str, *, portable: bool) -> None:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts:
        raise _RefusedError(f"a path that leads out of the folder ({name!r})")
    if not portable and (fault := fault_of_name(name.removesuffix("/"))):
        raise _RefusedError(f"a name that no file here can have ({name!r}: {fault})")
    for part in parts if portable else ():
        unlike = _NEVER_IN_A_NAME.search(part) or _DEVICES.fullmatch(part) or not part.isprintable()
        if unlike or len(part.encode()) > _LONGEST_NAME:
            raise _RefusedError(f"a name that not every system can have ({name!r})")


def _check_place(path: PurePosixPath, is_file: bool, spellings: dict[str, tuple[str, bool]]) -> None:
    """Refuse a path that was taken before, as by another spelling where systems do not tell a from A."""
    for place in (*([] if is_file else [path]), *path.parents):
        folder = (place.as_posix(), False)
        before = spellings.setdefault(_folded(place), folder)
        if before != folder:
            raise _RefusedError(f"two members for one place ({before[0]} and {place})")
    if is_file:
        if _folded(path) in spellings:
            raise _RefusedError(f"two members for one place ({spellings[_folded(path)][0]} and {path})")
        spellings[_folded(path)] = (path.as_posix(), True)


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", path.as_posix()).casefold()


def _write(member: Member, target: Path, archive: Path) -> None:
    """Write one file, unless it is there with the same contents."""
    if target.is_symlink() or target.exists():
        if not target.is_file() or target.stat().st_size != member.size or not _same(member.blocks(), target):
            raise BadInputError(
                f"{target} exists already with other contents than in {archive.name}; it was left as it is; move it "
                "away and run the same command again, or choose another folder"
            )
        return
    with atomic_write(target, durable=False) as file:
        written = sum(file.write(block) for block in member.blocks())
        if written != member.size:
            raise tarfile.ReadError(f"{target.name} ends after {written} of {member.size} bytes")


def _same(blocks: Iterator[bytes], target: Path) -> bool:
    with open_file(target) as file:
        return all(file.read(len(block)) == block for block in blocks)


class _RefusedError(Exception):
    """What an archive has that nobody may unpack."""


@contextmanager
def _naming(archive: Path, origin: Origin) -> Iterator[None]:
    """Turn what is refused, and whatever a damaged archive makes its reader raise, into one error that names it."""
    try:
        yield
    except SubcamError:
        raise
    except _RefusedError as error:
        raise BadInputError(f"{archive}: has {error}, and is not unpacked; {origin.refused}") from error
    except Exception as error:  # tarfile, zipfile and zlib raise nearly any kind
        # A place before the file's beginning, to which a damaged zip points, is an invalid argument to the system.
        of_archive = isinstance(error, gzip.BadGzipFile) or (isinstance(error, OSError) and error.errno == errno.EINVAL)
        if isinstance(error, OSError) and not of_archive:
            raise
        raise BadInputError(f"{archive}: is damaged ({type(error).__name__}: {error}); {origin.damaged}") from error
