"""The training loop by itself, on a network of one number; kills: `test_train`, checkpoints: `test_checkpoint`."""

import csv
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from torch import Tensor, nn

from subcam.runtime.devices import MachineSettings
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.runtime.signals import Stopped, listening
from subcam.training.checkpoint import TrainingCheckpoint
from subcam.training.loop import Training, train
from subcam.training.optimiser import OptimiserSettings

NUM_IMAGES = 23


class Numbers:
    """Images of one value, (epoch, index) as the target."""

    seed = 4

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, key: tuple[int, int], /) -> tuple[Tensor, Tensor]:
        return torch.full((3, 4, 4), key[1], dtype=torch.uint8), torch.tensor(key)


class OneNumber(nn.Module):
    """Its loss is its weight: each step of SGD lowers it by the rate."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 1, 1, bias=False)
        self.head = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.body.weight)
        nn.init.zeros_(self.head.weight)
        self.dropped: list[float] = []

    def forward(self, images: Tensor) -> Tensor:
        assert self.training
        self.dropped.append(torch.rand(1).item())
        return self.body.weight.sum() + self.head.weight.sum()


@pytest.fixture
def network() -> OneNumber:
    return OneNumber()


@pytest.fixture
def training(network: OneNumber) -> Training:
    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        value = model(images)
        return {"loss": value, "first_loss": value + 1, "second_loss": targets[:, 0].float().mean()}

    return Training(
        network=network,
        body=network.body,
        heads=[network.head],
        images=Numbers(),
        loss=loss,
        optimiser=OptimiserSettings(
            name="sgd", learning_rate=0.5, momentum=0.0, weight_decay=0.0, head_multiplier=10.0, schedule="poly"
        ),
        epochs=3,
        batch_size=4,
        seed=9,
    )


@pytest.fixture
def run(fabric: Fabric, machine: MachineSettings) -> Callable[..., Stage]:
    def run(training: Training, folder: Path, save: Callable[[], None] = lambda: None) -> Stage:
        stage = RunFolder(path=folder).stage("train")
        train(training, stage=stage, fabric=fabric, machine=machine, save=save)
        return stage

    return run


def rows(stage: Stage) -> list[dict[str, float]]:
    with (stage.path / "training.csv").open(encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def falling(steps: int, total: int) -> float:
    """The sum of the poly schedule's factors over the steps done."""
    return sum((1 - step / total) ** 0.9 for step in range(steps))


@pytest.mark.parametrize("schedule_epochs", [0, 5])
def test_rates_of_body_and_heads_fall_over_the_schedule(
    run: Callable, training: Training, network: OneNumber, tmp_path: Path, schedule_epochs: int
) -> None:
    """23 images in batches of 4 are 5 steps an epoch; a longer schedule than the training is not at its end."""
    run(replace(training, schedule_epochs=schedule_epochs), tmp_path)
    total = falling(15, 5 * (schedule_epochs or 3))
    body, head = network.body.weight, network.head.weight
    assert body.flatten().tolist() == pytest.approx([-0.5 * total] * 3, rel=1e-5)
    assert head.item() == pytest.approx(-5.0 * total, rel=1e-5)


def test_the_log_has_a_row_at_each_epochs_end_and_every_tenth_step(
    run: Callable, training: Training, tmp_path: Path
) -> None:
    stage = run(training, tmp_path)
    found = rows(stage)
    assert [(row["step"], row["epoch"]) for row in found] == [(5, 1), (10, 2), (15, 3)]
    assert [row["second_loss"] for row in found] == [0, 1, 2]
    for row in found:
        assert row["rate_factor"] == pytest.approx((1 - (row["step"] - 1) / 15) ** 0.9)
        # the loss of the step, before it moves the weights: 3 body weights and a head of ten times their rate
        assert row["loss"] == pytest.approx(-(3 * 0.5 + 5.0) * falling(int(row["step"]) - 1, 15), rel=1e-5)
        assert row["first_loss"] == pytest.approx(row["loss"] + 1, rel=1e-5)
    last = {key: value for key, value in found[-1].items() if key.endswith("loss")}
    assert stage.record["outputs"] == {"epochs": 3, "steps": 15} | {k: pytest.approx(v) for k, v in last.items()}


@pytest.mark.parametrize(("least_steps", "times"), [(0, 1), (10, 1), (11, 2), (25, 3)])
def test_few_images_are_looked_at_more_often(
    run: Callable, training: Training, tmp_path: Path, least_steps: int, times: int
) -> None:
    """23 images in batches of 4 are 5 steps an epoch; validations keep their places."""
    validated: list[int] = []
    short = replace(
        training,
        epochs=2,
        batch_size=4,
        least_steps=least_steps,
        validate=lambda: {"score": float(validated.append(1) is None)},
        validate_every=1,
    )
    stage = run(short, tmp_path)
    record = stage.record["outputs"]
    assert (record["epochs"], record["steps"]) == (2 * times, 10 * times)
    assert len(validated) == 2


def test_a_long_epoch_is_logged_between(run: Callable, training: Training, tmp_path: Path) -> None:
    stage = run(replace(training, batch_size=1, epochs=1), tmp_path)
    assert [row["step"] for row in rows(stage)] == [10, 20, 23]


def test_chance_depends_on_the_step_alone(
    run: Callable, training: Training, network: OneNumber, tmp_path: Path
) -> None:
    run(training, tmp_path / "first")
    first = list(network.dropped)
    network.dropped.clear()
    torch.manual_seed(77)
    run(training, tmp_path / "second")
    assert network.dropped == first
    assert len(set(first)) == 15
    network.dropped.clear()
    run(replace(training, seed=10), tmp_path / "third")
    assert not set(network.dropped) & set(first)


