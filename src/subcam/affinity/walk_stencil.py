"""A high power of the random walk's matrix, applied to maps (Section 3.3, after [1]): cells x offsets in, maps out.

W is symmetric and D holds its column sums, so the n-th power of the walk's matrix is a power of a symmetric one:

    m (W D^-1)^n = (m D^1/2) S^n D^-1/2,     S = D^-1/2 W D^-1/2, whose spectrum lies in [-1, 1].

There x^n has the expansion x^n = sum_k P(|Y| = k) T_k(x): Y is the sum of n fair signs, T_k Chebyshev's polynomial
(put x = cos t and multiply out ((e^it + e^-it) / 2)^n). As |T_k| <= 1 there, cutting it off after degree d errs by no
more than the tail P(|Y| > d) <= 2 exp(-d^2 / 2n) in the norm of S^n, and so at any cell of the result by no more than
tail * sqrt(sum(D) / min(D)) * max|m|. d is the smallest degree that keeps this under 8 machine epsilons: for n = 256
about 100 applications of S in float32 in place of 256. All coefficients are positive and T_k comes by a three-term
recurrence, so rounding does not grow. The power is never formed; memory is that of W and a
few times that of the maps.
"""

import math
from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from scipy.special import gammaln
from torch import Tensor

from subcam.affinity.grid import source_region
from subcam.affinity.pairs import pair_offsets
from subcam.runtime.caches.kernels import kernel
from subcam.runtime.devices import to_device
from subcam.runtime.machine.simd import REGISTER, load, load_rows, repeat, store_rows

# Beside 1. What is smaller becomes 0, so that no product is denormal, which costs many processors tenfold.
NEGLIGIBLE_WEIGHT = 1e-12
NEGLIGIBLE_VALUE = 1e-18
"""Raised by this and lowered again, a value is 0 or, in float32, at least 1e-25."""
GROUPS = (4, 2, 1)
"""How many maps the CPU's kernel takes at once: as many as it can, for couplings are then loaded once for all."""
WIDTH = (0,) * REGISTER


@dataclass(frozen=True, kw_only=True, eq=False)
class Stencil:
    """S over the grid's cells laid out in one row: each grid row is padded on the right, the whole at both ends.

    The padding makes an offset the same shift for every cell, and leaves room to compute a whole register beyond the
    last. It has no couplings, so a map is 0 there and stays 0.

    couplings: S between positions p and p + shifts[o].
    excess: S at (p, p) less 1, which is 1/D - 1. The 1 is kept apart, for a cell that is nearly alone needs the digits.
    root: sqrt(D); 1 on the padding.
    pitch: positions from one grid row to the next.
    """

    couplings: Float[Tensor, "offsets positions"]
    excess: Float[Tensor, " positions"]
    root: Float[Tensor, " positions"]
    shifts: tuple[int, ...]
    height: int
    width: int
    pitch: int

    @property
    def margin(self) -> int:
        """Positions of padding before the first cell, and after the last row."""
        return max(self.shifts, default=0)

    @property
    def cells(self) -> slice:
        """The grid's rows in the padded row."""
        return slice(self.margin, self.margin + self.height * self.pitch)

    @property
    def size(self) -> int:
        """Positions of the padded row."""
        return self.cells.stop + self.margin + REGISTER

    def flatten(self, maps: Float[Tensor, "cls h w"]) -> Float[Tensor, "cls positions"]:
        """Maps laid out in the padded row."""
        rows = maps.new_zeros(len(maps), self.size)
        self.unflatten(rows).copy_(maps)
        return rows

    def unflatten(self, rows: Float[Tensor, "cls positions"]) -> Float[Tensor, "cls h w"]:
        """Maps as they lie in the padded row, not copied."""
        return rows[:, self.cells].unflatten(1, (self.height, self.pitch))[:, :, : self.width]


def build_stencil(affinities: Float[Tensor, "offsets h w"], *, radius: int, beta: float | int) -> Stencil:
    """The stencil of S for the weights affinity^beta of each cell and the one at each offset of `pair_offsets(radius)`.

    Affinities are 0 where a pair is absent; what points off the grid is not read. The diagonal of W is 1.
    """
    _, height, width = affinities.shape
    offsets = pair_offsets(radius)
    pitch = width + radius - 1
    shifts = tuple(dy * pitch + dx for dy, dx in offsets)
    margin = max(shifts, default=0)
    size = height * pitch + 2 * margin + REGISTER
    couplings = affinities.new_zeros(len(offsets), size)
    cells = couplings[:, margin : margin + height * pitch].view(-1, height, pitch)
    for plane, offset, affinity in zip(cells, offsets, affinities, strict=True):
        region = source_region(offset, height=height, width=width, radius=radius, all_pairs=True)
        weights = affinity[region] ** beta
        plane[region] = weights.masked_fill_(weights < NEGLIGIBLE_WEIGHT, 0)
    # In float64: an error in D moves S's largest eigenvalue off 1, and the power multiplies that by `steps`.
    degrees = torch.ones(size, dtype=torch.float64, device=affinities.device)
    for coupling, shift in zip(couplings, shifts, strict=True):
        degrees += coupling
        degrees[shift:] += coupling[: size - shift]
    inverse_root = degrees.rsqrt()
    for coupling, shift in zip(couplings, shifts, strict=True):
        coupling[: size - shift] *= inverse_root[: size - shift] * inverse_root[shift:]
    return Stencil(
        couplings=couplings,
        excess=(1 / degrees - 1).to(affinities.dtype),
        root=degrees.sqrt().to(affinities.dtype),
        shifts=shifts,
        height=height,
        width=width,
        pitch=pitch,
    )


