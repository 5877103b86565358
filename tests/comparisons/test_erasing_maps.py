"""Maps of two classifiers are fused by their maximum, each normalised by its own."""

import pytest
import torch

from subcam.cam.multiscale import multiscale_response
from subcam.comparisons.erasing import fused_response
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings


def network(num_subcategories: int) -> ClassificationNetwork:
    torch.manual_seed(0)
    settings = NetworkSettings(name="tiny", weights="none")
    names = ("a", "b", "c")
    config = ModelConfig(network=settings, class_names=names, num_subcategories=num_subcategories)
    return ClassificationNetwork(config).eval()


def test_each_pixel_has_the_greater_of_both_maps() -> None:
    both = network(1)
    assert both.subcategory_head is not None
    images = torch.randint(0, 256, (3, 3, 40, 32), dtype=torch.uint8)
    labels = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]])
    found = fused_response(both, images, labels, scales=(1.0, 0.5), flip=True, subcategories=False)
    first = multiscale_response(both, images, labels, scales=(1.0, 0.5))
    second_alone = network(0)
    second_alone.load_state_dict(
        {name: value for name, value in both.state_dict().items() if not name.startswith("subcategory")}
    )
    second_alone.parent_head.load_state_dict(both.subcategory_head.state_dict())
    second = multiscale_response(second_alone, images, labels, scales=(1.0, 0.5))
    for own, a, b in zip(found, first, second, strict=True):
        torch.testing.assert_close(own.maps, torch.where(a.maps > b.maps, a.maps, b.maps))
        assert own.subcategory_maps is None
        assert torch.equal(own.logits, a.logits)
    assert [len(own.maps) for own in found] == [2, 1, 0]
    assert (found[0].maps > first[0].maps).any()


def test_there_must_be_two_classifiers() -> None:
    images, labels = torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.ones(1, 3, dtype=torch.int64)
    for count in (0, 2):
        with pytest.raises(ValueError, match=f"expected one sub-category a parent, got {count}"):
            fused_response(network(count), images, labels)
