"""A fused convolution against convolution, batch norm and ReLU one after the other: its output and every gradient."""

import itertools
import math
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from subcam.networks.backbones.mobilenetv2 import Conv2dSame
from subcam.networks.fast import convolution as convolution_module
from subcam.networks.fast.convolution import FusedConvolution, is_fusable, limits_of


def convolution(kind: str) -> nn.Conv2d:
    made: dict[str, nn.Conv2d] = {
        "3x3": nn.Conv2d(4, 6, 3, padding=1, bias=False),
        "1x1": nn.Conv2d(4, 6, 1),
        "1x1, strided": nn.Conv2d(4, 6, 1, stride=2, bias=False),
        "each channel, dilated": nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4),
        "TensorFlow's padding": Conv2dSame(4, 6, 3, stride=2, bias=False),
    }
    return made[kind]


def norm_of(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    nn.init.uniform_(norm.weight, -1.5, 1.5)
    nn.init.normal_(norm.bias)
    return norm.eval().requires_grad_(False)


KINDS = ("3x3", "1x1", "1x1, strided", "each channel, dilated", "TensorFlow's padding")
RELUS = {"none": None, "relu": nn.ReLU(), "relu6": nn.ReLU6(), "hardtanh": nn.Hardtanh(-0.5, 0.75)}


@pytest.mark.parametrize(("kind", "relu"), list(itertools.product(KINDS, RELUS)))
@pytest.mark.parametrize("norm", [True, False])
def test_output_and_gradients_are_those_of_the_parts(kind: str, relu: str, *, norm: bool) -> None:
    torch.manual_seed(0)
    part, activation = convolution(kind), RELUS[relu]
    after = norm_of(part.out_channels) if norm else None
    fused = FusedConvolution(part, after, learns=True)
    if activation is not None:
        fused.limits = cast("tuple[float, float]", limits_of(activation))
    images = torch.randn(2, 4, 7, 10)

    def plain(x: Tensor) -> Tensor:
        y = part(x)
        y = y if after is None else after(y)
        return y if activation is None else activation(4 * y / 4)

    def results(function: nn.Module) -> tuple[Tensor, ...]:
        x = images.clone().requires_grad_()
        y = function(x)
        wanted = [x, *part.parameters()]
        weights = torch.linspace(0, 1, y.numel()).view_as(y)
        return (y, *torch.autograd.grad((y * weights).sum(), wanted))

    for found, expected in zip(results(fused), results(cast("nn.Module", plain)), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(7, 10), (8, 9), (1, 1)])
def test_without_a_gradient_it_gives_the_same(kind: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    part = convolution(kind)
    after = norm_of(part.out_channels)
    x = torch.randn(3, 4, *size)
    with torch.inference_mode():
        torch.testing.assert_close(FusedConvolution(part, after)(x), after(part(x)), atol=1e-5, rtol=1e-4)


def test_weights_that_learn_are_read_anew() -> None:
    part = nn.Conv2d(3, 2, 1, bias=False)
    learning, fixed = FusedConvolution(part, learns=True), FusedConvolution(part)
    x = torch.ones(1, 3, 2, 2)
    before = fixed(x)
    with torch.no_grad():
        part.weight += 1
    torch.testing.assert_close(learning(x), before + 3)
    part.requires_grad_(requires_grad=False)
    assert not FusedConvolution(part, learns=True).learns


def test_in_bf16_it_rounds_where_the_parts_do() -> None:
    torch.manual_seed(0)
    part, after = nn.Conv2d(8, 8, 3, padding=1, bias=False), norm_of(8)
    fused = FusedConvolution(part, after, learns=True)
    fused.limits = (0.0, 6.0)
    x = torch.randn(2, 8, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        found = fused(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), F.relu6(after(part(x))), atol=0.05, rtol=0.02)
    found.float().sum().backward()
    assert part.weight.grad is not None
    assert part.weight.grad.dtype == torch.float32


def test_without_onednn_the_parts_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    assert convolution_module.computes_in(torch.float32)
    assert not convolution_module.computes_in(torch.float16)
    torch.manual_seed(0)
    part, after = convolution("3x3"), norm_of(6)
    fused = FusedConvolution(part, after, learns=True)
    fused.limits = (0.0, math.inf)
    x = torch.randn(2, 4, 7, 10)
    expected = torch.autograd.grad(fused(x).sum(), part.weight)
    monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    monkeypatch.setattr(convolution_module, "computes_in", lambda number: False)
    torch.testing.assert_close(torch.autograd.grad(fused(x).sum(), part.weight), expected, atol=1e-4, rtol=1e-4)


def test_elsewhere_than_on_a_cpu_and_in_other_numbers_the_parts_compute() -> None:
    part, after = nn.Conv2d(3, 4, 3, bias=False).double(), norm_of(4).double()
    fused = FusedConvolution(part, after)
    fused.limits = (0.0, 6.0)
    x = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(fused(x), F.relu6(after(part(x))))
    on_meta = FusedConvolution(nn.Conv2d(3, 4, 3).to("meta"))
    assert on_meta(torch.empty(1, 3, 5, 5, device="meta")).shape == (1, 4, 3, 3)


class Standardised(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight / self.weight.std())


@pytest.mark.parametrize(
    ("part", "fusable"),
    [
        (nn.Conv2d(1, 1, 3), True),
        (Conv2dSame(1, 1, 3), True),
        (Standardised(1, 1, 3), False),
        (nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(1, 1, 3, padding="same"), False),
    ],
)
def test_convolutions_with_a_way_of_their_own_are_not_fusable(part: nn.Conv2d, *, fusable: bool) -> None:
    assert is_fusable(part) == fusable


@pytest.mark.parametrize("module", [nn.SiLU(), nn.LeakyReLU(), nn.Identity(), nn.PReLU()])
def test_only_a_relu_has_limits(module: nn.Module) -> None:
    assert limits_of(module) is None


@pytest.mark.skipif(not convolution_module.computes_in(torch.bfloat16), reason="needs a processor with bf16")
def test_what_does_not_learn_may_compute_in_bf16_where_no_gradient_passes() -> None:
    torch.manual_seed(0)
    part = nn.Conv2d(4, 5, 3, bias=False).requires_grad_(requires_grad=False)
    frozen, learning = FusedConvolution(part), FusedConvolution(nn.Conv2d(5, 5, 1), learns=True)
    frozen.frozen_in = learning.frozen_in = torch.bfloat16
    x = torch.randn(2, 4, 6, 6)
    rounded = F.conv2d(x.bfloat16(), part.weight.bfloat16())
    torch.testing.assert_close(frozen(x), rounded, atol=0.02, rtol=0.02)
    assert learning(frozen(x)).dtype == torch.float32
    torch.testing.assert_close(frozen(x.requires_grad_()), part(x))  # a layer before it learns
    with torch.no_grad():
        assert frozen(x).dtype == torch.bfloat16
        assert learning(x.new_zeros(1, 5, 2, 2)).dtype == torch.float32
