"""Mean field of the dense CRF over two lattices, on the CPU (Section 3.3; Kraehenbuehl and Koltun 2011).

In: odds of every class against the last one, and the two lattices. Out: marginals. An iteration is
Q <- softmax(log p + sum_k weight_k F_k Q) (Potts model), F_k the normalised filter of lattice k.

Three things make it fast. A softmax knows only differences of logits, so the filters, which are linear, are handed the
other classes' marginals less those of the last, and one channel less than there are classes. One pass over the pixels
slices the old vertex values, takes the softmax and splats into the new ones, in blocks that stay in the first cache, so
that vertices and weights are read once. And kernels are compiled for a width, with explicit vectors. Both marginals of
a difference are raised by 1e-16, which rounds the smallest to 0: denormal numbers, which a processor handles ten times
slower, do not arise.

Channels lie side by side: `sets` groups of `segment` each, a group the classes but the last of one score set, then
channels of odds 0. The softmax takes a `piece` at a time, several pixels in one register or one pixel in several.
"""

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import numpy as np

from subcam.crf.lattice import Lattice
from subcam.crf.lattice_blur import blur
from subcam.runtime.caches.kernels import kernel
from subcam.runtime.machine.simd import (
    MAX_EXPONENT,
    REGISTER,
    at_least,
    element,
    exp,
    fill,
    load,
    segment_max,
    segment_sum,
    store,
)

BLOCK = 64
"""Pixels of one round of slice, softmax and splat."""
LONG_BLOCK = 256
"""Pixels of which scores are read at once: long enough for a processor to fetch ahead from each class's plane."""
CACHE_LINE = 64
WIDTH = (0,) * REGISTER
NEGLIGIBLE = np.float32(1e-16)
SMALLEST, LARGEST = np.float32(1e-5), np.float32(1)
"""What probabilities are clipped to before the logarithm, as in the published pipelines."""
MAX_WIDTH = 32


class Widths(NamedTuple):
    """Widths of the kernels, as tuples of that length, and how many score sets go side by side."""

    sets: int
    segment: tuple[int, ...]
    padded: tuple[int, ...]
    piece: tuple[int, ...]


