"""How many processor cores this process may use, and how many threads it starts on them; torch is not needed for it."""

import os

from subcam.runtime import launch


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_cores() -> int:
    """This process's share of the cores beside the run's other processes; srun gives each process its own."""
    started = launch.launched()
    return max(1, available_cores() // started.devices) if started and started.by == "torchrun" else available_cores()


def thread_count(threads: int) -> int:
    """Threads of this process: `threads` itself, or for 0 one for each of its cores, at most `OMP_NUM_THREADS`.

    torchrun sets that variable to 1 where nobody did, so it says nothing there.
    """
    started = launch.launched()
    limit = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    asked = int(limit) if limit.isdecimal() and not (started and started.by == "torchrun") else 0
    return threads or min(own_cores(), asked or own_cores())
