"""The training loop by itself, on a network of one number; kills: `test_train`, checkpoints: `test_checkpoint`."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from tests.training.one_number import OneNumber, rows
from torch import Tensor, nn

from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.training.checkpoint import TrainingCheckpoint
from subcam.training.loop import Training, train


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
