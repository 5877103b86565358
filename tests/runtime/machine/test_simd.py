import numba
import numpy as np
import pytest

from subcam.crf.mean_field import BLOCK, aligned_zeros, choose_widths
from subcam.runtime.machine import simd
from subcam.runtime.machine.simd import (
    REGISTER,
    at_least,
    below,
    element,
    equal,
    fill,
    load,
    load_rows,
    repeat,
    rint,
    segment_max,
    segment_sum,
    store,
    store_rows,
)

WIDTH = (0,) * 8
ONE_REGISTER = (0,) * REGISTER


@numba.njit
def exponentials(x, out, width):
    for start in range(0, x.size, len(width)):
        store(out, start, simd.exp(load(x, start, width)))


@numba.njit
def combine(x, out, segment, width):
    store(out, 0, segment_sum(load(x, 0, width), segment))
    store(out, len(width), segment_max(load(x, 0, width), segment))


@numba.njit
def arithmetic(x, y, out, scalar):
    a, b = load(x, 0, WIDTH), load(y, 0, WIDTH)
    store(out, 0, a + b * scalar)
    store(out, 8, scalar - a / b)
    store(out, 16, below(a, b))
    store(out, 24, equal(a, scalar))
    store(out, 32, at_least(a, b))
    store(out, 40, rint(a))
    store(out, 48, fill(element(a, 3), WIDTH))


@numba.njit
def rows_times(x, y, out, pitch, rows):
    store_rows(out, 2, pitch, repeat(load(y, 0, ONE_REGISTER), rows) * load_rows(x, 1, pitch, rows))


@pytest.mark.parametrize("kind", ["f4", "f8"])
@pytest.mark.parametrize("rows", [1, 3])
def test_rows(rows, kind):
    """Registers of several rows, in either precision; nothing is written beside them."""
    x, y = np.random.default_rng(0).random((rows, 20)).astype(kind), np.random.default_rng(1).random(16).astype(kind)
    out = np.zeros_like(x)
    rows_times(x.ravel(), y, out.ravel(), 20, (0,) * rows)
    expected = np.pad(y * x[:, 1:17], ((0, 0), (2, 2)))
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("count", [1, 4, 16, 20, 32])
def test_exp(count):
    x = np.linspace(-60, 60, 4160).astype(np.float32)
    out = np.empty_like(x)
    exponentials(x, out, (0,) * count)
    np.testing.assert_allclose(out, np.exp(x.astype(float)), rtol=2e-7)


def test_exp_is_held_at_its_limits():
    x = np.array([-1e4, -60, 60, 1e4] * 2, np.float32)
    out = np.empty_like(x)
    exponentials(x, out, WIDTH)
    np.testing.assert_allclose(out, np.exp(np.clip(x.astype(float), -60, 60)), rtol=2e-7)


@pytest.mark.parametrize(
    ("segment", "count"), [(1, 1), (1, 4), (2, 4), (4, 8), (8, 32), (16, 16), (16, 32), (20, 20), (44, 44), (128, 128)]
)
def test_segments(segment, count):
    x = np.random.default_rng(0).normal(-5, 1, count).astype(np.float32)  # so that the largest is below 0
    out = np.empty(2 * count, np.float32)
    combine(x, out, (0,) * segment, (0,) * count)
    parts = x.reshape(-1, segment)
    np.testing.assert_allclose(out[:count], parts.sum(1).repeat(segment), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(out[count:], parts.max(1).repeat(segment))


def test_arithmetic_and_comparisons():
    a = np.array([-2.5, -1, 0, 0.5, 1.5, 2.5, 3, 7], np.float32)
    b = np.array([1, -1, 2, 0.25, 8, 1, 3, -7], np.float32)
    out = np.empty(56, np.float32)
    arithmetic(a, b, out, np.float32(0.5))
    expected = [a + b * 0.5, 0.5 - a / b, a < b, a == 0.5, np.maximum(a, b), np.rint(a)]
    for number, values in enumerate([*expected, np.full(8, a[3])]):
        np.testing.assert_allclose(out[8 * number : 8 * number + 8], values, rtol=1e-6, err_msg=str(number))


@pytest.mark.parametrize("sets", [1, 2, 3, 5, 40])
@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5, 9, 17, 18, 21, 33, 81])
def test_widths_hold_all_channels(classes, sets):
    widths = choose_widths(classes, sets)
    room = len(widths.padded) // widths.sets
    assert classes - 1 <= room
    assert room <= len(widths.segment)
    assert 1 <= widths.sets <= sets
    assert len(widths.piece) % len(widths.segment) == 0
    assert BLOCK * len(widths.padded) % len(widths.piece) == 0


@pytest.mark.parametrize("size", [1, 15, 16, 1000])
def test_aligned_zeros(size):
    array = aligned_zeros(size)
    assert array.shape == (size,)
    assert array.ctypes.data % 64 == 0
    np.testing.assert_array_equal(array, 0)
