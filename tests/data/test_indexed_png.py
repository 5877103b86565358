"""The short way to a mask's values beside Pillow's: equal values, and none for any file that is not plain."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from subcam.data import images
from subcam.data.images import read_indices, voc_palette, write_mask
from subcam.data.indexed_png import quick_values

HEADER = struct.pack(">IIBBBBB", 3, 2, 8, 3, 0, 0, 0)
ROWS = b"\0\1\2\3\0\4\5\xff"
VALUES = [[1, 2, 3], [4, 5, 255]]
PALETTE = (b"PLTE", bytes(768))
END = ((b"IDAT", zlib.compress(ROWS)), (b"IEND", b""))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of these chunks, with the right check sums."""
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def palette_png(
    *, header: bytes = HEADER, packed: bytes | None = None, before: tuple = (PALETTE,), after: tuple = ()
) -> bytes:
    packed = zlib.compress(ROWS) if packed is None else packed
    return png((b"IHDR", header), *before, (b"IDAT", packed), *after, (b"IEND", b""))


def test_by_hand() -> None:
    assert quick_values(palette_png()).tolist() == VALUES
    text = (b"tEXt", b"Origin\0x")
    assert quick_values(palette_png(before=(text, PALETTE), after=(text,))).tolist() == VALUES
    grey = struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0)
    assert quick_values(palette_png(header=grey, before=())).tolist() == VALUES
    packed = zlib.compress(ROWS)
    parts = ((b"IDAT", packed[:5]), (b"IDAT", b""), (b"IDAT", packed[5:]))
    assert quick_values(png((b"IHDR", HEADER), PALETTE, *parts, (b"IEND", b""))).tolist() == VALUES


def header(width: int = 3, height: int = 2, *form: int) -> bytes:
    return struct.pack(">IIBBBBB", width, height, *(form or (8, 3, 0, 0, 0)))


NOT_PLAIN = {
    "no PNG": b"BM" + palette_png(),
    "empty": b"",
    "no palette": palette_png(before=()),
    "two palettes": palette_png(before=(PALETTE, PALETTE)),
    "a palette after the pixels": palette_png(before=(), after=(PALETTE,)),
    "two headers": palette_png(before=((b"IHDR", HEADER), PALETTE)),
    "a header that is not the first": png(PALETTE, (b"IHDR", HEADER), *END),
    "a header in another chunk": png((b"tEXt", HEADER), (b"IHDR", b""), PALETTE, *END),
    "a long header": palette_png(header=HEADER + b"\0"),
    "4 bits": palette_png(header=header(3, 2, 4, 3, 0, 0, 0)),
    "16 bits": palette_png(header=header(3, 2, 16, 0, 0, 0, 0), before=()),
    "colours": palette_png(header=header(1, 2, 8, 2, 0, 0, 0), before=()),
    "interlaced": palette_png(header=header(3, 2, 8, 3, 0, 0, 1)),
    "another packing": palette_png(header=header(3, 2, 8, 3, 1, 0, 0)),
    "other filters": palette_png(header=header(3, 2, 8, 3, 0, 1, 0)),
    "no pixel": palette_png(header=header(0, 2), packed=zlib.compress(b"\0\0")),
    "too many pixels": palette_png(header=header(1 << 20, 1 << 20)),
    "a row that is filtered": palette_png(packed=zlib.compress(b"\0\1\2\3\2\4\5\6")),
    "a row too few": palette_png(packed=zlib.compress(ROWS[:4])),
    "a byte too many": palette_png(packed=zlib.compress(ROWS + b"\0")),
    "pixels that do not end": palette_png(packed=zlib.compress(ROWS)[:-7]),
    "pixels without a check sum": palette_png(packed=zlib.compress(ROWS)[:-4]),
    "something behind the pixels": palette_png(packed=zlib.compress(ROWS) + b"x"),
    "pixels that are not packed": palette_png(packed=ROWS),
    "pixels packed as gzip": palette_png(packed=zlib.compress(ROWS, wbits=31)),
    "another packing in the stream": palette_png(packed=b"\x77\x85" + zlib.compress(ROWS)[2:]),
    "a damaged head of the stream": palette_png(packed=b"\x78\x02" + zlib.compress(ROWS)[2:]),
    "a preset dictionary": palette_png(packed=b"\x78\xbb" + zlib.compress(ROWS)[2:]),
    "a damaged stream": palette_png(packed=zlib.compress(ROWS)[:2] + b"\xff" * 9),
    "no pixels": png((b"IHDR", HEADER), PALETTE, (b"IEND", b"")),
    "pixels in two places": palette_png(after=((b"tEXt", b"a\0b"), (b"IDAT", b""))),
    "a chunk that nobody knows": palette_png(after=((b"zzZz", b""),)),
    "an animation": palette_png(before=((b"acTL", struct.pack(">II", 1, 0)), PALETTE)),
    "no end": palette_png()[:-12],
    "cut off": palette_png()[:-1],
}


@pytest.mark.parametrize("data", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_what_is_not_plain_is_left_to_pillow(data: bytes) -> None:
    assert quick_values(data) is None


def test_more_pixels_than_pillow_takes_are_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    assert quick_values(palette_png()) is None
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert quick_values(palette_png()) is not None


def test_little_is_unpacked_of_a_stream_that_holds_far_more() -> None:
    packed = zlib.compress(bytes(1 << 26))
    data = palette_png(packed=packed)
    assert len(data) < 1 << 17
    tracemalloc.start()
    try:
        assert quick_values(data) is None
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(values=st.integers(0, 2**32), mode=st.sampled_from(["P", "L", "1", "RGB", "I;16"]), noise=st.booleans())
def test_equals_pillow_for_what_pillow_writes(values: int, mode: str, noise: bool) -> None:
    rng = np.random.default_rng(values)
    mask = rng.integers(0, 256, (7, 9), np.uint8) if noise else np.full((7, 9), values % 256, np.uint8)
    stored = Image.fromarray(mask).convert(mode) if mode != "P" else Image.fromarray(mask)
    if mode == "P":
        stored.putpalette(voc_palette().tobytes())
    written = io.BytesIO()
    stored.save(written, format="PNG", **({"bits": 8} if mode == "P" else {}))
    found = quick_values(written.getvalue())
    with Image.open(io.BytesIO(written.getvalue())) as read:
        assert found is None or np.array_equal(found, np.asarray(read))
    assert found is not None or mode != "P"


def test_our_own_masks_are_read_the_short_way_and_each_damaged_byte_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, mask = tmp_path / "a.png", np.arange(60, dtype=np.uint8).reshape(6, 10)
    write_mask(path, mask, palette=voc_palette(), origin="somewhere")
    data = path.read_bytes()
    assert np.array_equal(quick_values(data), mask)
    assert np.array_equal(read_indices(path), mask)
    for place in range(len(data)):
        assert quick_values(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]) is None, place
    monkeypatch.setattr(images, "quick_values", lambda data: None)
    assert np.array_equal(read_indices(path), mask)
