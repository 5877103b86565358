"""The permutohedral lattice of an image's pixels, on the CPU (Section 3.3; Adams, Baek, Davis 2010; Kraehenbuehl 2011).

In: an image and one sigma a feature, (x, y) or (x, y, R, G, B). Out: a `Lattice`, with which a Gaussian filter of any
number of channels over these features is splat (add each pixel to the d + 1 vertices around it), blur (along the d + 1
axes of the lattice), slice (read each pixel back), at a cost linear in the pixels.

`lattice_embedding` says where a pixel lies, `lattice_blur` finds neighbours and blurs. A vertex's coordinates are
packed into one int64, linearly, so that a step along an axis adds a constant, and looked up in a hash table. In the end
the vertices are numbered by these keys: row by row of the image, a row's in the order of the other coordinates.

Details of the published code that are kept, as they show in the result: vertices that no pixel touches count as 0 in
the blur, and the list of pixels is filled up to a multiple of four with pixels whose features are all 0; these weigh
nothing but create vertices through which the blur passes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, no_type_check

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from subcam.crf.lattice_blur import blur, key_order, link
from subcam.crf.lattice_embedding import BLOCK, embed_block, pack_keys, read_features
from subcam.errors import SettingsError
from subcam.runtime.caches.kernels import kernel
from subcam.runtime.resources import require_memory

PADDED_TO = 4
OVERREAD = 8
"""Floats after the last weight, so that a pixel's weights may be read as a whole vector."""
MAX_COORDINATE = 2**22
MAX_KEY_BITS = 61
MARGIN = 16
"""How much further than its pixels a packed coordinate of a lattice reaches, neighbours included."""
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
FREE = np.int32(-1)
SLOTS_PER_VERTEX = 4
"""Most look-ups in a table as empty as this end at the first slot."""
PIXELS_PER_VERTEX = 8
"""As photographs have at the common settings: so many vertices the first table holds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """The normalised Gaussian filter F = W^T B W over an image's pixels, B the blur and W the splat.

    vertices: for each pixel the numbers of its d + 1 vertices, pixel after pixel.
    weights: barycentric weight times the pixel's symmetric normalisation n = 1 / sqrt(K 1 + 1e-20) and the square root
        of the lattice's constant 1 / (1 + 2^-d); `OVERREAD` zeros at the end.
    neighbours: the two neighbours of every vertex along each axis; the number of vertices stands for "absent".
    """

    vertices: Int32[np.ndarray, " pixel_vertices"]
    weights: Float32[np.ndarray, " pixel_weights"]
    neighbours: Int32[np.ndarray, "axes num_vertices 2"]

    @property
    def num_vertices(self) -> int:
        """How many vertices at least one pixel touches."""
        return self.neighbours.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory of the three arrays."""
        return self.vertices.nbytes + self.weights.nbytes + self.neighbours.nbytes


class _Tables(NamedTuple):
    """Growing tables: each vertex's key and sum of weights, by number; slots with numbers, looked up by key."""

    keys: np.ndarray
    sums: np.ndarray
    slots: np.ndarray


class _Scratch(NamedTuple):
    """One block's coordinates, a plane of `BLOCK` numbers each, its vertices' keys, and one pixel's steps in order."""

    features: np.ndarray
    offsets: np.ndarray
    cells: np.ndarray
    ranks: np.ndarray
    keys: np.ndarray
    in_order: np.ndarray


