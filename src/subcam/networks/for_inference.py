"""Networks made fast for inference: batch norm taken into the convolution before it, and torch.compile where it works.

In evaluation mode batch norm is a scale and a shift of each channel, which a convolution can take over in its weights
and bias. In: any network. Out: a copy that shares every tensor it does not change; the network stays as it is, so that
it can be trained and saved. On a CPU in float32 MobileNetV2 then takes little more than half the time.
"""

import copy
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from subcam.runtime.progress import say

Network = TypeVar("Network", bound=nn.Module)

EXAMPLE_SIDE = 64
CLOSE = 1e-4
"""Largest difference of the copy's output, as a share of the output's largest value."""
MOST_CHARACTERS = 200
"""Of the reason why a function is not compiled, that are shown."""

log = logging.getLogger(__name__)


def folded(network: Network) -> Network:
    """A copy in evaluation mode whose convolutions do the work of the batch norms that follow them.

    One small random image shows which follows which. A network whose copy then gives another output
    (where something else reads between the two) is copied without folding.

    Args:
        network: takes images [batch, 3, height, width]; only convolutions in 2D are folded.
    """
    copied = _shallow_copy(network).eval()
    pairs = _convolutions_before_batch_norm(copied)
    if not pairs:
        return copied
    example = _example(copied)
    with torch.inference_mode():
        expected = copied(example)
    for name, norm_name in pairs:
        convolution, norm = copied.get_submodule(name), copied.get_submodule(norm_name)
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        _replace(copied, name, fuse_conv_bn_eval(convolution, norm))
        _replace(copied, norm_name, _what_follows(norm))
    with torch.inference_mode():
        output = copied(example)
    if all(map(_close, _tensors(output), _tensors(expected))):
        return copied
    log.warning("batch norm is not folded into %s: its output would change", type(network).__name__)
    return _shallow_copy(network).eval()


def _shallow_copy(network: Network) -> Network:
    """Modules of its own, tensors shared."""
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, shared)


@torch.inference_mode()
def _convolutions_before_batch_norm(network: nn.Module) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms that take their output; only those that are called once."""
    calls: dict[str, int] = {}
    outputs: list[tuple[Tensor, str]] = []
    pairs: list[tuple[str, str]] = []
    hooks = []

    def after_convolution(name: str, output: Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        outputs.append((output, name))

    def before_norm(name: str, given: Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        pairs.extend((convolution, name) for output, convolution in outputs if output is given)

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(lambda _, __, output, name=name: after_convolution(name, output)))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats and module.affine:
            hooks.append(module.register_forward_pre_hook(lambda _, given, name=name: before_norm(name, given[0])))
    try:
        if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
            network(_example(network))
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if all(calls[name] == 1 for name in pair)]


def _example(network: nn.Module) -> Tensor:
    where = next(network.parameters()).device
    generator = torch.Generator().manual_seed(0)
    return (255 * torch.rand(1, 3, EXAMPLE_SIDE, EXAMPLE_SIDE, generator=generator)).to(where)


def _what_follows(norm: nn.Module) -> nn.Module:
    """Timm's batch norms drop and activate as well; torch's do nothing else."""
    parts = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if isinstance(part, nn.Module)]
    return nn.Sequential(*parts) if parts else nn.Identity()


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(owner), attribute, module)


def _tensors(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [tensor for part in output for tensor in _tensors(part)] if isinstance(output, tuple | list) else []


def _close(output: Tensor, expected: Tensor) -> bool:
    return bool((output - expected).abs().max() <= CLOSE * expected.abs().max())


class Compiled:
    """A function that torch.compile makes faster; if it cannot be compiled, or fails compiled, it runs as it is.

    Compiling takes from seconds to minutes, once for each function and again where shapes differ much.

    Args:
        function: a module or a function of tensors without side effects: a call that fails compiled is made again.
        what: how the message calls it.
    """

    def __init__(self, function: Callable[..., Any], *, what: str) -> None:
        self.plain = function
        self.what = what
        self.reason = ""
        """Why it is not compiled; empty as long as it is, or was not called yet."""
        self._fast: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns; the first failure of the compiled one is said, and ends its use."""
        if self.reason:
            return self.plain(*arguments)
        try:
            if self._fast is None:
                self._fast = torch.compile(self.plain, dynamic=True)
            return self._fast(*arguments)
        except Exception as error:  # the compiler, its backends and the C++ compiler behind them raise every kind
            result = self.plain(*arguments)  # if the function itself is at fault, it fails here too
            lines = str(error).strip().splitlines() or [""]
            self.reason = f"{type(error).__name__}: {lines[0]}"[:MOST_CHARACTERS]
            self._fast = None
            say(f"{self.what} runs without torch.compile ({self.reason})")
            return result
