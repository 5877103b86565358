"""Downloads one large file: over several addresses, resumable, checked against its checksum.

In: an `Archive`. Out: the file, which appears under its name only once its size and checksums are right; until then it
is NAME.part, and NAME.part.json says what it is part of. A file with a wrong checksum is kept aside as NAME.wrong.
"""

import contextlib
import errno
import http
import http.client
import math
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from subcam._version import __version__
from subcam.download.checksums import difference, digests
from subcam.download.sources import Archive
from subcam.errors import RunFolderError, SettingsError, SubcamError
from subcam.runtime.files import is_disk_full, read_as, write_json
from subcam.runtime.progress import Bar, bar, say

_BLOCK = 1 << 16
_MIB = 1 << 20
_TRY_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})
_NO_NETWORK = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})


class DownloadError(SubcamError):
    """A file that could not be had from any of its addresses, each with its reason."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        attempts: how often in a row an address may fail without giving a single byte.
        wait: seconds after the first failure, twice as many after each further one, at most a minute.
        timeout: seconds without an answer.
    """

    attempts: int = 4
    wait: float = 2.0
    timeout: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a server says of a file, which tells a changed one from the one that was begun."""

    url: str
    length: int | None
    etag: str | None
    last_modified: str | None

    def same_file(self, other: "Offer") -> bool:
        """Whether bytes of both belong together. Between two addresses only the length can tell."""
        if self.url != other.url:
            return self.length is not None and self.length == other.length
        return self == other


class _NextAddressError(Exception):
    """This address will not do; says why."""


class _NoNetworkError(Exception):
    """This address cannot be reached: a network that has failed if it could before; says why."""


class _TryAgainError(Exception):
    """This address may do later; says why."""


class _NoSuchRangeError(_TryAgainError):
    """The server has no bytes where ours end."""


def download(archive: Archive, path: Path, *, urls: tuple[str, ...] = (), patience: Patience | None = None) -> str:
    """Have `archive` under `path`, whole and right; returns the SHA-256 of what was downloaded.

    A server that does not know ranges, or whose file has changed, sends the file from its beginning. Proxies are those
    of the environment (`https_proxy`, `http_proxy`, `no_proxy`).

    Args:
        archive: what to download; of the right size and checksum.
        path: where to; nothing must be there.
        urls: addresses to try before the archive's own.
        patience: how long to wait for servers.

    Raises:
        DownloadError: no address gave the file; says why for each, and what to do.
        RunFolderError: the disk is full or the folder cannot be written.
    """
    patience = patience or Patience()
    addresses = urls + archive.urls
    for url in addresses:
        if urlsplit(url).scheme not in ("http", "https"):
            raise SettingsError(f"{url!r}: expected an address that begins with https:// or http://")
    reasons: list[str] = []
    for url in addresses:
        try:
            return _from_address(archive, path, url, patience)
        except _NextAddressError as reason:
            reasons.append(f"{url}: {reason}")
            say(f"{archive.name}: {reasons[-1]}" + (", trying the next address" if url != addresses[-1] else ""))
        except OSError as error:
            if is_disk_full(error):
                raise RunFolderError(
                    f"no space left for {path}; free some space and run the same command again, which resumes"
                ) from error
            raise RunFolderError(f"cannot write {path} ({error.strerror}); choose a folder that can be") from error
    raise DownloadError(
        f"{archive.name} could not be downloaded. "
        + "; ".join(reasons)
        + ". Check the connection (behind a proxy, set https_proxy) and run the same command again, which resumes "
        "the download; or download the file by other means and name its folder with --archives"
    )


def partial_size(path: Path) -> int:
    """How many bytes of the file that is to be downloaded to `path` are there."""
    return _size(_part(path))


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _from_address(archive: Archive, path: Path, url: str, patience: Patience) -> str:
    """Download over one address and check."""
    part = _part(path)
    resumed = _fetch(archive, part, url, patience)
    try:
        return _checked(archive, part, path)
    except _NextAddressError:
        if not resumed:
            raise
    # It was put together, perhaps of halves of different files: once more from the beginning.
    _fetch(archive, part, url, patience)
    return _checked(archive, part, path)


def _fetch(archive: Archive, part: Path, url: str, patience: Patience) -> bool:
    """Bring `part` to its full size with as many requests as it takes; returns whether it was more than one."""
    best = begun = _size(part)
    failures = 0
    with bar(f"{archive.name} (MiB)", math.ceil(archive.size / _MIB), done=math.ceil(begun / _MIB)) as progress:
        while True:
            try:
                _receive(archive, part, url, patience.timeout, progress)
            except (_TryAgainError, _NoNetworkError) as reason:
                failures = 1 if _size(part) > best else failures + 1
                best = max(best, _size(part))
                never_there = isinstance(reason, _NoNetworkError) and best == begun
                if never_there or failures >= patience.attempts:
                    raise _NextAddressError(str(reason)) from reason
                time.sleep(min(patience.wait * 2 ** (failures - 1), 60.0))
            else:
                return best > 0


def _receive(archive: Archive, part: Path, url: str, timeout: float, progress: Bar) -> None:
    """One request: bring `part` to its full size, from where it ends if the server lets us."""
    record = part.with_name(f"{part.name}.json")
    if part.is_symlink():  # it would be written through
        part.unlink()
    begun = _read_offer(record) if part.is_file() else None
    start = _size(part) if begun else 0
    if start == archive.size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": f"subcam/{__version__}", "Accept": "*/*"})
    if begun and start:
        request.add_header("Range", f"bytes={start}-")
        validator = begun.etag or begun.last_modified
        if begun.url == url and validator and not validator.startswith("W/"):
            request.add_header("If-Range", validator)
    try:
        with _as_reason():
            # urlopen keeps the proxies of its first call for good
            answer = urllib.request.build_opener().open(request, timeout=timeout)
    except _NoSuchRangeError:
        record.unlink(missing_ok=True)
        raise
    with answer:
        offer, offset = _offer(answer, url), _first_byte(answer)
        if offer.length is not None and offer.length != archive.size:
            raise _NextAddressError(
                f"expected a file of {archive.size} bytes, the server announces {offer.length} (a page of a proxy or "
                "of an error?)"
            )
        if offset and (offset != start or begun is None or not begun.same_file(offer)):
            # Without its record the part is not gone on with: the next request asks for all of it.
            record.unlink(missing_ok=True)
            raise _TryAgainError("the file has changed there since the download began")
        part.parent.mkdir(parents=True, exist_ok=True)
        with part.open("ab" if offset else "wb") as file:
            if not offset:  # after the old bytes are gone, so that they are never taken for the new file's
                write_json(record, offer)
            _show(progress, offset)
            _copy(answer, file, archive.size, progress)
    if _size(part) < archive.size:
        raise _TryAgainError(f"the connection ended after {_size(part)} of {archive.size} bytes")


def _copy(answer: http.client.HTTPResponse, file: IO[bytes], most: int, progress: Bar) -> None:
    while True:
        with _as_reason():
            block = answer.read(_BLOCK)
        if not block:
            return
        if file.tell() + len(block) > most:
            raise _NextAddressError(f"expected a file of {most} bytes, the server sends more")
        file.write(block)
        _show(progress, file.tell())


@contextlib.contextmanager
def _as_reason() -> Iterator[None]:
    """Say of every fault of a network whether it may pass."""
    try:
        yield
    except urllib.error.HTTPError as error:
        with error:
            said = f"the server answers {error.code} {error.reason}"
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise _NoSuchRangeError(said) from error
            raise (_TryAgainError if error.code in _TRY_LATER else _NextAddressError)(said) from error
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, socket.gaierror):
            raise _NoNetworkError(f"no such host, or no network ({cause.strerror})") from error
        if isinstance(cause, OSError) and cause.errno in _NO_NETWORK:
            raise _NoNetworkError(f"no network ({cause.strerror})") from error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise _NextAddressError(f"its certificate is not valid ({cause.verify_message})") from error
        if isinstance(cause, TimeoutError):
            raise _TryAgainError("no answer in time") from error
        raise _TryAgainError(f"the connection failed ({str(cause) or type(cause).__name__})") from error


def _first_byte(answer: http.client.HTTPResponse) -> int:
    """Where in the file the answer begins: 0 unless the server gives a part, -1 if it does not say which."""
    if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _offer(answer: http.client.HTTPResponse, url: str) -> Offer:
    length = answer.headers.get("Content-Length")
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        length = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return Offer(
        url=url,
        length=int(length) if length and length.isdecimal() else None,
        etag=answer.headers.get("ETag"),
        last_modified=answer.headers.get("Last-Modified"),
    )


def _checked(archive: Archive, part: Path, path: Path) -> str:
    """Give a whole download its name if it is right; else keep it aside."""
    record = part.with_name(f"{part.name}.json")
    actual = digests(part, frozenset({*archive.checksums, "sha256"}))
    wrong = difference(actual, archive.checksums)
    if wrong:
        aside = path.with_name(f"{path.name}.wrong")
        part.replace(aside)
        record.unlink(missing_ok=True)
        raise _NextAddressError(f"{wrong}; the download is kept as {aside} and not used; look at it or delete it")
    part.replace(path)
    record.unlink(missing_ok=True)
    return actual["sha256"]


def _read_offer(record: Path) -> Offer | None:
    """What was begun; None where nothing tells, as after a power cut."""
    try:
        offer: Offer = read_as(Offer, record, what="the record of a download", mend="remove it")
    except (FileNotFoundError, SubcamError):
        return None
    return offer


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _show(progress: Bar, received: int) -> None:
    """Bring a bar of MiB to `received` bytes; it goes back where a download starts again."""
    done = math.ceil(received / _MIB)
    if done != progress.done:
        progress.advance(done - progress.done)
