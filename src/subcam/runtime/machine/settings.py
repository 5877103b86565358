"""Settings of the machine: devices, precision, threads, processes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from subcam.checks.fields import Range, Settings, Threads

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, kw_only=True)
class MachineSettings(Settings):
    """Devices and processes.

    Attributes:
        accelerator: what computes; "auto" takes a GPU where there is one.
        devices: devices of this machine to use; with several each has a process of its own. Under torchrun and SLURM
            their numbers count, and this may be left out.
        num_nodes: machines, each with so many devices; torchrun or srun starts the command on each.
        precision: numbers of training; "bf16-mixed" where the processor or GPU gains from it.
        inference_precision: numbers of feature extraction and response maps. "auto" takes bf16 where the processor or
            GPU has arithmetic for it: twice as fast, and less than 0.1 points of mIoU away (`benchmarks/precision.py`).
        workers: processes that decode and augment images; -1 chooses.
        threads: threads of one process's matrix arithmetic on the CPU; 0 takes all cores, at most OMP_NUM_THREADS. On a
            machine that others use too, say how many: threads that wait for each other on busy cores are many times
            slower than one.
        checkpoint_seconds: least time between two checkpoints of a training; an epoch's end always writes one.
        crf: where a run's dense CRF is computed: by all cores of the CPU, or on the "device" where that is a CUDA GPU,
            with results equal but for rounding. Not timed on a GPU yet, so the CPU unless asked.
        compile: whether networks in inference are compiled by torch.compile; where that fails they run as they are,
            with a message that says why. Takes from seconds to minutes for each network, and on a CPU needs a C++
            compiler.
        decoded_cache: a folder in which images are kept decoded, three bytes a pixel, for all who read them again;
            empty to decode them each time.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Annotated[int, Range(1, 1024)] = 1
    num_nodes: Annotated[int, Range(1, 65_536)] = 1
    precision: Precision = "32-true"
    inference_precision: Precision | Literal["auto"] = "auto"
    workers: Annotated[int, Range(-1, 1024)] = -1
    threads: Threads = 0
    checkpoint_seconds: Annotated[float, Range(0.0, 1e7)] = 60.0
    crf: Literal["cpu", "device"] = "cpu"
    compile: bool = False
    decoded_cache: str = ""

    @property
    def resolved_inference_precision(self) -> Precision:
        """What "auto" means on this machine."""
        if self.inference_precision != "auto":
            return self.inference_precision
        import torch

        on_gpu = self.accelerator in ("auto", "cuda") and torch.cuda.is_available()
        has_bf16 = torch.cuda.is_bf16_supported() if on_gpu else _cpu_has_bf16()
        return "bf16-mixed" if has_bf16 else "32-true"


def _cpu_has_bf16() -> bool:
    import torch

    # torch has no public question for this; without an answer float32 is always right.
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
