"""Which pairs of grid cells AffinityNet compares, and the way onto that grid and back (Section 3.3, after [1], psa).

The grid is the network's: one cell for each `stride` x `stride` pixels (8 in the paper). A pair is a source cell and a
target cell at an offset from it, nearer than `radius` cells. Training, the label maps and the random walk all read the
pairs from here, so that their order is the same everywhere: by offset, then by source cell, row by row.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from subcam.affinity.grid import RADIUS, STRIDE, Radius, training_region
from subcam.checks.arguments import takes_arrays
from subcam.errors import SettingsError


@takes_arrays()
@lru_cache(maxsize=32)
def pair_offsets(radius: Radius) -> tuple[tuple[int, int], ...]:
    """The offsets (dy, dx) of half a disc: each unordered pair of cells nearer than `radius` is met once.

    Order, as in psa: (0, 1) ... (0, radius - 1), then row by row downwards, dx from negative to positive. Radius 5: 34.

    Raises:
        SettingsError: the radius is not a whole number of at least 1 (1 gives no pair at all).
    """
    if not isinstance(radius, int) or radius < 1:
        raise SettingsError(f"radius: expected a whole number of grid cells, at least 1; got {radius!r}.")
    reach = range(1 - radius, radius)
    level = [(0, dx) for dx in range(1, radius)]
    below = [(dy, dx) for dy in range(1, radius) for dx in reach if dx * dx + dy * dy < radius * radius]
    return (*level, *below)


def shifted(region: tuple[slice, slice], offset: tuple[int, int]) -> tuple[slice, slice]:
    """The region moved by an offset (dy, dx)."""
    (rows, columns), (dy, dx) = region, offset
    return slice(rows.start + dy, rows.stop + dy), slice(columns.start + dx, columns.stop + dx)


def pair_indices(
    *, height: int, width: int, radius: int = RADIUS, device: torch.device | str | None = None
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, "offsets pairs"]]:
    """Flat indices y * width + x of the source cells, and of their targets at each offset (psa's rule).

    Raises:
        SettingsError: the grid is too small to hold a pair.
    """
    return _pair_indices(height, width, radius, torch.device(device or "cpu"))


@lru_cache(maxsize=8)  # every step of a training asks for the same, and making them waits for the device
def _pair_indices(height: int, width: int, radius: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = training_region(height=height, width=width, radius=radius)
    with torch.inference_mode(mode=False):
        cells = torch.arange(height * width).view(height, width)
        sources = cells[rows, columns].reshape(-1)
        steps = [dy * width + dx for dy, dx in pair_offsets(radius)]
        targets = sources + torch.tensor(steps, dtype=torch.long)[:, None]
        return sources.to(device), targets.to(device)


def pool_to_grid(scores: Float[Tensor, "*batch cls H W"], *, stride: int = STRIDE) -> Float[Tensor, "*batch cls h w"]:
    """Mean of each `stride` x `stride` cell; h = ceil(H / stride), w = ceil(W / stride).

    The last row and column of cells are filled up with zeros, which count in the mean: psa pads the scores (the
    background too) as it pads the image.
    """
    height, width = scores.shape[-2:]
    padded = F.pad(scores, (0, -width % stride, 0, -height % stride))
    pooled = F.avg_pool2d(padded.flatten(0, -3), stride)
    return pooled.reshape(*scores.shape[:-2], *pooled.shape[-2:])


def upsample_from_grid(
    maps: Float[Tensor, "cls h w"], *, size: tuple[int, int], stride: int = STRIDE
) -> Float[Tensor, "cls H W"]:
    """Bilinear (align_corners=False) to `stride` times the grid, then cut to `size` = (H, W): undoes `pool_to_grid`.

    Raises:
        SettingsError: an image of `size` does not have this grid.
    """
    height, width = maps.shape[-2:]
    if (height, width) != (-(-size[0] // stride), -(-size[1] // stride)):
        raise SettingsError(
            f"maps of {height} x {width} cells do not belong to an image of {size[0]} x {size[1]} pixels at stride "
            f"{stride}; expected {-(-size[0] // stride)} x {-(-size[1] // stride)} cells."
        )
    full = F.interpolate(maps[None], scale_factor=stride, mode="bilinear", align_corners=False)[0]
    return full[:, : size[0], : size[1]]
