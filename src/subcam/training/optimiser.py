"""Optimisers and learning-rate schedules of a recipe: what learns, how fast, and how the rate falls."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from subcam.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings:
    """How weights are updated.

    Attributes:
        learning_rate: of the backbone's weights, at the first step after warm-up.
        momentum: of SGD; also Adam's first beta. The published SC-CAM code runs SGD at 5e-4 by accident.
        head_multiplier: learning rate of the heads (and the neck) over the backbone's; the published code uses 10.
        bias_multiplier: learning rate of biases over that of weights; the published code uses 2.
        decay_biases: whether weight decay applies to biases and to norms' scales too.
        schedule: "poly" falls as (1 - step / steps)^poly_power, "cosine" along half a cosine, "constant" not at all.
        warmup_steps: the rate rises linearly from 0 over this many steps first.
        gradient_clip: largest norm of the whole gradient; 0 leaves it as it is.
    """

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_biases: bool = True
    head_multiplier: float = 10.0
    bias_multiplier: float = 1.0
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    poly_power: float = 0.9
    warmup_steps: int = 0
    gradient_clip: float = 0.0

    def __post_init__(self) -> None:
        if min(self.learning_rate, self.weight_decay, self.head_multiplier, self.bias_multiplier) < 0:
            raise SettingsError(
                "expected learning_rate, weight_decay, head_multiplier and bias_multiplier of 0 or more, got"
                f" {self.learning_rate}, {self.weight_decay}, {self.head_multiplier} and {self.bias_multiplier}"
            )
        if not 0 <= self.momentum < 1:
            raise SettingsError(f"expected a momentum in 0..1 (1 itself never forgets), got {self.momentum}")


def parameter_groups(body: nn.Module, heads: list[nn.Module], settings: OptimiserSettings) -> list[dict]:
    """Split what learns into weights and biases of body and heads, each with its rate and weight decay.

    Parameters that do not require a gradient are left out, and so are empty groups. One-dimensional parameters
    (biases, norms' scales) count as biases.
    """
    groups = []
    for modules, multiplier in (([body], 1.0), (heads, settings.head_multiplier)):
        learning = [p for module in modules for p in module.parameters() if p.requires_grad]
        for is_bias in (False, True):
            parameters = [p for p in learning if (p.ndim <= 1) == is_bias]
            rate = settings.learning_rate * multiplier * (settings.bias_multiplier if is_bias else 1.0)
            decay = settings.weight_decay if settings.decay_biases or not is_bias else 0.0
            if parameters:
                groups.append({"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": decay})
    return groups


def build_optimiser(groups: list[dict], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """The optimiser that `settings` name, over `parameter_groups`."""
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
    return kind(groups, lr=settings.learning_rate, betas=(settings.momentum, 0.999))


def rate_factor(step: int, total_steps: int, settings: OptimiserSettings) -> float:
    """Factor in 0..1 by which every learning rate is multiplied at `step` of `total_steps` (counted from 0)."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else 1.0
    done = min(step / total_steps, 1.0)
    if settings.schedule == "poly":
        return warmup * (1 - done) ** settings.poly_power
    if settings.schedule == "cosine":
        return warmup * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done)).item())
    return warmup


def set_rate(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to its initial one times `factor`."""
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * factor
