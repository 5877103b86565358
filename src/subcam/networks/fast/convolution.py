"""A convolution, the batch norm behind it and its ReLU as one step: on a CPU one pass of oneDNN, forward and back.

Between the parts nothing is written to memory, which is where most of the time of a small network goes, and of a
training's activations one is kept in place of three. Only batch norm that keeps its statistics, scale and shift can be
taken in; the convolution's weights go on learning.
"""

import functools
import math
import sys
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from subcam.networks.backbones.mobilenetv2 import Conv2dSame, same_pads

STRAIGHT = (-math.inf, math.inf)
"""The limits of an output that no ReLU follows."""


class Geometry(NamedTuple):
    """Where a convolution looks."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int


class FusedConvolution(nn.Module):
    """What `convolution`, a fixed scale and shift of each channel, and a ReLU do one after the other.

    Args:
        convolution: its weights are shared (see `is_fusable`).
        norm: batch norm in evaluation mode; None for none.
        learns: whether the weights may change; else they are taken as they are at the first call.

    Attributes:
        limits: what the output is cut to: `STRAIGHT`, or those of the ReLU that is taken in (`limits_of`).
        frozen_in: numbers to compute in where neither the weights nor the input learn; None for the weights' own.
    """

    scale: Tensor | None
    shift: Tensor | None

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d | None = None, *, learns: bool = False) -> None:
        super().__init__()
        self.limits = STRAIGHT
        self.frozen_in: torch.dtype | None = None
        self.learns = learns and any(parameter.requires_grad for parameter in convolution.parameters())
        self.weight, self.bias = convolution.weight, convolution.bias
        pads_same = isinstance(convolution, _classes_that_pad())
        self.pads = functools.partial(same_pads, convolution) if pads_same else None
        self.geometry = Geometry(
            stride=list(convolution.stride),
            padding=[0, 0] if pads_same else [int(padding) for padding in convolution.padding],
            dilation=list(convolution.dilation),
            groups=convolution.groups,
        )
        scale = shift = None
        if norm is not None:
            scale, shift = _scale_and_shift(norm)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self._fixed: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs h w"]:
        """The cut, scaled and shifted convolution."""
        number = self._number(x)
        weight, bias = self._weight_and_bias(number)
        if self.pads is not None:
            x = _padded(x, self.pads((x.shape[2], x.shape[3])))
        if not x.is_cpu or torch.compiler.is_compiling() or not computes_in(number):
            return _plain(x.to(number), weight, bias, self.geometry, self.limits)
        return _OneStep.apply(x.to(number), weight, bias, self.geometry, self.limits)

    def _number(self, x: Tensor) -> torch.dtype:
        if x.is_cpu and torch.is_autocast_enabled("cpu"):
            return torch.get_autocast_dtype("cpu")
        learns = self.learns or (torch.is_grad_enabled() and x.requires_grad)
        return self.weight.dtype if learns or self.frozen_in is None else self.frozen_in

    def _weight_and_bias(self, number: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Those of the convolution with batch norm in them; what does not learn is computed once."""
        if self.learns or torch.compiler.is_compiling():
            return self._computed(number)
        if number not in self._fixed or self._fixed[number][0].device != self.weight.device:
            with torch.inference_mode(mode=False), torch.no_grad():
                self._fixed[number] = self._computed(number)
        return self._fixed[number]

    def _computed(self, number: torch.dtype) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.weight, self.bias
        if self.scale is not None and self.shift is not None:
            weight = weight * self.scale.view(-1, 1, 1, 1)
            bias = self.shift if bias is None else torch.addcmul(self.shift, bias, self.scale)
        weight = weight.to(number).contiguous(memory_format=torch.channels_last)
        return weight, None if bias is None else bias.to(number)


