"""A training step of the classification network beside plain PyTorch: the same network, loss and optimiser."""

import functools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Options, in_turns
from benchmarks.record import Bound, Row
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings

CLASSES = 20


def rows(options: Options) -> Iterator[Row]:
    """MobileNetV2 with frozen batch norm; with --quick the tiny network."""
    name, batch, crop = ("tiny", 4, 48) if options.quick else ("mobilenetv2_100", 16, 224)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, crop, crop), dtype=torch.uint8, generator=generator)
    labels = (torch.rand(batch, CLASSES, generator=generator) < 0.1).to(torch.uint8)
    steps = [training_step(name, layout=layout) for layout in (torch.channels_last, torch.contiguous_format)]
    ours, plain = (functools.partial(step, images, labels) for step in steps)
    difference = abs(ours() - plain())
    times = in_turns(ours, plain, turns=2 if options.quick else options.turns)
    yield Row(
        stage="training",
        case=f"{name}, batch {batch}, crop {crop}, AdamW (difference of the loss)",
        **vars(times),
        items=batch,
        other="contiguous tensors",
        difference=difference,
        bounds=(Bound(of="difference", limit=1e-4),),
    )


def training_step(name: str, *, layout: torch.memory_format) -> Callable[[Tensor, Tensor], float]:
    """A step on (images UInt8, multi-hot labels) that returns its loss; the same random weights at each call."""
    torch.manual_seed(0)
    names = tuple(f"class {index}" for index in range(CLASSES))
    settings = NetworkSettings(name=name, weights="none", freeze_batch_norm=name != "tiny")
    network = ClassificationNetwork(ModelConfig(network=settings, class_names=names)).train()
    network = network.to(memory_format=layout)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step(images: Tensor, labels: Tensor) -> float:
        logits = network(images.contiguous(memory_format=layout)).parent
        loss = F.binary_cross_entropy_with_logits(logits, labels.float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step
