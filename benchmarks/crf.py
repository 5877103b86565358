"""Dense CRF against pydensecrf and against exact Gaussians: time, peak memory and distance of the marginals.

    OMP_NUM_THREADS=1 python benchmarks/crf.py --images VOC/JPEGImages --pydensecrf-python ENV/bin/python

The two take turns on the same pictures and scores, and ratios are medians over these turns, so that other work on the
machine meets both. pydensecrf (`pip install pydensecrf2`) lives in an environment of its own; without it its columns
say "not measured". Two threads are two pictures at once, for pydensecrf in two processes, as it keeps the
interpreter's lock. A time is that of a whole call, the building of the lattices included (but that of the spatial one
is kept for each size of picture). Memory is what resident memory grows by during the first call of a fresh process.
"""

import argparse
import ctypes
import functools
import gc
import importlib
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from subcam.refine.crf import CRFSettings, dense_crf_many

SIZES = ((240, 320), (375, 500), (750, 1000))
CLASSES = (2, 5, 21)
THREADS = (1, 2)
DIRECT_SIZE = (60, 80)
PICTURES = 4
WORKER = Path(__file__).with_name("pydensecrf_worker.py")
COMPILE = """
import time, numpy as np
from subcam.refine.crf import dense_crf
image, scores = np.zeros((8, 8, 3), np.uint8), np.full(({classes}, 8, 8), 0.5, np.float32)
start = time.perf_counter(); dense_crf(image, scores); print(time.perf_counter() - start)
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement, per picture; None where pydensecrf or the memory was not measured.

    sets: score sets of one picture that share its lattices, 2 for low and high alpha.
    ratio: pydensecrf's time over ours, the median over turns.
    difference: largest distance of the marginals of the two.
    """

    height: int
    width: int
    classes: int
    sets: int
    threads: int
    milliseconds: float
    pydensecrf_milliseconds: float | None = None
    ratio: float | None = None
    peak_mib: float | None = None
    pydensecrf_peak_mib: float | None = None
    difference: float | None = None


@dataclass(frozen=True, kw_only=True)
class DirectRow:
    """The lattice beside exact Gaussians between all pairs of pixels, on a small picture."""

    height: int
    width: int
    classes: int
    milliseconds: float
    direct_milliseconds: float
    mean_difference: float


@dataclass(frozen=True, kw_only=True)
class Compilation:
    """Seconds of the first call in a process: kernels compiled, and kernels read from numba's cache."""

    classes: int
    cold_seconds: float
    cached_seconds: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """A picture and its scores, in memory and in a file for the worker."""

    image: np.ndarray
    scores: np.ndarray
    path: Path


class Pydensecrf:
    """A process with pydensecrf that computes one case at a time."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, case: Case, *, memory: bool = False) -> dict[str, float]:
        """Seconds and, if asked for, peak growth in MiB; waits for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = {"path": str(case.path), "iterations": CRFSettings().iterations, "memory": memory}
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError("the pydensecrf worker ended; does its environment have numpy and pydensecrf2?")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


@contextmanager
def pydensecrf_workers(python: Path | None, count: int) -> Iterator[list[Pydensecrf]]:
    """As many workers as asked for, or none without an interpreter that has pydensecrf."""
    with ExitStack() as stack:
        workers = [Pydensecrf(python) for _ in range(count)] if python else []
        for worker in workers:
            stack.callback(worker.close)
        yield workers


def photographs(folder: Path | None, height: int, width: int) -> list[np.ndarray]:
    """Landscape photographs of the folder, resized, or blocks of noisy colour where there is no folder."""
    rng = np.random.default_rng(0)
    if folder is None or not folder.is_dir():
        blocks = [rng.integers(0, 256, (6, 8, 3)).astype(np.uint8) for _ in range(PICTURES)]
        images = [Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC) for one in blocks]
        noise = [rng.normal(0, 12, (height, width, 3)) for _ in images]
        return [(np.array(one) + more).clip(0, 255).astype(np.uint8) for one, more in zip(images, noise, strict=True)]
    chosen: list[np.ndarray] = []
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as picture:
            if picture.width > picture.height:
                resized = picture.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
                chosen.append(np.array(resized))
        if len(chosen) == PICTURES:
            break
    return chosen


