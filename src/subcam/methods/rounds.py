"""What the rounds themselves are as methods: class activation maps, and the losses of Eq. 3 and of prototypes."""

from dataclasses import dataclass

from torch import Tensor, nn

from subcam.methods.protocol import ChosenMethod, Method
from subcam.prototypes.classifier import prototype_loss
from subcam.training.losses import joint_loss

PLAIN = ChosenMethod(method=Method(name="cam", title="CAM", batched=True), reference="cam")
"""Response maps of every round: Eq. 1, or those of the network's prototypes."""


@dataclass(frozen=True, kw_only=True)
class RoundLosses:
    """The losses by which the network of a round learns: Eq. 3, and where positions are labelled that of prototypes.

    num_classes, num_subcategories: columns of the labels, the latter K a parent; 0 in round 0.
    cells: rows and columns of the feature map of a crop, of which each has a label after those columns; None for none.
    subcategory_weight: lambda of Eq. 3. prototype_weight: of the prototype classifier's loss.
    """

    num_classes: int
    num_subcategories: int
    cells: tuple[int, int] | None
    subcategory_weight: float
    prototype_weight: float

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses of a batch of images, RGB 0..255, and labels [batch, columns]."""
        logits = network(images)
        columns = self.num_classes * (1 + self.num_subcategories)
        parents = labels[:, : self.num_classes]
        joint = joint_loss(
            logits.parent,
            parents,
            logits.subcategory,
            labels[:, self.num_classes : columns] if logits.subcategory is not None else None,
            subcategory_weight=self.subcategory_weight,
        )
        terms = {"loss": joint.total, "parent_loss": joint.parent, "subcategory_loss": joint.subcategory}
        if self.cells is None:
            return terms
        by_position = prototype_loss(logits.prototypes, labels[:, columns:].unflatten(1, self.cells), parents)
        return terms | {"loss": joint.total + self.prototype_weight * by_position, "prototype_loss": by_position}
