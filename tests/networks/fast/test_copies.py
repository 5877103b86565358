"""A folded copy gives the network's own maps; the network itself stays as it was."""

import pytest
import torch
from torch import Tensor, nn

from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.fast.copies import fused_for_inference
from subcam.networks.settings import NetworkSettings


def trained(name: str) -> ClassificationNetwork:
    """Random weights, and statistics of batch norm that are not those of a new network."""
    torch.manual_seed(0)
    settings = NetworkSettings(name=name, weights="none", freeze_batch_norm=False)
    network = ClassificationNetwork(ModelConfig(network=settings, class_names=("a", "b"), num_subcategories=2)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return network


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "left"), [("tiny", 0), ("mobilenetv2_100", 0), ("resnet18", 0), ("vit_tiny_patch16_224", 0)]
)
def test_the_copy_gives_the_same_maps(name: str, left: int) -> None:
    network = trained(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = torch.randint(0, 256, (2, 3, 70, 90), dtype=torch.uint8)
    expected = network.feature_map(images)
    fast = fused_for_inference(network)
    assert norms(fast) == left
    torch.testing.assert_close(fast.feature_map(images), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
    assert fast is not network
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_is_not_folded_is_shared() -> None:
    network = trained("tiny")
    fast = fused_for_inference(network)
    assert fast.parent_head is not network.parent_head
    assert fast.parent_head.weight is network.parent_head.weight


class PreActivation(nn.Module):
    """Batch norm before the convolution, as in ResNet-38, and a map that is read on both sides of batch norm."""

    def __init__(self, *, reads_between: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.reads_between = reads_between
        nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        raw = self.first(x)
        active = self.second(self.norm(raw).relu())
        return raw + active if self.reads_between else active


@torch.no_grad()
@pytest.mark.parametrize(("reads_between", "left"), [(False, 0), (True, 1)])
def test_a_map_that_something_else_reads_is_left_alone(
    caplog: pytest.LogCaptureFixture, *, reads_between: bool, left: int
) -> None:
    network = PreActivation(reads_between=reads_between).eval()
    fast = fused_for_inference(network)
    x = torch.rand(1, 3, 20, 20)
    torch.testing.assert_close(fast(x), network(x), atol=1e-5, rtol=1e-5)
    assert norms(fast) == left
    assert ("not folded" in caplog.text) == reads_between


def test_a_convolution_that_is_called_twice_is_left_alone() -> None:
    network = PreActivation(reads_between=False).eval()

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) + self.inner(x.flip(-1))

    assert norms(fused_for_inference(Twice())) == 1
