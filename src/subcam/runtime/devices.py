"""What the work runs on: devices, precision, threads, processes; and copies to and from a device.

PyTorch queues what a GPU is asked to do and goes on; a blocking copy, `.item()` or a mask as an index waits until the
queue is empty, and then the GPU waits for the host. Copies here wait for nothing. On a CPU they change nothing.
`tests/test_transfers.py` counts the waits of each loop.
"""

import atexit
import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from subcam.errors import SettingsError
from subcam.runtime import distributed, launch
from subcam.runtime.machine.cores import thread_count
from subcam.runtime.machine.malloc import keep_freed_memory
from subcam.runtime.machine.settings import MachineSettings, Precision

if TYPE_CHECKING:
    import numpy as np
    from lightning_fabric import Fabric as Fabric
else:  # its import takes seconds, and all but what trains does without it
    Fabric = Any

Item = TypeVar("Item")


_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")  # torch 2.15 renamed it
    if name in inspect.signature(nn.parallel.DistributedDataParallel).parameters
)
# Batch norm's statistics are equal already, and a copy between two forward passes of one step would break its gradient.
# A network may have parts that a loss does not reach, such as the last layers below a head that takes earlier features.
_DATA_PARALLEL: dict[str, Any] = {
    _SYNC_BUFFERS: False,
    "find_unused_parameters": True,
    "gradient_as_bucket_view": True,
}

LONGEST_WAIT = timedelta(days=7)
"""How long processes wait for each other: the first clusters and scores while the others wait. One that ends closes its
connections, which the others see at once."""


def check_accelerator(name: str) -> None:
    """Refuse a device that this machine has not.

    Raises:
        SettingsError: "cuda" or "mps" is asked for where torch finds none.
    """
    present: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if name in present and not present[name]():
        built = f" (torch {torch.__version__})" if name == "cuda" else ""
        raise SettingsError(
            f"accelerator {name}: torch finds no such device here{built}; take auto or cpu, or install a driver and a"
            " torch that are made for it"
        )


def join(settings: MachineSettings) -> torch.device | None:
    """Join the other processes of this run where it was started as several, and return this one's device; alone None.

    Raises:
        SettingsError: several devices are asked for and nobody has started a process for each; or there are fewer.
    """
    if launch.wanted(devices=settings.devices, num_nodes=settings.num_nodes):
        raise SettingsError(
            f"{settings.devices} devices need as many processes: start the program by torchrun --nproc-per-node "
            f"{settings.devices}, or use the command subcam, which does it itself"
        )
    if not launch.launched():
        return None
    import torch.distributed

    fabric = build_fabric(settings, precision="32-true")
    # Fabric leaves the others at the end only on GPUs; gloo's threads, left running, may abort a process that is done.
    atexit.register(_leave)
    if fabric.device.type != "cpu":
        distributed.tell_by(torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT))
    return fabric.device


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def build_fabric(settings: MachineSettings, *, precision: Precision) -> Fabric:
    """The Lightning Fabric that places models and data on the device, launched.

    Raises:
        SettingsError: there is no such device here, or fewer than there are processes.
    """
    from lightning_fabric import Fabric

    check_accelerator(settings.accelerator)
    # Fabric announces its precision at each start; the run's record says it. Its import sets the level, so after it.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    fabric = Fabric(accelerator=settings.accelerator, precision=precision, **_processes(settings))
    fabric.launch()
    torch.set_num_threads(thread_count(settings.threads))
    if fabric.device.type == "cpu":
        keep_freed_memory()
    return fabric


@dataclass(frozen=True, kw_only=True)
class Device:
    """Where a stage computes. Only `precision` bears on results; the rest decides how fast they come.

    precision: of the arithmetic of networks.
    machine: threads, worker processes, caches.
    fabric: places models and data.
    """

    precision: Precision
    machine: MachineSettings
    fabric: Fabric

    @property
    def of_crf(self) -> torch.device | None:
        """The GPU on which the dense CRF is computed; None for the CPU."""
        here = self.fabric.device
        return here if self.machine.crf == "device" and here.type == "cuda" else None

    @classmethod
    def open(cls, machine: MachineSettings, *, precision: Precision) -> "Device":
        """The device that `machine` names.

        Raises:
            SettingsError: there is no such device here, or fewer than there are processes.
        """
        return cls(precision=precision, machine=machine, fabric=build_fabric(machine, precision=precision))


def _processes(settings: MachineSettings) -> dict[str, Any]:
    """Fabric's arguments for the processes of this run."""
    started = launch.launched()
    if started is None:
        return {"devices": 1}
    from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
    from lightning_fabric.strategies import DDPStrategy

    on_gpu = settings.accelerator in ("auto", "cuda") and torch.cuda.is_available()
    if on_gpu and started.devices > torch.cuda.device_count():
        raise SettingsError(
            f"{started.devices} processes on this machine, and torch finds {torch.cuda.device_count()} GPUs; start one "
            "process a GPU"
        )
    return {
        "devices": started.devices,
        "num_nodes": started.nodes,
        "strategy": DDPStrategy(timeout=LONGEST_WAIT, **_DATA_PARALLEL),
        "plugins": [TorchElasticEnvironment() if started.by == "torchrun" else SLURMEnvironment(auto_requeue=False)],
    }


PINNED_FROM = 1 << 16
"""Bytes from which a copy to a GPU goes by way of pinned memory; CUDA takes in what is smaller at once."""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on `device`, on its way there when this returns."""
    if device.type != "cuda":
        return tensor.to(device)
    if tensor.nbytes >= PINNED_FROM and torch.cuda.is_available() and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class HostCopy:
    """A tensor on its way to the host. What is asked of the device afterwards goes on while it is waited for.

    Made in the thread that feeds the device, it may be taken by any other.
    """

    def __init__(self, tensor: Tensor) -> None:
        tensor = tensor.detach()
        self._arrived: Any = None
        if tensor.device.type != "cuda":
            self._tensor = tensor.cpu()
            return
        self._tensor = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._tensor.copy_(tensor, non_blocking=True)
        self._arrived = torch.cuda.Event()
        self._arrived.record()

    def numpy(self) -> "np.ndarray":
        """The array, once it is there."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._tensor.numpy()


def one_behind(items: Iterable[Item], *, device: torch.device) -> Iterator[Item]:
    """The items, on a GPU each only when the next has been asked of it: while one is used, the GPU makes the other."""
    if device.type != "cuda":
        yield from items
        return
    waiting: list[Item] = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting
