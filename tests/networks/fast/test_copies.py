"""A copy of fused convolutions gives the network's own maps and gradients; the network itself stays as it was."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from subcam.networks.backbones.build import freeze_below_stride
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.fast.convolution import STRAIGHT, FusedConvolution, computes_in
from subcam.networks.fast.copies import MOST_WEIGHTS, fused_for_inference, fused_for_training
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


def frozen(name: str) -> ClassificationNetwork:
    """As `trained`, with batch norm that keeps what it knows."""
    network = trained(name)
    network.backbone.settings = replace(network.backbone.settings, freeze_batch_norm=True)
    return network.train()


@pytest.mark.parametrize("name", ["mobilenetv2_100", "tf_efficientnet_lite0", "resnet18"])
def test_a_training_on_the_copy_gives_the_networks_own_gradients(name: str) -> None:
    network = frozen(name)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    copied = fused_for_training(network)
    assert copied is not network
    fused = [part for part in copied.modules() if isinstance(part, FusedConvolution)]
    assert sum(part.scale is not None for part in fused) >= 10
    assert any(part.limits != STRAIGHT for part in fused)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)

    def gradients(of: ClassificationNetwork) -> list[Tensor]:
        logits = of(images)
        assert logits.subcategory is not None
        return list(torch.autograd.grad(logits.parent.sum() + logits.subcategory.square().sum(), learning))

    before = [norm.running_mean for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)]
    for found, expected in zip(gradients(copied), gradients(network), strict=True):
        largest = float(expected.abs().max())
        torch.testing.assert_close(found, expected, atol=2e-3 * largest + 1e-7, rtol=0)
    assert before == [norm.running_mean for norm in network.modules() if isinstance(norm, nn.BatchNorm2d)]


def test_many_weights_that_learn_are_not_scaled_in_each_step() -> None:
    network = frozen("resnet18")
    large = {name for name, module in convolutions(network).items() if module.weight.numel() > MOST_WEIGHTS}
    assert len(large) == 4
    assert set(convolutions(fused_for_training(network))) == large
    first = next(iter(large))
    convolutions(network)[first].requires_grad_(requires_grad=False)
    assert set(convolutions(fused_for_training(network))) == large - {first}
    assert not convolutions(fused_for_inference(network))


def convolutions(network: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}


def test_a_step_on_the_copy_is_one_of_the_network() -> None:
    network = frozen("mobilenetv2_100")
    copied = fused_for_training(network)
    weight = network.parent_head.weight
    before, images = weight.detach().clone(), torch.zeros(1, 3, 32, 32)
    copied(images).parent.sum().backward()
    torch.optim.SGD([weight], lr=1.0).step()
    assert not torch.equal(weight, before)
    torch.testing.assert_close(copied.eval()(images).parent, network.eval()(images).parent)


class OneBlock(nn.Module):
    """A frozen norm behind a convolution, and what may stand in the way of taking it in."""

    def __init__(self, *, dropout: float = 0.0, adds_in_place: bool = False, overwrites: bool = False) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.dropout, self.relu = nn.Dropout(dropout), nn.ReLU6()
        self.adds_in_place, self.overwrites = adds_in_place, overwrites

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.dropout(self.convolution(x)))
        if self.adds_in_place:
            y += x
        y = self.relu(y)
        if self.overwrites:
            y += 1
        return y


def of_block(**kinds: Any) -> tuple[OneBlock, OneBlock]:
    block = OneBlock(**kinds).train()
    block.norm.eval().requires_grad_(requires_grad=False)
    nn.init.constant_(block.norm.weight, 0.5)
    return block, fused_for_training_keeping_norm(block)


def fused_for_training_keeping_norm(block: OneBlock) -> OneBlock:
    """`OneBlock` has no mode of its own for frozen norm, as backbones have."""
    block.norm.train = lambda mode=True: block.norm  # type: ignore[method-assign]
    return fused_for_training(block)


def test_dropout_between_the_two_keeps_its_place() -> None:
    block, copied = of_block(dropout=0.5)
    assert norms(copied) == 1
    assert norms(of_block(dropout=0.0)[1]) in (0, 1)
    assert block.dropout.training


def test_what_is_added_in_place_comes_before_the_relu() -> None:
    block, copied = of_block(adds_in_place=True)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(copied(x), block(x))


def test_a_network_that_writes_over_its_maps_is_trained_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    block, copied = of_block(overwrites=True)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(copied(x), block(x))
    copied(x).sum().backward()
    assert copied is block
    assert "without fused convolutions" in caplog.text


def test_networks_without_frozen_norm_and_learners_of_methods_are_trained_as_they_are() -> None:
    network = trained("tiny").train()
    assert fused_for_training(network) is network

    class Learner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = frozen("tiny")

        def forward(self, images: Tensor, labels: Tensor) -> Tensor:
            return self.network(images).parent * labels

    learner = Learner()
    assert fused_for_training(learner) is learner


@pytest.mark.skipif(not computes_in(torch.bfloat16), reason="needs a processor with bf16")
@pytest.mark.parametrize("name", ["mobilenetv2_100", "resnet18"])
def test_layers_before_the_first_that_learns_may_compute_in_bf16(name: str) -> None:
    network = frozen(name)
    freeze_below_stride(network.backbone, 16)
    copied = fused_for_training(network, frozen_in_bf16=True)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    numbers: list[torch.dtype] = []
    for part in copied.modules():
        if isinstance(part, FusedConvolution):
            part.register_forward_hook(lambda _, __, output: numbers.append(output.dtype))
    found, expected = copied(images).parent, network(images).parent
    assert numbers[0] == torch.bfloat16
    assert numbers[-1] == torch.float32
    assert numbers == sorted(numbers, key=str)  # once float32, always float32
    torch.testing.assert_close(found, expected, atol=0.05 * float(expected.detach().abs().max()), rtol=0)
    assert not torch.equal(found, expected)
    weight = network.parent_head.weight
    (gradient,) = torch.autograd.grad(found.sum(), weight)
    (own,) = torch.autograd.grad(expected.sum(), weight)
    torch.testing.assert_close(gradient, own, atol=0.05 * float(own.abs().max()), rtol=0)
    assert fused_for_training(network)(images).parent.sub(expected).abs().max() < 1e-3 * expected.abs().max()
