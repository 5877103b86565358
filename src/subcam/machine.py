"""What the work runs on: devices, precision, threads, worker processes."""

from dataclasses import dataclass
from typing import Literal

import torch
from lightning_fabric import Fabric

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, kw_only=True)
class MachineSettings:
    """Devices and processes.

    Attributes:
        accelerator: "auto" takes a GPU where there is one.
        precision: of training; "bf16-mixed" where the processor or GPU gains from it.
        inference_precision: of feature extraction and response maps. On processors with AVX-512 BF16 bf16 is about
            three times as fast; `benchmarks/precision.py` measures that and what it does to the scores.
        workers: processes that decode and augment images; -1 chooses.
        threads: threads of one process's matrix arithmetic on the CPU; 0 leaves torch's choice.
        checkpoint_seconds: least time between two checkpoints of a training; an epoch's end always writes one.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Precision = "32-true"
    inference_precision: Precision = "32-true"
    workers: int = -1
    threads: int = 0
    checkpoint_seconds: float = 60.0


def build_fabric(settings: MachineSettings, *, precision: Precision) -> Fabric:
    """The Lightning Fabric that places models and data on the device, launched."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    fabric = Fabric(accelerator=settings.accelerator, devices=1, precision=precision)
    fabric.launch()
    return fabric
