"""The training loop of every network here: batches in, a trained network out; seeded, logged, safe against kills."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from subcam.data.batches.training import SeededImages, training_loader
from subcam.networks.fast.copies import fused_for_training
from subcam.runtime import distributed, signals
from subcam.runtime.devices import Fabric
from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.progress import bar
from subcam.runtime.run_folder import Stage
from subcam.runtime.seeds import derive_seed
from subcam.training.checkpoint import Stateful, TrainingCheckpoint, TrainingLog
from subcam.training.ema import WeightAverage
from subcam.training.optimiser import build_optimiser, parameter_groups, rate_factor, set_rate
from subcam.training.settings import OptimiserSettings
from subcam.training.sync_batch_norm import synchronise_batch_norm

LOG_EVERY = 10
"""Steps between two rows of the log, and between two checks that the loss is finite."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training.

    network: what learns; its forward takes a batch of images.
    body: its pretrained part; heads: its new parts, which learn at the heads' rate.
    images: images with targets, addressed by (epoch, index).
    loss: from the network (as Fabric wrapped it), a batch's images and targets: "loss", which is minimised, and
        whatever parts of it the log should show.
    schedule_epochs: epochs after which the learning rate reaches its end; 0 means `epochs`.
    least_steps: where all epochs together have fewer steps, as of a few dozen images, every number of epochs is
        multiplied by the least whole number that brings them there.
    seed: of the random numbers inside the network, such as dropout's.
    frozen_in_bf16: whether, on a CPU, layers before the first that learns compute in bf16, where the processor can.
    average_decay: of the moving average of the weights, which is then what is validated and saved; 0 for none.
    validate: scores by name of the network as it stands, in evaluation mode; called after every `validate_every`-th
        epoch and the last. They are logged, and change nothing.
    """

    network: nn.Module
    body: nn.Module
    heads: list[nn.Module]
    images: SeededImages
    loss: Callable[[nn.Module, Tensor, Tensor], dict[str, Tensor]]
    optimiser: OptimiserSettings
    epochs: int
    batch_size: int
    seed: int
    schedule_epochs: int = 0
    least_steps: int = 0
    frozen_in_bf16: bool = False
    average_decay: float = 0.0
    validate: Callable[[], dict[str, float]] | None = None
    validate_every: int = 1


def train(
    training: Training,
    *,
    stage: Stage,
    fabric: Fabric,
    machine: MachineSettings,
    save: Callable[[], Any],
) -> None:
    """Train, or resume an interrupted training; then `save` the network and mark the stage as done.

    A checkpoint at an epoch's end is written before the validation, which may take long; who takes it up validates.
    Several processes share each batch equally, and end with what one would have, but for rounding and random numbers of
    dropout.

    Raises:
        SubcamError: the loss is not finite; the last good checkpoint stays.
        CheckpointError: the checkpoints of an earlier attempt are damaged.
        Stopped: a signal asked for the end (`runtime/signals.py`); there is a checkpoint of the last step.
    """
    training = _long_enough(training)
    settings, network = training.optimiser, training.network
    optimiser = build_optimiser(parameter_groups(training.body, training.heads, settings), settings)
    network.train()
    if distributed.world_size() > 1:
        synchronise_batch_norm(network)
    network.to(memory_format=torch.channels_last)
    learner = network
    if fabric.device.type == "cpu":
        learner = fused_for_training(network, frozen_in_bf16=training.frozen_in_bf16)
    model, wrapped = fabric.setup(learner, optimiser)
    average = WeightAverage(network, decay=training.average_decay) if training.average_decay else None
    log = TrainingLog(stage.path)
    states: dict[str, Stateful] = {"optimiser": optimiser, "precision": fabric.strategy.precision}
    if average:
        states["average"] = average
    checkpoint = TrainingCheckpoint(stage.path, network, states, log, least_seconds=machine.checkpoint_seconds)
    # Restored on the device: an optimiser's state goes where its parameters are at that moment.
    first_step = checkpoint.restore()
    loader = training_loader(
        training.images,
        batch_size=training.batch_size,
        epochs=training.epochs,
        start_step=first_step,
        workers=machine.workers,
        world_size=distributed.world_size(),
        rank=distributed.rank(),
    )
    steps_per_epoch = loader.steps_per_epoch
    schedule_steps = (training.schedule_epochs or training.epochs) * steps_per_epoch
    if first_step and first_step % steps_per_epoch == 0:
        log.add_scores(_validate(training, average, epoch=first_step // steps_per_epoch))
    with bar(stage.name, training.epochs * steps_per_epoch, done=first_step) as progress, signals.deferred():
        for step, (images, targets) in enumerate(loader, start=first_step):
            # Dropout's random numbers depend on the step alone, so that a resumed training equals an undisturbed one.
            torch.manual_seed(derive_seed(training.seed, "step", step) + distributed.rank())
            factor = rate_factor(step, schedule_steps, settings)
            set_rate(optimiser, factor)
            images = fabric.to_device(images).contiguous(memory_format=torch.channels_last)
            losses = training.loss(model, images, fabric.to_device(targets))
            wrapped.zero_grad()
            fabric.backward(losses["loss"])
            if settings.gradient_clip:
                # A gradient that is not finite shows in the loss of the log's next row, or, in half precision, makes
                # the scaler leave out the step. To look for it here, the host would wait in each step.
                fabric.clip_gradients(model, wrapped, max_norm=settings.gradient_clip, error_if_nonfinite=False)
            wrapped.step()
            if average:
                average.update()

            done = step + 1
            epoch_ends = done % steps_per_epoch == 0
            logged = epoch_ends or done % LOG_EVERY == 0
            if logged:
                losses = {name: distributed.mean(value) for name, value in losses.items()}
                row = log.add(step=done, epoch=done / steps_per_epoch, rate_factor=factor, losses=losses)
                progress.note = f"loss {row['loss']:.4f}"
            # Asked once a step and at this place alone, where several processes agree on it.
            signals.note(distributed.greatest(signals.wanted()))
            stop = signals.wanted() > 0
            if epoch_ends or stop or (logged and checkpoint.due):
                checkpoint.save(next_step=done)
            if stop:
                distributed.barrier()  # whoever ends first ends the others, and the first has a checkpoint to write
                signals.end_if_wanted()
            if epoch_ends:
                with signals.deferred(defer=False):
                    log.add_scores(_validate(training, average, epoch=done // steps_per_epoch))
            progress.advance()
    if distributed.is_first():
        with _averaged(average):
            save()
    log.close()
    stage.finish({"epochs": training.epochs, "steps": training.epochs * steps_per_epoch, **log.last})
    stage.drop_checkpoints()


def total_steps(*, images: int, batch_size: int, epochs: int, least_steps: int) -> int:
    """The steps of a training over so many images, with all passes that its least number of steps asks for."""
    steps = epochs * (images // max(1, batch_size))
    return steps * math.ceil(least_steps / steps) if 0 < steps < least_steps else steps


def _long_enough(training: Training) -> Training:
    """The training with as many passes over its images as its least number of steps asks for."""
    asked = {"images": len(training.images), "batch_size": training.batch_size, "epochs": training.epochs}
    steps = total_steps(**asked, least_steps=0)
    times = total_steps(**asked, least_steps=training.least_steps) // steps if steps else 1
    return replace(
        training,
        epochs=training.epochs * times,
        schedule_epochs=training.schedule_epochs * times,
        validate_every=training.validate_every * times,
    )


def _validate(training: Training, average: WeightAverage | None, *, epoch: int) -> dict[str, float]:
    """Scores after `epoch` epochs, if they are wanted then; the network goes on training as if nothing had been."""
    due = epoch == training.epochs or epoch % training.validate_every == 0
    if training.validate is None or not due:
        return {}
    training.network.eval()
    with torch.no_grad(), _averaged(average):
        scores = training.validate()
    training.network.train()
    return scores


def _averaged(average: WeightAverage | None) -> AbstractContextManager[None]:
    return average.in_place() if average else nullcontext()
