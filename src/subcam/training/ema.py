"""Exponential moving average of a network's weights along its training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """w <- d w + (1 - d) v after each step, v being the network's weights and running statistics.

    After n steps d is the lesser of `decay` and (1 + n) / (10 + n), so that the random start is soon forgotten. Ours,
    since `torch.optim.swa_utils.AveragedModel` drops the start for the first step's weights and averages counters too.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self.network = network
        self.decay = decay
        self.steps = 0
        self.weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's weights as they are now."""
        self.steps += 1
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        own = self.network.state_dict()
        moving = [name for name, tensor in own.items() if tensor.is_floating_point()]
        # All at once: a GPU would take longer to be asked for each weight than to compute it.
        torch._foreach_lerp_([self.weights[name] for name in moving], [own[name] for name in moving], share)
        for name in own.keys() - set(moving):
            self.weights[name].copy_(own[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average into the network, and its own weights back when the block ends."""
        own = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.weights)
        try:
            yield
        finally:
            self.network.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave; the average stays on its device.

        Raises:
            KeyError: a weight is missing.
        """
        self.steps = int(state["steps"])
        for name, tensor in self.weights.items():
            tensor.copy_(state["weights"][name])
