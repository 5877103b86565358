"""How a run comes to be several processes, one a device: started here for `--machine.devices`, or by torchrun or SLURM.

On one machine the command starts itself anew for each device and watches over these processes: when one ends before its
time, so do the others. Of several machines each has torchrun or srun for that, and says how many there are.
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from subcam.errors import SettingsError, SubcamError
from subcam.runtime.progress import is_quiet

_WATCH_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Launched:
    """Who started this process as one of several, and how many: `devices` on each of `nodes` machines."""

    by: Literal["torchrun", "slurm"]
    devices: int
    nodes: int


def launched() -> Launched | None:
    """What the environment says of the other processes of this run; None where there are none.

    SLURM counts only in a step that srun started, which is one process a task: a batch script itself is one alone.

    Raises:
        SettingsError: the machines have different numbers of tasks.
    """
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        by: Literal["torchrun", "slurm"] = "torchrun"
        world, devices = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        nodes = world // devices
    else:
        by = "slurm"
        world = int(environment.get("SLURM_STEP_NUM_TASKS", 1)) if "SLURM_STEP_ID" in environment else 1
        nodes = int(environment.get("SLURM_STEP_NUM_NODES", 1))
        devices = world // nodes
    if world < 2:
        return None
    if devices * nodes != world:
        raise SettingsError(
            f"expected as many processes on each machine, got {world} on {nodes}; start them with --ntasks-per-node"
        )
    return Launched(by=by, devices=devices, nodes=nodes)


def wanted(*, devices: int, num_nodes: int) -> bool:
    """Whether the settings ask for several processes that nobody has started yet.

    Raises:
        SettingsError: they ask for several machines, which only torchrun or srun can start; or for other numbers than
            these started.
    """
    running = launched()
    if running is None:
        if num_nodes > 1:
            raise SettingsError(
                f"one command cannot start processes on {num_nodes} machines; give it on each through torchrun "
                f"(torchrun --nnodes {num_nodes} --nproc-per-node {devices} ... -m subcam.cli run ...) or by srun "
                f"(srun --nodes {num_nodes} --ntasks-per-node {devices} subcam run ...)"
            )
        return devices > 1
    given = (devices, num_nodes)
    if given not in ((1, 1), (running.devices, running.nodes)):
        raise SettingsError(
            f"{running.by} started {running.devices} processes on each of {running.nodes} machines, and the settings "
            f"say devices {devices} and num_nodes {num_nodes}; leave these out, or give the same"
        )
    return False


def together(words: Sequence[str], *, devices: int) -> int:
    """Run the command `subcam WORDS...` as `devices` processes on this machine; returns the status to end with.

    A signal goes on to all of them. What they write on the terminal goes there.

    Raises:
        SubcamError: one of them was ended from outside, as by `kill -9` or for want of memory.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What it would say is said below, in a line. Each of its loggers has a level of its own.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.distributed.launcher")):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=f"subcam-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        monitor_interval=_WATCH_SECONDS,
    )
    flags = ["--debug"] if logging.getLogger().isEnabledFor(logging.INFO) else []
    flags += ["--quiet"] if is_quiet() else []
    try:
        elastic_launch(config, sys.executable)("-m", "subcam.cli", *words, *flags)
    except SignalException as error:
        return 128 + int(error.sigval)  # the first process has said so
    except ChildFailedError as error:
        rank, failure = min(error.failures.items(), key=lambda entry: (_blame(entry[1].exitcode), entry[1].timestamp))
        if failure.exitcode >= 0:
            return failure.exitcode  # it has said why itself
        raise SubcamError(
            f"process {rank + 1} of {devices} was ended by {signal.Signals(-failure.exitcode).name}, and with it the "
            "others (SIGKILL: somebody's kill -9, or memory ran out); what is done is kept, and the same command goes "
            "on from here"
        ) from error
    return 0


def _blame(status: int) -> int:
    """Sorts the ends of processes, that first which made the others end.

    Who was ended from outside comes before who failed, perhaps for want of the other; torch ends the rest by SIGTERM.
    """
    return 2 if status == -signal.SIGTERM else int(status >= 0)
