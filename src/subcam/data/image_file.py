"""The one door for image files: which kinds are decoded, by what a file holds, and no other.

In: a path. Out: an opened Pillow image of a kind in `SUFFIXES_BY_KIND`. Pillow knows many more kinds; among them is
PostScript, which it hands to a program that runs what stands in the file.
"""

import contextlib
import errno
import io
from collections.abc import Iterator
from pathlib import Path, PurePath

from PIL import Image, UnidentifiedImageError, features

from subcam.data.files import advice_on_kind
from subcam.data.readers.tar_member import archive_of, read_member
from subcam.data.records import SUFFIXES_BY_KIND, UNREAD_SUFFIXES
from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import read_bytes

_NOT_IN_EVERY_PILLOW = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
_HEIF = "HEIF"
_PILLOWS_OWN = tuple(kind for kind in SUFFIXES_BY_KIND if kind != _HEIF)
_LONGEST_BRANDS = 256
"""Bytes in which a HEIF names its kinds; more is none."""

_KIND_OF_SUFFIX = {suffix: kind for kind, suffixes in SUFFIXES_BY_KIND.items() for suffix in suffixes}
_NOT_THE_FILES_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def read_file(path: Path) -> bytes:
    """The bytes of a regular file that is not empty; it may lie in an uncompressed tar (`readers.tar_member`).

    Raises:
        BadInputError: there is no such file, it is a folder or a device, it is empty, or it may not be read.
    """
    try:
        data = _stored_bytes(path)
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: no such file; restore it or take its name off the list") from error
    except OSError as error:
        if error.errno in _NOT_THE_FILES_FAULT:
            raise
        raise BadInputError(f"{path}: cannot be read ({error.strerror}); check its rights and the disk") from error
    if not data:
        raise BadInputError(f"{path}: expected an image, got an empty file (0 bytes); copy it again")
    return data


def _stored_bytes(path: Path) -> bytes:
    try:
        return read_bytes(path)
    except NotADirectoryError:
        archive = archive_of(path)
        if archive is None:
            raise
        return read_member(archive, path.relative_to(archive).as_posix())


@contextlib.contextmanager
def at_most(pixels: int) -> Iterator[None]:
    """Let images of so many pixels through the door inside the block, in all threads, if Pillow's limit is lower."""
    before = Image.MAX_IMAGE_PIXELS
    if before is not None:
        Image.MAX_IMAGE_PIXELS = max(before, pixels)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


@contextlib.contextmanager
def open_image(path: Path, *, data: bytes) -> Iterator[Image.Image]:
    """Open the image in `data` without decoding it yet; `path` is only what errors call it.

    What `data` begins with decides of which kind it is; the name does not.

    Raises:
        BadInputError: not an image of a kind that is read, or more pixels than Pillow's `Image.MAX_IMAGE_PIXELS`.
    """
    with naming(path):
        if _is_heif(data):
            _require_heif(path)
        image = Image.open(io.BytesIO(data), formats=_PILLOWS_OWN if not _is_heif(data) else (_HEIF,))
    with image:
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise _too_large(path, f"{image.width} x {image.height} pixels")
        yield image


def _is_heif(data: bytes) -> bool:
    """Whether bytes are HEIF with pixels in HEVC, by the brands in the box that they begin with; AVIF has another."""
    if data[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(data[:4], "big"), _LONGEST_BRANDS)
    brands = {data[8:12], *(data[place : place + 4] for place in range(16, end, 4))}
    return b"avif" not in brands and any(brand[:3] in (b"hei", b"hev") for brand in brands)


def _require_heif(path: Path) -> None:
    """Let Pillow know HEIF.

    Raises:
        BadInputError: the package for it is not installed; says how to install it.
    """
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise BadInputError(
            f"{path}: expected an image of a kind that is read, got HEIF (.heic), for which a package is needed:"
            " uv pip install pillow-heif; or convert it to JPEG or PNG"
        ) from error
    register_heif_opener()


def kind_of(image: Image.Image) -> str:
    """The kind of an opened image, as in `SUFFIXES_BY_KIND`; a JPEG that has further images behind it is a JPEG."""
    return "JPEG" if image.format == "MPO" else image.format or ""


def named_otherwise(path: PurePath, kind: str) -> str:
    """What is to be said where a file's name promises another kind than it is of; "" where it does not."""
    promised = _kind_named(path)
    return f"a {kind} that is called {path.suffix}" if promised and promised != kind else ""


def _kind_named(path: PurePath) -> str:
    return _KIND_OF_SUFFIX.get(path.suffix.lower(), "")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn whatever Pillow raises into one error that names the file."""
    try:
        yield
    except BadInputError:
        raise
    except MemoryError as error:
        raise MemoryError(f"while {path} was decoded") from error
    except UnidentifiedImageError as error:
        if path.suffix.lower() in UNREAD_SUFFIXES:
            raise BadInputError(f"{path}: {advice_on_kind(path)}") from error
        decoder = _NOT_IN_EVERY_PILLOW.get(_kind_named(path))
        if decoder and not features.check(decoder):
            raise BadInputError(
                f"{path}: this Pillow has no decoder for {_kind_named(path)}; install a newer Pillow, or convert it to"
                " JPEG or PNG"
            ) from error
        raise BadInputError(
            f"{path}: expected an image (JPEG, PNG, ...), got something else; open it in a viewer, or copy it again"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(path, str(error)) from error
    except Exception as error:  # damaged files make Pillow's decoders raise nearly any kind
        raise BadInputError(
            f"{path}: expected a whole image, got one that cannot be decoded ({error}); copy it again or remove it"
        ) from error


def _too_large(path: Path, got: str) -> BadInputError:
    return BadInputError(
        f"{path}: expected at most {Image.MAX_IMAGE_PIXELS} pixels, got more ({got}); "
        "scale it down, or cut it into pieces"
    )
