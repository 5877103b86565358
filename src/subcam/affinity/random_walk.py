"""Random walk of response maps over pixel affinities (Section 3.3, after [1], psa), with memory linear in the pixels.

In: the feature map of AffinityNet and the response maps on the same grid. Out: the maps after 2^log_steps steps.

With W = A^beta, element by element (A: affinities, diagonal 1), and D its column sums, one step of a row vector m is
m W D^-1. psa builds this dense matrix, squares it log_steps times and multiplies once. Here the matrix stays a stencil,
one plane an offset, and its power is applied to the maps alone; how, and how exactly, is explained in `walk_stencil`.
"""

import math
from dataclasses import dataclass
from typing import Annotated, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from subcam.affinity.grid import MAX_LOG_STEPS, RADIUS, Radius, WalkExponent, source_region
from subcam.affinity.pairs import pair_offsets, shifted
from subcam.affinity.walk_stencil import apply_power, build_stencil
from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Range
from subcam.errors import BadInputError, SettingsError
from subcam.runtime.caches.kernels import kernel
from subcam.runtime.devices import to_device


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelAffinity:
    """A symmetric affinity between the cells of a grid, one plane an offset of `pair_offsets(radius)`.

    values: `values[o, y, x]` in [0, 1] is the affinity of cell (y, x) and the cell at offset o from it; 0 where that
        pair is absent. A cell's affinity to itself is 1 and is not stored.
    """

    values: Float[Tensor, "offsets h w"]
    radius: int


@takes_arrays()
@torch.no_grad()
def pixel_affinity(
    features: Float[Tensor, "dim h w"], *, radius: Radius = RADIUS, all_pairs: bool = False
) -> PixelAffinity:
    """Affinity exp(-mean_c |f_c(p) - f_c(q)|) of the cells nearer than `radius`, on the device of the features.

    By default exactly psa's pairs: no source in the last `radius` - 1 rows or the outer `radius` - 1 columns, so that a
    grid of fewer than `radius` rows or 2 `radius` - 1 columns (5 x 9) has no pair, and the walk leaves its maps as they
    are. `all_pairs` takes every pair within the radius on any grid. For training see `affinity.pair_affinity`.

    Raises:
        BadInputError: the features are not all finite.
    """
    if not _is_finite(features):
        raise BadInputError(
            "pixel_affinity: expected finite features, got NaN or infinity. Check the network's weights."
        )
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    _, height, width = features.shape
    offsets = pair_offsets(radius)
    regions = [
        source_region(offset, height=height, width=width, radius=radius, all_pairs=all_pairs) for offset in offsets
    ]
    values = features.new_zeros(len(offsets), height, width)
    if features.device.type == "cpu" and offsets:
        bounds = np.array([(rows.start, rows.stop, columns.start, columns.stop) for rows, columns in regions])
        by_cell = features.permute(1, 2, 0).contiguous().numpy()
        _affinity_kernel(by_cell, np.array(offsets), bounds, values.numpy())
    else:
        for plane, offset, region in zip(values, offsets, regions, strict=True):
            target = features[:, *shifted(region, offset)]
            plane[region] = torch.exp(-(target - features[:, *region]).abs().mean(0))
    return PixelAffinity(values=values, radius=radius)


