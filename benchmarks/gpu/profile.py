"""Who waits for whom: the shares of a stretch of time that the device worked, and that it waited for input or host."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType

from benchmarks.gpu.given import Given

INPUT = "enumerate(DataLoader)"
"""How torch names, in its traces, the time in which a loop waits for its next batch."""

MOST_OPERATORS = 10

Intervals = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Shares of the time, which sum to 1, and what the device did most.

    seconds: of what was profiled; the profiler itself slows the host.
    device: it worked. input: it was idle while the loop waited for a batch. host: it was idle otherwise.
    operators: name, share of the device's work, calls.
    """

    seconds: float
    device: float
    input: float
    host: float
    operators: list[dict[str, Any]]

    @property
    def plain(self) -> dict[str, Any]:
        """As JSON knows it."""
        return asdict(self)


class Profiler:
    """`start`, `stop`, `result`: around what cannot be put into one call."""

    def __init__(self, given: Given) -> None:
        self._given = given
        activities = [torch.profiler.ProfilerActivity.CPU]
        if given.on_gpu:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self._trace = torch.profiler.profile(activities=activities)
        self._started = self._seconds = 0.0

    def start(self) -> None:
        """Begin, when the device has nothing left to do."""
        self._given.wait()
        self._trace.start()
        self._started = time.perf_counter()

    def stop(self) -> None:
        """End, when it has done all that it was asked."""
        self._given.wait()
        self._seconds = time.perf_counter() - self._started
        self._trace.stop()

    def result(self) -> Profile:
        """The shares. On a CPU, which is its own device, the operators of torch are the device's work."""
        kind = DeviceType.CUDA if self._given.on_gpu else DeviceType.CPU
        events = [event for event in self._trace.events() or () if not getattr(event, "is_user_annotation", False)]
        work = [e for e in events if e.device_type == kind and (self._given.on_gpu or e.name.startswith("aten::"))]
        waits = [event for event in self._trace.events() or () if event.name.startswith(INPUT)]
        device, waiting = _union(work), _union(waits)
        total = max(self._seconds, 1e-9)
        busy = _length(device) / 1e6 / total
        idle_for_input = (_length(waiting) - _overlap(device, waiting)) / 1e6 / total
        return Profile(
            seconds=self._seconds,
            device=min(busy, 1.0),
            input=idle_for_input,
            host=max(0.0, 1 - busy - idle_for_input),
            operators=self._operators(),
        )

    def _operators(self) -> list[dict[str, Any]]:
        which = "self_device_time_total" if self._given.on_gpu else "self_cpu_time_total"
        kind = DeviceType.CUDA if self._given.on_gpu else DeviceType.CPU  # kernels; else their time would count twice
        rows = [
            (getattr(row, which), row.key, row.count)
            for row in self._trace.key_averages()
            if row.device_type == kind and not getattr(row, "is_user_annotation", False)
        ]
        total = sum(time for time, _, _ in rows) or 1.0
        ranked = sorted(rows, reverse=True)[:MOST_OPERATORS]
        return [{"name": name, "share": round(own / total, 4), "calls": calls} for own, name, calls in ranked if own]


def profiled(given: Given, call: Callable[[], object]) -> Profile:
    """The profile of one call, which was made once before so that nothing is new to it."""
    call()
    profiler = Profiler(given)
    profiler.start()
    call()
    profiler.stop()
    return profiler.result()


def _union(events: Sequence[Any]) -> Intervals:
    """Intervals [n, 2] in microseconds, sorted and apart from each other."""
    spans = sorted((event.time_range.start, event.time_range.end) for event in events)
    joined: list[list[float]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return np.array(joined, float).reshape(-1, 2)


def _length(spans: Intervals) -> float:
    return float((spans[:, 1] - spans[:, 0]).sum())


def _overlap(one: Intervals, other: Intervals) -> float:
    total = 0.0
    for start, end in other:
        total += float((np.minimum(one[:, 1], end) - np.maximum(one[:, 0], start)).clip(min=0).sum())
    return total
