"""The joint objective (Eq. 3): by hand, against plain loops, and what lambda = 0 means."""

import math

import pytest
import torch

from subcam.training.losses import joint_loss


def plain_loss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean over all logits of -y log p - (1 - y) log(1 - p)."""
    terms = []
    for z, y in zip(logits.flatten().tolist(), labels.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        terms.append(-math.log(p) if y else -math.log(1 - p))
    return sum(terms) / len(terms)


def test_equation_3_by_hand() -> None:
    """p = 1/2 and 3/4 against labels 1 and 0: (log 2 + log 4) / 2; four sub-category logits of 0: log 2 each."""
    found = joint_loss(
        torch.tensor([[0.0, math.log(3)]]),
        torch.tensor([[1, 0]]),
        torch.zeros(1, 4),
        torch.tensor([[0, 1, 0, 0]]),
        subcategory_weight=5.0,
    )
    log_2 = math.log(2)
    assert found.parent.item() == pytest.approx(1.5 * log_2)
    assert found.subcategory.item() == pytest.approx(log_2)
    assert found.total.item() == pytest.approx(6.5 * log_2)


def test_equals_plain_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    parent, subcategory = torch.randn(6, 3, generator=generator), torch.randn(6, 12, generator=generator)
    labels = (torch.rand(6, 3, generator=generator) < 0.5).to(torch.uint8)
    sub_labels = (torch.rand(6, 12, generator=generator) < 0.2).to(torch.uint8)
    found = joint_loss(parent, labels, subcategory, sub_labels, subcategory_weight=0.7)
    expected = plain_loss(parent, labels), plain_loss(subcategory, sub_labels)
    assert (found.parent.item(), found.subcategory.item()) == pytest.approx(expected, rel=1e-5)
    assert found.total.item() == pytest.approx(expected[0] + 0.7 * expected[1], rel=1e-5)


def test_a_subcategory_logit_weighs_lambda_over_ck() -> None:
    """At p = 1/2 each gradient is 1/2 times the logit's weight: 1 / C for a parent's, lambda / (C K) for the other."""
    parent, subcategory = torch.zeros(1, 4, requires_grad=True), torch.zeros(1, 4 * 10, requires_grad=True)
    labels, sub_labels = torch.zeros(1, 4), torch.zeros(1, 40)
    joint_loss(parent, labels, subcategory, sub_labels, subcategory_weight=5.0).total.backward()
    torch.testing.assert_close(parent.grad, torch.full((1, 4), 0.5 / 4))
    torch.testing.assert_close(subcategory.grad, torch.full((1, 40), 0.5 * 5 / 40))


def test_lambda_zero_is_the_parent_loss_alone() -> None:
    parent, subcategory = torch.randn(3, 2), torch.randn(3, 6, requires_grad=True)
    labels, sub_labels = torch.ones(3, 2), torch.ones(3, 6)
    without = joint_loss(parent, labels, subcategory_weight=5.0)
    assert without.subcategory == 0
    assert without.total == without.parent
    zero = joint_loss(parent, labels, subcategory, sub_labels, subcategory_weight=0.0)
    assert zero.total == without.total
    zero.total.backward()
    torch.testing.assert_close(subcategory.grad, torch.zeros(3, 6))
