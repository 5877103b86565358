"""A run that is killed (-9) on the device and taken up, beside an undisturbed one; and two processes on one device."""

import json
import math
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.gpu.given import Case, Given
from subcam import cli
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings
from subcam.training.sync_batch_norm import synchronise_batch_norm

COMMAND = """
    run toy --rounds {rounds} --no-control --refine.rounds none --segment.train-on --no-report
    --dataset.toy.train-images {images} --dataset.toy.val-images 8 --dataset.toy.size 48
    --classify.epochs {epochs} --classify.batch-size 8 --discover.num-subcategories 3 --discover.restarts 2
    --classify.augmentation.crop 48 --classify.augmentation.scale-long-side 40 64 --cam.scales 1 0.5
    --machine.workers 0 --machine.threads 1 --machine.checkpoint-seconds 0 --machine.accelerator {device}
"""
LONGEST = 120.0
STEPS, BATCH, SIDE, RANKS = 4, 8, 48, 2


def cases(given: Given) -> Iterator[Case]:
    """The killed run, then the two processes by each way that they may talk."""
    yield killed_and_resumed(given)
    for backend in ("nccl", "gloo") if given.on_gpu else ("gloo",):
        yield two_processes(given, backend)


def killed_and_resumed(given: Given) -> Case:
    """Scores of both runs, and how often the one was killed: once in each training, at its first checkpoint."""
    size = {"rounds": 0, "images": 16, "epochs": 1} if given.tiny else {"rounds": 1, "images": 96, "epochs": 4}
    words = COMMAND.format(device=given.device, **size).split()
    folders = {name: given.scratch.resolve() / "resume" / name for name in ("undisturbed", "killed")}
    kills = 0
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    _to_the_end(given, [*words, "--out", str(folders["undisturbed"])])
    for stage in [f"round{index}-classify" for index in range(size["rounds"] + 1)]:
        kills += _killed_at(given, [*words, "--out", str(folders["killed"])], folders["killed"], stage)
    _to_the_end(given, [*words, "--out", str(folders["killed"])])
    scores = {name: _scores(folder) for name, folder in folders.items()}
    return {
        "case": "killed and resumed",
        "kills": kills,
        "scores": {name: [round(100 * score, 4) for score in found] for name, found in scores.items()},
        "largest_difference": max(abs(a - b) for a, b in zip(*scores.values(), strict=True)),
    }


def _process(given: Given, target: Callable[..., Any], *args: Any) -> Any:
    """A new process; on a CPU a copy of this one, which has imported all already. CUDA survives no such copy."""
    process = multiprocessing.get_context("spawn" if given.on_gpu else "fork").Process(target=target, args=args)
    process.start()
    return process


def _command(words: list[str], log: Path) -> None:
    """Run the command and end with its status; what it prints goes into `log`, also where others caught it before."""
    sys.stdout = sys.stderr = log.open("a", encoding="utf-8", buffering=1)
    for stream in (1, 2):
        os.dup2(sys.stdout.fileno(), stream)
    sys.exit(cli.main(words))


def _to_the_end(given: Given, words: list[str]) -> None:
    log = given.scratch / "resume.log"
    process = _process(given, _command, words, log)
    process.join(LONGEST)
    if process.exitcode != 0:
        process.kill()
        raise RuntimeError(f"the run ended with {process.exitcode}: {log.read_text('utf-8', 'replace')[-1500:]}")


def _killed_at(given: Given, words: list[str], folder: Path, stage: str) -> int:
    """Kill the run at the first checkpoint of a stage; 0 where it was through before it could be seen."""
    process = _process(given, _command, words, given.scratch / "resume.log")
    until = time.monotonic() + LONGEST
    while process.is_alive() and time.monotonic() < until:
        if list(folder.glob(f"stages/{stage}-*/checkpoint.pt")):
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    process.join()
    return int(process.exitcode == -signal.SIGKILL)


def _scores(folder: Path) -> list[float]:
    record = json.loads((folder / "run.json").read_text("utf-8"))
    return [scores["fixed"]["miou"] for entry in record["rounds"] for scores in entry["scores"].values()]


def two_processes(given: Given, backend: str) -> Case:
    """Steps of a training with batch norm that learns: each of two processes with half of each batch, beside one alone.

    NCCL may refuse two processes on one device; that is what the row then says.
    """
    found = given.scratch.resolve() / f"two-{backend}"
    found.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [_process(given, _rank, rank, port, backend, given.device, found) for rank in range(RANKS)]
    for process in ranks:
        process.join(LONGEST / 2)
        with suppress(ProcessLookupError):
            process.kill()
        process.join()
    said = [path.read_text("utf-8") for path in sorted(found.glob("*.txt"))]
    row: Case = {"case": f"two processes on one device, {backend}", "ended": [process.exitcode for process in ranks]}
    if any(row["ended"]):
        return row | {"failed": "; ".join(said)[:600] or "without a word"}
    alone, together = (_weights(path) for path in (_alone(given.device, found), found / "rank-0.pt"))
    return row | {"largest_difference": max(float((alone[k] - together[k]).abs().max()) for k in alone)}


def _network(device: str) -> Any:
    torch.manual_seed(0)
    settings = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
    return ClassificationNetwork(ModelConfig(network=settings, class_names=("a", "b", "c"))).train().to(device)


def _steps(network: nn.Module, device: str, *, rank: int, world: int) -> None:
    """SGD on batches that every process draws alike and takes its share of."""
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    for step in range(STEPS):
        chance = torch.Generator().manual_seed(step)
        images = torch.randint(0, 256, (BATCH, 3, SIDE, SIDE), dtype=torch.uint8, generator=chance)
        labels = (torch.rand(BATCH, 3, generator=chance) < 0.5).float()
        own = slice(rank, None, world)
        logits = network(images[own].to(device)).parent
        optimiser.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(logits, labels[own].to(device)).backward()
        optimiser.step()


def _rank(rank: int, port: int, backend: str, device: str, found: Path) -> None:
    try:
        dist.init_process_group(backend, init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
        network = _network(device)
        synchronise_batch_norm(network)
        _steps(nn.parallel.DistributedDataParallel(network), device, rank=rank, world=RANKS)
        if rank == 0:
            torch.save(network.state_dict(), found / "rank-0.pt")
        dist.destroy_process_group()
    except Exception as error:
        (found / f"rank-{rank}.txt").write_text(f"{type(error).__name__}: {error}", "utf-8")
        os._exit(1)
    os._exit(0)


def _alone(device: str, found: Path) -> Path:
    network = _network(device)
    _steps(network, device, rank=0, world=1)
    torch.save(network.state_dict(), found / "alone.pt")
    return found / "alone.pt"


def _weights(path: Path) -> dict[str, torch.Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point() and math.prod(tensor.shape)}
