"""The joint objective of parent classes and sub-categories (Eq. 3). Logits and labels in, scalar losses out."""

from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor


class JointLoss(NamedTuple):
    """L_p + lambda L_s, and its two terms."""

    total: Float[Tensor, ""]
    parent: Float[Tensor, ""]
    subcategory: Float[Tensor, ""]


def joint_loss(
    parent_logits: Float[Tensor, "batch classes"],
    parent_labels: Shaped[Tensor, "batch classes"],
    subcategory_logits: Float[Tensor, "batch subcategories"] | None = None,
    subcategory_labels: Shaped[Tensor, "batch subcategories"] | None = None,
    *,
    subcategory_weight: float,
) -> JointLoss:
    """Multi-label classification loss of the parents plus `subcategory_weight` times that of the sub-categories.

    Each term is a mean of the binary cross-entropy over its own logits, as in the published code. With C parents of K
    sub-categories one sub-category logit therefore weighs lambda / (C K) against a parent's 1 / C.

    Args:
        parent_logits: H_p(f).
        parent_labels: Y_p, multi-hot.
        subcategory_logits: H_s(f), or None in round 0, where L_s is 0.
        subcategory_labels: Y_s, multi-hot, zero for all sub-categories of absent parents.
        subcategory_weight: lambda; 5 in the paper.
    """
    parent = F.binary_cross_entropy_with_logits(parent_logits, parent_labels.to(parent_logits))
    if subcategory_logits is None or subcategory_labels is None:
        return JointLoss(parent, parent, parent.new_zeros(()))
    subcategory = F.binary_cross_entropy_with_logits(subcategory_logits, subcategory_labels.to(subcategory_logits))
    return JointLoss(parent + subcategory_weight * subcategory, parent, subcategory)
