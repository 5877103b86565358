"""Random walk against psa's dense squarings and against plain sparse steps: time and peak memory, one thread.

    python benchmarks/random_walk.py            # the dense matrix up to 47 x 63 cells, 2-3 minutes
    python benchmarks/random_walk.py --dense-cells 12000    # at 94 x 125 as well: 1.1 GB, some minutes more

Grids are those of pictures of 320 x 240, 500 x 375 and 1000 x 750 pixels at stride 8. Each row is measured in a fresh
process: the peak is what resident memory grows by while the first call runs, the time is the best of several calls.
"""

import argparse
import ctypes
import gc
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from subcam.refine.pairs import pair_indices
from subcam.refine.random_walk import PixelAffinity, pixel_affinity, random_walk

GRIDS = ((30, 40), (47, 63), (94, 125))
CLASSES = (2, 5, 21)
BETA, LOG_STEPS = 8, 8
FEATURES = 448


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement; `difference` is the largest distance of its maps to those of `random_walk`."""

    method: str
    height: int
    width: int
    classes: int
    seconds: float
    peak_mib: float
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


def chebyshev_stencil(affinity: PixelAffinity, maps: Tensor) -> Tensor:
    """Ours."""
    return random_walk(affinity, maps, beta=BETA, log_steps=LOG_STEPS)


def index_of_all_pairs(features: Tensor) -> Tensor:
    """The way of psa: every difference of every pair at once."""
    sources, targets = pair_indices(height=features.shape[1], width=features.shape[2])
    cells = features.flatten(1)
    difference = cells[:, targets.flatten()].view(len(cells), *targets.shape) - cells[:, None, sources]
    return torch.exp(-difference.abs().mean(0))


METHODS: dict[str, Callable[[PixelAffinity, Tensor], Tensor]] = {
    "subcam": chebyshev_stencil,
    "sparse steps": sparse_steps,
    "dense squarings": dense_squarings,
}

AFFINITY_METHODS: dict[str, Callable[[Tensor], object]] = {
    "subcam": pixel_affinity,
    "index of all pairs": index_of_all_pairs,
}


def inputs(height: int, width: int, classes: int) -> tuple[Tensor, Tensor]:
    """Features and maps with a fixed seed; the affinities of neighbours run from about 0.3 to 0.9."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(FEATURES, height, width, generator=generator).cumsum(2) * 0.3
    return features, torch.rand(classes, height, width, generator=generator)


def resident_kib(field: str) -> int:
    """VmRSS (now) or VmHWM (at most so far) of this process, from Linux."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(f"expected {field} in /proc/self/status; this benchmark measures memory on Linux only.")


def peak_growth_mib(call: Callable[[], object]) -> float:
    """MiB that resident memory rises by, at most, while `call` runs (Linux with the GNU C library)."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else the call is given pages that were freed but are still resident
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
    before = resident_kib("VmRSS")
    call()
    return max(0, resident_kib("VmHWM") - before) / 1024


def best_seconds(call: Callable[[], object], *, budget: float = 2.0, most: int = 20) -> float:
    """The best of up to `most` calls within about `budget` seconds, at least one."""
    times: list[float] = []
    while not times or (sum(times) < budget and len(times) < most):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(method: str, height: int, width: int, classes: int) -> Row:
    """One row, in this process."""
    torch.set_num_threads(1)
    run = METHODS[method]
    small_features, small_maps = inputs(6, 10, 2)
    run(pixel_affinity(small_features), small_maps)  # compiles, and loads what is loaded once
    features, maps = inputs(height, width, classes)
    affinity = pixel_affinity(features)
    del features
    peak = peak_growth_mib(lambda: run(affinity, maps))
    seconds = best_seconds(lambda: run(affinity, maps))
    difference = (run(affinity, maps) - chebyshev_stencil(affinity, maps)).abs().max()
    return Row(
        method=method,
        height=height,
        width=width,
        classes=classes,
        seconds=seconds,
        peak_mib=peak,
        difference=difference.item(),
    )


def measure_affinity(method: str, height: int, width: int) -> Row:
    """Features to affinities: ours, or an index of all pairs as in psa."""
    torch.set_num_threads(1)
    run = AFFINITY_METHODS[method]
    run(inputs(6, 10, 2)[0])
    features, _ = inputs(height, width, 1)
    peak = peak_growth_mib(lambda: run(features))
    seconds = best_seconds(lambda: run(features))
    sources, _ = pair_indices(height=height, width=width)
    difference = (pixel_affinity(features).values.flatten(1)[:, sources] - index_of_all_pairs(features)).abs().max()
    return Row(
        method=f"affinity: {method}",
        height=height,
        width=width,
        classes=0,
        seconds=seconds,
        peak_mib=peak,
        difference=difference.item(),
    )


def rows(
    grids: Sequence[tuple[int, int]] = GRIDS, classes: Sequence[int] = CLASSES, *, dense_cells: int = 3000
) -> list[Row]:
    """All measurements, each in a process of its own; the dense matrix only on grids of at most `dense_cells` cells."""
    os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    spawn = multiprocessing.get_context("spawn")
    found = []
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for height, width in grids:
            for method in AFFINITY_METHODS:
                found.append(pool.submit(measure_affinity, method, height, width).result())
            for count, method in itertools.product(classes, METHODS):
                if method == "dense squarings" and height * width > dense_cells:
                    continue
                found.append(pool.submit(measure, method, height, width, count).result())
    return found


def table(measured: Sequence[Row]) -> Table:
    """The rows, each with its ratio to ours on the same task."""
    ours = {(row.height, row.width, row.classes): row for row in measured if row.method.endswith("subcam")}
    result = Table("cells", "maps", "method", "ms", "peak MiB", "times ours", "memory / ours", "largest difference")
    for row in measured:
        best = ours[row.height, row.width, row.classes]
        result.add_row(
            f"{row.height} x {row.width}",
            str(row.classes or "-"),
            row.method,
            f"{row.seconds * 1e3:.1f}",
            f"{row.peak_mib:.1f}",
            f"{row.seconds / best.seconds:.0f}",
            f"{row.peak_mib / max(best.peak_mib, 0.1):.0f}",
            f"{row.difference:.1e}",
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dense-cells", type=int, default=3000, help="largest grid for the dense matrix, in cells")
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    arguments = parser.parse_args()
    measured = rows(dense_cells=arguments.dense_cells)
    Console(width=120).print(table(measured))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in measured], indent=1))


if __name__ == "__main__":
    main()
