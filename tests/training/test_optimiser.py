"""What learns, how fast, and how the rate falls: groups, schedules and optimisers as the settings say."""

import math
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from subcam.training.optimiser import build_optimiser, parameter_groups, rate_factor, set_rate
from subcam.training.settings import OptimiserSettings

PUBLISHED = OptimiserSettings(
    name="sgd",
    learning_rate=0.01,
    momentum=5e-4,
    weight_decay=5e-4,
    decay_biases=False,
    head_multiplier=10,
    bias_multiplier=2,
)


@pytest.fixture
def body() -> nn.Sequential:
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    body[2].weight.requires_grad_(False)
    body[2].bias.requires_grad_(False)
    return body


@pytest.fixture
def heads() -> list[nn.Module]:
    return [nn.Conv2d(4, 2, 3), nn.Linear(2, 3, bias=False)]


def rates(groups: list[dict]) -> dict[int, tuple[float, float]]:
    return {id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_rates_of_the_published_code(body: nn.Sequential, heads: list[nn.Module]) -> None:
    """0.01, twice for biases, ten times for heads, twenty times for the heads' biases; no decay of biases."""
    found = rates(parameter_groups(body, heads, PUBLISHED))
    neck, linear = heads
    expected = {
        body[0].weight: (0.01, 5e-4),
        body[0].bias: (0.02, 0.0),
        body[1].weight: (0.02, 0.0),
        body[1].bias: (0.02, 0.0),
        neck.weight: (0.1, 5e-4),
        neck.bias: (0.2, 0.0),
        linear.weight: (0.1, 5e-4),
    }
    assert found.keys() == {id(p) for p in expected}  # the frozen convolution is in no group
    for parameter, value in expected.items():
        assert found[id(parameter)] == pytest.approx(value)


def test_decay_of_biases_is_a_setting(body: nn.Sequential, heads: list[nn.Module]) -> None:
    found = rates(parameter_groups(body, heads, replace(PUBLISHED, decay_biases=True, bias_multiplier=1.0)))
    assert set(found.values()) == {(0.01, 5e-4), (0.1, 5e-4)}


def test_a_frozen_body_leaves_no_empty_groups(heads: list[nn.Module]) -> None:
    body = nn.Conv2d(1, 1, 1).requires_grad_(False)
    assert len(parameter_groups(body, heads, PUBLISHED)) == 2


def test_poly_by_hand() -> None:
    settings = replace(PUBLISHED, schedule="poly", poly_power=0.9)
    got = [rate_factor(step, 4, settings) for step in range(6)]
    assert got == pytest.approx([1.0, 0.75**0.9, 0.5**0.9, 0.25**0.9, 0.0, 0.0])


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_schedules_are_torch_s(schedule: Literal["poly", "cosine", "constant"]) -> None:
    settings = replace(PUBLISHED, schedule=schedule, poly_power=0.9)
    theirs = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = {
        "poly": lambda: torch.optim.lr_scheduler.PolynomialLR(theirs, total_iters=20, power=0.9),
        "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=20),
        "constant": lambda: torch.optim.lr_scheduler.ConstantLR(theirs, factor=1.0),
    }[schedule]()
    for step in range(20):
        assert rate_factor(step, 20, settings) == pytest.approx(theirs.param_groups[0]["lr"], abs=1e-6)
        theirs.step()
        scheduler.step()


def test_warm_up_rises_to_the_schedule() -> None:
    settings = replace(PUBLISHED, schedule="constant", warmup_steps=4)
    assert [rate_factor(step, 100, settings) for step in range(6)] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1])
    falling = replace(settings, schedule="poly")
    assert rate_factor(1, 100, falling) == pytest.approx(0.5 * 0.99**0.9)
    assert rate_factor(50, 100, falling) == pytest.approx(0.5**0.9)


def test_the_rate_is_set_from_the_first_one(body: nn.Sequential, heads: list[nn.Module]) -> None:
    optimiser = build_optimiser(parameter_groups(body, heads, PUBLISHED), PUBLISHED)
    for factor in (0.5, 0.25):
        set_rate(optimiser, factor)
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.0025, 0.005, 0.025, 0.05])


@pytest.mark.parametrize(
    ("name", "kind", "slot"),
    [
        ("sgd", torch.optim.SGD, ("momentum", 0.8)),
        ("adam", torch.optim.Adam, ("betas", (0.8, 0.999))),
        ("adamw", torch.optim.AdamW, ("betas", (0.8, 0.999))),
    ],
)
def test_the_optimiser_is_the_one_that_was_named(
    name: Literal["sgd", "adam", "adamw"], kind: type, slot: tuple
) -> None:
    settings = OptimiserSettings(name=name, learning_rate=0.5, momentum=0.8, weight_decay=0.1)
    optimiser = build_optimiser(parameter_groups(nn.Linear(2, 2), [], settings), settings)
    assert type(optimiser) is kind
    for group in optimiser.param_groups:
        assert group[slot[0]] == slot[1]
        assert group["weight_decay"] == 0.1  # in its own slot, not in momentum's
        assert group["lr"] == 0.5


def test_two_steps_of_sgd_by_hand() -> None:
    """v <- m v + (g + d p); p <- p - r v, with g = 1."""
    settings = OptimiserSettings(name="sgd", learning_rate=0.1, momentum=0.5, weight_decay=0.2, schedule="constant")
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    optimiser = build_optimiser(parameter_groups(layer, [], settings), settings)
    weight, velocity = 2.0, 0.0
    for _ in range(2):
        optimiser.zero_grad()
        layer.weight.sum().backward()
        optimiser.step()
        velocity = 0.5 * velocity + 1 + 0.2 * weight
        weight -= 0.1 * velocity
    assert layer.weight.item() == pytest.approx(weight)
    assert not math.isclose(weight, 2.0)
