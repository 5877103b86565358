"""The rounds go through the door of methods: their losses by the equations, from the columns of their labels."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subcam.methods.protocol import plain_maps
from subcam.methods.rounds import PLAIN, RoundLosses
from subcam.prototypes.classifier import prototype_loss


class Logits(NamedTuple):
    parent: Tensor
    subcategory: Tensor | None
    prototypes: Tensor | None


class Fixed(nn.Module):
    """Answers whatever it is shown with these logits."""

    def __init__(self, **logits: Any) -> None:
        super().__init__()
        self.logits = Logits(**{"subcategory": None, "prototypes": None, **logits})

    def forward(self, images: Tensor) -> Logits:
        return self.logits


IMAGES = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)


def test_eq_3() -> None:
    parent, subcategory = torch.randn(2, 2), torch.randn(2, 6)
    labels = torch.tensor([[1, 0, 1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 1, 0]], dtype=torch.uint8)
    losses = RoundLosses(num_classes=2, num_subcategories=3, cells=None, subcategory_weight=5.0, prototype_weight=9.0)
    found = losses(Fixed(parent=parent, subcategory=subcategory), IMAGES, labels)
    first = F.binary_cross_entropy_with_logits(parent, labels[:, :2].float())
    second = F.binary_cross_entropy_with_logits(subcategory, labels[:, 2:].float())
    torch.testing.assert_close(found["loss"], first + 5 * second)
    assert found.keys() == {"loss", "parent_loss", "subcategory_loss"}


def test_prototypes_learn_from_the_labels_of_positions() -> None:
    parent, prototypes = torch.randn(2, 2), torch.randn(2, 2, 3, 2, 2)
    positions = torch.tensor([[0, 1, 2, -1], [-1, -1, 3, 5]])
    labels = torch.cat([torch.tensor([[1, 0], [0, 1]]), positions], dim=1)
    losses = RoundLosses(num_classes=2, num_subcategories=0, cells=(2, 2), subcategory_weight=0.0, prototype_weight=0.5)
    found = losses(Fixed(parent=parent, prototypes=prototypes), IMAGES, labels)
    expected = prototype_loss(prototypes, positions.view(2, 2, 2), labels[:, :2])
    torch.testing.assert_close(found["prototype_loss"], expected)
    torch.testing.assert_close(found["loss"], found["parent_loss"] + 0.5 * expected)
    assert found["subcategory_loss"] == 0


def test_their_maps_are_plain_ones() -> None:
    assert PLAIN.method.maps is plain_maps
    assert (PLAIN.is_ours, PLAIN.training, PLAIN.method.batched) == (True, None, True)
