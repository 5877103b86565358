"""K-means of one class beside scikit-learn's on all rows in memory; and what a pass takes for each row.

The rows lie in a memory-mapped file. Above `rows_at_once` rows a sample is clustered and Lloyd's algorithm goes on over
all rows in chunks; the difference is that of the inertia, relative.
"""

import functools
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from benchmarks.measure import (
    Options,
    Time,
    compared,
    in_fresh_process,
    in_turns,
    median_time,
    peak_growth_mib,
    seconds_of,
    timed,
)
from benchmarks.peers import absent, here
from benchmarks.record import Bound, Row
from subcam.clustering.kmeans import Clusters, cluster_rows, lloyd

Result = TypeVar("Result")

K = 10
RESTARTS = 2
PASSES = 20


def write_rows(path: Path, *, count: int, dim: int) -> Path:
    """Non-negative features around 40 centres, written in parts."""
    rng = np.random.default_rng(0)
    centres = rng.gamma(1.0, 1.0, (40, dim)).astype(np.float32)
    whole = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dim))
    for start in range(0, count, 4096):
        own = centres[rng.integers(0, len(centres), min(4096, count - start))]
        whole[start : start + len(own)] = np.maximum(own + rng.normal(0, 0.7, own.shape).astype(np.float32), 0)
    whole.flush()
    return path


def ours(path: Path, rows_at_once: int) -> Clusters:
    """Sample, then passes over the memory-mapped rows."""
    features = np.load(path, mmap_mode="r")
    rows = np.arange(len(features))
    return cluster_rows(features, rows, num_clusters=K, seed=0, restarts=RESTARTS, rows_at_once=rows_at_once)


def all_at_once(path: Path) -> KMeans:
    """scikit-learn on all rows in memory."""
    features = np.load(path)
    with threadpool_limits(1):
        return KMeans(K, random_state=0, n_init=RESTARTS).fit(features)


def peak_mib(path: Path, rows_at_once: int, *, plain: bool) -> float | None:
    """Peak growth of one way, pages of the file itself included; for a process that has done nothing else."""
    return peak_growth_mib(lambda: all_at_once(path) if plain else ours(path, rows_at_once))


def rows(options: Options) -> Iterator[Row]:
    """Two numbers of rows, and a single pass at two sizes, whose slope is the cost of a row."""
    counts, dim, at_once = ((300, 600), 8, 100) if options.quick else ((40_000, 160_000), 512, 20_000)
    with tempfile.TemporaryDirectory() as folder:  # what is loaded and compiled once
        path = write_rows(Path(folder) / "features.npy", count=300, dim=8)
        ours(path, 100)
        all_at_once(path)
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            path = write_rows(Path(folder) / "features.npy", count=count, dim=dim)
            found, own = _kept(functools.partial(ours, path, at_once))
            plain, other = _kept(functools.partial(all_at_once, path))
            peaks = [in_fresh_process(peak_mib, path, at_once, plain=way) for way in (False, True)]
            yield Row(
                stage="clustering",
                case=f"{count} x {dim}, K = {K}, {RESTARTS} restarts",
                **vars(compared([own], [other])),
                items=count,
                unit="rows",
                other="scikit-learn, all rows at once",
                peak_mib=peaks[0],
                other_peak_mib=peaks[1],
                difference=max(0.0, found.inertia / plain.inertia_ - 1),
                bounds=(Bound(of="difference", limit=0.02),),
            )
    yield from single_passes(options)


def faiss_rows(options: Options) -> Iterator[Row]:
    """One row, a benchmark of its own: it takes less time than those beside scikit-learn."""
    yield beside_faiss(options)


def beside_faiss(options: Options) -> Row:
    """Lloyd's algorithm on all rows from the same centroids, in as many passes at most, beside faiss-cpu's."""
    count, dim = (300, 8) if options.quick else (100_000, 1280)
    with tempfile.TemporaryDirectory() as folder, threadpool_limits(1):
        features = np.load(write_rows(Path(folder) / "features.npy", count=count, dim=dim))
        start = np.array(features[:K])

        def own() -> float:
            found = lloyd(features, np.arange(count), start, tolerance=0.0, max_iterations=PASSES)
            return found.inertia

        def theirs() -> float:
            return _with_faiss(features, start)

        case = f"Lloyd's algorithm, {count} x {dim}, K = {K}, {PASSES} passes at most"
        if not here("faiss-cpu"):
            own()
            time = median_time([timed(own) for _ in range(options.turns)])
            return Row(stage="clustering", case=case, **vars(time), items=count, unit="rows", other=absent("faiss-cpu"))
        return Row(
            stage="clustering",
            case=case,
            **vars(in_turns(own, theirs, turns=2 if options.quick else options.turns)),
            items=count,
            unit="rows",
            other="faiss-cpu",
            difference=max(0.0, own() / theirs() - 1),
            bounds=(Bound(of="difference", limit=1e-4), *(() if options.quick else (Bound(of="ratio", limit=1.0),))),
        )


def _with_faiss(features: np.ndarray, start: np.ndarray) -> float:
    """The inertia that faiss ends with, on all rows (it takes a sample unless it is told not to) and one thread."""
    import faiss

    faiss.omp_set_num_threads(1)
    clusters = faiss.Kmeans(
        features.shape[1], K, niter=PASSES, min_points_per_centroid=1, max_points_per_centroid=len(features)
    )
    clusters.train(features, init_centroids=start)
    squared, _ = clusters.index.search(features, 1)
    return float(squared.sum(dtype=np.float64))


def _kept(call: Callable[[], Result]) -> tuple[Result, Time]:
    """What a call gives, and what it took; once, as it takes a minute."""
    kept: list[Result] = []
    time = timed(lambda: kept.append(call()))
    return kept[0], time


def single_passes(options: Options) -> Iterator[Row]:
    """One pass of Lloyd's algorithm and the last assignment, over all rows; 2,048 columns as of a ResNet."""
    counts, dim = ((300, 600), 8) if options.quick else ((25_000, 100_000), 2048)
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            features = np.load(write_rows(Path(folder) / "features.npy", count=count, dim=dim), mmap_mode="r")
            one_pass = functools.partial(
                lloyd, features, np.arange(count), np.array(features[:K]), tolerance=0.0, max_iterations=1
            )
            with threadpool_limits(1):
                one_pass()
                seconds = statistics.median(seconds_of(one_pass) for _ in range(options.turns))
        yield Row(
            stage="clustering",
            case=f"one pass and the assignment, {count} x {dim}, K = {K}",
            seconds=seconds,
            items=count,
            unit="rows",
        )
