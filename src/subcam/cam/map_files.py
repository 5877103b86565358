"""Response maps on disk: one npz an image, 8 bits a value on a coarser grid, only the classes that are present."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int16, UInt8

from subcam.checks.arguments import takes_arrays
from subcam.runtime.files import atomic_write, below, open_arrays

MOST_PIXELS = 1 << 30
"""No image has more."""


@dataclass(frozen=True, kw_only=True)
class ResponseMaps:
    """The response maps of one image as they are stored.

    maps: 0..255 for 0..1, on a grid of ceil(height / stride) x ceil(width / stride).
    classes: index 0..C-1 of each map.
    subcategory_maps: K maps for each of the classes, or none (0 in the second axis).
    logits: H_p's logits of all C classes for the whole image at scale 1.
    size: height and width of the image.
    """

    maps: UInt8[np.ndarray, "present grid_h grid_w"]
    classes: Int16[np.ndarray, " present"]
    subcategory_maps: UInt8[np.ndarray, "present k grid_h grid_w"]
    logits: Float32[np.ndarray, " classes"]
    size: tuple[int, int]

    def full_size(self) -> Float32[np.ndarray, "present height width"]:
        """The parent classes' maps in 0..1 at the size of the image."""
        return _at_size(self.maps, self.size)

    def subcategories_full_size(self, position: int) -> Float32[np.ndarray, "k height width"]:
        """The sub-category maps of the class at `position` in `classes`, in 0..1 at the size of the image."""
        return _at_size(self.subcategory_maps[position], self.size)


def maps_path(folder: Path, name: str) -> Path:
    """Where the maps of the image called `name` lie in a stage's folder."""
    return below(folder, f"maps/{name}", ".npz")


@takes_arrays()
def write_response_maps(path: Path, maps: ResponseMaps) -> None:
    """Write one image's maps atomically."""
    with atomic_write(path, durable=False) as file:
        np.savez_compressed(
            file,
            maps=maps.maps,
            classes=maps.classes,
            subcategory_maps=maps.subcategory_maps,
            logits=maps.logits,
            size=np.array(maps.size, np.int32),
        )


@takes_arrays()
def read_response_maps(path: Path) -> ResponseMaps:
    """Read one image's maps.

    Raises:
        BadInputError: missing, truncated or of another format; names the file.
    """
    with open_arrays(path, what="response maps") as arrays:
        height, width = arrays["size"].tolist()
        read = ResponseMaps(
            maps=arrays["maps"],
            classes=arrays["classes"],
            subcategory_maps=arrays["subcategory_maps"],
            logits=arrays["logits"],
            size=(height, width),
        )
        _require_parts(read)
    return read


def _require_parts(read: ResponseMaps) -> None:
    """Raise `ValueError` unless the parts are what `write_response_maps` writes, and belong together."""
    maps, inner, grid = read.maps, read.subcategory_maps, read.maps.shape[1:]
    if maps.dtype != np.uint8 or maps.ndim != 3 or inner.dtype != np.uint8 or inner.ndim != 4:
        raise ValueError(f"maps of {maps.dtype} in {maps.ndim} axes, {inner.dtype} in {inner.ndim}")
    height, width = read.size
    if not (0 < grid[0] <= height and 0 < grid[1] <= width and height * width <= MOST_PIXELS):
        raise ValueError(f"maps of {grid} cells for an image of {read.size} pixels")
    places = read.classes.tolist()
    if len(places) != len(maps) or len({place for place in places if 0 <= place < read.logits.size}) != len(maps):
        raise ValueError(f"{len(maps)} maps of the classes {places} among {read.logits.size}")
    if len(inner) != len(maps) or (inner.shape[1] and inner.shape[2:] != grid):
        raise ValueError(f"maps of {maps.shape}, and of sub-categories of {inner.shape}")


def _at_size(
    maps: UInt8[np.ndarray, "maps grid_h grid_w"], size: tuple[int, int]
) -> Float32[np.ndarray, "maps height width"]:
    """Stored maps in 0..1 at the size of their image, as `map_grid.upsampled` computes them on a device.

    Columns first: then only whole rows are added at the full size.
    """
    values = maps.astype(np.float32) / 255
    return _cubic(_cubic(values, axis=2, count=size[1]), axis=1, count=size[0]).clip(0, 1)


def _cubic(values: Float32[np.ndarray, "..."], *, axis: int, count: int) -> Float32[np.ndarray, "..."]:
    """Values at `count` places along an axis, by cubic convolution of the four nearest; the outermost go on outside."""
    before = values.shape[axis]
    place = (np.arange(count) + 0.5) * (before / count) - 0.5
    first = np.floor(place).astype(np.int64) - 1
    resized = np.zeros((*values.shape[:axis], count, *values.shape[axis + 1 :]), np.float32)
    for tap in range(4):
        weights = _cubic_weight(np.abs(place - (first + tap)))
        taken = values.take((first + tap).clip(0, before - 1), axis)
        taken *= weights.reshape(-1, *(1,) * (values.ndim - axis - 1))
        resized += taken
    return resized


def _cubic_weight(distance: Float64[np.ndarray, " places"]) -> Float32[np.ndarray, " places"]:
    """Keys' kernel with a = -3/4, torch's; of distances up to 2."""
    near = (1.25 * distance - 2.25) * distance**2 + 1
    far = -0.75 * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far).astype(np.float32)
