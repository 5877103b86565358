"""Where a block of pixels lies in the permutohedral lattice (Section 3.3; Adams, Baek, Davis 2010), on the CPU.

In: pixels of an image and a scale a feature. Out: the simplex around each pixel and the barycentric weights in it.

The d features, scaled, are turned into the hyperplane of R^(d+1) whose coordinates sum to 0. Lattice points have whole
coordinates that all leave the same remainder modulo d + 1. A pixel's simplex is known by its vertex of remainder 0, its
`cell`, and by the order of the pixel's offsets from it. A step along axis i adds 1 to all coordinates but takes d from
coordinate i; one from each vertex of the simplex to the next, along the axes in the order of their offsets, the
smallest first. A block's numbers lie in planes of `BLOCK`, one a coordinate: the elements of a vector are pixels.
"""

from typing import no_type_check

import numpy as np

from subcam.runtime.caches.kernels import kernel
from subcam.runtime.machine.simd import below, equal, fill, load, rint, store

BLOCK = 16
"""Pixels that are embedded at once."""
WIDTH = (0,) * BLOCK


@kernel(inline="always")
@no_type_check
def read_features(features, scales, colours, first, pixels, width):
    """The scaled features of a block of pixels; those after the last pixel are all 0."""
    count = min(BLOCK, pixels - first)
    if count < BLOCK:
        features[:] = 0
    y = first // width
    x = first - y * width
    for place in range(count):
        features[place] = np.float32(x) * scales[0]
        features[BLOCK + place] = np.float32(y) * scales[1]
        x += 1
        if x == width:
            x = 0
            y += 1
    for colour in range(scales.size - 2):
        plane = features[(2 + colour) * BLOCK : (3 + colour) * BLOCK]
        for place in range(count):
            plane[place] = np.float32(colours[(first + place) * 3 + colour]) * scales[2 + colour]


@kernel(inline="always")
@no_type_check
def embed_block(features, offsets, cells, ranks, axes):
    """Features into cell (over d + 1), ranks of the offsets from it, and (in `features`) the barycentric weights."""
    zero, one, step = fill(np.float32(0), WIDTH), np.float32(1), np.float32(axes)
    inverse = one / step
    total = zero
    for j in range(axes - 1, 0, -1):
        feature = load(features, (j - 1) * BLOCK, WIDTH)
        store(offsets, j * BLOCK, total - np.float32(j) * feature)
        total = total + feature
    store(offsets, 0, total)

    # The nearest point with coordinates that are multiples of d + 1 may lie off the hyperplane, by `excess` such steps.
    excess = zero
    for i in range(axes):
        elevated = load(offsets, i * BLOCK, WIDTH)
        rounded = rint(elevated * inverse)
        excess = excess + rounded
        store(cells, i * BLOCK, rounded)
        store(offsets, i * BLOCK, elevated - rounded * step)
        store(ranks, i * BLOCK, zero)
    for i in range(axes):
        offset = load(offsets, i * BLOCK, WIDTH)
        rank = load(ranks, i * BLOCK, WIDTH)
        for j in range(i + 1, axes):
            smaller = below(offset, load(offsets, j * BLOCK, WIDTH))
            rank = rank + smaller
            store(ranks, j * BLOCK, load(ranks, j * BLOCK, WIDTH) + (one - smaller))
        store(ranks, i * BLOCK, rank)
    for i in range(axes):
        rank = load(ranks, i * BLOCK, WIDTH) + excess
        shift = below(rank, np.float32(0)) - below(np.float32(axes - 1), rank)
        store(ranks, i * BLOCK, rank + step * shift)
        store(cells, i * BLOCK, load(cells, i * BLOCK, WIDTH) + shift)
        store(offsets, i * BLOCK, (load(offsets, i * BLOCK, WIDTH) - step * shift) * inverse)

    # Sorted from the smallest, offset k less offset k - 1 is the weight of vertex k; vertex 0 closes the circle.
    smallest = previous = zero
    for k in range(axes):
        sorted_offset = zero
        for i in range(axes):
            chosen = equal(load(ranks, i * BLOCK, WIDTH), np.float32(axes - 1 - k))
            sorted_offset = sorted_offset + chosen * load(offsets, i * BLOCK, WIDTH)
        if k == 0:
            smallest = sorted_offset
        else:
            store(features, k * BLOCK, sorted_offset - previous)
        previous = sorted_offset
    store(features, 0, smallest + (one - previous))


@kernel(inline="always")
@no_type_check
def pack_keys(cells, ranks, steps, in_order, keys, axes):
    """The packed coordinates of the vertices of each pixel's simplex: a step from one to the next, the order's."""
    for place in range(BLOCK):
        key = np.int64(0)
        for i in range(axes):
            key -= np.int64(np.int32(cells[i * BLOCK + place])) * steps[i]
            in_order[np.int32(ranks[i * BLOCK + place])] = steps[i]
        for k in range(axes):
            keys[place * axes + k] = key
            key += in_order[axes - 1 - k]