@takes_arrays(may_be_empty=("maps",))
@torch.no_grad()
def random_walk(
    affinity: PixelAffinity,
    maps: Float[Tensor, "cls h w"],
    *,
    beta: WalkExponent = 8,
    log_steps: Annotated[int, Range(0, MAX_LOG_STEPS)] = 8,
) -> Float[Tensor, "cls h w"]:
    """The maps after 2^`log_steps` steps of the walk: row vectors times (A^beta / column sums)^(2^log_steps).

    A step makes each cell the mean of its neighbours and itself, weighted by affinity^beta; so a constant map stays
    constant, and sum(D * map) is kept. Time grows with cells x offsets x maps: hand in the maps of the classes that are
    present (a map of zeros costs nothing). On the CPU it takes one thread and holds no interpreter lock, so that images
    can be walked side by side. Not differentiable. float32 errs by about 2e-6 of a map's maximum at 256 steps, 1e-4 at
    65536.

    Returns:
        Maps in float32, or in float64 where the maps or the affinities are; each within the range of its input map.

    Raises:
        SettingsError: `beta` or `log_steps` is out of its range, or the maps lie on another grid or device.
        BadInputError: maps that are not finite, or affinities outside [0, 1].
    """
    _check(affinity, maps)
    dtype = torch.promote_types(torch.promote_types(affinity.values.dtype, maps.dtype), torch.float32)
    maps = maps.to(dtype)
    lowest, highest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    scale = torch.maximum(-lowest, highest)
    present = _check_values(affinity, lowest, highest)
    walked = torch.zeros_like(maps)
    if present:
        device = maps.device if maps.device.type == "cuda" else torch.device("cpu")
        stencil = build_stencil(affinity.values.to(device, dtype), radius=affinity.radius, beta=beta)
        which = to_device(torch.tensor(present), maps.device)
        averaged = apply_power(stencil, (maps[which] / scale[which]).to(device), steps=2**log_steps)
        walked[which] = averaged.to(maps.device) * scale[which]
    # The walk averages, so only truncation and rounding can lead out of a map's range.
    return walked.clamp(lowest, highest)


def _check(affinity: PixelAffinity, maps: Tensor) -> None:
    values = affinity.values
    if values.shape[1:] != maps.shape[1:] or values.device != maps.device:
        raise SettingsError(
            f"random_walk: expected maps of {values.shape[1]} x {values.shape[2]} cells on {values.device}, as the "
            f"affinities; got {maps.shape[1]} x {maps.shape[2]} on {maps.device}. Pool them with `pool_to_grid`."
        )
    expected = len(pair_offsets(affinity.radius))
    if len(values) != expected:
        raise SettingsError(f"affinity: radius {affinity.radius} has {expected} offsets, got {len(values)} planes.")


def _check_values(affinity: PixelAffinity, lowest: Tensor, highest: Tensor) -> list[int]:
    """The places of the maps that are not zero everywhere; the host waits for the device once for all it asks.

    Raises:
        BadInputError: see `random_walk`.
    """
    values, count = affinity.values, len(lowest)
    ends = [end.flatten().to(lowest.dtype) for end in values.aminmax()] if values.numel() else []
    numbers = torch.cat([lowest.flatten(), highest.flatten(), *ends]).tolist()
    if not all(0 <= number <= 1 for number in numbers[2 * count :]):
        raise BadInputError("affinity: expected values in [0, 1]; some are outside or not a number.")
    if not all(map(math.isfinite, numbers)):
        raise BadInputError("maps: expected finite response maps, got NaN or infinity.")
    return [i for i in range(count) if max(-numbers[i], numbers[count + i]) > 0]


def _is_finite(values: Tensor) -> bool:
    # torch.isfinite would take as much memory again as the features.
    return values.numel() == 0 or bool(torch.isfinite(torch.stack(values.aminmax())).all())


@kernel(fastmath={"contract", "reassoc", "nsz"})
@no_type_check
def _affinity_kernel(by_cell, offsets, bounds, values):
    """Writes exp(-mean |difference|) of each pair in `bounds` (top, bottom, left, right of the sources) to `values`."""
    height, _, channels = by_cell.shape
    for y in range(height):
        for o in range(len(offsets)):
            dy, dx = offsets[o]
            top, bottom, left, right = bounds[o]
            if top <= y < bottom:
                for x in range(left, right):
                    source, target = by_cell[y, x], by_cell[y + dy, x + dx]
                    distance = by_cell.dtype.type(0)
                    for c in range(channels):
                        distance += abs(target[c] - source[c])
                    values[o, y, x] = np.exp(-distance / channels)
