"""The moving average of weights: its formula, and that the network is what it was after it stood in for it."""

import pytest
import torch
from torch import nn

from subcam.training.ema import WeightAverage


@pytest.fixture
def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))


def set_weight(network: nn.Sequential, value: float) -> None:
    network.load_state_dict(network.state_dict() | {"0.weight": torch.tensor([[value]])})


@pytest.mark.parametrize("decay", [0.9, 0.3])
def test_it_forgets_by_the_decay_and_faster_at_the_start(network: nn.Sequential, decay: float) -> None:
    set_weight(network, 8.0)
    average = WeightAverage(network, decay=decay)
    expected = 8.0
    for step, value in enumerate([1.0, -2.0, 5.0, 3.0], start=1):
        set_weight(network, value)
        average.update()
        d = min(decay, (1 + step) / (10 + step))
        expected = d * expected + (1 - d) * value
    assert average.weights["0.weight"].item() == pytest.approx(expected, rel=1e-6)


def test_running_statistics_are_averaged_and_counters_copied(network: nn.Sequential) -> None:
    average = WeightAverage(network, decay=0.99)
    network.train()(torch.full((4, 1), 3.0))
    average.update()
    d = 2 / 11
    statistics = network.state_dict()["1.running_var"]
    assert average.weights["1.running_var"].item() == pytest.approx(d * 1 + (1 - d) * statistics.item())
    assert average.weights["1.num_batches_tracked"].item() == 1


def test_it_stands_in_and_gives_back(network: nn.Sequential) -> None:
    set_weight(network, 8.0)
    average = WeightAverage(network, decay=0.5)
    set_weight(network, 2.0)

    def weight() -> float:
        return float(network.state_dict()["0.weight"])

    with average.in_place():
        assert weight() == 8.0
    assert weight() == 2.0
    with pytest.raises(KeyboardInterrupt), average.in_place():
        raise KeyboardInterrupt
    assert weight() == 2.0
    assert average.weights["0.weight"].item() == 8.0


def test_its_state_comes_back(network: nn.Sequential) -> None:
    average = WeightAverage(network, decay=0.5)
    set_weight(network, 2.0)
    average.update()
    again = WeightAverage(nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1)), decay=0.5)
    again.load_state_dict(average.state_dict())
    assert again.steps == 1
    assert torch.equal(again.weights["0.weight"], average.weights["0.weight"])
    with pytest.raises(KeyError):
        again.load_state_dict({"steps": 1, "weights": {}})
