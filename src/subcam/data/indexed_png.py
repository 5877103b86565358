"""Masks as most programs write them, PNGs of one byte a pixel whose rows have no filter, by the shortest way.

In: the bytes of a file. Out: the values that Pillow finds in it, or None for every other file, damaged ones too: these
are for Pillow, which reads all kinds and says what is wrong. Pillow inflates a PNG row by row and lets no other thread
run meanwhile; in one piece and by zlib-ng it takes a fraction of the time, and threads read masks side by side.
"""

import math
import struct

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from zlib_ng import zlib_ng

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_GREY, _PALETTE = 0, 3
_HARMLESS = frozenset({b"tRNS", b"tEXt", b"pHYs", b"gAMA", b"sRGB", b"cHRM", b"sBIT", b"bKGD", b"tIME"})
"""Chunks that change no value and need no look; some of the others do."""


def quick_values(data: bytes) -> UInt8[np.ndarray, "h w"] | None:
    """The values of a plain PNG of 8-bit grey or palette, or None where it is anything else."""
    chunks = _chunks(data)
    kinds = [kind for kind, _ in chunks]
    header = chunks[0][1] if chunks else b""
    if kinds[:1] != [b"IHDR"] or len(header) != _HEADER.size:
        return None
    width, height, *form = _HEADER.unpack(header)
    before = {_GREY: [b"IHDR"], _PALETTE: [b"IHDR", b"PLTE"]}.get(form[1])
    if before is None or form != [8, form[1], 0, 0, 0]:
        return None
    packed = [content for kind, content in chunks if kind == b"IDAT"]
    in_order = [*before, *(b"IDAT" for _ in packed), b"IEND"]
    if [kind for kind in kinds if kind not in _HARMLESS] != in_order or not packed:
        return None
    first = kinds.index(b"IDAT")
    if kinds[first : first + len(packed)].count(b"IDAT") != len(packed):
        return None
    if not 0 < width * height <= (Image.MAX_IMAGE_PIXELS or math.inf):
        return None
    rows = _inflated(b"".join(packed), size=height * (width + 1))
    if rows is None:
        return None
    filters_and_values = np.frombuffer(rows, np.uint8).reshape(height, width + 1)
    return None if filters_and_values[:, 0].any() else filters_and_values[:, 1:].copy()


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Kind and content of each chunk up to the end's, up to the first damaged one if any is."""
    found: list[tuple[bytes, bytes]] = []
    place = len(_SIGNATURE) if data.startswith(_SIGNATURE) else len(data)
    while place < len(data) and (not found or found[-1][0] != b"IEND"):
        body, end = place + 8, place + 8 + int.from_bytes(data[place : place + 4], "big")
        if end + 4 > len(data) or int.from_bytes(data[end : end + 4], "big") != zlib_ng.crc32(data[place + 4 : end]):
            break
        found.append((data[place + 4 : body], data[body:end]))
        place = end + 4
    return found


def _inflated(stream: bytes, *, size: int) -> bytes | None:
    """What a zlib stream unpacks to if that is so many bytes exactly, else None.

    Its check sum is left out: that of the chunks was right, which says of the packed bytes what this one does of the
    others, and computing it would take a quarter of the time.
    """
    if len(stream) < 6 or stream[0] & 15 != 8 or stream[1] & 32 or int.from_bytes(stream[:2], "big") % 31:
        return None
    unpacking = zlib_ng.decompressobj(wbits=-15)
    try:
        unpacked = unpacking.decompress(stream[2:], size + 1)
    except zlib_ng.error:  # type: ignore[misc]  # its stub calls the class an instance
        return None
    ended = len(unpacking.unused_data) == 4  # with the check sum and nothing else behind it
    return unpacked if ended and len(unpacked) == size else None
