"""What the work runs on: devices, precision, threads, worker processes."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from subcam.allocator import keep_freed_memory
from subcam.errors import SettingsError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
else:  # its import takes seconds, and prediction does without it
    Fabric = Any

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """Devices and processes.

    Attributes:
        accelerator: "auto" takes a GPU where there is one.
        precision: of training; "bf16-mixed" where the processor or GPU gains from it.
        inference_precision: of feature extraction and response maps. "auto" takes bf16 where the processor or GPU has
            arithmetic for it: twice as fast, and less than 0.1 points of mIoU away (`benchmarks/precision.py`).
        workers: processes that decode and augment images; -1 chooses.
        threads: threads of one process's matrix arithmetic on the CPU; 0 takes all cores. On a machine that others
            use too, say how many: threads that wait for each other on busy cores are many times slower than one.
        checkpoint_seconds: least time between two checkpoints of a training; an epoch's end always writes one.
        compile: whether networks that only look are compiled by torch.compile; where that fails they run as they are,
            and it is said why. Takes from seconds to minutes for each network, and needs a C++ compiler on a CPU.
        decoded_cache: a folder in which pictures are kept decoded, three bytes a pixel, for all who read them again;
            empty to decode them each time.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Precision = "32-true"
    inference_precision: Precision | Literal["auto"] = "auto"
    workers: int = -1
    threads: int = 0
    checkpoint_seconds: float = 60.0
    compile: bool = False
    decoded_cache: str = ""

    @property
    def resolved_inference_precision(self) -> Precision:
        """What "auto" means on this machine."""
        if self.inference_precision != "auto":
            return self.inference_precision
        on_gpu = self.accelerator in ("auto", "cuda") and torch.cuda.is_available()
        has_bf16 = torch.cuda.is_bf16_supported() if on_gpu else _cpu_has_bf16()
        return "bf16-mixed" if has_bf16 else "32-true"


def _cpu_has_bf16() -> bool:
    # torch has no public question for this; without an answer float32 is always right.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def available_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_accelerator(name: str) -> None:
    """Refuse a device that this machine has not.

    Raises:
        SettingsError: "cuda" or "mps" is asked for where torch finds none.
    """
    found: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if name in found and not found[name]():
        built = f" (torch {torch.__version__})" if name == "cuda" else ""
        raise SettingsError(
            f"accelerator {name}: torch finds no such device here{built}; take auto or cpu, or install a driver and a"
            " torch that are made for it"
        )


def build_fabric(settings: MachineSettings, *, precision: Precision) -> Fabric:
    """The Lightning Fabric that places models and data on the device, launched.

    Raises:
        SettingsError: there is no such device here.
    """
    from lightning_fabric import Fabric

    check_accelerator(settings.accelerator)
    # Fabric announces its precision at each start; the run's record says it. Its import sets the level, so after it.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    torch.set_num_threads(settings.threads or available_cores())
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=precision)
    fabric.launch()
    if fabric.device.type == "cpu":
        keep_freed_memory()
    return fabric
