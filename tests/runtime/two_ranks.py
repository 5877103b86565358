"""Two processes that join as one run and try all of `subcam.runtime.distributed`; each writes what it found as JSON.

Called by runtime/test_distributed.py in each process, with the environment that torchrun or srun would give it.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch

from subcam.runtime import distributed
from subcam.runtime.devices import build_fabric, join
from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.run_folder import RunFolder
from subcam.training.sync_batch_norm import SynchronisedBatchNorm2d


def normalised(whole: torch.Tensor) -> dict:
    """What batch norm makes of this process's half of a batch, its gradients and its statistics."""
    layer = SynchronisedBatchNorm2d(torch.nn.BatchNorm2d(3))
    own = whole[distributed.rank() :: distributed.world_size()].clone().requires_grad_()
    output = layer(own)
    (output * own.detach().square()).sum().backward()
    assert own.grad is not None
    assert layer.weight.grad is not None
    return {
        "output": output.detach().tolist(),
        "gradient": own.grad.tolist(),
        "weight_gradient": layer.weight.grad.tolist(),
        "mean": layer.running_mean.tolist(),
        "variance": layer.running_var.tolist(),
    }


def find_out(out: Path) -> None:
    """Join the other, try all, and write `found-RANK.json`."""
    machine = MachineSettings(accelerator="cpu", threads=1)
    device = join(machine)
    fabric = build_fabric(machine, precision="32-true")
    rank = distributed.rank()
    if not distributed.is_first():
        time.sleep(0.3)
    with distributed.first_goes_ahead():
        seen = (out / "first").is_file()
        (out / "first").touch()
    with RunFolder(path=out).lock():
        stage = RunFolder(path=out).stage("tried")
        stage.finish({"by": rank})
    by_type = {
        kind.__name__: [part.tolist() for part in distributed.gathered(np.arange(3 * rank, dtype=kind).reshape(-1, 3))]
        for kind in (np.int16, np.float32, np.float64)
    }
    count = torch.tensor(3 * rank)
    whole = torch.arange(2 * 2 * 3 * 2 * 2, dtype=torch.float32).view(4, 3, 2, 2).sin()
    results = {
        "device": str(device),
        "fabric": [fabric.global_rank, fabric.world_size],
        "rank": rank,
        "world_size": distributed.world_size(),
        "seen": seen,
        "share": distributed.share(range(5)),
        "greatest": distributed.greatest(10 - rank),
        "total": distributed.total(np.array([[1, rank]])).tolist(),
        "gathered": by_type,
        "texts": distributed.gathered_texts(["a\nb", "ü"] if rank else []),
        "mean": float(distributed.mean(torch.tensor(float(rank)))),
        "of_first": distributed.of_first(torch.tensor([float(rank)])).tolist(),
        "weights": [float(distributed.weight_of(count)), float(distributed.weight_of(torch.tensor(0)))],
        "record": stage.record["outputs"],
        "normalised": normalised(whole),
    }
    distributed.barrier()
    (out / f"found-{rank}.json").write_text(json.dumps(results), "utf-8")
