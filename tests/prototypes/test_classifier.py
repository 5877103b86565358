"""The prototype classifier by hand and against a plain loop; its loss against the cross-entropy of each position."""

import math

import pytest
import torch
import torch.nn.functional as F

from subcam.prototypes.classifier import TEMPERATURE, PrototypeClassifier, prototype_loss

CLASSES, K, CONTEXT, DIM = 3, 2, 1, 5


@pytest.fixture
def classifier() -> PrototypeClassifier:
    """Random prototypes; class 1 has one sub-category only."""
    classifier = PrototypeClassifier(num_classes=CLASSES, num_objects=K, num_context=CONTEXT, dim=DIM)
    prototypes = torch.randn(CLASSES, K + CONTEXT, DIM, generator=torch.Generator().manual_seed(0))
    prototypes[1, 1] = 0
    classifier.set_prototypes(prototypes)
    return classifier


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(2, DIM, 3, 4, generator=torch.Generator().manual_seed(1))


def test_logits_are_cosines_times_the_temperature(classifier: PrototypeClassifier, features: torch.Tensor) -> None:
    logits = classifier(features)
    assert logits.shape == (2, CLASSES, K + CONTEXT, 3, 4)
    for c in range(CLASSES):
        for row in range(K + CONTEXT):
            prototype = classifier.prototypes[c, row].view(1, DIM, 1, 1)
            if prototype.any():
                torch.testing.assert_close(
                    logits[:, c, row], TEMPERATURE * F.cosine_similarity(features, prototype, dim=1)
                )
            else:
                assert (logits[:, c, row] == -math.inf).all()


def test_only_the_present_classes_share_the_probability(
    classifier: PrototypeClassifier, features: torch.Tensor
) -> None:
    present = torch.tensor([1, 2])
    probabilities = classifier.probabilities(features, present)
    assert probabilities.shape == (2, 2, K, 3, 4)
    assert (probabilities[:, 0, 1] == 0).all()  # the missing sub-category
    logits = classifier(features)
    for y in range(3):
        for x in range(4):
            rows = torch.cat([logits[0, 1, :, y, x], logits[0, 2, :, y, x]])
            share = rows.exp() / rows.exp().sum()
            torch.testing.assert_close(probabilities[0, :, :, y, x].flatten(), share[[0, 1, 3, 4]])
    assert (probabilities.sum((1, 2)) <= 1 + 1e-6).all()


def test_the_length_of_a_feature_says_nothing(classifier: PrototypeClassifier, features: torch.Tensor) -> None:
    torch.testing.assert_close(classifier(features), classifier(7 * features))


def test_without_prototypes_nothing_is_likely(features: torch.Tensor) -> None:
    empty = PrototypeClassifier(num_classes=1, num_objects=2, num_context=1, dim=DIM)
    assert (empty.probabilities(features, torch.tensor([0])) == 0).all()


def test_prototypes_of_another_shape_are_refused(classifier: PrototypeClassifier) -> None:
    with pytest.raises(ValueError, match=r"expected prototypes \[3, 3, 5\], got \[3, 2, 5\]"):
        classifier.set_prototypes(torch.ones(3, 2, DIM))


def test_the_loss_is_the_mean_over_labelled_positions(classifier: PrototypeClassifier, features: torch.Tensor) -> None:
    logits = classifier(features)
    targets = torch.full((2, 3, 4), -1)
    targets[0, 0, 1], targets[0, 2, 3], targets[1, 1, 1] = 0, 2, 3
    labels = torch.tensor([[1, 0, 0], [0, 1, 1]])
    expected = []
    for image, y, x, competing in ((0, 0, 1, [0, 1, 2]), (0, 2, 3, [0, 1, 2]), (1, 1, 1, [3, 5, 6, 7, 8])):
        own = logits[image].flatten(0, 1)[:, y, x]
        expected.append(own[competing].logsumexp(0) - own[targets[image, y, x]])
    torch.testing.assert_close(prototype_loss(logits, targets, labels), torch.stack(expected).mean())


def test_without_labelled_positions_the_loss_is_0(classifier: PrototypeClassifier, features: torch.Tensor) -> None:
    assert prototype_loss(classifier(features), torch.full((2, 3, 4), -1), torch.ones(2, CLASSES)) == 0


def test_a_missing_prototype_stays_missing_in_training(classifier: PrototypeClassifier, features: torch.Tensor) -> None:
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=0.1)
    targets = torch.zeros(2, 3, 4, dtype=torch.int64)
    labels = torch.ones(2, CLASSES)
    before = prototype_loss(classifier(features), targets, labels)
    for _ in range(20):
        optimiser.zero_grad()
        loss = prototype_loss(classifier(features), targets, labels)
        loss.backward()
        optimiser.step()
    assert loss < 0.5 * before
    assert not classifier.prototypes[1, 1].any()
