"""Brush codes give their masks back, are read as a decoder that goes bit by bit reads them, or are refused."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.export.made_masks import made_labels
from tests.export.test_label_studio import decode

from subcam.data.labels.brush_code import brush_rle, mask_of_brush
from subcam.errors import BadInputError


def code(count: int, blocks: Sequence[str], *, word: int = 8, sizes: Sequence[int] = (3, 4, 8, 16)) -> list[int]:
    bits = f"{count:032b}" + f"{word - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes) + "".join(blocks)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


def run(length: int, value: int, which: int = 0, size: int = 3) -> str:
    return "1" + f"{which:02b}" + f"{length - 1:0{size}b}" + f"{value:08b}"


def many(values: Sequence[int], which: int = 0, size: int = 3) -> str:
    return "0" + f"{which:02b}" + f"{len(values) - 1:0{size}b}" + "".join(f"{value:08b}" for value in values)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", [(1, 1), (60, 70), (300, 301)], ids=str)
def test_a_mask_comes_back(seed: int, size: tuple[int, int]) -> None:
    labels = made_labels(size, seed) if min(size) > 1 else np.ones(size, np.uint8)
    for value in (0, 1, 2, 3):
        mask = labels == value
        assert (mask_of_brush(brush_rle(mask).tolist(), size) == mask).all()


def test_only_how_far_a_pixel_is_seen_counts() -> None:
    """By hand: colours of a brush, soft edges, blocks of single values beside runs."""
    pixels = [(9, 8, 7, 255), (9, 8, 7, 128), (9, 8, 7, 127), (255, 255, 255, 0)]
    values = [value for pixel in pixels for value in pixel]
    expected = [[True, True], [False, False]]
    singles = code(16, [many(values[:8]), many(values[8:])])
    assert mask_of_brush(singles, (2, 2)).tolist() == expected
    mixed = code(16, [many(values[:6]), run(1, 7), run(1, 128), many(values[8:12]), run(3, 255), run(1, 0)])
    assert mask_of_brush(mixed, (2, 2)).tolist() == expected
    other_sizes = code(16, [many(values, which=3, size=7)], sizes=(1, 2, 3, 7))
    assert mask_of_brush(other_sizes, (2, 2)).tolist() == expected


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_blocks_are_read_as_bit_by_bit(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(1, 16), min_size=4, max_size=4))
    blocks, values = [], []
    while len(values) < 80:
        which = data.draw(st.integers(0, 3))
        longest = min(1 << sizes[which], 80 - len(values))
        length = data.draw(st.integers(1, longest))
        if data.draw(st.booleans()):
            value = data.draw(st.sampled_from([0, 255]))
            blocks.append(run(length, value, which, sizes[which]))
            values += [value] * length
        else:
            part = data.draw(st.lists(st.integers(0, 255), min_size=length, max_size=length))
            blocks.append(many(part, which, sizes[which]))
            values += part
    expected = np.array(values).reshape(4, 5, 4)[..., 3] > 127
    assert (mask_of_brush(code(80, blocks, sizes=sizes), (4, 5)) == expected).all()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_changed_code_is_a_mask_of_the_size_or_one_error(data: st.DataObject) -> None:
    whole = brush_rle(made_labels((12, 14), 1) == 2).tolist()
    place = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.sampled_from([0, 1, 2, 1000]))
    put = data.draw(st.lists(st.integers(0, 255), max_size=3))
    changed = whole[:place] + put + whole[place + length :]
    try:
        mask = mask_of_brush(changed, (12, 14))
    except BadInputError:
        return
    assert (mask.shape, mask.dtype) == ((12, 14), bool)
    bits = "".join(f"{byte:08b}" for byte in changed)
    assert int(bits[:32], 2) == 12 * 14 * 4


@pytest.mark.parametrize(
    ("rle", "said"),
    [
        (None, "list of at least 7 bytes, got None"),
        (10**12, "list of at least 7 bytes, got 10000"),
        ("AAAA", "list of at least 7 bytes"),
        ([], "list of at least 7 bytes"),
        ([0] * 6, "list of at least 7 bytes"),
        ([256] * 20, "whole numbers 0..255"),
        ([-1] * 20, "whole numbers 0..255"),
        ([1.5] * 20, "whole numbers 0..255"),
        (["1"] * 20, "whole numbers 0..255"),
        ([[1]] * 20, "whole numbers 0..255"),
        (code(2**32 - 1, [run(8, 0)]), "expected a brush of 8 values .* got 4,294,967,295 of 8"),
        (code(4, [run(4, 0)]), "expected a brush of 8 values .* of 2 x 1 .* got 4 of 8"),
        (code(8, [run(8, 0)], word=32), "got 8 of 32"),
        (code(8, [run(4, 0)]), "ends after fewer"),
        (code(8, []), "ends after fewer"),
        (code(8, [run(4, 0), run(8, 0)]), "leads beyond"),
        (code(8, [run(65536, 0, 3, 16)]), "leads beyond"),
        (code(8, ["000" + "111", "0" * 8]), "ends after fewer"),
    ],
)
def test_what_is_no_code_of_the_image(rle: Any, said: str) -> None:
    with pytest.raises(BadInputError, match=said):
        mask_of_brush(rle, (1, 2))


def test_the_reader_of_the_tests_reads_the_same() -> None:
    mask = made_labels((30, 31), 2) == 1
    rle = brush_rle(mask).tolist()
    assert (decode(rle, mask.shape) == mask_of_brush(rle, mask.shape)).all()