def make_cases(folder: Path | None, scratch: Path, *, height: int, width: int, classes: int, sets: int) -> list[Case]:
    """Pictures with smooth random scores, from a grid of stride 16 as response maps are."""
    rng = np.random.default_rng(0)
    cases = []
    for number, image in enumerate(photographs(folder, height, width)):
        coarse = rng.dirichlet(np.full(classes, 0.5), (sets, -(-height // 16), -(-width // 16))).astype(np.float32)
        scores = np.empty((sets, classes, height, width), np.float32)
        for index in np.ndindex(sets, classes):
            plane = Image.fromarray(coarse[index[0], :, :, index[1]])
            scores[index] = np.array(plane.resize((width, height), Image.Resampling.BILINEAR)).clip(0)
        path = scratch / f"{height}x{width}_{classes}_{sets}_{number}.npz"
        np.savez(path, image=image, scores=scores)
        cases.append(Case(image=image, scores=scores, path=path))
    return cases


def ours(case: Case) -> list[np.ndarray]:
    """All score sets of a case, sharing its lattices."""
    return dense_crf_many(case.image, list(case.scores))


def resident_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (at most so far) of this process, from Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def our_peak_mib(path: Path) -> float:
    """Peak growth of a first call; run in a fresh process, with the kernels loaded before."""
    with np.load(path) as stored:
        image, scores = stored["image"], list(stored["scores"])
    dense_crf_many(image[:16, :16], [one[:, :16, :16] for one in scores])
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
    before = resident_mib("VmRSS")
    dense_crf_many(image, scores)
    return resident_mib("VmHWM") - before


def measure_peaks(case: Case, python: Path | None) -> tuple[float | None, float | None]:
    """Peak growth of ours and of pydensecrf, each in a fresh process; None where it cannot be had."""
    if not Path("/proc/self/clear_refs").exists():
        return None, None
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        peak = pool.submit(our_peak_mib, case.path).result()
    with pydensecrf_workers(python, 1) as workers:
        theirs = [worker.run(case, memory=True)["peak_mib"] for worker in workers]
    return peak, theirs[0] if theirs else None


def largest_difference(case: Case) -> float:
    """Between our marginals and those that the worker left."""
    theirs = np.load(f"{case.path}.marginals.npy")
    return max(float(np.abs(one - other).max()) for one, other in zip(ours(case), theirs, strict=True))


def measure_times(cases: Sequence[Case], *, threads: int, turns: int, python: Path | None) -> tuple[list, list]:
    """Seconds a picture of ours and of pydensecrf, turn by turn; each turn takes `threads` pictures at once."""
    mine: list[float] = []
    theirs: list[float] = []
    with pydensecrf_workers(python, threads) as workers, ThreadPoolExecutor(threads) as pool:
        for turn in range(-1, turns):
            batch = [cases[(turn * threads + i) % len(cases)] for i in range(threads)]
            start = time.perf_counter()
            list(pool.map(ours, batch))
            own = (time.perf_counter() - start) / threads
            answers = list(pool.map(Pydensecrf.run, workers, batch)) if workers else []
            if turn < 0:
                continue  # the first turn warms both
            mine.append(own)
            if answers:
                theirs.append(max(answer["seconds"] for answer in answers) / threads)
    return mine, theirs


def measure_row(
    *,
    height: int,
    width: int,
    classes: int,
    sets: int = 1,
    threads: int = 1,
    turns: int = 12,
    images: Path | None = None,
    python: Path | None = None,
) -> Row:
    """One row: times in turns, then memory (one thread only) and the distance of the marginals."""
    with tempfile.TemporaryDirectory() as scratch:
        cases = make_cases(images, Path(scratch), height=height, width=width, classes=classes, sets=sets)
        mine, theirs = measure_times(cases, threads=threads, turns=turns, python=python)
        peaks = measure_peaks(cases[0], python) if threads == 1 else (None, None)
        return Row(
            height=height,
            width=width,
            classes=classes,
            sets=sets,
            threads=threads,
            milliseconds=1e3 * statistics.median(mine),
            pydensecrf_milliseconds=1e3 * statistics.median(theirs) if theirs else None,
            ratio=statistics.median(b / a for a, b in zip(mine, theirs, strict=True)) if theirs else None,
            peak_mib=peaks[0],
            pydensecrf_peak_mib=peaks[1],
            difference=largest_difference(cases[0]) if theirs else None,
        )


def measure_rows(*, turns: int = 12, images: Path | None = None, python: Path | None = None) -> Iterator[Row]:
    """Sizes x classes x threads, and at 500 x 375 low and high alpha together."""
    measure = functools.partial(measure_row, turns=turns, images=images, python=python)
    for height, width in SIZES:
        for classes in CLASSES:
            for threads in THREADS:
                yield measure(height=height, width=width, classes=classes, threads=threads)
    for classes in CLASSES:
        yield measure(height=375, width=500, classes=classes, sets=2)


def measure_direct(images: Path | None = None, classes: int = 5) -> DirectRow:
    """The lattice against the tests' O(N^2) version; at 500 x 375 that would take a matrix of 141 GB."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    direct_dense_crf = importlib.import_module("tests.refine.direct_crf").direct_dense_crf
    height, width = DIRECT_SIZE
    with tempfile.TemporaryDirectory() as scratch:
        case = make_cases(images, Path(scratch), height=height, width=width, classes=classes, sets=1)[0]
    seconds = []
    for call in (lambda: ours(case)[0], lambda: direct_dense_crf(case.image, case.scores[0])):
        call()
        start = time.perf_counter()
        marginals = call()
        seconds.append((time.perf_counter() - start, marginals))
    (fast, approximate), (slow, exact) = seconds
    return DirectRow(
        height=height,
        width=width,
        classes=classes,
        milliseconds=1e3 * fast,
        direct_milliseconds=1e3 * slow,
        mean_difference=float(np.abs(approximate - exact).mean()),
    )


def measure_compilation(classes: int = 5) -> Compilation:
    """First calls of two fresh processes that share a new, empty cache of kernels."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        command = [sys.executable, "-c", COMPILE.format(classes=classes)]
        runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    cold, cached = (float(run.stdout) for run in runs)
    return Compilation(classes=classes, cold_seconds=cold, cached_seconds=cached)


def to_table(rows: Sequence[Row]) -> Table:
    """Rows for a terminal."""
    table = Table(title="dense CRF, 10 iterations; milliseconds and MiB a picture")
    for heading in ("picture", "classes", "threads", "ours", "pydensecrf", "ratio", "peak", "its peak", "difference"):
        table.add_column(heading, justify="right")

    def number(value: float | None, form: str) -> str:
        return "not measured" if value is None else format(value, form)

    for row in rows:
        table.add_row(
            f"{row.width} x {row.height}",
            f"{row.classes}" + (f", {row.sets} sets" if row.sets > 1 else ""),
            f"{row.threads}",
            number(row.milliseconds, ".1f"),
            number(row.pydensecrf_milliseconds, ".0f"),
            number(row.ratio, ".1f"),
            number(row.peak_mib, ".0f"),
            number(row.pydensecrf_peak_mib, ".0f"),
            number(row.difference, ".0e"),
        )
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of .jpg photographs; synthetic pictures without")
    parser.add_argument("--pydensecrf-python", type=Path, help="interpreter that has numpy and pydensecrf2")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args(arguments)
    console = Console(width=120)
    rows = []
    for row in measure_rows(turns=options.turns, images=options.images, python=options.pydensecrf_python):
        rows.append(row)
        console.print(f"{row.width} x {row.height}, {row.classes} classes, {row.threads} threads", style="dim")
    direct, compilation = measure_direct(options.images), measure_compilation()
    console.print(to_table(rows))
    console.print(
        f"exact Gaussians at {direct.width} x {direct.height}, {direct.classes} classes: "
        f"{direct.direct_milliseconds:.0f} ms, ours {direct.milliseconds:.1f} ms, "
        f"mean distance {direct.mean_difference:.1e}"
    )
    console.print(
        f"first call of a process: {compilation.cold_seconds:.1f} s compiling, "
        f"{compilation.cached_seconds:.2f} s with compiled kernels in the cache"
    )
    if options.json:
        result = {
            "machine": platform.processor() or platform.machine(),
            "rows": [asdict(row) for row in rows],
            "direct": asdict(direct),
            "compilation": asdict(compilation),
        }
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
