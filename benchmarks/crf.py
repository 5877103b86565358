"""Dense CRF beside pydensecrf, where an interpreter has it, and beside exact Gaussians between all pairs of pixels.

    python -m benchmarks crf --images VOC/JPEGImages --peers-python ENV/bin/python

The two take turns on the same images and scores, and ratios are medians over these turns, so that other work on the
machine meets both. pydensecrf (`pip install pydensecrf2`) lives in an environment of its own. Two threads are two
images at once, for pydensecrf in two processes, as it keeps the interpreter's lock. A time is that of a whole call,
the building of the lattices included (but that of the spatial one is kept for each size of image). Settings are psa's,
or those of DeepLab, with many more vertices: `subcam predict --crf` and the recipe `small` have them.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import (
    Options,
    Time,
    compared,
    in_fresh_process,
    in_turns,
    median_time,
    peak_growth_mib,
    timed,
)
from benchmarks.peers import absent
from benchmarks.record import Bound, Row
from subcam.crf.dense_crf import dense_crf, dense_crf_many
from subcam.crf.settings import CRFSettings
from subcam.predict.settings import DEEPLAB_CRF

SIZES = ((240, 320), (375, 500), (750, 1000))
CLASSES = (2, 5, 21)
YARDSTICK = (375, 500)
AT_LEAST = {(2, 1): 3.0, (5, 1): 3.0, (21, 1): 2.0, (2, 2): 4.0, (5, 2): 4.0, (21, 2): 4.0}
"""Times faster than pydensecrf at the yardstick's size on one thread, by (classes, score sets)."""
AT_LEAST_DEEPLAB = {2: 4.0, 5: 4.0, 21: 2.0}
"""The same at DeepLab's settings, by classes."""

DIRECT_SIZE = (60, 80)
IMAGES = 4
WORKER = Path(__file__).with_name("pydensecrf_worker.py")
FIRST_CALL = """
import time, numpy as np
start, cpu = time.perf_counter(), time.process_time()
from subcam.crf.dense_crf import dense_crf
image, scores = np.zeros((8, 8, 3), np.uint8), np.full(({classes}, 8, 8), 0.5, np.float32)
dense_crf(image, scores); print(time.perf_counter() - start, time.process_time() - cpu)
"""


@dataclass(frozen=True, kw_only=True)
class Size:
    """An image's size, classes, whose settings; how many score sets share its lattices (2 for low and high alpha).

    scoring: how many of the classes have a score above 0 anywhere; None for all.
    """

    height: int
    width: int
    classes: int
    scoring: int | None = None
    sets: int = 1
    threads: int = 1
    deeplab: bool = False

    @property
    def title(self) -> str:
        """The case in words."""
        parts = [f"{self.width} x {self.height}", f"{self.classes} classes"]
        parts += [f"{self.scoring} of them scoring"] if self.scoring else []
        parts += [f"{self.sets} score sets"] if self.sets > 1 else []
        parts += [f"{self.threads} images at once"] if self.threads > 1 else []
        parts += ["DeepLab's settings"] if self.deeplab else []
        return ", ".join(parts)

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """What is asked of the ratio to pydensecrf, at the yardstick's size on one thread."""
        if (self.height, self.width) != YARDSTICK or self.threads > 1:
            return ()
        limit = AT_LEAST_DEEPLAB[self.classes] if self.deeplab else AT_LEAST[self.classes, self.sets]
        return (Bound(of="ratio", limit=limit),)


@dataclass(frozen=True, kw_only=True)
class Case:
    """An image and its scores, in memory and in a file for the worker."""

    image: np.ndarray
    scores: np.ndarray
    path: Path
    settings: CRFSettings


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
        task = {"path": str(case.path), "settings": asdict(case.settings), "memory": memory}
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
        blocks = [rng.integers(0, 256, (6, 8, 3)).astype(np.uint8) for _ in range(IMAGES)]
        images = [Image.fromarray(one).resize((width, height), Image.Resampling.BICUBIC) for one in blocks]
        noise = [rng.normal(0, 12, (height, width, 3)) for _ in images]
        return [(np.array(one) + more).clip(0, 255).astype(np.uint8) for one, more in zip(images, noise, strict=True)]
    chosen: list[np.ndarray] = []
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as image:
            if image.width > image.height:
                resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
                chosen.append(np.array(resized))
        if len(chosen) == IMAGES:
            break
    return chosen


