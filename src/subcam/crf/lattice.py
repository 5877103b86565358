"""The permutohedral lattice of an image's pixels, on the CPU (Section 3.3; Adams, Baek, Davis 2010; Kraehenbuehl 2011).

In: an image and one sigma a feature, (x, y) or (x, y, R, G, B). Out: a `Lattice`, with which a Gaussian filter of any
number of channels over these features is splat (add each pixel to the d + 1 vertices around it), blur (along the d + 1
axes of the lattice), slice (read each pixel back), at a cost linear in the pixels.

`lattice_embedding` says where a pixel lies. A vertex's coordinates are packed into one int64, linearly, so that steps
add, and looked up in a hash table; most pixels find theirs without it, in a table of the corners of their cell.

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

from subcam.crf.lattice_embedding import BLOCK, embed_block, pack_keys, read_features
from subcam.errors import SettingsError
from subcam.runtime.caches.kernels import kernel
from subcam.runtime.resources import require_memory

PADDED_TO = 4
OVERREAD = 8
"""Floats after the last weight, so that a pixel's weights may be read as a whole vector."""
MAX_COORDINATE = 2**22
MAX_KEY_BITS = 61
EMPTY = np.int64(-(2**62))
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
FIRST_CAPACITY = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Lattice:
    """The normalised Gaussian filter F = W^T B W over an image's pixels, B the blur and W the splat.

    vertices: for each pixel the numbers of its d + 1 vertices, pixel after pixel.
    weights: barycentric weight times the pixel's symmetric normalisation n = 1 / sqrt(K 1 + 1e-20) and the square root
        of the lattice's constant 1 / (1 + 2^-d); `OVERREAD` zeros at the end.
    neighbours: the two neighbours of every vertex along each axis; the number of vertices stands for "absent".
    row_sums: F 1, what the filter makes of a channel of ones.
    """

    vertices: Int32[np.ndarray, " pixel_vertices"]
    weights: Float32[np.ndarray, " pixel_weights"]
    neighbours: Int32[np.ndarray, "axes num_vertices 2"]
    row_sums: Float32[np.ndarray, " pixels"]

    @property
    def num_vertices(self) -> int:
        """How many vertices at least one pixel touches."""
        return self.neighbours.shape[1]


class _Tables(NamedTuple):
    """Growing tables: vertices and cells by number, hash tables from packed coordinates to number, corners of cells.

    corners: row c has, at the set of lowered coordinates as a bit mask, the vertex number in cell c or -1 if not met.
    counts: vertices, cells.
    """

    vertex_keys: np.ndarray
    vertex_slots: np.ndarray
    vertex_numbers: np.ndarray
    cell_keys: np.ndarray
    cell_slots: np.ndarray
    cell_numbers: np.ndarray
    corners: np.ndarray
    counts: np.ndarray


class _Scratch(NamedTuple):
    """One block's coordinates, a plane of `BLOCK` numbers each, and its packed cells and simplices."""

    features: np.ndarray
    offsets: np.ndarray
    cells: np.ndarray
    ranks: np.ndarray
    keys: np.ndarray
    simplices: np.ndarray


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
    bits = key_bits([extent * scale for extent, scale in reach])
    units = np.array([1 << sum(bits[:i]) for i in range(dim)], np.int64)
    padding = 1 if pixels % PADDED_TO else 0
    require_memory(pixels * (8 * axes + 4), f"the {dim}-dimensional lattice of {width} x {height} pixels")

    vertices = np.empty((pixels + padding) * axes, np.int32)
    weights = np.empty((pixels + padding) * axes + OVERREAD, np.float32)
    scratch = _Scratch(*np.zeros((4, axes * BLOCK), np.float32), *np.zeros((2, BLOCK), np.int64))
    tables = _grow(None, FIRST_CAPACITY, axes)
    corner_shape = (0,) * axes
    colours = np.ascontiguousarray(image).reshape(-1)
    scales32 = np.array(scales, np.float32)
    end = pixels + padding
    block = _locate(0, end, pixels, width, colours, scales32, units, corner_shape, vertices, weights, tables, scratch)
    while block < end:
        tables = _grow(tables, 2 * len(tables.vertex_keys), axes)
        block = _locate(
            block, end, pixels, width, colours, scales32, units, corner_shape, vertices, weights, tables, scratch
        )

    neighbours = _link(tables, units)
    vertices, weights = vertices[: pixels * axes], weights[: pixels * axes + OVERREAD]
    weights[pixels * axes :] = 0
    row_sums = np.empty(pixels, np.float32)
    _normalise(vertices, weights, neighbours, row_sums, corner_shape)
    for array in (vertices, weights, neighbours, row_sums):
        array.flags.writeable = False
    return Lattice(vertices=vertices, weights=weights, neighbours=neighbours, row_sums=row_sums)