def apply_power(stencil: Stencil, maps: Float[Tensor, "cls h w"], *, steps: int) -> Float[Tensor, "cls h w"]:
    """The maps times (W D^-1)^steps, for maps of values in [-1, 1]; by numba on the CPU, by torch on CUDA."""
    degrees = stencil.root.square()
    amplification = math.sqrt(float(degrees.sum() / degrees.min()))
    coefficients = power_coefficients(steps, tolerance=8 * torch.finfo(maps.dtype).eps / amplification)
    start = stencil.flatten(maps).mul_(stencil.root)
    total = SERIES[maps.device.type](stencil, start, coefficients)
    return stencil.unflatten(total.div_(stencil.root))


def power_coefficients(steps: int, *, tolerance: float) -> Float64[np.ndarray, " terms"]:
    """c_k of x^steps ~ sum_k c_k T_k(x), up to the lowest degree that errs by at most `tolerance` on [-1, 1]."""
    heads = np.arange(steps // 2 + 1)
    log_probabilities = gammaln(steps + 1) - gammaln(heads + 1) - gammaln(steps - heads + 1) - steps * math.log(2)
    coefficients = np.zeros(steps + 1)
    coefficients[steps - 2 * heads] = np.exp(log_probabilities)
    coefficients[1:] *= 2
    coefficients /= coefficients.sum()
    tails = np.append(np.cumsum(coefficients[:0:-1])[::-1], 0.0)
    degree = int(np.argmax(tails <= tolerance))
    return coefficients[: degree + 1]


def series_on_cpu(
    stencil: Stencil, start: Float[Tensor, "cls positions"], coefficients: Float64[np.ndarray, " terms"]
) -> Float[Tensor, "cls positions"]:
    """sum_k coefficients[k] T_k(S) start, by one thread that holds no interpreter lock."""
    total = start * float(coefficients[0])
    number = total.numpy().dtype.type
    first = 0
    while first < len(start):
        rows = next(rows for rows in GROUPS if rows <= len(start) - first)
        _series_kernel(
            stencil.couplings.numpy().reshape(-1),
            stencil.excess.numpy(),
            np.array(stencil.shifts, np.int64),
            (stencil.cells.start, stencil.cells.stop),
            coefficients.astype(number),
            number(NEGLIGIBLE_VALUE),
            start[first : first + rows].numpy().reshape(-1),
            total[first : first + rows].numpy().reshape(-1),
            (0,) * rows,
        )
        first += rows
    return total


def series_by_gathering(
    stencil: Stencil, start: Float[Tensor, "cls positions"], coefficients: Float64[np.ndarray, " terms"]
) -> Float[Tensor, "cls positions"]:
    """sum_k coefficients[k] T_k(S) start, by torch on the device of `start`: each position sums its neighbours."""
    size, device = start.shape[1], start.device
    here = torch.arange(size, dtype=torch.int32, device=device)
    shifts = to_device(torch.tensor(stencil.shifts, dtype=torch.int32), device)[:, None]
    backward = torch.zeros_like(stencil.couplings)
    for row, coupling, shift in zip(backward, stencil.couplings, stencil.shifts, strict=True):
        row[shift:] = coupling[: size - shift]
    # What the clamp moves is coupled by 0.
    neighbours = torch.cat([here[None], here + shifts, here - shifts]).clamp(0, size - 1).T.contiguous()
    weights = torch.cat([stencil.excess[None], stencil.couplings, backward]).T.contiguous()

    def step(maps: Tensor) -> Tensor:
        return maps + F.embedding_bag(neighbours, maps, per_sample_weights=weights, mode="sum")

    current = start.T.contiguous()
    total = current * float(coefficients[0])
    previous = step(current) if len(coefficients) > 1 else current  # T_-1 = T_1, so one recurrence serves all k
    for coefficient in coefficients[1:].tolist():
        previous, current = current, step(current).mul_(2).sub_(previous)
        total.add_(current, alpha=coefficient)
    return total.T


SERIES = {"cpu": series_on_cpu, "cuda": series_by_gathering}


@kernel()
@no_type_check
def _series_kernel(couplings, excess, shifts, cells, coefficients, negligible, start, total, rows):
    """Adds sum_{k >= 1} coefficients[k] T_k(S) start to `total`, for the maps in as many rows.

    A register of positions of each map at a time, so that what is summed over the offsets stays in registers. In two
    sums, as an addition waits for the one before it; both begin with half the excess, end near 0 and so round little.
    """
    size, one = excess.size, coefficients.dtype.type(1)
    half = one / (one + one)
    previous, current = np.zeros_like(start), start.copy()
    for k in range(1, len(coefficients)):
        factor = one if k == 1 else one + one
        for place in range(cells[0], cells[1], REGISTER):
            here = load_rows(current, place, size, rows)
            ahead = repeat(load(excess, place, WIDTH), rows) * here * half
            behind = ahead
            for o in range(len(shifts)):
                shift = shifts[o]
                onward = repeat(load(couplings, o * size + place, WIDTH), rows)
                ahead = ahead + onward * load_rows(current, place + shift, size, rows)
                backward = repeat(load(couplings, o * size + place - shift, WIDTH), rows)
                behind = behind + backward * load_rows(current, place - shift, size, rows)
            value = factor * (here + (ahead + behind)) - load_rows(previous, place, size, rows)
            value = (value + negligible) - negligible
            store_rows(previous, place, size, value)
            store_rows(total, place, size, load_rows(total, place, size, rows) + coefficients[k] * value)
        previous, current = current, previous
