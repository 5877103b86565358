"""Response maps to the coarser grid on which they are stored, and back to the size of their image, on any device."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor


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


def upsampled(maps: UInt8[Tensor, "maps grid_h grid_w"], size: tuple[int, int]) -> Float32[Tensor, "maps height width"]:
    """Stored maps in 0..1 at the size of their image, on the device that they lie on."""
    if not len(maps):
        return maps.new_zeros((0, *size), dtype=torch.float32)
    return F.interpolate(maps.float()[None] / 255, size=size, mode="bicubic", align_corners=False)[0].clamp_(0, 1)
