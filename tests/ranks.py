"""Several processes of one run, as torchrun or SLURM would start them, by forks: nothing is imported anew."""

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from forked import at_once


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def by_torchrun() -> list[dict[str, str]]:
    port = free_port()
    both = {
        "TORCHELASTIC_RUN_ID": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
    }
    return [both | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]


def by_slurm() -> list[dict[str, str]]:
    both = {
        "SLURM_JOB_ID": free_port(),
        "SLURM_JOB_NAME": "maps",
        "SLURM_NODELIST": "127.0.0.1",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODEID": "0",
    }
    return [both | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in (0, 1)]


def as_ranks(work: Callable[[], object], environments: Sequence[dict[str, str]]) -> tuple[list[int], str]:
    """Do `work` in a process for each environment; returns how they ended and what they printed, first to last."""
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder, f"log-{rank}") for rank in range(len(environments))]

        def one(log: Path, environment: dict[str, str]) -> Callable[[], object]:
            def begin() -> object:
                file = log.open("w", buffering=1, encoding="utf-8")
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                sys.stdout = sys.stderr = file
                os.environ.update(environment)
                return work()

            return begin

        statuses = at_once(*(one(*given) for given in zip(logs, environments, strict=True)), patience=300)
        return statuses, "\n".join(log.read_text("utf-8") for log in logs)