def choose_widths(num_classes: int, num_sets: int) -> Widths:
    """Up to 17 classes a power of two, and as many sets (a power of two) as fit 32 channels; else a multiple of 4."""
    channels = max(num_classes - 1, 1)
    if channels > REGISTER:
        whole = (0,) * (-(-channels // 4) * 4)
        return Widths(sets=1, segment=whole, padded=whole, piece=whole)
    segment = 1 << (channels - 1).bit_length()
    sets = 1
    while 2 * sets <= num_sets and 2 * sets * segment <= MAX_WIDTH:
        sets *= 2
    return Widths(sets=sets, segment=(0,) * segment, padded=(0,) * (sets * segment), piece=WIDTH)


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
    copies: int = 1,
) -> tuple[np.ndarray, int]:
    """Marginals, float32 [sets, cls, pixels], of `widths.sets` score sets, each float32 [cls, pixels].

    copies: how many classes of equal scores the last one stands for. Equal classes stay equal in every iteration, so
        that one is enough; its marginals are those of each of them.

    Returns also how many of the scores are not finite or negative; the marginals mean nothing if there are any.
    """
    num_classes, pixels = score_sets[0].shape
    sets, padded = widths.sets, widths.padded
    odds = aligned_zeros(pixels * len(padded) + REGISTER)
    unusable = sum(_odds(scores, odds, i * len(padded) // sets, len(padded)) for i, scores in enumerate(score_sets))
    marginals = np.empty((sets, num_classes, pixels), np.float32)
    if unusable:
        return marginals, unusable
    _mean_field(
        odds,
        _arrays(spatial, len(padded)),
        _arrays(bilateral, len(padded)),
        (np.float32(spatial_weight), np.float32(bilateral_weight)),
        iterations,
        widths[1:],
        np.float32(copies),
        aligned_zeros(2 * BLOCK * len(padded)),
        marginals,
    )
    return marginals, 0


def _arrays(lattice: Lattice, padded: int) -> tuple[np.ndarray, ...]:
    """A lattice for the kernels, with two buffers of vertex values and a row of zeros for absent neighbours."""
    values = (aligned_zeros((lattice.num_vertices + 1) * padded) for _ in range(2))
    return lattice.vertices, lattice.weights, lattice.neighbours, *values


@kernel()
@no_type_check
def _odds(scores, odds, channel, padded):
    """Clipped scores over the last class's, pixel after pixel from `channel` on; returns how many were unusable."""
    num_classes, pixels = scores.shape
    unusable = 0
    inverse, ratio = np.empty(LONG_BLOCK, np.float32), np.empty(LONG_BLOCK, np.float32)
    for first in range(0, pixels, LONG_BLOCK):
        count = min(LONG_BLOCK, pixels - first)
        for index in range(num_classes - 1, -1, -1):
            plane = scores[index, first : first + count]
            for i in range(count):
                unusable += not (plane[i] >= 0 and plane[i] < np.inf)
                clipped = min(max(plane[i], SMALLEST), LARGEST)
                if index == num_classes - 1:
                    inverse[i] = np.float32(1) / clipped
                ratio[i] = clipped * inverse[i]
            if index < num_classes - 1:
                for i in range(count):
                    odds[(first + i) * padded + channel + index] = ratio[i]
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
def _largest(buffer, size):
    """The largest of the first numbers in the buffer; a little more of them than asked for."""
    largest = load(buffer, 0, WIDTH)
    for at in range(REGISTER, size, REGISTER):
        largest = at_least(largest, load(buffer, at, WIDTH))
    return element(segment_max(largest, WIDTH), 0)


@kernel(inline="always")
@no_type_check
def _softmax(buffer, odds, first_odd, size, first, last, widths, copies):
    """Messages less the last class's, in the buffer's first half, into marginals there, less the last class's.

    In the last pass nothing is taken off, and the last class's own go to the second half. A channel's share is its odds
    times e to the difference of messages, that of the last class 1, and it counts `copies` times; if this might
    overflow, all are divided by the largest power of e.
    """
    segment, _, piece = widths
    one, zero, half = np.float32(1), np.float32(0), buffer.size // 2
    steep = not first and _largest(buffer, size) > MAX_EXPONENT
    if steep:
        for at in range(0, size, len(piece)):
            difference = load(buffer, at, piece)
            largest = at_least(segment_max(difference, segment), zero)
            store(buffer, at, difference - largest)
            store(buffer, half + at, exp(zero - largest))
    for at in range(0, size, REGISTER):
        share = load(odds, first_odd + at, WIDTH)
        store(buffer, at, share if first else share * exp(load(buffer, at, WIDTH)))
    for at in range(0, size, len(piece)):
        share = load(buffer, at, piece)
        last_share = load(buffer, half + at, piece) if steep else fill(one, piece)
        total = copies * last_share + segment_sum(share, segment)
        scale = fill(one / element(total, 0), piece) if len(segment) == len(piece) else one / total
        if last:
            store(buffer, at, share * scale)
            store(buffer, half + at, last_share * scale)
        else:
            store(buffer, at, (share * scale + NEGLIGIBLE) - (last_share * scale + NEGLIGIBLE))


@kernel(inline="always")
@no_type_check
def _write(marginals, buffer, start, count, width):
    """A block's marginals from the buffer to their planes."""
    sets, num_classes, _ = marginals.shape
    for group in range(sets):
        for index in range(num_classes):
            source = group * (width // sets) + (index if index < num_classes - 1 else buffer.size // 2)
            plane = marginals[group, index, start : start + count]
            for i in range(count):
                plane[i] = buffer[source + i * width]


@kernel()
@no_type_check
def _mean_field(odds, spatial, bilateral, weights, iterations, widths, copies, buffer, marginals):
    """All iterations: messages from the sources (but in the first pass), softmax, splat to the targets, blur."""
    near_vertices, near_weights, near_neighbours, near_source, near_target = spatial
    alike_vertices, alike_weights, alike_neighbours, alike_source, alike_target = bilateral
    near_weight, alike_weight = weights
    padded = widths[1]
    width, pixels = len(padded), marginals.shape[2]
    for iteration in range(iterations + 1):
        first, last = iteration == 0, iteration == iterations
        near_target[:] = 0
        alike_target[:] = 0
        for start in range(0, pixels, BLOCK):
            count = min(BLOCK, pixels - start)
            if not first:
                for i in range(count):
                    pixel = start + i
                    near = _slice(pixel, near_vertices, near_weights, near_source, (0,) * 3, (0,) * 4, padded)
                    alike = _slice(pixel, alike_vertices, alike_weights, alike_source, (0,) * 6, (0,) * 8, padded)
                    store(buffer, i * width, near_weight * near + alike_weight * alike)
            _softmax(buffer, odds, start * width, count * width, first, last, widths, copies)
            if last:
                _write(marginals, buffer, start, count, width)
            else:
                for i in range(count):
                    pixel = start + i
                    difference = load(buffer, i * width, padded)
                    _splat(difference, pixel, near_vertices, near_weights, near_target, (0,) * 3, (0,) * 4, padded)
                    _splat(difference, pixel, alike_vertices, alike_weights, alike_target, (0,) * 6, (0,) * 8, padded)
        if not last:
            blur(near_target, near_source, near_neighbours, padded)  # three axes, so it ends in the source
            blur(alike_target, alike_source, alike_neighbours, padded)
            alike_source, alike_target = alike_target, alike_source
