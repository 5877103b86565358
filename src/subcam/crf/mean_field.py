"""Mean field of the dense CRF over two lattices, on the CPU (Section 3.3; Kraehenbuehl and Koltun 2011).

In: odds of every class against the last one, and the two lattices. Out: marginals. An iteration is
Q <- softmax(log p + sum_k weight_k F_k Q) (Potts model), F_k the normalised filter of lattice k.

Three things make it fast. The classes' marginals sum to 1, so the last class is never filtered: its message is the
filters' row sums less the other messages. One pass over the pixels slices the old vertex values, takes the softmax
and splats into the new ones, in blocks that stay in the first cache, so that vertices and weights are read once. And
kernels are compiled for a width, with explicit vectors. Marginals below 1e-16 count as 0: denormal numbers, which a
processor handles ten times slower, do not arise.

Channels lie side by side: `sets` groups of `segment` each, a group the classes but the last of one score set, then
zeros. `wide` is the width of the softmax's registers, several pixels or one widened pixel.
"""

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import numpy as np

from subcam.crf.lattice import Lattice
from subcam.crf.simd import (
    MAX_EXPONENT,
    at_least,
    element,
    exp,
    fill,
    load,
    segment_max,
    segment_sum,
    store,
    widen,
    zero_up_to,
)
from subcam.runtime.caches.kernels import kernel

BLOCK = 64
"""Pixels of one round of slice, softmax and splat."""
CACHE_LINE = 64
NEGLIGIBLE = np.float32(1e-16)
SMALLEST, LARGEST = np.float32(1e-5), np.float32(1)
"""What probabilities are clipped to before the logarithm, as in the published pipelines."""
MAX_SEGMENT = 16
MAX_WIDTH = 32


class Widths(NamedTuple):
    """Widths of the kernels, as tuples of that length, and how many score sets go side by side."""

    sets: int
    segment: tuple[int, ...]
    padded: tuple[int, ...]
    wide: tuple[int, ...]


