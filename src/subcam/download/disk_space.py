"""Whether a disk has room for what is about to be written, asked before hours are spent on it."""

import shutil
from pathlib import Path

from subcam.errors import RunFolderError

_SPARE = 200_000_000
"""Left over for the file system and for others."""


def require_space(folder: Path, needed: int, *, what: str) -> None:
    """Do nothing if the disk of `folder`, which need not exist yet, has `needed` bytes and some to spare.

    Raises:
        RunFolderError: it has not; says how much there is and how much is needed.
    """
    if needed <= 0:
        return
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed + _SPARE:
        raise RunFolderError(
            f"{what} needs {in_gb(needed + _SPARE)} on the disk of {folder}, which has {in_gb(free)} free; free some "
            "or choose a folder on another disk"
        )


def in_gb(count: int) -> str:
    """Bytes in decimal gigabytes or megabytes, as disks are sold."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
