"""Optimisers and learning-rate schedules of a recipe: what learns, how fast, and how the rate falls."""

import torch
from torch import nn

from subcam.training.settings import OptimiserSettings


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
