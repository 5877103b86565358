"""A network of one number and its training, for the tests of the loop."""

import csv

import torch
from torch import Tensor, nn

from subcam.runtime.run_folder import Stage
from subcam.training.loop import Training
from subcam.training.settings import OptimiserSettings

NUM_IMAGES = 23


class Numbers:
    """Images of one value, (epoch, index) as the target."""

    seed = 4

    def __len__(self) -> int:
        return NUM_IMAGES

    def __getitem__(self, key: tuple[int, int], /) -> tuple[Tensor, Tensor]:
        return torch.full((3, 4, 4), key[1], dtype=torch.uint8), torch.tensor(key)


class OneNumber(nn.Module):
    """Its loss is its weight: each step of SGD lowers it by the rate."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 1, 1, bias=False)
        self.head = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.body.weight)
        nn.init.zeros_(self.head.weight)
        self.dropped: list[float] = []

    def forward(self, images: Tensor) -> Tensor:
        assert self.training
        self.dropped.append(torch.rand(1).item())
        return self.body.weight.sum() + self.head.weight.sum()


def training_of(network: OneNumber) -> Training:
    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        value = model(images)
        return {"loss": value, "first_loss": value + 1, "second_loss": targets[:, 0].float().mean()}

    return Training(
        network=network,
        body=network.body,
        heads=[network.head],
        images=Numbers(),
        loss=loss,
        optimiser=OptimiserSettings(
            name="sgd", learning_rate=0.5, momentum=0.0, weight_decay=0.0, head_multiplier=10.0, schedule="poly"
        ),
        epochs=3,
        batch_size=4,
        seed=9,
    )


def rows(stage: Stage) -> list[dict[str, float]]:
    with (stage.path / "training.csv").open(encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