def lattice_scales(sigmas: Sequence[float]) -> list[float]:
    """What a feature is multiplied by before it is turned into the lattice's hyperplane.

    With it the blur on the lattice has a standard deviation of 1 in features divided by their sigmas.
    """
    axes = len(sigmas) + 1
    return [math.sqrt(2 / 3) * axes / math.sqrt((i + 1) * (i + 2)) / sigma for i, sigma in enumerate(sigmas)]


def key_bits(extents: Sequence[float]) -> list[int]:
    """Bits that each of the first d coordinates needs in a packed key, given how far the scaled features reach from 0.

    Raises:
        SettingsError: more than an int64 holds, or coordinates beyond what float32 tells apart.
    """
    dim = len(extents)
    spans = [sum(extents)] + [j * extents[j - 1] + sum(extents[j:]) for j in range(1, dim)]
    bits = [math.ceil(math.log2(span + 8 * (dim + 1))) for span in spans]
    if max(spans) > MAX_COORDINATE or sum(bits) > MAX_KEY_BITS:
        raise SettingsError(
            f"dense CRF: expected sigmas for which the lattice has at most 2^{MAX_KEY_BITS} points, got "
            f"2^{sum(bits)} over this image. Use larger sigmas."
        )
    return bits


def _grow(tables: _Tables | None, capacity: int, axes: int) -> _Tables:
    """Tables of the given capacity (a power of two) with the content of the old ones."""
    cells = capacity // 4
    if capacity > 2**18:
        require_memory(capacity * (48 + (1 << axes)), f"{capacity} vertices of the lattice")
    new = _Tables(
        vertex_keys=np.empty(capacity, np.int64),
        vertex_slots=np.full(2 * capacity, EMPTY),
        vertex_numbers=np.empty(2 * capacity, np.int32),
        cell_keys=np.empty(cells, np.int64),
        cell_slots=np.full(capacity, EMPTY),
        cell_numbers=np.empty(capacity, np.int32),
        corners=np.empty(cells << axes, np.int32),
        counts=np.zeros(2, np.int64),
    )
    if tables is not None:
        for name in ("vertex_keys", "cell_keys", "corners", "counts"):
            old = getattr(tables, name)
            getattr(new, name)[: len(old)] = old
        _rehash(new.vertex_keys[: new.counts[0]], new.vertex_slots, new.vertex_numbers)
        _rehash(new.cell_keys[: new.counts[1]], new.cell_slots, new.cell_numbers)
    return new


@kernel(inline="always")
@no_type_check
def _find(slots, key):
    """Where the key stands in an open-addressing table, or the empty slot where it belongs."""
    mask = np.uint64(slots.size - 1)
    hashed = np.uint64(key) * HASH_FACTOR
    slot = np.intp((hashed ^ (hashed >> np.uint64(32))) & mask)
    while slots[slot] != key and slots[slot] != EMPTY:
        slot = np.intp(np.uint64(slot + 1) & mask)
    return slot


@kernel()
@no_type_check
def _rehash(keys, slots, numbers):
    for number in range(keys.size):
        slot = _find(slots, keys[number])
        slots[slot] = keys[number]
        numbers[slot] = number


