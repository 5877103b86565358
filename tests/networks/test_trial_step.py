"""A step without numbers refuses what a real one would, and costs next to nothing."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from subcam.errors import SettingsError
from subcam.networks.segmenter import SegmentationNetwork
from subcam.networks.settings import NetworkSettings, SegmentationConfig
from subcam.networks.trial_step import try_step

TINY = NetworkSettings(name="resnet10t", weights="none", freeze_batch_norm=False)


def loss(network: SegmentationNetwork, images: Tensor) -> Tensor:
    return network(images).sum()


def segmenter(architecture: str, network: NetworkSettings = TINY) -> SegmentationNetwork:
    return SegmentationNetwork(SegmentationConfig(network=network, class_names=("cat",), architecture=architecture))


def test_batch_norm_of_one_value_is_refused() -> None:
    architecture, wide = "pan", replace(TINY, name="resnet18")
    reason = try_step(lambda: segmenter(architecture, wide), loss, batch_size=1, crop=64)
    assert reason.startswith("Expected more than 1 value per channel when training, got input size torch.Size([1, ")
    assert try_step(lambda: segmenter(architecture, wide), loss, batch_size=2, crop=64) == ""


@pytest.mark.parametrize("architecture", ["unet", "deeplabv2"])
def test_what_can_be_trained_on_single_images(architecture: str) -> None:
    network = replace(TINY, name="resnet18")
    assert try_step(lambda: segmenter(architecture, network), loss, batch_size=1, crop=65) == ""


def test_a_network_that_needs_numbers_to_be_built_or_used() -> None:
    class ByNumbers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.widths = [int(width) for width in torch.linspace(4, 8, 2).tolist()]
            self.layer = nn.Conv2d(3, self.widths[0], 1)

        def forward(self, images: Tensor) -> Tensor:
            found = self.layer(images.float())
            return found if float(found.detach().sum()) < 1e9 else found * 0

    assert try_step(ByNumbers, lambda network, images: network(images).sum(), batch_size=9, crop=8) == ""
    refused = try_step(ByNumbers, lambda network, images: network(images[:, :2]).sum(), batch_size=9, crop=8)
    assert "expected input[2, 2, 8, 8] to have 3 channels" in refused


def test_what_cannot_be_built_says_so_itself_and_chance_stays_as_it_was() -> None:
    with pytest.raises(SettingsError, match="no segmentation architecture is called 'unat'"):
        try_step(lambda: segmenter("unat"), loss, batch_size=1, crop=64)
    torch.manual_seed(3)
    first = torch.rand(1)
    torch.manual_seed(3)
    try_step(lambda: nn.Dropout(), lambda network, images: network(images.float()).sum(), batch_size=1, crop=8)
    assert torch.rand(1) == first
