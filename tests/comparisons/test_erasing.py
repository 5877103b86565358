"""Adversarial erasing: what is erased, by hand and by loops; what both classifiers learn from."""

import pytest
import torch
import torch.nn.functional as F

from subcam.comparisons.erasing import erased, erasing_losses
from subcam.comparisons.settings import ErasingSettings
from subcam.errors import SettingsError
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings


def network(num_subcategories: int = 1) -> ClassificationNetwork:
    torch.manual_seed(0)
    settings = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
    config = ModelConfig(network=settings, class_names=("a", "b", "c"), num_subcategories=num_subcategories)
    return ClassificationNetwork(config)


def test_erased_by_hand() -> None:
    """One channel 1, 2, 4 with theta = 1: responses 1/4, 1/2 and 1 of the maximum."""
    features = torch.tensor([[[[1.0, 2.0, 4.0]]]])
    weights, present = torch.tensor([[1.0], [-1.0]]), torch.tensor([[1, 0]])
    assert erased(features, weights, present, threshold=0.6).flatten().tolist() == [1, 2, 0]
    assert erased(features, weights, present, threshold=0.4).flatten().tolist() == [1, 0, 0]
    assert erased(features, weights, present, threshold=1.0).flatten().tolist() == [1, 2, 4]
    for labels in ([[0, 0]], [[0, 1]]):  # nothing is there; or a class with no positive response
        assert erased(features, weights, torch.tensor(labels), threshold=0.0).flatten().tolist() == [1, 2, 4]


def test_erased_equals_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(4, 6, 3, 5, generator=generator)
    weights = torch.randn(3, 6, generator=generator)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.uint8)
    found = erased(features, weights, labels, threshold=0.7)
    for i in range(4):
        responses = [[[max(0.0, float(weights[c] @ features[i, :, y, x])) for x in range(5)] for y in range(3)]
                     for c in range(3)]  # fmt: skip
        for y in range(3):
            for x in range(5):
                gone = any(
                    labels[i, c] and responses[c][y][x] / (max(map(max, responses[c])) + 1e-5) > 0.7 for c in range(3)
                )
                expected = torch.zeros(6) if gone else features[i, :, y, x]
                assert torch.equal(found[i, :, y, x], expected)
    assert 0 < (found == 0).float().mean() < 1


def test_losses_equal_the_equations() -> None:
    own, settings = network().eval(), ErasingSettings(threshold=0.5, weight=0.25)
    assert own.subcategory_head is not None
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    labels = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=torch.uint8)
    found = erasing_losses(own, images, labels, settings=settings)
    features = own.feature_map(images)
    rest = erased(features, own.parent_head.weight, labels, threshold=0.5)
    assert not torch.equal(rest, features)
    first = F.binary_cross_entropy_with_logits(own.parent_head(features.mean((2, 3))), labels.float())
    second = F.binary_cross_entropy_with_logits(own.subcategory_head(rest.mean((2, 3))), labels.float())
    torch.testing.assert_close(found["parent_loss"], first)
    torch.testing.assert_close(found["erased_loss"], second)
    torch.testing.assert_close(found["loss"], first + 0.25 * second)


def test_the_second_loss_teaches_features_and_its_own_classifier_alone() -> None:
    own = network().train()
    assert own.subcategory_head is not None
    labels = torch.tensor([[1, 0, 1]], dtype=torch.uint8).expand(2, 3)
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    erasing_losses(own, images, labels, settings=ErasingSettings())["erased_loss"].backward()
    assert own.subcategory_head.weight.grad is not None
    assert own.subcategory_head.weight.grad.abs().sum() > 0
    assert own.parent_head.weight.grad is None
    assert all(parameter.grad is not None for parameter in own.backbone.parameters())


def test_there_must_be_a_second_classifier() -> None:
    images, labels = torch.zeros(1, 3, 32, 32), torch.ones(1, 3)
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"expected one sub-category a parent, got {count}"):
            erasing_losses(network(count), images, labels, settings=ErasingSettings())


@pytest.mark.parametrize("wrong", [{"threshold": 1.1}, {"threshold": -0.1}, {"weight": -1.0}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=rf"^{next(iter(wrong))}: expected a number from 0"):
        ErasingSettings(**wrong)