@kernel()
@no_type_check
def _locate(start, end, pixels, width, colours, scales, units, corner_shape, vertices, weights, tables, scratch):
    """Vertices and weights of the pixels from `start` on; returns where it stopped because the tables are full."""
    axes = len(corner_shape)
    vertex_keys, vertex_slots, vertex_numbers, cell_keys, cell_slots, cell_numbers, corners, counts = tables
    features, offsets, cells, ranks, keys, simplices = scratch
    num_vertices, num_cells = counts[0], counts[1]
    mask = (np.int64(1) << axes) - 1
    step = np.int64(0)
    for i in range(axes - 1):
        step += units[i]
    block = start
    while block < end and num_vertices + axes * BLOCK <= vertex_keys.size and num_cells + BLOCK <= cell_keys.size:
        read_features(features, scales, colours, block, pixels, width)
        embed_block(features, offsets, cells, ranks, axes)
        pack_keys(cells, ranks, units, keys, simplices, axes)
        for place in range(min(BLOCK, end - block)):
            key = keys[place]
            slot = _find(cell_slots, key)
            if cell_slots[slot] == EMPTY:
                cell_slots[slot] = key
                cell_numbers[slot] = num_cells
                cell_keys[num_cells] = key
                for corner in range(num_cells << axes, (num_cells + 1) << axes):
                    corners[corner] = -1
                num_cells += 1
            row = np.int64(cell_numbers[slot]) << axes
            out = (block + place) * axes
            for k in range(axes):
                lowered = (simplices[place] >> (axes * k)) & mask
                vertex = np.int64(corners[row + lowered])
                if vertex < 0:
                    vertex_key = key + k * step
                    for i in range(axes - 1):
                        vertex_key -= axes * units[i] * ((lowered >> i) & 1)
                    slot = _find(vertex_slots, vertex_key)
                    if vertex_slots[slot] == EMPTY:
                        vertex_slots[slot] = vertex_key
                        vertex_numbers[slot] = num_vertices
                        vertex_keys[num_vertices] = vertex_key
                        num_vertices += 1
                    vertex = np.int64(vertex_numbers[slot])
                    corners[row + lowered] = vertex
                vertices[out + k] = vertex
                weights[out + k] = features[k * BLOCK + place]
        block += BLOCK
    counts[0], counts[1] = num_vertices, num_cells
    return block


@kernel()
@no_type_check
def _link(tables, units):
    """The neighbours of every vertex: one step along an axis adds 1 everywhere, less d + 1 on that axis."""
    axes = len(units) + 1
    vertex_keys, vertex_slots, vertex_numbers = tables.vertex_keys, tables.vertex_slots, tables.vertex_numbers
    count = tables.counts[0]
    neighbours = np.full((axes, count, 2), count, np.int32)
    for axis in range(axes):
        step = np.int64(0)
        for i in range(axes - 1):
            step += units[i]
        if axis < axes - 1:
            step -= axes * units[axis]
        for vertex in range(count):
            slot = _find(vertex_slots, vertex_keys[vertex] + step)
            if vertex_slots[slot] != EMPTY:
                after = vertex_numbers[slot]
                neighbours[axis, vertex, 1] = after
                neighbours[axis, after, 0] = vertex
    return neighbours


@kernel()
@no_type_check
def _normalise(vertices, weights, neighbours, row_sums, corner_shape):
    """Barycentric weights into the weights of the normalised filter, and that filter's row sums."""
    axes = len(corner_shape)
    constant = 1 / (1 + 0.5 ** (axes - 1))
    count = neighbours.shape[1]
    values = np.zeros(count + 1)
    blurred = np.zeros(count + 1)
    for item in range(vertices.size):
        values[vertices[item]] += weights[item]
    _blur_one(values, blurred, neighbours)
    values[:] = 0
    for pixel in range(row_sums.size):
        total = 0.0
        for item in range(pixel * axes, (pixel + 1) * axes):
            total += weights[item] * blurred[vertices[item]]
        norm = np.float32(math.sqrt(constant / (constant * total + 1e-20)))
        for item in range(pixel * axes, (pixel + 1) * axes):
            weights[item] *= norm
            values[vertices[item]] += weights[item]
    _blur_one(values, blurred, neighbours)
    for pixel in range(row_sums.size):
        total = 0.0
        for item in range(pixel * axes, (pixel + 1) * axes):
            total += weights[item] * blurred[vertices[item]]
        row_sums[pixel] = total


@kernel()
@no_type_check
def _blur_one(values, blurred, neighbours):
    """Blur one channel along all axes into `blurred`; `values` is used up."""
    count = neighbours.shape[1]
    for axis in range(neighbours.shape[0]):
        for vertex in range(count):
            around = values[neighbours[axis, vertex, 0]] + values[neighbours[axis, vertex, 1]]
            blurred[vertex] = values[vertex] + 0.5 * around
        for vertex in range(count):
            values[vertex] = blurred[vertex]
