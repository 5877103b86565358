"""A training step of the classification network beside plain PyTorch loops: the same network, loss and learning rates.

Ours is what `training.loop` does in a step. The plain loop of MobileNetV2 is timm's network with channels last, batch
norm frozen by evaluation mode; that of ResNet-38 is written as the published code of SC-CAM is: contiguous tensors, the
loss of parents plus five times that of sub-categories, read in each step.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Options, in_turns
from benchmarks.record import Bound, Row
from subcam.methods.rounds import RoundLosses
from subcam.networks.backbones import resnet38, tiny
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.fast.copies import fused_for_training
from subcam.networks.settings import NetworkSettings
from subcam.runtime.machine.malloc import keep_freed_memory
from subcam.training.optimiser import build_optimiser, parameter_groups
from subcam.training.settings import OptimiserSettings

CLASSES, K = 20, 10
WEIGHT_OF_SUBCATEGORIES = 5.0
ADAMW = OptimiserSettings(name="adamw", learning_rate=1e-4, weight_decay=1e-2, head_multiplier=10.0)
SGD = OptimiserSettings(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=5e-4, bias_multiplier=2.0)
FROZEN_IN_RESNET38 = ("conv1a", "b2", "b2_1", "b2_2")

Step = Callable[[Tensor, Tensor], float]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network of `NetworkSettings`, a batch, and what learns how."""

    network: str
    batch: int
    crop: int
    optimiser: OptimiserSettings
    subcategories: int = 0
    frozen: tuple[str, ...] = ()
    turns: int = 5
    same_loss: bool = True

    @property
    def title(self) -> str:
        """The case in words."""
        what = f"{self.network}, batch {self.batch}, crop {self.crop}, {self.optimiser.name}"
        return f"{what} (difference of the loss)" if self.same_loss else what

    @property
    def frozen_norm(self) -> bool:
        """Whether batch norm is frozen; the small network starts from nothing."""
        return self.network != "tiny"


QUICK_CASE = Case(network="tiny", batch=4, crop=48, optimiser=ADAMW)
MOBILENET = Case(network="mobilenetv2_100", batch=16, crop=224, optimiser=ADAMW)
RESNET38 = Case(
    network="resnet38",
    batch=2,
    crop=160,
    optimiser=SGD,
    subcategories=K,
    frozen=FROZEN_IN_RESNET38,
    turns=3,
    same_loss=False,  # dropout draws in another order where tensors are laid out otherwise
)


def rows(options: Options) -> Iterator[Row]:
    """MobileNetV2 and ResNet-38 with frozen batch norm; with --quick the tiny network."""
    ways: dict[Case, dict[str, torch.memory_format]]
    if options.quick:
        ways = {QUICK_CASE: {"plain loop, channels last": torch.channels_last}}
    else:
        layouts = {"channels last": torch.channels_last, "contiguous tensors": torch.contiguous_format}
        ways = {
            MOBILENET: {f"plain loop, {name}": layout for name, layout in layouts.items()},
            RESNET38: {"loop of SC-CAM, contiguous tensors": torch.contiguous_format},
        }
    keep_freed_memory()
    for case, others in ways.items():
        for other, layout in others.items():
            yield _row(case, other, layout, turns=2 if options.quick else min(case.turns, options.turns))


def _row(case: Case, other: str, layout: torch.memory_format, *, turns: int) -> Row:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (case.batch, 3, case.crop, case.crop), dtype=torch.uint8, generator=generator)
    columns = CLASSES * (1 + case.subcategories)
    labels = (torch.rand(case.batch, columns, generator=generator) < 0.1).to(torch.uint8)
    ours, plain = (functools.partial(step, images, labels) for step in (our_step(case), plain_step(case, layout)))
    difference = abs(ours() - plain())
    return Row(
        stage="training",
        case=case.title,
        **vars(in_turns(ours, plain, turns=turns)),
        items=case.batch,
        other=other,
        difference=difference if case.same_loss else None,
        bounds=(Bound(of="difference", limit=1e-4),) if case.same_loss else (),
    )


def our_step(case: Case) -> Step:
    """A step on (images UInt8, multi-hot labels), as the stage makes it; returns the loss."""
    network = _network(case).train().to(memory_format=torch.channels_last)
    model = fused_for_training(network)
    losses = RoundLosses(
        num_classes=CLASSES,
        num_subcategories=case.subcategories,
        cells=None,
        subcategory_weight=WEIGHT_OF_SUBCATEGORIES,
        prototype_weight=0.0,
    )
    optimiser = build_optimiser(parameter_groups(*network.body_and_heads(), case.optimiser), case.optimiser)

    def step(images: Tensor, labels: Tensor) -> float:
        loss = losses(model, images.contiguous(memory_format=torch.channels_last), labels)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def plain_step(case: Case, layout: torch.memory_format) -> Step:
    """The same from PyTorch's parts, on the same random weights."""
    network = _network(case)
    body = _plain_body(case.network)
    body.load_state_dict(network.backbone.body.state_dict())
    heads = [network.parent_head, *([network.subcategory_head] if network.subcategory_head else [])]
    weights = (1.0, WEIGHT_OF_SUBCATEGORIES)[: len(heads)]
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (network.backbone.mean, network.backbone.std))
    body = body.train().to(memory_format=layout)
    for module in body.modules() if case.frozen_norm else ():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
    for name in case.frozen:
        body.get_submodule(name).requires_grad_(False)
    optimiser = build_optimiser(parameter_groups(body, list(heads), case.optimiser), case.optimiser)

    def step(images: Tensor, labels: Tensor) -> float:
        x = ((images.float() / 255 - mean) / std).contiguous(memory_format=layout)
        pooled = F.adaptive_avg_pool2d(body(x), 1).flatten(1)
        targets = labels.float().split([head.out_features for head in heads], dim=1)
        terms = [
            weight * F.multilabel_soft_margin_loss(head(pooled), target)
            for head, target, weight in zip(heads, targets, weights, strict=True)
        ]
        loss = torch.stack(terms).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def _network(case: Case) -> ClassificationNetwork:
    """The same random weights at each call."""
    torch.manual_seed(0)
    names = tuple(f"class {index}" for index in range(CLASSES))
    settings = NetworkSettings(
        name=case.network, weights="none", freeze_batch_norm=case.frozen_norm, freeze=case.frozen
    )
    return ClassificationNetwork(ModelConfig(network=settings, class_names=names, num_subcategories=case.subcategories))


def _plain_body(name: str) -> nn.Module:
    """A network of plain modules from images to feature maps."""
    own = {"tiny": tiny.TinyNetwork, "resnet38": resnet38.ResNet38}
    if name in own:
        return own[name]()
    import timm

    return timm.create_model(name, num_classes=0, global_pool="")