@functools.cache
def computes_in(number: torch.dtype) -> bool:
    """Whether this torch has oneDNN, and that computes in these numbers on this processor."""
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):  # as on a Mac
        return False
    return number == torch.float32 or (number == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def is_fusable(convolution: nn.Conv2d) -> bool:
    """Whether its forward is the usual convolution, padded by zeros."""
    plain = type(convolution).forward is nn.Conv2d.forward or isinstance(convolution, _classes_that_pad())
    return plain and convolution.padding_mode == "zeros" and not isinstance(convolution.padding, str)


def limits_of(activation: nn.Module) -> tuple[float, float] | None:
    """The limits that a ReLU cuts its input to; None for what is no ReLU."""
    if isinstance(activation, nn.Hardtanh):  # of which ReLU6 is one
        return float(activation.min_val), float(activation.max_val)
    return (0.0, math.inf) if isinstance(activation, nn.ReLU) else None


class _OneStep(torch.autograd.Function):
    """The convolution cut to its limits. Backward needs its input, its weights and its output."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, limits: tuple[float, float]
    ) -> Tensor:
        stride, padding, dilation, groups = geometry
        cut: tuple[str, list[float]] = ("none", []) if limits == STRAIGHT else ("hardtanh", list(limits))
        if limits == (0.0, math.inf):
            cut = ("relu", [])
        y = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, padding, stride, dilation, groups, *cut, "")
        ctx.geometry, ctx.limits = geometry, limits
        ctx.save_for_backward(x, weight, bias, None if limits == STRAIGHT else y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        x, weight, bias, y = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        gradient = gradients[0]
        if y is not None:
            gradient = torch.ops.aten.hardtanh_backward(gradient, y, *ctx.limits)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        wanted = list(ctx.needs_input_grad[:3])
        size = x.shape
        if weight.shape[2:] == (1, 1) and stride == [1, 1] and padding == [0, 0]:
            # A 1x1 convolution sees no neighbours: rows become images, since torch leaves less than 16 images on one
            # thread to a loop of its own that is several times as slow as oneDNN.
            x, gradient = _rows_as_images(x), _rows_as_images(gradient)
        sizes = None if bias is None else [len(bias)]
        found = torch.ops.aten.convolution_backward(
            gradient, x, weight, sizes, stride, padding, dilation, False, [0, 0], groups, wanted
        )
        of_x = found[0]
        if of_x is not None and of_x.shape != size:
            of_x = of_x.permute(0, 2, 3, 1).reshape(size[0], size[2], size[3], size[1]).permute(0, 3, 1, 2)
        return of_x, found[1], found[2] if wanted[2] else None, None, None


def _rows_as_images(x: Tensor) -> Tensor:
    """[batch, channels, h, w] as [batch * h, channels, 1, w], without a copy of what is channels-last."""
    batch, channels, height, width = x.shape
    rows = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
    return rows.reshape(batch * height, 1, width, channels).permute(0, 3, 1, 2)


def _plain(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, limits: tuple[float, float]) -> Tensor:
    stride, padding, dilation, groups = geometry
    y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
    if limits == STRAIGHT:
        return y
    return F.relu(y, inplace=True) if limits[1] == math.inf else F.hardtanh(y, *limits)


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        return scale, norm.bias - norm.running_mean * scale


def _padded(x: Tensor, pads: list[int]) -> Tensor:
    if not any(pads):
        return x
    if torch.is_grad_enabled() and x.requires_grad:
        return F.pad(x, pads)
    # F.pad writes zeros everywhere first; here they are written at the edges alone.
    left, right, top, bottom = pads
    batch, channels, height, width = x.shape
    padded = x.new_empty((batch, height + top + bottom, width + left + right, channels)).permute(0, 3, 1, 2)
    padded[:, :, top : top + height, left : left + width] = x
    padded[:, :, :top], padded[:, :, top + height :] = 0, 0
    padded[:, :, :, :left], padded[:, :, :, left + width :] = 0, 0
    return padded


def _classes_that_pad() -> tuple[type[nn.Conv2d], ...]:
    """Convolutions that pad as TensorFlow does: ours, and timm's where it was imported."""
    timm_layers = sys.modules.get("timm.layers")
    return (Conv2dSame,) if timm_layers is None else (Conv2dSame, timm_layers.Conv2dSame)
