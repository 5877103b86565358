"""Files that are whole or not there, and in the folder that is meant: atomic writes, JSON, npz archives, digests."""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from subcam.errors import BadInputError, RunFolderError
from subcam.runtime.documents.json_text import loads
from subcam.runtime.documents.plain_values import as_plain, from_plain
from subcam.runtime.documents.regular_file import open_file, read_bytes

RECORD_FILE = "stage.json"
"""Written last; a stage's folder that has it is done."""

LONGEST_NAME = 255
"""Bytes that file systems take as the name of a file or folder."""

_LONGEST_PATH = 1000
"""Bytes of a path below a folder; systems take 1,024 or 4,096 with the folder's own."""

_NOT_WRITABLE = frozenset(
    {
        errno.EACCES,
        errno.EROFS,
        errno.EPERM,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EFBIG,
    }
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def fault_of_name(name: str, *, longest: int = LONGEST_NAME) -> str:
    """Why no file below a folder may be named after `name`; "" if one may.

    A good name is a relative path with / in which each part is the name of a file or folder: no "..", no "." and
    nothing empty, no control characters, nothing that no file system can hold.

    longest: bytes that a part may have.
    """
    parts = name.split("/")
    if not name or name[0] == "/":
        return "it is absolute" if name else "it is empty"
    if any(part in ("", ".", "..") for part in parts):
        return "it has '..'" if ".." in parts else "it has an empty part"
    if _CONTROL.search(name):
        return "it has control characters"
    try:
        lengths = [len(os.fsencode(part)) for part in parts]
    except UnicodeEncodeError:
        return "it has characters that no file's name can hold"
    if max(lengths) > longest or sum(lengths) + len(parts) > _LONGEST_PATH:
        return f"it is too long (more than {longest} bytes in a part, or {_LONGEST_PATH:,} in all)"
    return ""


def below(folder: Path, name: str, suffix: str = "") -> Path:
    """The path of the file called `name` in `folder` or its sub-folders; it does not lead out of the folder.

    Raises:
        RunFolderError: the name leads out or cannot be a file's, or a sub-folder is a link to another place.
    """
    fault = fault_of_name(name + suffix)
    if fault:
        raise RunFolderError(f"{folder}: no file can be called {name + suffix!r:.300}: {fault}; rename it")
    path = folder / f"{name}{suffix}"
    if not _stays_in(folder.absolute(), path.parent.absolute()):
        raise RunFolderError(
            f"{path.parent} is a link that leads out of {folder}, where nothing is written; put a folder in its place"
        )
    return path


@functools.lru_cache(maxsize=1 << 14)
def _stays_in(folder: Path, parent: Path) -> bool:
    return parent.resolve().is_relative_to(folder.resolve())


@contextlib.contextmanager
def atomic_write(path: Path, mode: str = "wb", *, durable: bool = True) -> Iterator[IO[Any]]:
    """Open a file that appears under `path` whole or not at all.

    The bytes go to a neighbour first and are renamed over `path` when the block ends without an error; of several
    processes that write one file, one wins whole. A link under the name of either is replaced, not written through.
    `durable` waits for the disk, so that the file also survives a power cut; turn it off for the many small files of a
    stage that are cheap to make again.

    Raises:
        RunFolderError: the disk is full, or the folder cannot be written; says which and what to do.
    """
    with explained(path):
        _make_folder(path.parent)
        partial, descriptor = _open_partial(path)
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
            try:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
                partial.replace(path)
            except BaseException:
                # While it is still locked: later the name may be another process's.
                with contextlib.suppress(OSError):
                    partial.unlink(missing_ok=True)
                raise


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # where the system itself makes all names, as in /proc
        raise RunFolderError(f"cannot make the folder {folder} ({error.strerror}); choose another") from error


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Inside the block, an error of the system that `path` cannot be written is one that says what to do.

    Raises:
        RunFolderError: the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise RunFolderError(
                f"no space left while writing {path}; free some space and run the same command again, which resumes"
            ) from error
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
            raise RunFolderError(
                f"cannot write {path} ({error.strerror}); choose another folder or mend its rights"
            ) from error
        raise


def _open_partial(path: Path) -> tuple[Path, int]:
    """A new empty file beside `path`, locked, that nobody else writes.

    Its name is the same each time, so that what a killed process left is written over, unless somebody writes it now.
    """
    partial = partial_of(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        descriptor = os.open(partial, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            own, there = os.fstat(descriptor), partial.lstat()
            same = (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)
            if same and stat.S_ISREG(own.st_mode) and own.st_nlink == 1:
                os.ftruncate(descriptor, 0)
                return partial, descriptor
            raise FileExistsError(errno.EEXIST, "not ours", str(partial))
        except BaseException:
            os.close(descriptor)
            raise
    unique = path.with_name(f".{secrets.token_hex(8)}.partial")
    return unique, os.open(unique, flags | os.O_EXCL, 0o666)


def partial_of(path: Path) -> Path:
    """The neighbour that is written first and then renamed to `path`."""
    name = f".{path.name}.partial"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.partial"
    return path.with_name(name)


class _Plain:
    """A file that numpy does not take for one of the system's."""

    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write


def save_array(file: IO[bytes], array: np.ndarray) -> None:
    """`np.save` into an open file, where a full disk is the system's own error; numpy's own writing does not say it."""
    np.save(_Plain(file), array, allow_pickle=False)


def is_disk_full(error: BaseException | None) -> bool:
    """Whether a full disk or quota is behind an error. torch.save tells of it only in the error's context."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Paths become text, dataclasses become objects."""
    with atomic_write(path, "w") as file:
        json.dump(as_plain(value), file, indent=1, allow_nan=True)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read a JSON file of the run folder.

    Raises:
        RunFolderError: the file cannot be read or is not JSON; names it.
    """
    try:
        return loads(read_bytes(path))
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error.strerror}); check its rights and the disk") from error
    except ValueError as error:
        raise RunFolderError(
            f"{path} is not the JSON that was written there ({error}); move it away and run again"
        ) from error


def read_as(kind: Any, path: Path, *, what: str, mend: str) -> Any:
    """Read a JSON file of the run folder that holds a value of type `kind`, which some version of subcam wrote.

    Args:
        kind: a type as `from_plain` takes it, with the keys that are read.
        path: of the file.
        what: what the file is, with its article.
        mend: what to do where it is something else.

    Raises:
        RunFolderError: it cannot be read, is no JSON, or lacks a key or has another value under it; names file and key.
    """
    try:
        return from_plain(kind, read_json(path), lenient=True)
    except TypeError as error:
        raise RunFolderError(f"{path} is not {what} ({error}); {mend}") from error


@contextlib.contextmanager
def open_arrays(path: Path, *, what: str) -> Iterator[Any]:
    """Open an npz file of the run folder and read from it inside the block.

    Raises:
        BadInputError: the file is missing, truncated or of another format, or the block did not find in it what it
            expected; names the file.
    """
    try:
        with open_file(path) as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except Exception as error:  # a damaged archive makes zipfile, zlib and numpy raise nearly any kind
        raise BadInputError(
            f"{path} holds no {what} ({type(error).__name__}: {error}); move it away and run again{_with_record(path)}"
        ) from error


def _with_record(path: Path) -> str:
    """What else must go for a file of a finished stage to be made again."""
    records = [folder / RECORD_FILE for folder in path.parents if (folder / RECORD_FILE).is_file()]
    return f" (with {records[0]}, which says that its stage is done)" if records else ""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits.

    Raises:
        BadInputError: the file cannot be read; names it.
    """
    try:
        with open_file(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read ({error.strerror}); check the path") from error


def files_digest(files: Mapping[str, Path]) -> str:
    """SHA-256 over the names and contents of files; of files that have not changed it is computed once a process.

    Raises:
        BadInputError: a file cannot be read; names it.
    """
    stamps = []
    for name, path in sorted(files.items()):
        try:
            status = path.stat()
        except OSError as error:
            raise BadInputError(f"{path} cannot be read ({error.strerror}); check the path") from error
        stamps.append((name, path, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return _files_digest(tuple(stamps))


@functools.lru_cache(maxsize=64)
def _files_digest(stamps: tuple[tuple[str, Path, int, int, int], ...]) -> str:
    content = hashlib.sha256()
    for name, path, *_ in stamps:
        content.update(f"{name}\0{file_digest(path)}\n".encode("utf-8", "surrogateescape"))
    return content.hexdigest()
