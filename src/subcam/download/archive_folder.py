"""Has an archive at hand: from a folder of archives that a person has, from the data set's folder, or by download.

In: an `Archive`. Out: a file whose size and checksums are right. A receipt keeps a file that was checked once from
being read again, and says whether it was downloaded here, so that no one else's file is ever deleted.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subcam.download.checksums import difference, digests
from subcam.download.sources import Archive
from subcam.download.transfer import Patience, download
from subcam.errors import BadInputError
from subcam.runtime.files import read_as, write_json
from subcam.runtime.progress import say

RECEIPTS = ".subcam"
"""The folder in a data set's folder that says what was downloaded, checked and unpacked."""


@dataclass(frozen=True, kw_only=True)
class AtHand:
    """An archive that is whole and right.

    Attributes:
        path: where it lies.
        sha256: of its bytes.
    """

    path: Path
    sha256: str


def find(archive: Archive, folder: Path, given: Path | None) -> Path | None:
    """Where the archive lies, right or wrong: in the folder `given`, else in the data set's `folder`."""
    places = [place / archive.name for place in (given, folder) if place is not None]
    return next((path for path in places if path.is_file()), None)


def have(
    archive: Archive,
    folder: Path,
    *,
    given: Path | None = None,
    mirrors: tuple[str, ...] = (),
    patience: Patience | None = None,
) -> AtHand:
    """Find or download an archive and check it.

    Args:
        archive: which.
        folder: the data set's; downloads go there.
        given: a folder of archives that a person has.
        mirrors: addresses of folders with the archives, tried before their own.
        patience: how long to wait for servers.

    Raises:
        BadInputError: a file of its name is there but is not it; names it. It is left as it is.
        DownloadError, RunFolderError: see `download`.
    """
    path = find(archive, folder, given)
    receipt = folder / RECEIPTS / f"{archive.name}.json"
    if path is None:
        path = folder / archive.name
        urls = tuple(f"{mirror.rstrip('/')}/{archive.name}" for mirror in mirrors)
        sha256 = download(archive, path, urls=urls, patience=patience)
        write_json(receipt, {**_state(path), **archive.checksums, "sha256": sha256, "downloaded": True})
        return AtHand(path=path, sha256=sha256)
    known = _read(receipt) if receipt.is_file() else None
    if known is not None and _fits(known, {**_state(path), **archive.checksums}):
        return AtHand(path=path, sha256=known.sha256)
    sha256 = _check(archive, path)
    write_json(receipt, {**_state(path), **archive.checksums, "sha256": sha256, "downloaded": False})
    say(f"{path}: checked, it is the published one")
    return AtHand(path=path, sha256=sha256)


def discard(archive: Archive, folder: Path) -> None:
    """Delete an archive if it was downloaded here and has not changed since."""
    path, receipt = folder / archive.name, folder / RECEIPTS / f"{archive.name}.json"
    if not path.is_file() or not receipt.is_file():
        return
    known = _read(receipt)
    if known.downloaded and _fits(known, _state(path)):
        path.unlink()
        say(f"{path}: deleted, it is unpacked")


@dataclass(frozen=True, kw_only=True)
class _Receipt:
    """Of an archive that was checked: the state of its file, its checksums, and whether it was downloaded here."""

    path: str
    size: int
    time: int
    sha256: str
    downloaded: bool
    md5: str = ""


def _read(receipt: Path) -> _Receipt:
    mend = "remove it, and the archive is checked again"
    known: _Receipt = read_as(_Receipt, receipt, what="the receipt of an archive", mend=mend)
    return known


def _fits(known: _Receipt, facts: dict[str, Any]) -> bool:
    return all(getattr(known, key) == value for key, value in facts.items())


def _check(archive: Archive, path: Path) -> str:
    """The SHA-256 of a file that is the archive."""
    size = path.stat().st_size
    if size != archive.size:
        wrong = f"expected {archive.size} bytes, got {size}"
    else:
        actual = digests(path, frozenset({*archive.checksums, "sha256"}))
        wrong = difference(actual, archive.checksums)
        if not wrong:
            return actual["sha256"]
    raise BadInputError(
        f"{path}: {wrong}; it is not (all of) the published archive, and was left as it is and not used: move it away "
        "and run the same command again to download it"
    )


def _state(path: Path) -> dict[str, Any]:
    """By what a file is known again without reading it."""
    status = path.stat()
    return {"path": path.resolve().as_posix(), "size": status.st_size, "time": status.st_mtime_ns}
