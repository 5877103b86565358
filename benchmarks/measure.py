"""How things are measured: ways in turns, growth of memory in a fresh process, a whole process from outside.

Ways that take turns meet the same machine, whatever else runs on it, and the median of their ratios says more than
the ratio of two medians. Seconds of processor stand beside those of the clock: of one thread, they say the same on an
idle machine. Memory is what resident memory grows by at most while the first call runs (Linux with the GNU C library);
elsewhere it is not measured.
"""

import ctypes
import gc
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

HIGH_WATER_MARK = Path("/proc/self/clear_refs")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a benchmark is told.

    quick: the smallest case of each, to see that it runs and that numbers agree; its times say nothing.
    turns: how often two ways take turns.
    images: a folder of .jpg photographs; images are made where there is none.
    peers_python: an interpreter that has NumPy and pydensecrf, which runs in a process of its own.
    counts: of how many images the growth of memory is measured.
    baseline_python: an interpreter that has an earlier version of subcam, to stand beside ours.
    data, weights, seeds, flags: of the recipe that is run whole: a folder of images, a file, and more words.
    work: the folder that keeps what its runs took.
    """

    quick: bool = False
    turns: int = 5
    images: Path | None = None
    peers_python: Path | None = None
    counts: tuple[int, ...] = (100, 1000, 10_000)
    baseline_python: Path | None = None
    data: Path | None = None
    weights: Path | None = None
    seeds: tuple[int, ...] = (0,)
    flags: tuple[str, ...] = ()
    work: Path = Path("runs/recipe-benchmark")


@dataclass(frozen=True, kw_only=True)
class Time:
    """Seconds of one call: on the clock, and of processor, all threads together."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Turns:
    """One call of each way, medians over turns, named as in a `Row`; `ratio` is the median of the other's over ours."""

    seconds: float
    cpu_seconds: float
    other_seconds: float
    other_cpu_seconds: float
    ratio: float


@dataclass(frozen=True, kw_only=True)
class Process:
    """What one process took: seconds on the clock, seconds of processor, highest resident memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds on the clock of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def timed(call: Callable[[], object]) -> Time:
    """Time one call; one that returns a `Time` has timed itself, in the process where it ran."""
    start, cpu_start = time.perf_counter(), time.process_time()
    result = call()
    found = Time(seconds=time.perf_counter() - start, cpu_seconds=time.process_time() - cpu_start)
    return result if isinstance(result, Time) else found


def all_in_turns(ways: Mapping[str, Callable[[], object]], *, turns: int) -> dict[str, list[Time]]:
    """Time all ways one after the other, `turns` times, after a call of each that does not count."""
    for call in ways.values():
        call()
    found: dict[str, list[Time]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, call in ways.items():
            found[name].append(timed(call))
    return found


def median_time(times: Sequence[Time]) -> Time:
    """The median of each of the two."""
    return Time(
        seconds=statistics.median(one.seconds for one in times),
        cpu_seconds=statistics.median(one.cpu_seconds for one in times),
    )


def compared(ours: Sequence[Time], other: Sequence[Time]) -> Turns:
    """Two ways that took turns."""
    own, others = median_time(ours), median_time(other)
    return Turns(
        seconds=own.seconds,
        cpu_seconds=own.cpu_seconds,
        other_seconds=others.seconds,
        other_cpu_seconds=others.cpu_seconds,
        ratio=statistics.median(b.seconds / a.seconds for a, b in zip(ours, other, strict=True)),
    )


def in_turns(ours: Callable[[], object], other: Callable[[], object], *, turns: int) -> Turns:
    """Time two ways one after the other, `turns` times, after a call of each that does not count."""
    found = all_in_turns({"ours": ours, "other": other}, turns=turns)
    return compared(found["ours"], found["other"])


def peak_growth_mib(call: Callable[[], object]) -> float | None:
    """MiB that resident memory of this process rises by, at most, while `call` runs; None where it cannot be had."""
    if not HIGH_WATER_MARK.exists():
        call()
        return None
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else the call is given pages that were freed but are still resident
    HIGH_WATER_MARK.write_text("5")  # sets the high-water mark back to what is resident now
    before = _resident_mib("VmRSS")
    call()
    return max(0.0, _resident_mib("VmHWM") - before)


@contextmanager
def fresh_process() -> Iterator[ProcessPoolExecutor]:
    """A process that has done nothing else, for several calls of functions of modules, one after the other."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def in_fresh_process(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Call a function of a module in a process that has done nothing else."""
    with fresh_process() as pool:
        return pool.submit(function, *args, **kwargs).result()


def time_of(process: Process) -> Time:
    """Of a whole process."""
    return Time(seconds=process.seconds, cpu_seconds=process.cpu_seconds)


def run_process(words: Sequence[str], *, statuses: Sequence[int] = (0,)) -> Process:
    """Run a command to its end; it must end with one of these statuses.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in statuses:
            said.seek(0)
            raise RuntimeError(f"{' '.join(words)}: {said.read().decode('utf-8', 'replace')}")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Process(seconds=seconds, cpu_seconds=usage.ru_utime + usage.ru_stime, peak_mib=usage.ru_maxrss / unit)


def _resident_mib(field: str) -> float:
    """VmRSS (now) or VmHWM (at most so far) of this process."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024
