"""Bytes of a file inside an uncompressed tar, named by a path that goes on through it: `shards/train-000.tar/cat.jpg`.

Nothing is unpacked: an archive's table of contents is read once a process, a member by one seek.
"""

import functools
import tarfile
import time
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import open_file

SUFFIX = ".tar"
_TICK_NS = 20_000_000


def archive_of(path: Path) -> Path | None:
    """The tar on the way to `path`; None if there is none."""
    return next((parent for parent in path.parents if parent.suffix == SUFFIX and parent.is_file()), None)


def stamp_of(path: Path) -> tuple[int, int, int]:
    """What is another one whenever the bytes of `path` are: of its file, or of the tar that it lies in.

    Size, time of the last writing, and time of the last change of any kind, which no program can set back. The
    clock of that runs in ticks: a file that was changed just now is looked at after the tick, so that a later change
    shows.

    Raises:
        OSError: there is none.
    """
    try:
        status = path.stat()
    except NotADirectoryError:
        archive = archive_of(path)
        if archive is None:
            raise
        status = archive.stat()
    if 0 <= time.time_ns() - status.st_ctime_ns < _TICK_NS:
        time.sleep(_TICK_NS / 1e9)
        return stamp_of(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_member(archive: Path, name: str) -> bytes:
    """The bytes of the member `name`.

    Raises:
        BadInputError: there is no such member, or the archive is truncated or no tar; names it.
    """
    offset, size = _position(archive, name)
    with open_file(archive) as file:
        file.seek(offset)
        data = file.read(size)
    if len(data) < size:
        raise BadInputError(f"{archive}: expected {size} bytes of {name}, got {len(data)}; copy the archive again")
    return data


def member_names(archive: Path) -> tuple[str, ...]:
    """The files in an archive, in its order, by their names without a leading `./`, which plain `tar` writes.

    A name may be absolute or lead out with `..`: it is for the reader to refuse.

    Raises:
        BadInputError: it is missing or no uncompressed tar; names it.
    """
    return tuple(_contents_now(archive).positions)


def repeated_names(archive: Path) -> frozenset[str]:
    """The names of `member_names` that stand in an archive more than once, as in one that was appended to.

    Raises:
        BadInputError: as `member_names`.
    """
    return _contents_now(archive).repeated


def _position(archive: Path, name: str) -> tuple[int, int]:
    contents = _contents_now(archive).positions
    if name not in contents:
        raise BadInputError(f"{archive}: holds no {name}; copy the archive again or take the name off the list")
    return contents[name]


class _Contents(NamedTuple):
    """Offset and size of each member by its name, and the names that there are several of."""

    positions: dict[str, tuple[int, int]]
    repeated: frozenset[str]


def _contents_now(archive: Path) -> _Contents:
    try:
        return _contents(archive, stamp_of(archive))
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:  # sizes may be any number
        raise BadInputError(
            f"{archive}: expected an uncompressed tar, got something else ({error}); copy it again"
        ) from error


@functools.cache
def _contents(archive: Path, stamp: tuple[int, int, int]) -> _Contents:  # noqa: ARG001
    # The stamp is in the key, so that an archive that was written anew is read anew.
    positions: dict[str, tuple[int, int]] = {}
    repeated: set[str] = set()
    last = -1
    with open_file(archive) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            if member.offset <= last or member.size < 0:  # of some damaged ones Python's reader would find no end
                raise tarfile.ReadError(f"{member.name!r:.100} lies before its forerunner")
            last = member.offset
            if member.isreg() and not member.issparse():
                name = PurePosixPath(member.name).as_posix()
                if name in positions:
                    repeated.add(name)
                positions[name] = (member.offset_data, member.size)
    return _Contents(positions, frozenset(repeated))
