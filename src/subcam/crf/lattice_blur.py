"""Neighbours on the permutohedral lattice, and the blur along its axes (Section 3.3; Adams, Baek, Davis 2010).

In: the vertices' keys, their packed coordinates, to which a step along an axis adds a constant. Out: the order of the
keys, for each vertex its two neighbours along each axis, and values blurred over them.

In order, a vertex's neighbour lies beyond that of the vertex before it. So all neighbours along an axis are found by
walking through the keys at two places, and read by walking through the values at three: memory that lies in a row.
"""

from typing import no_type_check

import numpy as np

from subcam.runtime.caches.kernels import kernel
from subcam.runtime.machine.simd import load, store

DIGIT = np.uint64(11)
DIGITS = 1 << 11


@kernel()
@no_type_check
def key_order(keys):
    """The places of the keys from the smallest to the largest; one pass for each `DIGIT` bits they differ in."""
    lowest = keys.min()
    span = np.uint64(keys.max() - lowest)
    count = keys.size
    rest, other_rest = np.empty(count, np.uint64), np.empty(count, np.uint64)
    order, other_order = np.empty(count, np.int32), np.empty(count, np.int32)
    for place in range(count):
        rest[place] = np.uint64(keys[place] - lowest)
        order[place] = place
    starts = np.empty(DIGITS + 1, np.int64)
    while span > 0:
        starts[:] = 0
        for place in range(count):
            starts[(rest[place] & np.uint64(DIGITS - 1)) + np.uint64(1)] += 1
        for digit in range(DIGITS):
            starts[digit + 1] += starts[digit]
        for place in range(count):
            digit = rest[place] & np.uint64(DIGITS - 1)
            other_rest[starts[digit]] = rest[place] >> DIGIT
            other_order[starts[digit]] = order[place]
            starts[digit] += 1
        rest, other_rest = other_rest, rest
        order, other_order = other_order, order
        span >>= DIGIT
    return order


@kernel()
@no_type_check
def link(ordered_keys, steps):
    """The neighbours [axes, vertices, 2] before and after each vertex; the number of vertices stands for "absent"."""
    count = ordered_keys.size
    neighbours = np.full((steps.size, count, 2), count, np.int32)
    for axis in range(steps.size):
        forward = 1 if steps[axis] > 0 else 0
        ahead = 0
        for vertex in range(count):
            wanted = ordered_keys[vertex] + abs(steps[axis])
            while ahead < count and ordered_keys[ahead] < wanted:
                ahead += 1
            if ahead < count and ordered_keys[ahead] == wanted:
                neighbours[axis, vertex, forward] = ahead
                neighbours[axis, ahead, 1 - forward] = vertex
    return neighbours


@kernel(inline="always")
@no_type_check
def blur(values, other, neighbours, padded):
    """Blur along all axes, to and fro between two buffers; ends in `values` if the number of axes is even."""
    width = len(padded)
    for axis in range(neighbours.shape[0]):
        for vertex in range(neighbours.shape[1]):
            before = load(values, np.intp(neighbours[axis, vertex, 0]) * width, padded)
            after = load(values, np.intp(neighbours[axis, vertex, 1]) * width, padded)
            own = load(values, vertex * width, padded)
            store(other, vertex * width, own + np.float32(0.5) * (before + after))
        values, other = other, values
