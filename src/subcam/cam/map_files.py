"""Response maps on disk: one npz an image, 8 bits a value on a coarser grid, only the classes that are present."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int16, UInt8
from torch import Tensor

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
        return upsampled(torch.from_numpy(self.maps), self.size).numpy()

    def subcategories_full_size(self, position: int) -> Float32[np.ndarray, "k height width"]:
        """The sub-category maps of the class at `position` in `classes`, in 0..1 at the size of the image."""
        return upsampled(torch.from_numpy(self.subcategory_maps[position]), self.size).numpy()


def coarsen(maps: Float[Tensor, "maps height width"], stride: int) -> UInt8[np.ndarray, "maps grid_h grid_w"]:
    """What `coarsen_on_device` computes, as an array."""
    return coarsen_on_device(maps, stride).cpu().numpy()


def coarsen_on_device(maps: Float[Tensor, "maps height width"], stride: int) -> UInt8[Tensor, "maps grid_h grid_w"]:
    """Sample maps in 0..1 at the centres of stride x stride cells and round them to 8 bits.

    Sampled and, in `ResponseMaps.full_size`, brought back bicubically: on images of 64 pixels linear interpolation
    cuts the maps' ridges off and takes a point of mIoU with them.
    """
    height, width = maps.shape[1:]
    grid = (-(-height // stride), -(-width // stride))
    if not maps.shape[0]:
        return maps.new_zeros((0, *grid), dtype=torch.uint8)
    coarse = F.interpolate(maps[None], size=grid, mode="bicubic", align_corners=False)[0] if stride > 1 else maps
    return (coarse * 255).round_().clamp_(0, 255).to(torch.uint8)


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


def upsampled(maps: UInt8[Tensor, "maps grid_h grid_w"], size: tuple[int, int]) -> Float32[Tensor, "maps height width"]:
    """Stored maps in 0..1 at the size of their image, on the device that they lie on."""
    if not len(maps):
        return maps.new_zeros((0, *size), dtype=torch.float32)
    return F.interpolate(maps.float()[None] / 255, size=size, mode="bicubic", align_corners=False)[0].clamp_(0, 1)
