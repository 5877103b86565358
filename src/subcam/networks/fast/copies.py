"""Copies of networks that compute the same in less time: each convolution takes in the batch norm and ReLU behind it.

In: any network of images. Out: a copy that shares every weight, to compute with; the network itself stays as it is, to
be trained, checked and saved. Batch norm is taken in where it keeps its statistics, scale and shift: everywhere for
inference, where it is frozen for training.
"""

import copy
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, nn

from subcam.networks.fast.convolution import FusedConvolution, computes_in, is_fusable, limits_of

Network = TypeVar("Network", bound=nn.Module)

EXAMPLE_SIDE = 64
MOST_WEIGHTS = 1 << 20
"""Of a convolution that learns and takes in batch norm: more cost more to scale in each step than a map does."""

CLOSE = 1e-4
"""Largest difference of the copy's output, as a share of the output's largest value."""

log = logging.getLogger(__name__)


def fused_for_inference(network: Network) -> Network:
    """A copy in evaluation mode whose convolutions do the work of the batch norms and ReLUs that follow them.

    One small random image shows which follows which. A network whose copy then gives another output (where something
    else reads between the two) is copied without that.

    Args:
        network: takes images [batch, 3, height, width]; only convolutions in 2D are changed.
    """
    copied = _shallow_copy(network).eval()
    return _checked(_fuse(copied, learns=False), network) or _shallow_copy(network).eval()


def fused_for_training(network: Network, *, frozen_in_bf16: bool = False) -> Network:
    """A copy in training mode to train in the network's place, on a CPU: gradients reach the network's own weights.

    Convolutions of many weights that learn stay as they are. Returned as it is: a network without frozen batch norm;
    one that takes more than images, as a method's learner does, since it may look into its parts; one whose copy would
    give another output or no gradient.

    frozen_in_bf16: convolutions before the first that learns compute in bf16, where the processor can.
    """
    takes_images_alone = len(inspect.signature(network.forward).parameters) == 1
    if not takes_images_alone or not any(map(_fixed_norm, network.modules())):
        return network
    fused = _checked(_fuse(_shallow_copy(network).train(), learns=True), network)
    if fused is not None and frozen_in_bf16 and computes_in(torch.bfloat16):
        for module in fused.modules():
            if isinstance(module, FusedConvolution):
                module.frozen_in = torch.bfloat16
    return network if fused is None or not _has_gradient(fused) else fused


def _fuse(copied: Network, *, learns: bool) -> Network:
    """Change the copy: convolution after convolution, its batch norm, its ReLU."""
    fusable = _fusable_in_training if learns else _fusable
    norms = dict(_followers(copied, fusable, _fixed_norm))
    for name, module in list(copied.named_modules()):
        if fusable(module):
            assert isinstance(module, nn.Conv2d)
            norm = copied.get_submodule(norms[name]) if name in norms else None
            assert norm is None or isinstance(norm, nn.BatchNorm2d)
            _replace(copied, name, FusedConvolution(module, norm, learns=learns))
            if norm is not None:
                _replace(copied, norms[name], _what_follows(norm))
    for name, relu_name in _followers(copied, lambda module: isinstance(module, FusedConvolution), _is_relu):
        fused, limits = copied.get_submodule(name), limits_of(copied.get_submodule(relu_name))
        assert isinstance(fused, FusedConvolution)
        assert limits is not None
        fused.limits = limits
        _replace(copied, relu_name, nn.Identity())
    return copied


def _checked(copied: Network, network: nn.Module) -> Network | None:
    """The copy, if it gives the network's output for an image in evaluation mode; else None, and the log says so."""
    example = _example(network)
    with _evaluated(network.modules()), _evaluated(copied.modules()), torch.inference_mode():
        if all(map(_close, _tensors(copied(example)), _tensors(network(example)))):
            return copied
    log.warning("batch norm is not folded into %s: its output would change", type(network).__name__)
    return None