def make_cases(folder: Path | None, scratch: Path, size: Size) -> list[Case]:
    """Images with smooth random scores, from a grid of stride 16 as response maps are."""
    height, width, classes, sets = size.height, size.width, size.classes, size.sets
    rng = np.random.default_rng(0)
    cases = []
    for number, image in enumerate(photographs(folder, height, width)):
        coarse = rng.dirichlet(np.full(classes, 0.5), (sets, -(-height // 16), -(-width // 16))).astype(np.float32)
        scores = np.zeros((sets, classes, height, width), np.float32)
        for index in np.ndindex(sets, size.scoring or classes):
            plane = Image.fromarray(coarse[index[0], :, :, index[1]])
            scores[index] = np.array(plane.resize((width, height), Image.Resampling.BILINEAR)).clip(0)
        path = scratch / f"{number}.npz"
        np.savez(path, image=image, scores=scores)
        settings = DEEPLAB_CRF if size.deeplab else CRFSettings()
        cases.append(Case(image=image, scores=scores, path=path, settings=settings))
    return cases


def ours(case: Case) -> list[np.ndarray]:
    """All score sets of a case, sharing its lattices."""
    return dense_crf_many(case.image, list(case.scores), settings=case.settings)


def peak_mib(path: Path, settings: CRFSettings) -> float | None:
    """Peak growth of a first call, with the kernels loaded before; for a process that has done nothing else."""
    with np.load(path) as stored:
        image, scores = stored["image"], list(stored["scores"])
    dense_crf_many(image[:16, :16], [one[:, :16, :16] for one in scores], settings=settings)
    return peak_growth_mib(lambda: dense_crf_many(image, scores, settings=settings))


def measure_row(size: Size, options: Options) -> Row:
    """Times in turns, then memory of one image, each way in a fresh process, and the distance of the marginals."""
    with tempfile.TemporaryDirectory() as scratch:
        cases = make_cases(options.images, Path(scratch), size)
        mine, theirs = _times(cases, size, options)
        peak = in_fresh_process(peak_mib, cases[0].path, cases[0].settings)
        their_peak = difference = None
        with pydensecrf_workers(options.peers_python, 1) as workers:
            for worker in workers:
                their_peak = worker.run(cases[0], memory=True)["peak_mib"]
                marginals = np.load(f"{cases[0].path}.marginals.npy")
                difference = max(float(np.abs(a - b).max()) for a, b in zip(ours(cases[0]), marginals, strict=True))
    return Row(
        stage="dense CRF",
        case=size.title,
        **(vars(compared(mine, theirs)) if theirs else vars(median_time(mine))),
        other="pydensecrf" if theirs else absent("pydensecrf2"),
        peak_mib=peak,
        other_peak_mib=their_peak,
        difference=difference,
        bounds=size.bounds if theirs else (),
    )


def measure_direct(options: Options, *, classes: int = 5) -> Row:
    """The lattice against exact Gaussians; at 500 x 375 those would take a matrix of 141 GB."""
    height, width = (20, 24) if options.quick else DIRECT_SIZE
    size = Size(height=height, width=width, classes=classes)
    with tempfile.TemporaryDirectory() as scratch:
        case = make_cases(options.images, Path(scratch), size)[0]
    direct_dense_crf = importlib.import_module("tests.crf.direct_crf").direct_dense_crf
    found = [dense_crf(case.image, case.scores[0]), direct_dense_crf(case.image, case.scores[0])]
    times = in_turns(
        lambda: dense_crf(case.image, case.scores[0]),
        lambda: direct_dense_crf(case.image, case.scores[0]),
        turns=2,
    )
    return Row(
        stage="dense CRF",
        case=f"{size.title} (mean difference)",
        **vars(times),
        other="all pairs of pixels",
        difference=float(np.abs(found[0] - found[1]).mean()),
    )


def measure_compilation(*, classes: int = 5) -> Row:
    """From import to result of the first call, in two fresh processes that share a new, empty cache of kernels."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        command = [sys.executable, "-c", FIRST_CALL.format(classes=classes)]
        runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(2)]
    (cold, cold_cpu), (cached, cached_cpu) = (map(float, run.stdout.split()) for run in runs)
    return Row(
        stage="dense CRF",
        case="first call of a process, kernels in the cache",
        seconds=cached,
        cpu_seconds=cached_cpu,
        other="kernels compiled anew",
        other_seconds=cold,
        other_cpu_seconds=cold_cpu,
        ratio=cold / cached,
    )


def rows(options: Options) -> Iterator[Row]:
    """Sizes x classes, low and high alpha together, DeepLab's settings, two images at once; --quick: the smallest."""
    if options.quick:
        yield measure_row(Size(height=48, width=64, classes=2), options)
        yield measure_row(Size(height=48, width=64, classes=2, deeplab=True), options)
        yield measure_direct(options)
        return
    sizes = [Size(height=height, width=width, classes=classes) for height, width in SIZES for classes in CLASSES]
    height, width = YARDSTICK
    sizes += [Size(height=height, width=width, classes=21, scoring=3)]
    sizes += [Size(height=height, width=width, classes=classes, sets=2) for classes in CLASSES]
    sizes += [Size(height=height, width=width, classes=classes, deeplab=True) for classes in CLASSES]
    sizes += [Size(height=height, width=width, classes=5, threads=2)]
    for size in sizes:
        yield measure_row(size, options)
    yield measure_direct(options)
    yield measure_compilation()


def _times(cases: Sequence[Case], size: Size, options: Options) -> tuple[list[Time], list[Time]]:
    """Times an image of ours and of pydensecrf, turn by turn; each turn takes `threads` images at once."""
    threads = size.threads
    mine: list[Time] = []
    theirs: list[Time] = []
    with pydensecrf_workers(options.peers_python, threads) as workers, ThreadPoolExecutor(threads) as pool:
        for turn in range(-1, options.turns):
            batch = [cases[(turn * threads + i) % len(cases)] for i in range(threads)]
            own = timed(lambda batch=batch: list(pool.map(ours, batch)))
            answers = list(pool.map(Pydensecrf.run, workers, batch)) if workers else []
            if turn < 0:
                continue  # the first turn warms both
            mine.append(Time(seconds=own.seconds / threads, cpu_seconds=own.cpu_seconds / threads))
            if answers:
                seconds = max(answer["seconds"] for answer in answers) / threads
                cpu = sum(answer["cpu_seconds"] for answer in answers) / threads
                theirs.append(Time(seconds=seconds, cpu_seconds=cpu))
    return mine, theirs
