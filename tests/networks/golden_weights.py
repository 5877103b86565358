"""Weights by formula, as the golden README writes it down: the same numbers for any network, with no file to ship."""

import numpy as np
import torch
from torch import Tensor, nn

STRONG = ("conv1a", "conv_branch1", "conv_branch2a")
GAINS = {"fc8": 0.01, "fc8_20": 0.01, "fc8_200": 0.01, "f8_3": 0.02, "f8_4": 0.02, "f8_5": 0.02}


def noise(*, size: int, position: int, seed: int) -> np.ndarray:
    """float64 [size] in (-1, 1): a hash of the flat index, the tensor's position and the seed; modulo 2^32."""
    constant = (position * 0x9E3779B1 + seed * 0x85EBCA6B + 1) % 2**32
    x = np.arange(size, dtype=np.uint32) + np.uint32(constant)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= x >> np.uint32(15)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return 2.0 * (x + 0.5) / 2.0**32 - 1.0


def golden_tensor(name: str, shape: tuple[int, ...], *, position: int, seed: int = 0) -> Tensor:
    v = noise(size=int(np.prod(shape)), position=position, seed=seed).reshape(shape)
    module, _, kind = name.rpartition(".")
    layer = module.rpartition(".")[2]
    if len(shape) == 4:
        gain = 2.0 if layer in STRONG else GAINS.get(layer, 1.0)
        v *= np.sqrt(3.0 * gain / np.prod(shape[1:]))
    elif kind == "weight":
        v = 1.0 + 0.3 * v
    elif kind == "bias":
        v = -0.1 + 0.3 * v
    elif kind == "running_mean":
        v = 0.2 * v
    elif kind == "running_var":
        v = 1.0 + 0.5 * v
    else:
        raise ValueError(f"the golden formula says nothing about {name}")
    return torch.from_numpy(v.astype(np.float32))


def golden_state(shapes: dict[str, tuple[int, ...]], *, seed: int = 0) -> dict[str, Tensor]:
    """The formula's tensors for a state dict's names and shapes (counters of batch norm are left out)."""
    names = sorted(name for name in shapes if not name.endswith("num_batches_tracked"))
    return {
        name: golden_tensor(name, tuple(shapes[name]), position=position, seed=seed)
        for position, name in enumerate(names)
    }


def load_golden_weights(module: nn.Module, *, seed: int = 0) -> None:
    """Put the formula's weights into a network whose names sort like those of the golden file."""
    state = module.state_dict()
    values = golden_state({name: tuple(tensor.shape) for name, tensor in state.items()}, seed=seed)
    module.load_state_dict(state | values)
