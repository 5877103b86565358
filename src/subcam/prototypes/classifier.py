"""The prototype classifier: which sub-category of a class, or which surroundings, each position of a feature map shows.

Not in the paper, whose H_s sees the pooled feature of a whole image (Eq. 3). Each class has K prototypes in feature
space of its objects and some of what surrounds them (`prototypes/clustering.py`); a position is compared with them by
angle.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer, Shaped
from torch import Tensor, nn

from subcam.runtime import distributed

TEMPERATURE = 20.0
"""Factor on the cosine before the softmax. Between 10 and 40 the maps hardly change (docs/log.md)."""

UNLABELLED = -1


class PrototypeClassifier(nn.Module):
    """Prototypes of each class: K of its objects, then some of its context. A row of zeros stands for none."""

    def __init__(self, *, num_classes: int, num_objects: int, num_context: int, dim: int) -> None:
        super().__init__()
        self.num_objects = num_objects
        self.prototypes = nn.Parameter(torch.zeros(num_classes, num_objects + num_context, dim))

    def set_prototypes(self, prototypes: Float[Tensor, "classes prototypes dim"]) -> None:
        """Take prototypes that were found on features.

        Raises:
            ValueError: their number or length is not this classifier's.
        """
        if prototypes.shape != self.prototypes.shape:
            raise ValueError(f"expected prototypes {list(self.prototypes.shape)}, got {list(prototypes.shape)}")
        with torch.no_grad():
            self.prototypes.copy_(prototypes)

    def forward(self, features: Float[Tensor, "batch dim h w"]) -> Float[Tensor, "batch classes prototypes h w"]:
        """Logits of all prototypes of all classes; -inf where there is none."""
        num_classes, per_class, dim = self.prototypes.shape
        directions = F.normalize(self.prototypes, dim=2).view(-1, dim, 1, 1)
        cosine = F.conv2d(F.normalize(features, dim=1), directions).unflatten(1, (num_classes, per_class))
        return (TEMPERATURE * cosine).masked_fill(~self.prototypes.any(2)[:, :, None, None], -torch.inf)

    def probabilities(
        self, features: Float[Tensor, "batch dim h w"], present: Integer[Tensor, " present"]
    ) -> Float[Tensor, "batch present k h w"]:
        """How likely each position shows each sub-category of the present classes; what is missing to 1 is context.

        Args:
            features: f = E(I).
            present: indices of the classes that are known to be in the image.
        """
        logits = self(features)[:, present]
        # Where there is no prototype at all, nothing is likely.
        together = logits.flatten(1, 2).softmax(1).nan_to_num(0.0).view_as(logits)
        return together[:, :, : self.num_objects]


def prototype_loss(
    logits: Float[Tensor, "batch classes prototypes h w"],
    targets: Integer[Tensor, "batch h w"],
    labels: Shaped[Tensor, "batch classes"],
) -> Float[Tensor, ""]:
    """Mean cross-entropy over labelled positions; only prototypes of the image's own classes compete.

    Args:
        logits: of `PrototypeClassifier`.
        targets: class * prototypes a class + prototype, or -1 where it is not known what a position shows.
        labels: Y_p, multi-hot.

    Returns:
        0 where no position is labelled.
    """
    labelled = targets != UNLABELLED
    weight = distributed.weight_of(labelled.sum())
    # The host waits once, to learn how many there are; a mask as an index would make it wait at every use.
    positions = labelled.nonzero(as_tuple=True)
    if not len(positions[0]):
        # Of several processes one may have none, and still owes the others a gradient.
        return logits.masked_fill(logits.isinf(), 0).sum() * 0
    own = logits.masked_fill(~labels.bool()[:, :, None, None, None], -torch.inf).flatten(1, 2)
    return weight * F.cross_entropy(own.permute(0, 2, 3, 1)[positions], targets[positions].long())