def choose_widths(num_classes: int, num_sets: int) -> Widths:
    """Up to 17 classes a power of two, and as many sets (a power of two) as fit 32 channels; else a multiple of 4."""
    channels = max(num_classes - 1, 1)
    if channels > MAX_SEGMENT:
        padded = -(-channels // 4) * 4
        wide = 1 << (padded - 1).bit_length()
        return Widths(sets=1, segment=(0,) * wide, padded=(0,) * padded, wide=(0,) * wide)
    segment = 1 << (channels - 1).bit_length()
    sets = 1
    while 2 * sets <= num_sets and 2 * sets * segment <= MAX_WIDTH:
        sets *= 2
    padded = sets * segment
    return Widths(sets=sets, segment=(0,) * segment, padded=(0,) * padded, wide=(0,) * max(padded, 16))


def aligned_zeros(size: int) -> np.ndarray:
    """Float32 zeros that start on a cache line, so that whole-register reads touch one line each."""
    raw = np.zeros(size + CACHE_LINE // 4, np.float32)
    start = -raw.ctypes.data % CACHE_LINE // 4
    return raw[start : start + size]


def infer_sets(
    score_sets: Sequence[np.ndarray],
    spatial: Lattice,
    bilateral: Lattice,
    *,
    spatial_weight: float,
    bilateral_weight: float,
    iterations: int,
    widths: Widths,
) -> tuple[np.ndarray, int]:
    """Marginals, float32 [sets, cls, pixels], of `widths.sets` score sets, each float32 [cls, pixels].

    Returns also how many of the scores are not finite or negative; the marginals mean nothing if there are any.
    """
    num_classes, pixels = score_sets[0].shape
    sets, segment, padded, wide = widths
    odds = aligned_zeros(pixels * len(padded) + len(wide))
    unusable = sum(_odds(scores, odds, i * len(padded) // sets, len(padded)) for i, scores in enumerate(score_sets))
    marginals = np.empty((sets, num_classes, pixels), np.float32)
    if unusable:
        return marginals, unusable
    steep = spatial_weight * spatial.row_sums.max() + bilateral_weight * bilateral.row_sums.max() > MAX_EXPONENT
    stride = len(wide) if len(padded) & (len(padded) - 1) else len(padded)
    _mean_field(
        odds,
        _arrays(spatial, len(padded)),
        _arrays(bilateral, len(padded)),
        (np.float32(spatial_weight), np.float32(bilateral_weight), np.float32(1 / (len(padded) // sets + 1))),
        bool(steep),
        iterations,
        padded,
        segment,
        wide,
        aligned_zeros(2 * BLOCK * stride + len(wide)),
        marginals,
    )
    return marginals, 0


def _arrays(lattice: Lattice, padded: int) -> tuple[np.ndarray, ...]:
    """A lattice for the kernels, with two buffers of vertex values and a row of zeros for absent neighbours."""
    values = (aligned_zeros((lattice.num_vertices + 1) * padded) for _ in range(2))
    return lattice.vertices, lattice.weights, lattice.neighbours, lattice.row_sums, *values


@kernel()
@no_type_check
def _odds(scores, odds, channel, padded):
    """Clipped scores over the last class's, pixel after pixel from `channel` on; returns how many were unusable."""
    num_classes, pixels = scores.shape
    unusable = 0
    inverse = np.empty(BLOCK, np.float32)
    for first in range(0, pixels, BLOCK):
        count = min(BLOCK, pixels - first)
        for index in range(num_classes - 1, -1, -1):
            for i in range(count):
                value = scores[index, first + i]
                unusable += not (value >= 0 and value < np.inf)
                clipped = min(max(value, SMALLEST), LARGEST)
                if index == num_classes - 1:
                    inverse[i] = np.float32(1) / clipped
                else:
                    odds[(first + i) * padded + channel + index] = clipped * inverse[i]
    return unusable


@kernel(inline="always")
@no_type_check
def _slice(pixel, vertices, weights, values, corners, own_shape, padded):
    """What a pixel reads from the vertices of its simplex."""
    width, axes = len(padded), len(corners)
    own = load(weights, pixel * axes, own_shape)
    message = element(own, 0) * load(values, np.intp(vertices[pixel * axes]) * width, padded)
    for k in range(1, axes):
        message = message + element(own, k) * load(values, np.intp(vertices[pixel * axes + k]) * width, padded)
    return message


@kernel(inline="always")
@no_type_check
def _splat(marginal, pixel, vertices, weights, values, corners, own_shape, padded):
    """Add a pixel's marginals to the vertices of its simplex."""
    width, axes = len(padded), len(corners)
    own = load(weights, pixel * axes, own_shape)
    for k in range(axes):
        start = np.intp(vertices[pixel * axes + k]) * width
        store(values, start, load(values, start, padded) + element(own, k) * marginal)


@kernel(inline="always")
@no_type_check
def _blur(values, other, neighbours, padded):
    """Blur along all axes, to and fro between two buffers; ends in `values` if the number of axes is even."""
    width = len(padded)
    for axis in range(neighbours.shape[0]):
        for vertex in range(neighbours.shape[1]):
            before = load(values, np.intp(neighbours[axis, vertex, 0]) * width, padded)
            after = load(values, np.intp(neighbours[axis, vertex, 1]) * width, padded)
            own = load(values, vertex * width, padded)
            store(other, vertex * width, own + np.float32(0.5) * (before + after))
        values, other = other, values


@kernel(inline="always")
@no_type_check
def _softmax(buffer, rest, odds, start, count, stride, steep, first, last, padded, segment, wide):
    """Messages in `buffer` into marginals there; in the last pass those of the last class go to `rest` and on.

    With m_c the message of class c, all that is needed is m_c - m_last = m_c + sum of the m but the last - row sum. In
    two loops, as the sums over channels are slow to come and a processor starts only so many operations early.
    """
    one, zero = np.float32(1), np.float32(0)
    for offset in range(0, count * stride, len(wide)):
        if stride == len(padded):
            share = load(odds, start * len(padded) + offset, wide)
        else:
            share = widen(load(odds, (start + offset // stride) * len(padded), padded), wide)
        if not first:
            logit = load(buffer, offset, wide)
            logit = logit + segment_sum(logit, segment)
            if steep:
                largest = at_least(segment_max(logit, segment), zero)
                logit = logit - largest
                store(buffer, rest + offset, exp(zero - largest))
            share = share * exp(logit)
        store(buffer, offset, share)
    for offset in range(0, count * stride, len(wide)):
        share = load(buffer, offset, wide)
        last_share = load(buffer, rest + offset, wide) if steep and not first else fill(one, wide)
        total = segment_sum(share, segment) + last_share
        scale = fill(one / element(total, 0), wide) if len(segment) == len(wide) else one / total
        if last:
            store(buffer, offset, share * scale)
            store(buffer, rest + offset, last_share * scale)
        else:
            store(buffer, offset, zero_up_to(share * scale, NEGLIGIBLE))


@kernel(inline="always")
@no_type_check
def _write(marginals, buffer, rest, start, count, stride, group_lanes):
    """A block's marginals from the buffer to their planes."""
    for group in range(marginals.shape[0]):
        last_class = marginals.shape[1] - 1
        for index in range(last_class):
            for i in range(count):
                marginals[group, index, start + i] = buffer[i * stride + group * group_lanes + index]
        for i in range(count):
            marginals[group, last_class, start + i] = buffer[rest + i * stride + group * group_lanes]


@kernel()
@no_type_check
def _mean_field(odds, spatial, bilateral, weights, steep, iterations, padded, segment, wide, buffer, marginals):
    """All iterations: messages from the sources (but in the first pass), softmax, splat to the targets, blur.

    Row sums are taken off in equal shares from all channels of a segment; the sum over the segment takes off the rest.
    """
    near_vertices, near_weights, near_neighbours, near_sums, near_source, near_target = spatial
    alike_vertices, alike_weights, alike_neighbours, alike_sums, alike_source, alike_target = bilateral
    near_weight, alike_weight, share = weights
    width, pixels = len(padded), marginals.shape[2]
    stride = width if width & (width - 1) == 0 else len(wide)
    rest = BLOCK * stride
    for iteration in range(iterations + 1):
        first, last = iteration == 0, iteration == iterations
        near_target[:] = 0
        alike_target[:] = 0
        for start in range(0, pixels, BLOCK):
            count = min(BLOCK, pixels - start)
            if not first:
                for i in range(count):
                    pixel = start + i
                    row_sum = near_weight * near_sums[pixel] + alike_weight * alike_sums[pixel]
                    near = _slice(pixel, near_vertices, near_weights, near_source, (0,) * 3, (0,) * 4, padded)
                    alike = _slice(pixel, alike_vertices, alike_weights, alike_source, (0,) * 6, (0,) * 8, padded)
                    store(buffer, i * stride, near_weight * near + alike_weight * alike - row_sum * share)
            _softmax(buffer, rest, odds, start, count, stride, steep, first, last, padded, segment, wide)
            if last:
                _write(marginals, buffer, rest, start, count, stride, width // marginals.shape[0])
            else:
                for i in range(count):
                    pixel = start + i
                    marginal = load(buffer, i * stride, padded)
                    _splat(marginal, pixel, near_vertices, near_weights, near_target, (0,) * 3, (0,) * 4, padded)
                    _splat(marginal, pixel, alike_vertices, alike_weights, alike_target, (0,) * 6, (0,) * 8, padded)
        if not last:
            _blur(near_target, near_source, near_neighbours, padded)  # three axes, so it ends in the source
            _blur(alike_target, alike_source, alike_neighbours, padded)
            alike_source, alike_target = alike_target, alike_source
