"""The one door for files that are read: regular files only, so that no pipe is waited for and no device is read.

In: a path that a person, a list or a run's folder names. Out: an open file, or its bytes.
"""

import errno
import io
import os
import stat
from pathlib import Path

from subcam.errors import BadInputError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_file(path: Path) -> io.BufferedReader:
    """Open a file for reading; links are followed.

    Raises:
        OSError: as `open` raises it: there is no such file, or it may not be read.
        BadInputError: it is a folder, a pipe, a device or a socket; says which.
    """
    # Looked at before it is opened, since opening some devices does something; and after, since it may have changed.
    _require_regular(path, os.stat(path))  # noqa: PTH116 - of any path-like
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise BadInputError(f"{path}: expected a file, got a pipe or a socket; name the file itself") from error
        raise
    try:
        _require_regular(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "rb")


def is_there(path: Path) -> bool:
    """Whether anything has this name, be it a folder, a pipe, or a link to nothing: who reads it says what it is."""
    return os.path.lexists(path)


def require_file(path: Path) -> None:
    """Raise `BadInputError` unless there is a regular file, or a link to one; names it."""
    try:
        _require_regular(path, os.stat(path))  # noqa: PTH116 - as in `open_file`
    except OSError as error:
        what = "a link to nothing" if is_there(path) else "none"
        raise BadInputError(f"{path}: expected a file, got {what} ({error.strerror}); restore it") from error


def read_bytes(path: Path) -> bytes:
    """The bytes of a file; raises as `open_file`."""
    with open_file(path) as file:
        return file.read()


def _require_regular(path: Path, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise BadInputError(f"{path}: expected a file, got {_KINDS.get(kind, 'something else')}; name the file itself")
