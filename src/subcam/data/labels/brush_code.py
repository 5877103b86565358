"""Label Studio's brush code, both ways: masks into the runs of an RGBA image, and these into masks.

The format is that of thi.ng's rle-pack, bits in order from the highest: 32 for the number of values, 5 for the bits of
a value less 1, four times 4 for the bits of each size of length less 1. Then blocks follow: a bit (1: one value many
times, 0: many values), two bits for which size, the length less 1 in that size, and the value or the values.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8

from subcam.errors import BadInputError

CHANNELS = 4
WORD_BITS = 8
SIZE_BITS = (3, 4, 8, 16)

_HEAD_BYTES = 7
"""They hold the 53 bits before the first block."""

_HALF = 127
"""A pixel is painted if it is less see-through than this: the brush softens its edges."""


def brush_rle(mask: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, " bytes"]:
    """A mask as the bytes of an RGBA image (0 or 255 in each channel) in runs.

    Blocks of many values do not occur: no run is shorter than the four channels of a pixel.
    """
    values = mask.ravel()
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    lengths = np.diff(np.concatenate([starts, [values.size]])) * CHANNELS
    longest = 1 << SIZE_BITS[-1]
    # A run longer than the largest size holds becomes several.
    parts = -(-lengths // longest)
    run_values = np.repeat(values[starts], parts) * 255
    run_lengths = np.full(parts.sum(), longest, np.int64)
    run_lengths[np.cumsum(parts) - 1] = lengths - (parts - 1) * longest
    which = np.searchsorted([1 << bits for bits in SIZE_BITS], run_lengths)
    size_bits = np.array(SIZE_BITS)[which]
    codes = (((0b100 + which) << size_bits) + run_lengths - 1 << WORD_BITS) + run_values
    head = [(values.size * CHANNELS, 32), (WORD_BITS - 1, 5), *((bits - 1, 4) for bits in SIZE_BITS)]
    return _pack(
        np.concatenate([np.array([number for number, _ in head], np.int64), codes]),
        np.concatenate([np.array([bits for _, bits in head], np.int64), 3 + size_bits + WORD_BITS]),
    )


def mask_of_brush(rle: Any, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """The pixels that a brush code paints: those whose fourth channel (how far they are not see-through) is above 127.

    Args:
        rle: what stands in the file, a list of bytes.
        size: height and width of the image. Nothing larger is ever made.

    Raises:
        BadInputError: no such code, or one of another number of pixels; does not name the file.
    """
    try:
        data = bytes(rle) if isinstance(rle, list) else b""
    except (TypeError, ValueError) as error:
        raise BadInputError(f"expected a brush as whole numbers 0..255, got others ({error})") from error
    if len(data) < _HEAD_BYTES:
        raise BadInputError(f"expected a brush as a list of at least {_HEAD_BYTES} bytes, got {str(rle)[:40]}")
    head = int.from_bytes(data[:_HEAD_BYTES], "big")
    count, word = head >> 24, (head >> 19 & 31) + 1
    wanted = size[0] * size[1] * CHANNELS
    if count != wanted or word != WORD_BITS:
        raise BadInputError(
            f"expected a brush of {wanted:,} values of {WORD_BITS} bits, four for each pixel of {size[1]} x {size[0]} "
            f"(width x height), got {count:,} of {word}"
        )
    sizes = [(head >> shift & 15) + 1 for shift in (15, 11, 7, 3)]
    repeats, lengths, places = _blocks(data, wanted, sizes)
    # The place of each value's bits: a run has one value for all, other blocks one for each.
    words = np.where(repeats, 1, lengths)
    owner = np.repeat(np.arange(len(lengths)), words)
    order = np.arange(len(owner)) - np.repeat(np.cumsum(words) - words, words)
    values = _bytes_at(data, places[owner] + WORD_BITS * order)
    filled = np.repeat(values, np.where(repeats, lengths, 1)[owner])
    return filled.reshape(*size, CHANNELS)[..., -1] > _HALF


def _blocks(data: bytes, wanted: int, sizes: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each block whether it repeats one value, its length, and at which bit its values begin."""
    repeats: list[bool] = []
    lengths: list[int] = []
    places: list[int] = []
    place, found, bits = 53, 0, len(data) * 8
    while found < wanted:
        start = place >> 3
        window = int.from_bytes(data[start : start + 4].ljust(4, b"\0"), "big") << (place & 7) & 0xFFFFFFFF
        size = sizes[window >> 29 & 3]
        length = ((window << 3 & 0xFFFFFFFF) >> (32 - size)) + 1
        repeat = window >> 31 == 1
        place += 3 + size
        repeats.append(repeat)
        lengths.append(length)
        places.append(place)
        place += WORD_BITS if repeat else WORD_BITS * length
        found += length
        if place > bits:
            raise BadInputError(f"expected a brush of {wanted:,} values, got one that ends after fewer")
    if found > wanted:
        raise BadInputError(f"expected a brush of {wanted:,} values, got one whose last block leads beyond them")
    return np.array(repeats), np.array(lengths, np.int64), np.array(places, np.int64)


def _bytes_at(data: bytes, places: np.ndarray) -> UInt8[np.ndarray, " values"]:
    """The eight bits that begin at each place."""
    stored = np.frombuffer(data + b"\0", np.uint8).astype(np.uint16)
    start, shift = places >> 3, (places & 7).astype(np.uint16)
    pairs = (stored[start] << 8) | stored[start + 1]
    return (pairs >> (8 - shift) & 255).astype(np.uint8)


def _pack(numbers: np.ndarray, bits: np.ndarray) -> UInt8[np.ndarray, " bytes"]:
    """Numbers one after another in so many bits each, the highest bit first; filled up with zeros to whole bytes."""
    ends = np.cumsum(bits)
    place = np.arange(ends[-1])
    owner = np.repeat(np.arange(len(numbers)), bits)
    return np.packbits((numbers[owner] >> (ends[owner] - 1 - place)) & 1)
