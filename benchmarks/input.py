"""What the input costs in a training step, and one augmented picture beside a plain torchvision pipeline.

    OMP_NUM_THREADS=1 python benchmarks/input.py --data VOC_FOLDER

Network: forward, backward and AdamW of a timm model in channels_last on random pictures, with no input at all.
Processor time says what a batch of input costs beside that, whatever else runs on the machine; wait is how long the
training loop stands still for its next batch by the clock. The aim is that both stay below 15% of the step.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.transforms import v2

from subcam.data.loading import TrainingImages, choose_workers, training_loader
from subcam.data.transforms import AugmentationSettings, long_side_size
from subcam.data.voc import read_voc

FILL = (124, 116, 104)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured.

    data: a folder in PASCAL VOC's layout.
    steps: training steps timed for each number of loading processes.
    """

    data: Path
    split: str = "train_aug"
    model: str = "mobilenetv2_100"
    batch_size: int = 16
    crop: int = 224
    steps: int = 20
    pictures: int = 200
    workers: tuple[int, ...] = (0, 1, 2)


def main(settings: Settings) -> None:
    images = _images(settings)
    console = Console(width=100)
    console.print(_picture_table(images, settings))
    console.print(_cost_table(images, settings))
    console.print(_wait_table(images, settings))
    console.print(f"threads: {torch.get_num_threads()}; choose_workers() gives {choose_workers()} here")


def _images(settings: Settings) -> TrainingImages:
    image_set = read_voc(settings.data, split=settings.split)
    return TrainingImages(
        image_set.records, image_set.labels, AugmentationSettings(crop=settings.crop), seed=0, fill=FILL
    )


def _picture_table(images: TrainingImages, settings: Settings) -> Table:
    """Milliseconds to read, decode and augment one picture; the ways take turns, so that all meet the same machine."""
    ways: dict[str, Callable[[int], object]] = {
        "subcam": lambda index: images[0, index],
        "torchvision, jitter on the crop": _plain_torchvision(images, jitter_whole=False),
        "torchvision, jitter on the whole picture (published order)": _plain_torchvision(images, jitter_whole=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(min(settings.pictures, len(images))):
        for name, make in ways.items():
            start = time.perf_counter()
            make(index)
            seconds[name].append(time.perf_counter() - start)
    table = Table("way", "ms a picture (mean)", "median", title=f"decode and augmentation, crop {settings.crop}")
    for name, times in seconds.items():
        table.add_row(name, f"{1e3 * statistics.fmean(times):.2f}", f"{1e3 * statistics.median(times):.2f}")
    return table


def _plain_torchvision(images: TrainingImages, *, jitter_whole: bool) -> Callable[[int], object]:
    chosen = images.augmentation
    jitter = v2.ColorJitter(chosen.brightness, chosen.contrast, chosen.saturation, chosen.hue)
    crop = v2.RandomCrop(chosen.crop, pad_if_needed=True, fill=images.fill)
    flip_and_jitter = v2.Compose([v2.RandomHorizontalFlip(chosen.flip), jitter])
    steps = v2.Compose([*((flip_and_jitter, crop) if jitter_whole else (crop, flip_and_jitter)), v2.PILToTensor()])

    def make(index: int) -> object:
        with Image.open(images.records[index].image) as opened:
            image = opened.convert("RGB")
        size = long_side_size(image.height, image.width, random.randint(*chosen.scale_long_side))
        return steps(v2.functional.resize(image, list(size), interpolation=v2.InterpolationMode.BICUBIC))

    return make


def _cost_table(images: TrainingImages, settings: Settings) -> Table:
    """Processor time of one batch of input and of the network's step, in this process, taking turns."""
    step = _training_step(images.labels.shape[1], settings)
    batches = iter(training_loader(images, batch_size=settings.batch_size, epochs=1000, workers=0))
    step(*next(batches))
    inputs, networks = [], []
    for _ in range(settings.steps):
        start = time.process_time()
        batch, labels = next(batches)
        made = time.process_time()
        step(batch, labels)
        inputs.append(made - start)
        networks.append(time.process_time() - made)
    table = Table("input ms", "network ms", "input's share", title="processor time of a training step")
    made_in, trained_in = statistics.median(inputs), statistics.median(networks)
    table.add_row(f"{1e3 * made_in:.0f}", f"{1e3 * trained_in:.0f}", f"{made_in / (made_in + trained_in):.1%}")
    return table


def _wait_table(images: TrainingImages, settings: Settings) -> Table:
    step = _training_step(images.labels.shape[1], settings)
    table = Table(
        "loading processes", "network ms", "whole step ms", "wait ms", "wait", title="a training step by clock"
    )
    for workers in settings.workers:
        # the network alone is timed again beside each row: other work on the machine comes and goes
        network = _time_network(step, images, settings)
        whole, wait = _time_loop(step, images, settings, workers)
        times = (f"{1e3 * seconds:.0f}" for seconds in (network, whole))
        table.add_row(str(workers), *times, f"{1e3 * wait:.1f}", f"{wait / whole:.1%}")
    return table


def _training_step(columns: int, settings: Settings) -> Callable[[Tensor, Tensor], None]:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(settings.model, pretrained=False, num_classes=columns)
    network = network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step(images: Tensor, labels: Tensor) -> None:
        inputs = images.to(memory_format=torch.channels_last).float().div(255)
        loss = F.binary_cross_entropy_with_logits(network(inputs), labels.float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def _time_network(step: Callable[[Tensor, Tensor], None], images: TrainingImages, settings: Settings) -> float:
    batch = torch.randint(0, 256, (settings.batch_size, 3, settings.crop, settings.crop), dtype=torch.uint8)
    labels = images.labels[: settings.batch_size]
    step(batch, labels)
    seconds = []
    for _ in range(settings.steps):
        start = time.perf_counter()
        step(batch, labels)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _time_loop(
    step: Callable[[Tensor, Tensor], None], images: TrainingImages, settings: Settings, workers: int
) -> tuple[float, float]:
    """Medians of the whole step and of the wait for its batch, in seconds, after the first steps."""
    loader = training_loader(images, batch_size=settings.batch_size, epochs=1000, workers=workers)
    batches: Iterator[tuple[Tensor, Tensor]] = iter(loader)
    whole, wait = [], []
    for number in range(settings.steps + 2):
        start = time.perf_counter()
        batch, labels = next(batches)
        arrived = time.perf_counter()
        step(batch, labels)
        if number >= 2:
            wait.append(arrived - start)
            whole.append(time.perf_counter() - start)
    return statistics.median(whole), statistics.median(wait)


if __name__ == "__main__":
    main(tyro.cli(Settings))
