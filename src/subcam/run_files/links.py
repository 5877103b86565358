"""A file of a stage under a second name: a hard link, which takes no space, or a copy where there are no links."""

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path

from subcam.runtime.documents.regular_file import open_file
from subcam.runtime.files import atomic_write, explained, partial_of

_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
"""What a file system answers that makes no hard links, or none here."""


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, by a hard link, or a copy of it where the file system makes no links.

    It appears whole or not at all, in place of what was there; nothing is done where it is that file or copy already.
    Only one process at a time may do so in a folder.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    given = source.stat()
    there = target.lstat() if os.path.lexists(target) else None
    if there is not None and (there.st_dev, there.st_ino) == (given.st_dev, given.st_ino):
        return
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if _is_linked(source, target):
            return
    same = there is not None and stat.S_ISREG(there.st_mode) and there.st_size == given.st_size
    if same and there is not None and there.st_mtime_ns == given.st_mtime_ns:
        return
    with open_file(source) as original, atomic_write(target, durable=False) as copy:
        shutil.copyfileobj(original, copy)
        copy.flush()
        # What tells the next time that it is a copy of this file.
        os.utime(copy.fileno(), ns=(given.st_atime_ns, given.st_mtime_ns))


def _is_linked(source: Path, target: Path) -> bool:
    """Put a hard link to `source` in the place of `target`; whether the file system makes one."""
    partial = partial_of(target)
    partial.unlink(missing_ok=True)  # what a killed process left
    try:
        os.link(source, partial)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    try:
        partial.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    return True