def _has_gradient(network: nn.Module) -> bool:
    """Whether an image's output has one: not where something is written over that the gradient needs."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with _evaluated(_norms(network)), torch.random.fork_rng(devices=[]):
        total = torch.stack([output.float().sum() for output in _tensors(network(_example(network)))]).sum()
    try:
        torch.autograd.grad(total, learning, allow_unused=True)
    except RuntimeError as error:
        log.warning("%s is trained without fused convolutions: %s", type(network).__name__, error)
        return False
    return True


def _shallow_copy(network: Network) -> Network:
    """Modules of its own, tensors shared."""
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return copy.deepcopy(network, shared)


def _followers(
    network: nn.Module, first: Callable[[nn.Module], bool], second: Callable[[nn.Module], bool]
) -> list[tuple[str, str]]:
    """Names of modules and of those that take their output; only of modules that are called once."""
    calls: dict[str, int] = {}
    outputs: list[tuple[Tensor, int, str]] = []
    pairs: list[tuple[str, str]] = []
    hooks = []

    def after_first(name: str, output: Tensor) -> None:
        calls[name] = calls.get(name, 0) + 1
        outputs.append((output, output._version, name))

    def before_second(name: str, given: tuple[object, ...]) -> None:
        calls[name] = calls.get(name, 0) + 1
        tensor = next(iter(given), None)
        # What was added to in place is the same tensor in another version.
        pairs.extend(
            (first, name) for output, version, first in outputs if output is tensor and output._version == version
        )

    for name, module in network.named_modules():
        if first(module):
            hooks.append(module.register_forward_hook(lambda _, __, output, name=name: after_first(name, output)))
        elif second(module):
            hooks.append(module.register_forward_pre_hook(lambda _, given, name=name: before_second(name, given)))
    try:
        # In its own mode, as dropout between the two shows in training alone; but no statistics may be learned.
        with _evaluated(_norms(network)), torch.random.fork_rng(devices=[]), torch.no_grad():
            network(_example(network))
    finally:
        for hook in hooks:
            hook.remove()
    return [pair for pair in pairs if all(calls[name] == 1 for name in pair)]


def _fusable(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and is_fusable(module)


def _fusable_in_training(module: nn.Module) -> bool:
    if not _fusable(module):
        return False
    assert isinstance(module, nn.Conv2d)
    return not module.weight.requires_grad or module.weight.numel() <= MOST_WEIGHTS


def _fixed_norm(module: nn.Module) -> bool:
    """Whether it is batch norm that keeps its statistics, scale and shift."""
    if not isinstance(module, nn.BatchNorm2d) or module.training:
        return False
    return bool(module.track_running_stats and module.affine)


def _is_relu(module: nn.Module) -> bool:
    return limits_of(module) is not None


def _norms(network: nn.Module) -> Iterator[nn.Module]:
    return (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))


@contextmanager
def _evaluated(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Each of these modules in evaluation mode, and back in its own at the end."""
    before = [(module, module.training) for module in modules]
    for module, _ in before:
        module.training = False
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode


def _example(network: nn.Module) -> Tensor:
    where = next(network.parameters()).device
    generator = torch.Generator().manual_seed(0)
    return (255 * torch.rand(1, 3, EXAMPLE_SIDE, EXAMPLE_SIDE, generator=generator)).to(where)


def _what_follows(norm: nn.Module) -> nn.Module:
    """What a norm does beside normalising: timm's and MobileNetV2's drop or activate as well."""
    parts = [part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if isinstance(part, nn.Module)]
    return nn.Sequential(*parts) if parts else nn.Identity()


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, attribute = name.rpartition(".")
    module.train(network.training)
    setattr(network.get_submodule(owner), attribute, module)


def _tensors(output: object) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [tensor for part in output for tensor in _tensors(part)] if isinstance(output, tuple | list) else []


def _close(output: Tensor, expected: Tensor) -> bool:
    return bool((output - expected).abs().max() <= CLOSE * expected.abs().max())
