"""Mean field of the dense CRF over two lattices, on the CPU (Section 3.3; Kraehenbuehl and Koltun 2011).

In: odds of every class against the last one, and the two lattices. Out: marginals. An iteration is
Q <- softmax(log p + sum_k weight_k F_k Q) (Potts model), F_k the normalised filter of lattice k.

Three things make it fast. The classes' marginals sum to 1, so the last class is never filtered: its message is the
filters' row sums less the other messages. One pass over the pixels slices the old vertex values, takes the softmax
and splats into the new ones, in blocks that stay in the first cache, so that vertices and weights are read once. And
kernels are compiled for a width, with explicit vectors. Marginals below 1e-16 count as 0: denormal numbers, which a
processor handles ten times slower, do not arise.

Channels lie side by side: `sets` groups of `segment` lanes, a group the classes but the last of one score set, then
zeros. `wide` is the width of the softmax's registers, several pixels or one widened pixel.
"""

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import numpy as np
from numba import njit

from subcam.refine.lanes import (
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
from subcam.refine.lattice import Lattice

BLOCK = 64
"""Pixels of one round of slice, softmax and splat."""
CACHE_LINE = 64
NEGLIGIBLE = np.float32(1e-16)
SMALLEST, LARGEST = np.float32(1e-5), np.float32(1)
"""What probabilities are clipped to before the logarithm, as in the published pipelines."""
MAX_SEGMENT = 16
MAX_LANES = 32


class Widths(NamedTuple):
    """Widths of the kernels, as tuples of that length, and how many score sets go side by side."""

    sets: int
    segment: tuple[int, ...]
    lanes: tuple[int, ...]
    wide: tuple[int, ...]


def choose_widths(num_classes: int, num_sets: int) -> Widths:
    """Up to 17 classes a power of two, and as many sets (a power of two) as make 32 lanes; else a multiple of four."""
    channels = max(num_classes - 1, 1)
    if channels > MAX_SEGMENT:
        lanes = -(-channels // 4) * 4
        wide = 1 << (lanes - 1).bit_length()
        return Widths(sets=1, segment=(0,) * wide, lanes=(0,) * lanes, wide=(0,) * wide)
    segment = 1 << (channels - 1).bit_length()
    sets = 1
    while 2 * sets <= num_sets and 2 * sets * segment <= MAX_LANES:
        sets *= 2
    lanes = sets * segment
    return Widths(sets=sets, segment=(0,) * segment, lanes=(0,) * lanes, wide=(0,) * max(lanes, 16))


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
    sets, segment, lanes, wide = widths
    odds = aligned_zeros(pixels * len(lanes) + len(wide))
    unusable = sum(_odds(scores, odds, i * len(lanes) // sets, len(lanes)) for i, scores in enumerate(score_sets))
    marginals = np.empty((sets, num_classes, pixels), np.float32)
    if unusable:
        return marginals, unusable
    share = 1 / (len(lanes) // sets + 1)
    weights = (np.float32(spatial_weight), np.float32(bilateral_weight), np.float32(share))
    steep = spatial_weight * spatial.row_sums.max() + bilateral_weight * bilateral.row_sums.max() > MAX_EXPONENT
    padded = len(wide) if len(lanes) & (len(lanes) - 1) else len(lanes)
    _mean_field(
        odds,
        (spatial.vertices, spatial.weights, spatial.neighbours, spatial.row_sums),
        (bilateral.vertices, bilateral.weights, bilateral.neighbours, bilateral.row_sums),
        tuple(aligned_zeros((spatial.num_vertices + 1) * len(lanes)) for _ in range(2)),
        tuple(aligned_zeros((bilateral.num_vertices + 1) * len(lanes)) for _ in range(2)),
        weights,
        bool(steep),
        iterations,
        lanes,
        segment,
        wide,
        aligned_zeros(2 * BLOCK * padded + len(wide)),
        marginals,
    )
    return marginals, 0


@njit(nogil=True, cache=True)
@no_type_check
def _odds(scores, odds, lane, lanes):
    """Clipped scores over the last class's, pixel after pixel from `lane` on; returns how many were unusable."""
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
                    odds[(first + i) * lanes + lane + index] = clipped * inverse[i]
    return unusable


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _slice(message, pixel, vertices, weights, values, corner_shape, weight_shape, lanes):
    """`message` plus what a pixel reads from the vertices of its simplex."""
    width, axes = len(lanes), len(corner_shape)
    own = load(weights, pixel * axes, weight_shape)
    for k in range(axes):
        row = load(values, np.intp(vertices[pixel * axes + k]) * width, lanes)
        message = message + element(own, k) * row
    return message


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _splat(share, pixel, vertices, weights, values, corner_shape, weight_shape, lanes):
    """Add a pixel's marginals to the vertices of its simplex."""
    width, axes = len(lanes), len(corner_shape)
    own = load(weights, pixel * axes, weight_shape)
    for k in range(axes):
        start = np.intp(vertices[pixel * axes + k]) * width
        store(values, start, load(values, start, lanes) + element(own, k) * share)


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _blur(values, other, neighbours, lanes):
    """Blur along all axes, to and fro between two buffers; ends in `values` if the number of axes is even."""
    width = len(lanes)
    for axis in range(neighbours.shape[0]):
        for vertex in range(neighbours.shape[1]):
            before = load(values, np.intp(neighbours[axis, vertex, 0]) * width, lanes)
            after = load(values, np.intp(neighbours[axis, vertex, 1]) * width, lanes)
            own = load(values, vertex * width, lanes)
            store(other, vertex * width, own + np.float32(0.5) * (before + after))
        values, other = other, values


@njit(nogil=True, cache=True, inline="always")
@no_type_check
def _pass(
    odds,
    spatial,
    bilateral,
    spatial_source,
    spatial_target,
    bilateral_source,
    bilateral_target,
    weights,
    steep,
    first,
    last,
    lanes,
    segment,
    wide,
    buffer,
    marginals,
):
    """One pass over the pixels: messages from the sources (but in the first), softmax, splat to the targets.

    The last pass writes the marginals instead. With m_c the message of class c, all that the softmax needs is
    m_c - m_last = m_c + sum of the m but the last - row sum; the row sum is taken off in equal shares from all lanes.
    """
    width, one, zero = len(lanes), np.float32(1), np.float32(0)
    stride = width if width & (width - 1) == 0 else len(wide)
    spatial_weight, bilateral_weight, share = weights
    spatial_vertices, spatial_weights, _, spatial_sums = spatial
    bilateral_vertices, bilateral_weights, _, bilateral_sums = bilateral
    sets, num_classes, pixels = marginals.shape
    group_lanes = width // sets
    rest = BLOCK * stride
    for start in range(0, pixels, BLOCK):
        count = min(BLOCK, pixels - start)
        if not first:
            for i in range(count):
                pixel = start + i
                row_sum = spatial_weight * spatial_sums[pixel] + bilateral_weight * bilateral_sums[pixel]
                near = _slice(
                    fill(zero, lanes),
                    pixel,
                    spatial_vertices,
                    spatial_weights,
                    spatial_source,
                    (0,) * 3,
                    (0,) * 4,
                    lanes,
                )
                alike = _slice(
                    fill(zero, lanes),
                    pixel,
                    bilateral_vertices,
                    bilateral_weights,
                    bilateral_source,
                    (0,) * 6,
                    (0,) * 8,
                    lanes,
                )
                message = spatial_weight * near + bilateral_weight * alike - row_sum * share
                store(buffer, i * stride, message)
        for offset in range(0, count * stride, len(wide)):
            if stride == width:
                marginal = load(odds, start * width + offset, wide)
            else:
                marginal = widen(load(odds, (start + offset // stride) * width, lanes), wide)
            reference = fill(one, wide)
            if not first:
                logit = load(buffer, offset, wide)
                logit = logit + segment_sum(logit, segment)
                if steep:
                    largest = at_least(segment_max(logit, segment), zero)
                    logit = logit - largest
                    reference = exp(zero - largest)
                marginal = marginal * exp(logit)
            total = segment_sum(marginal, segment) + reference
            scale = fill(one / element(total, 0), wide) if len(segment) == len(wide) else one / total
            marginal = marginal * scale
            if last:
                store(buffer, rest + offset, reference * scale)
            else:
                marginal = zero_up_to(marginal, NEGLIGIBLE)
            store(buffer, offset, marginal)
        if last:
            for group in range(sets):
                for index in range(num_classes - 1):
                    for i in range(count):
                        marginals[group, index, start + i] = buffer[i * stride + group * group_lanes + index]
                for i in range(count):
                    marginals[group, num_classes - 1, start + i] = buffer[rest + i * stride + group * group_lanes]
        else:
            for i in range(count):
                marginal = load(buffer, i * stride, lanes)
                _splat(
                    marginal, start + i, spatial_vertices, spatial_weights, spatial_target, (0,) * 3, (0,) * 4, lanes
                )
                _splat(
                    marginal,
                    start + i,
                    bilateral_vertices,
                    bilateral_weights,
                    bilateral_target,
                    (0,) * 6,
                    (0,) * 8,
                    lanes,
                )


@njit(nogil=True, cache=True)
@no_type_check
def _mean_field(
    odds,
    spatial,
    bilateral,
    spatial_values,
    bilateral_values,
    weights,
    steep,
    iterations,
    lanes,
    segment,
    wide,
    buffer,
    marginals,
):
    spatial_source, spatial_target = spatial_values
    bilateral_source, bilateral_target = bilateral_values
    for iteration in range(iterations + 1):
        spatial_target[:] = 0
        bilateral_target[:] = 0
        last = iteration == iterations
        _pass(
            odds,
            spatial,
            bilateral,
            spatial_source,
            spatial_target,
            bilateral_source,
            bilateral_target,
            weights,
            steep,
            iteration == 0,
            last,
            lanes,
            segment,
            wide,
            buffer,
            marginals,
        )
        if not last:
            _blur(spatial_target, spatial_source, spatial[2], lanes)
            _blur(bilateral_target, bilateral_source, bilateral[2], lanes)
            bilateral_source, bilateral_target = bilateral_target, bilateral_source