def build_lattice(image: UInt8[np.ndarray, "h w colours"], sigmas: Sequence[float]) -> Lattice:
    """The lattice of the pixels of an RGB image (0-255), or with no colours of positions only.

    sigmas: of x and y in pixels, or of x, y, R, G and B; this order matters a little, as the lattice is not symmetric.

    Raises:
        SettingsError: sigmas so small against the image that the lattice's points cannot be numbered.
        MemoryError: the lattice would not fit into the memory that is free.
    """
    height, width, _ = image.shape
    dim, pixels = len(sigmas), height * width
    axes = dim + 1
    scales = lattice_scales(sigmas)
    reach = zip((width - 1, height - 1, 255, 255, 255)[: len(sigmas)], scales, strict=True)
    steps = np.array(key_steps([extent * scale for extent, scale in reach])[0], np.int64)
    padding = 1 if pixels % PADDED_TO else 0
    require_memory(pixels * 8 * axes, f"the {dim}-dimensional lattice of {width} x {height} pixels")

    vertices = np.empty((pixels + padding) * axes, np.int32)
    weights = np.empty((pixels + padding) * axes + OVERREAD, np.float32)
    scratch = _Scratch(*np.zeros((4, axes * BLOCK), np.float32), *np.zeros((2, axes * BLOCK), np.int64))
    tables = _grow(None, 1 << (axes * BLOCK + pixels // PIXELS_PER_VERTEX).bit_length())
    place = (pixels, width, np.ascontiguousarray(image).reshape(-1), np.array(scales, np.float32), steps, (0,) * axes)
    end, block, count = pixels + padding, 0, 0
    while block < end:
        block, count = _locate(block, end, count, *place, vertices, weights, tables, scratch)
        if block < end:
            tables = _grow(tables, 4 * len(tables.keys), count)

    keys = tables.keys[:count]
    order = key_order(keys)
    neighbours = link(keys[order], steps)
    vertices, weights = vertices[: pixels * axes], weights[: pixels * axes + OVERREAD]
    weights[pixels * axes :] = 0
    _normalise(vertices, weights, tables.sums, order, neighbours, (0,) * axes)
    for array in (vertices, weights, neighbours):
        array.flags.writeable = False
    return Lattice(vertices=vertices, weights=weights, neighbours=neighbours)


def lattice_scales(sigmas: Sequence[float]) -> list[float]:
    """What a feature is multiplied by before it is turned into the lattice's hyperplane.

    With it the blur on the lattice has a standard deviation of 1 in features divided by their sigmas.
    """
    axes = len(sigmas) + 1
    return [math.sqrt(2 / 3) * axes / math.sqrt((i + 1) * (i + 2)) / sigma for i, sigma in enumerate(sigmas)]


def key_steps(extents: Sequence[float]) -> tuple[list[int], int]:
    """What a step along each of the d + 1 axes adds to a packed key, and the bits of a key.

    A lattice point is a sum of a_i steps along axis i; the same number more of all leads back to it. So its coordinates
    are a_d - a_i, each in some bits of the key, but in place of the second 2 a_2 - a_0 - a_1, which is 6 / (d + 1)
    times the scaled y: in the highest bits, it sorts the points by the image's rows.

    extents: how far each of the scaled features reaches from 0.

    Raises:
        SettingsError: more bits than an int64 holds, or coordinates beyond what float32 tells apart.
    """
    dim = len(extents)
    spans = [sum(extents)] + [j * extents[j - 1] + sum(extents[j:]) for j in range(1, dim + 1)]
    inner = [0, *range(2, dim)]
    packed = [(spans[i] + spans[dim]) / (dim + 1) for i in inner] + [6 * extents[1] / (dim + 1)]
    bits = [math.ceil(math.log2(span + MARGIN)) for span in packed]
    if max(spans) > MAX_COORDINATE or sum(bits) > MAX_KEY_BITS:
        raise SettingsError(
            f"dense CRF: expected sigmas for which the lattice has at most 2^{MAX_KEY_BITS} points, got "
            f"2^{sum(bits)} over this image. Use larger sigmas."
        )
    *units, row = (1 << sum(bits[:i]) for i in range(dim))
    steps = [0] * (dim + 1)
    for i, unit in zip(inner, units, strict=True):
        steps[i] -= unit
        steps[dim] += unit
    for i, rows in enumerate((-1, -1, 2)):
        steps[i] += rows * row
    return steps, sum(bits)


def _grow(tables: _Tables | None, capacity: int, count: int = 0) -> _Tables:
    """Tables of the given capacity (a power of two) with the content of the old ones."""
    if capacity > 2**18:
        require_memory(capacity * (12 + 4 * SLOTS_PER_VERTEX), f"{capacity} vertices of the lattice")
    new = _Tables(
        keys=np.empty(capacity, np.int64),
        sums=np.zeros(capacity, np.float32),
        slots=np.full(SLOTS_PER_VERTEX * capacity, FREE),
    )
    if tables is not None:
        new.keys[:count], new.sums[:count] = tables.keys[:count], tables.sums[:count]
        _enter(count, new.keys, new.slots)
    return new


@kernel(inline="always")
@no_type_check
def _find(key, keys, slots):
    """The slot that holds the key's number, or the free one where it belongs (open addressing)."""
    mask = np.uint64(slots.size - 1)
    slot = ((np.uint64(key) * HASH_FACTOR) >> np.uint64(32)) & mask
    while slots[slot] != FREE and keys[slots[slot]] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@kernel()
@no_type_check
def _enter(count, keys, slots):
    for number in range(count):
        slots[_find(keys[number], keys, slots)] = number


@kernel()
@no_type_check
def _locate(start, end, count, pixels, width, colours, scales, steps, corner_shape, vertices, weights, tables, scratch):
    """Vertices and weights of the pixels from `start` on; returns where it stopped and how many vertices it knows.

    It stops early if the tables are full. Adds the weights up for each vertex, those of the padding left out.
    """
    axes = len(corner_shape)
    vertex_keys, sums, slots = tables
    features, offsets, cells, ranks, keys, in_order = scratch
    block = start
    while block < end and count + axes * BLOCK <= vertex_keys.size:
        read_features(features, scales, colours, block, pixels, width)
        embed_block(features, offsets, cells, ranks, axes)
        pack_keys(cells, ranks, steps, in_order, keys, axes)
        for place in range(min(BLOCK, end - block)):
            for k in range(axes):
                item = (block + place) * axes + k
                slot = _find(keys[place * axes + k], vertex_keys, slots)
                if slots[slot] == FREE:
                    slots[slot] = count
                    vertex_keys[count] = keys[place * axes + k]
                    count += 1
                vertices[item] = slots[slot]
                weights[item] = features[k * BLOCK + place]
        for item in range(block * axes, min(block + BLOCK, pixels) * axes):
            sums[vertices[item]] += weights[item]
        block += BLOCK
    return block, count


@kernel()
@no_type_check
def _normalise(vertices, weights, sums, order, neighbours, corner_shape):
    """Numbers the vertices in order, and turns barycentric weights into those of the normalised filter."""
    axes, count = len(corner_shape), order.size
    values, other = np.zeros(count + 1, np.float32), np.zeros(count + 1, np.float32)
    numbers = np.empty(count, np.int32)
    for number in range(count):
        values[number] = sums[order[number]]
        numbers[order[number]] = number
    blur(values, other, neighbours, (0,))
    blurred = values if axes % 2 == 0 else other
    constant = np.float32(1 / (1 + 0.5 ** (axes - 1)))
    for first in range(0, vertices.size, axes):
        total = np.float32(0)
        for item in range(first, first + axes):
            vertices[item] = numbers[vertices[item]]
            total += weights[item] * blurred[vertices[item]]
        norm = np.sqrt(constant / (constant * total + np.float32(1e-20)))
        for item in range(first, first + axes):
            weights[item] *= norm
