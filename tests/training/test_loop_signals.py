"""A signal that asks the training loop for the end, in a step, in validation, and sent to all processes of a job."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from tests.training.one_number import OneNumber, rows
from torch import Tensor, nn

from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.run_folder import RunFolder
from subcam.runtime.signals import Stopped, listening
from subcam.training.loop import Training, train


def signal_at_step(training: Training, number: int, at: int, *, times: int = 1) -> Training:
    """The training, to which a signal is sent in the middle of a step."""
    steps: list[int] = []

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        steps.append(1)
        if len(steps) == at:
            for _ in range(times):
                os.kill(os.getpid(), number)
        return training.loss(model, images, targets)

    return replace(training, loss=loss)


@pytest.mark.parametrize("at", [1, 4, 5, 12, 15])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_step_then_writes_a_checkpoint(
    run: Callable, training: Training, network: OneNumber, tmp_path: Path, number: int, at: int
) -> None:
    """Steps 5 and 15 are the last of their epochs; 4 and 12 are steps at which no checkpoint is due."""
    undisturbed = run(training, tmp_path / "undisturbed")
    trained = network.head.weight.item()
    torch.nn.init.zeros_(network.body.weight)
    torch.nn.init.zeros_(network.head.weight)
    saved: list[float] = []

    def save() -> None:
        saved.append(network.head.weight.item())

    def stopped() -> None:
        with listening():
            run(signal_at_step(training, number, at), tmp_path / "stopped", save)

    with pytest.raises(Stopped) as caught:
        stopped()
    assert caught.value.exit_status == 128 + number
    assert not saved
    (checkpoint,) = tmp_path.glob("stopped/stages/*/checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["next_step"] == at
    steps = len(network.dropped)
    stage = run(training, tmp_path / "stopped", save)
    assert len(network.dropped) - steps == 15 - at
    assert saved == [trained]
    assert rows(stage) == rows(undisturbed)


def test_a_signal_during_validation_ends_it_at_once_and_nothing_is_lost(
    run: Callable, training: Training, tmp_path: Path
) -> None:
    calls: list[int] = []

    def validate() -> dict[str, float]:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("the validation went on")
        return {"miou": 0.5}

    validated = replace(training, validate=validate)

    def stopped() -> None:
        with listening():
            run(validated, tmp_path)

    with pytest.raises(Stopped):
        stopped()
    (checkpoint,) = tmp_path.glob("stages/*/checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["next_step"] == 10
    stage = run(validated, tmp_path)
    assert [row["miou"] for row in rows(stage)] == [0.5, 0.5, 0.5]
    assert len(calls) == 4  # that of epoch 2 was done again


def test_a_signal_to_all_processes_of_a_job_leaves_the_workers_to_the_training(
    run: Callable, training: Training, network: OneNumber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `scancel` sends it; a worker that died of it would end the training in an error of torch's."""
    steps: list[int] = []

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        steps.append(1)
        if len(steps) == 2:
            children = multiprocessing.active_children()
            assert children
            for child in children:
                assert child.pid is not None
                os.kill(child.pid, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return training.loss(model, images, targets)

    stage = RunFolder(path=tmp_path).stage("train")
    with_worker = MachineSettings(accelerator="cpu", workers=1, threads=1)
    fabric = Fabric(accelerator="cpu", devices=1)

    def stopped() -> None:
        with listening():
            train(replace(training, loss=loss), stage=stage, fabric=fabric, machine=with_worker, save=lambda: None)

    with pytest.raises(Stopped):
        stopped()
    assert torch.load(stage.path / "checkpoint.pt", weights_only=True)["next_step"] == 2
    assert len(steps) == 2
