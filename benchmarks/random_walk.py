"""Random walk beside psa's dense squarings and plain sparse steps, and pair affinities beside an index of all pairs.

Grids are those of images of 320 x 240 and 500 x 375 pixels at stride 8. Each way is measured in a fresh process: the
peak is what resident memory grows by while the first call runs, the time is the best of several calls.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from benchmarks.measure import Options, Time, compared, in_fresh_process, peak_growth_mib, timed
from benchmarks.record import Bound, Row
from subcam.affinity.pairs import pair_indices
from subcam.affinity.random_walk import PixelAffinity, pixel_affinity, random_walk

GRIDS = ((30, 40), (47, 63))
CLASSES = (2, 12, 21)
BETA, LOG_STEPS = 8, 8
FEATURES = 448
BUDGET_SECONDS, MOST_CALLS = 2.0, 20


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One way on one case; `difference` is the largest distance of its result to ours."""

    time: Time
    peak_mib: float | None
    difference: float


def flat_pairs(affinity: PixelAffinity) -> tuple[Tensor, Tensor, Tensor]:
    """Source cells, target cells and affinities of every pair, flat."""
    _, height, width = affinity.values.shape
    sources, targets = pair_indices(height=height, width=width, radius=affinity.radius)
    values = affinity.values.flatten(1)[:, sources]
    return sources.expand_as(targets).flatten(), targets.flatten(), values.flatten()


def dense_squarings(affinity: PixelAffinity, maps: Tensor) -> Tensor:
    """The way of psa, with no more than two matrices at a time."""
    sources, targets, values = flat_pairs(affinity)
    cells = maps[0].numel()
    matrix = torch.eye(cells)
    matrix[sources, targets] = matrix[targets, sources] = values**BETA
    matrix /= matrix.sum(0, keepdim=True)
    square = torch.empty_like(matrix)
    for _ in range(LOG_STEPS):
        torch.matmul(matrix, matrix, out=square)
        matrix, square = square, matrix
    return (maps.flatten(1) @ matrix).view_as(maps)


def sparse_steps(affinity: PixelAffinity, maps: Tensor) -> Tensor:
    """All 2^LOG_STEPS steps, one after the other, with SciPy's sparse matrix."""
    sources, targets, values = (x.numpy() for x in flat_pairs(affinity))
    cells = maps[0].numel()
    half = scipy.sparse.coo_array((values**BETA, (sources, targets)), shape=(cells, cells))
    weights = (half + half.T + scipy.sparse.eye_array(cells, dtype=np.float32)).tocsr()
    step = (weights / weights.sum(0)).T.tocsr().astype(np.float32)
    columns = np.ascontiguousarray(maps.flatten(1).numpy().T)
    for _ in range(2**LOG_STEPS):
        columns = step @ columns
    return torch.from_numpy(columns.T.copy()).view_as(maps)


def ours(affinity: PixelAffinity, maps: Tensor) -> Tensor:
    """By the stencil, as Chebyshev polynomials."""
    return random_walk(affinity, maps, beta=BETA, log_steps=LOG_STEPS)


def pair_values(features: Tensor) -> Tensor:
    """The affinities of all pairs, as psa lists them, by `pixel_affinity`."""
    sources, _ = pair_indices(height=features.shape[1], width=features.shape[2])
    return pixel_affinity(features).values.flatten(1)[:, sources]


def index_of_all_pairs(features: Tensor) -> Tensor:
    """The way of psa: every difference of every pair at once."""
    sources, targets = pair_indices(height=features.shape[1], width=features.shape[2])
    cells = features.flatten(1)
    difference = cells[:, targets.flatten()].view(len(cells), *targets.shape) - cells[:, None, sources]
    return torch.exp(-difference.abs().mean(0))


METHODS: dict[str, Callable[[PixelAffinity, Tensor], Tensor]] = {
    "subcam": ours,
    "sparse steps": sparse_steps,
    "dense squarings": dense_squarings,
}

AFFINITY_METHODS: dict[str, Callable[[Tensor], Tensor]] = {
    "subcam": pair_values,
    "index of all pairs": index_of_all_pairs,
}


BOUNDS = (
    Bound(of="ratio", limit=100.0),
    Bound(of="memory_ratio", limit=20.0),
    Bound(of="difference", limit=1e-4),
)
"""On the larger grid, against dense squarings."""


def inputs(height: int, width: int, classes: int) -> tuple[Tensor, Tensor]:
    """Features and maps with a fixed seed; the affinities of neighbours run from about 0.3 to 0.9."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(FEATURES, height, width, generator=generator).cumsum(2) * 0.3
    return features, torch.rand(classes, height, width, generator=generator)


def measure(method: str, height: int, width: int, classes: int) -> Measured:
    """One way to walk, in this process."""
    run = METHODS[method]
    small_features, small_maps = inputs(6, 10, 2)
    run(pixel_affinity(small_features), small_maps)  # compiles, and loads what is loaded once
    features, maps = inputs(height, width, classes)
    affinity = pixel_affinity(features)
    del features
    return _measured(lambda: run(affinity, maps), lambda: ours(affinity, maps))


def measure_affinity(method: str, height: int, width: int) -> Measured:
    """One way from features to affinities, in this process."""
    run = AFFINITY_METHODS[method]
    run(inputs(6, 10, 2)[0])
    features, _ = inputs(height, width, 1)
    return _measured(lambda: run(features), lambda: pair_values(features))


def rows(options: Options) -> Iterator[Row]:
    """All grids and numbers of maps; with --quick one small case."""
    grids: Sequence[tuple[int, int]] = ((12, 16),) if options.quick else GRIDS
    for height, width in grids:
        yield from _beside_ours(
            "pair affinities", f"{height} x {width} cells", AFFINITY_METHODS, measure_affinity, (height, width)
        )
        for classes in (2,) if options.quick else CLASSES:
            case = f"{height} x {width} cells, {classes} maps"
            yield from _beside_ours("random walk", case, METHODS, measure, (height, width, classes))


def _beside_ours(
    stage: str, case: str, methods: dict, measure_one: Callable[..., Measured], arguments: tuple[int, ...]
) -> Iterator[Row]:
    own, *others = (in_fresh_process(measure_one, method, *arguments) for method in methods)
    for name, other in zip(list(methods)[1:], others, strict=True):
        yield Row(
            stage=stage,
            case=case,
            **vars(compared([own.time], [other.time])),
            other=name,
            peak_mib=own.peak_mib,
            other_peak_mib=other.peak_mib,
            difference=other.difference,
            bounds=BOUNDS if name == "dense squarings" and arguments[:2] == GRIDS[1] else (),
        )


def _measured(call: Callable[[], Tensor], reference: Callable[[], Tensor]) -> Measured:
    torch.set_num_threads(1)
    peak = peak_growth_mib(call)
    times: list[Time] = []
    while not times or (sum(one.seconds for one in times) < BUDGET_SECONDS and len(times) < MOST_CALLS):
        times.append(timed(call))
    best = min(times, key=lambda one: one.seconds)
    return Measured(time=best, peak_mib=peak, difference=float((call() - reference()).abs().max()))