def test_the_network_is_saved_before_the_stage_is_done(
    run: Callable, training: Training, network: OneNumber, tmp_path: Path
) -> None:
    """A save that fails (a full disk) costs nothing but itself."""

    def full() -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run(training, tmp_path, save=full)
    (checkpoint,) = tmp_path.glob("stages/*/checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["next_step"] == 15
    steps = len(network.dropped)
    trained = network.head.weight.item()
    torch.nn.init.ones_(network.head.weight)
    saved: list[float] = []
    stage = run(training, tmp_path, save=lambda: saved.append(network.head.weight.item()))
    assert saved == [trained]
    assert len(network.dropped) == steps
    assert stage.done
    assert not checkpoint.exists()


def test_no_epoch_saves_what_came(run: Callable, training: Training, network: OneNumber, tmp_path: Path) -> None:
    saved: list[float] = []
    stage = run(replace(training, epochs=0), tmp_path, save=lambda: saved.append(network.head.weight.item()))
    assert saved == [0]
    assert stage.record["outputs"] == {"epochs": 0, "steps": 0}
    assert rows(stage) == []


# Average and validation


def averaged(values: list[float], *, decay: float) -> float:
    """Of the value at the start and after each step."""
    found = values[0]
    for step, value in enumerate(values[1:], start=1):
        d = min(decay, (1 + step) / (10 + step))
        found = d * found + (1 - d) * value
    return found


def test_the_average_is_validated_and_saved_and_the_training_goes_on_beside_it(
    run: Callable, training: Training, network: OneNumber, tmp_path: Path
) -> None:
    seen: list[tuple[float, bool]] = []

    def validate() -> dict[str, float]:
        assert not torch.is_grad_enabled()
        seen.append((network.head.weight.item(), network.training))
        return {"miou": len(seen) / 10}

    saved: list[float] = []
    stage = run(
        replace(training, average_decay=0.8, validate=validate),
        tmp_path,
        save=lambda: saved.append(network.head.weight.item()),
    )
    plain = [-5.0 * falling(step, 15) for step in range(16)]
    expected = [averaged(plain[: step + 1], decay=0.8) for step in (5, 10, 15)]
    assert [value for value, _ in seen] == pytest.approx(expected, rel=1e-4)
    assert not any(is_training for _, is_training in seen)
    assert saved == pytest.approx(expected[-1:], rel=1e-4)
    assert network.head.weight.item() == pytest.approx(plain[-1], rel=1e-5)
    assert [row["miou"] for row in rows(stage)] == [0.1, 0.2, 0.3]
    assert stage.record["outputs"]["miou"] == 0.3


def test_validation_every_n_epochs_and_after_the_last(
    run: Callable, training: Training, network: OneNumber, tmp_path: Path
) -> None:
    """Between them the log's column is empty; without it there is none."""
    stage = run(replace(training, validate=lambda: {"miou": 0.5}, validate_every=2), tmp_path / "two")
    text = (stage.path / "training.csv").read_text().splitlines()
    assert [line.rpartition(",")[2] for line in text] == ["miou", "", "0.5", "0.5"]
    stage = run(training, tmp_path / "none")
    assert "miou" not in (stage.path / "training.csv").read_text()


# The scale of the loss in half precision


def test_the_scale_of_the_loss_is_taken_up(
    training: Training, network: OneNumber, machine: MachineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It doubles every 4 steps here, on the CPU in place of a GPU; a killed training goes on with the scale it had."""

    def train_in_half_precision(folder: Path) -> tuple[Stage, float]:
        precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=4))
        stage = RunFolder(path=folder).stage("train")
        fabric = Fabric(accelerator="cpu", devices=1, plugins=precision)
        for parameter in network.parameters():
            torch.nn.init.zeros_(parameter)
        train(training, stage=stage, fabric=fabric, machine=machine, save=lambda: None)
        assert precision.scaler is not None
        return stage, precision.scaler.get_scale()

    undisturbed, scale = train_in_half_precision(tmp_path / "undisturbed")
    assert scale == 64 * 2**3  # 15 steps
    trained = network.head.weight.item()
    with monkeypatch.context() as patch:
        really_save = TrainingCheckpoint.save

        def save(self: TrainingCheckpoint, *, next_step: int) -> None:
            really_save(self, next_step=next_step)
            if next_step == 10:
                raise KeyboardInterrupt

        patch.setattr(TrainingCheckpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            train_in_half_precision(tmp_path / "killed")
    (checkpoint,) = tmp_path.glob("killed/stages/*/checkpoint.pt")
    kept = torch.load(checkpoint, weights_only=True)["precision"]
    assert (kept["scale"], kept["_growth_tracker"]) == (256, 2)
    stage, taken_up = train_in_half_precision(tmp_path / "killed")
    assert taken_up == scale
    assert network.head.weight.item() == trained
    assert rows(stage) == rows(undisturbed)


# A signal that asks for the end


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


def test_clipping_leaves_out_a_step_whose_gradient_overflows(
    training: Training, network: OneNumber, machine: MachineSettings, tmp_path: Path
) -> None:
    """In half precision the scale of the loss is found by trying: a gradient beyond its range ends no training."""
    precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**127 * 1.5))
    clipped = replace(training, optimiser=replace(training.optimiser, gradient_clip=0.5), epochs=1)
    stage = RunFolder(path=tmp_path).stage("train")
    fabric = Fabric(accelerator="cpu", devices=1, plugins=precision)

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"loss": 4 * model(images)}

    train(replace(clipped, loss=loss), stage=stage, fabric=fabric, machine=machine, save=lambda: None)
    assert stage.done
    assert precision.scaler is not None
    assert precision.scaler.get_scale() < 2.0**127
    assert torch.isfinite(network.body.weight).all()
    assert network.body.weight.sum() != 0
