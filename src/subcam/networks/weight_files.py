"""Files of weights, in and out: safetensors and torch files to tensors, tensors into networks, networks to safetensors.

Nothing in a file is ever run, and nothing is loaded in part: what does not fit is one error that lists all of it.
"""

import logging
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Float
from numpy._core.multiarray import scalar
from torch import Tensor, nn

from subcam.errors import CheckpointError
from subcam.runtime.files import atomic_write

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")
CLASSIFIER_HEADS = ("fc8.*", "fc8_*", "classifier.*", "head.*", "head_dist.*", "fc.*", "linear1000*")
"""Names under which published networks keep the classifier that a feature extractor has no place for."""

WRAPPERS = ("state_dict", "model")
"""Entries under which training frameworks keep the weights beside other things."""

PREFIXES = frozenset({"module", "model", "backbone", "network", "net", "encoder", "base_model", "_orig_mod"})
"""First parts that frameworks, wrappers and compilers put before the names of a network's weights."""

COUNTER = "num_batches_tracked"
SHOWN = 3
"""Names of weights in an error."""

_NUMPY_NUMBERS: list[Any] = [
    scalar,
    (scalar, "numpy.core.multiarray.scalar"),  # as numpy 1 calls it
    np.dtype,
    *(type(np.dtype(kind)) for kind in "?bBhHiIlLqQefd"),
]
"""What numbers of numpy in a file of torch are made of: a number's type and its bytes, and no code."""

_log = logging.getLogger(__name__)


def load_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file, or of a `.pth`, `.pt` or `.ckpt` file read without running anything in it.

    A state dict that lies under "state_dict" or "model" is taken out, and so is the "module." that parallel training
    puts before every name. Numbers of numpy beside it are read as what they are.

    Raises:
        CheckpointError: the file is missing, empty, damaged, of another format, or holds something other than tensors.
    """
    path = Path(path)
    _check_file(path)
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path, device="cpu")
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            raise _not_whole(path, error) from error
    return _load_torch(path)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The words in the head of a `.safetensors` file; nothing for other formats.

    Raises:
        CheckpointError: the file is missing, empty or damaged.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return {}
    _check_file(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _not_whole(path, error) from error


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """What keeps a state dict from going into a network. Counters of batch norm may be missing: they change nothing."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __str__(self) -> str:
        groups = (
            ("the network needs, the file lacks", self.missing),
            ("the file has, the network has no place for", self.unexpected),
            ("of another shape", self.shapes),
        )
        return "\n".join(f"  {title} ({len(names)}): {_shorten(names)}" for title, names in groups if names)


def find_misfit(module: nn.Module, state: Mapping[str, Tensor]) -> Misfit:
    """Hold names and shapes of `state` against those of the network."""
    own = module.state_dict()
    return Misfit(
        missing=tuple(name for name in own if name not in state and name.rpartition(".")[2] != COUNTER),
        unexpected=tuple(name for name in state if name not in own),
        shapes=tuple(
            f"{name} {list(tensor.shape)} in the file, {list(own[name].shape)} in the network"
            for name, tensor in state.items()
            if name in own and own[name].shape != tensor.shape
        ),
    )


def load_into(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    drop: tuple[str, ...] = (),
    rename: Mapping[str, str] | None = None,
    source: str = "the state dict",
) -> None:
    """Put `state` into the network, all of it or nothing.

    Where no name is one of the network's, and all that it needs stands under one of `PREFIXES` (or several, such as
    "model.backbone."), that part is taken; what the file has besides is logged.

    Args:
        module: the network; keeps its device and its precision.
        state: tensors by name.
        drop: patterns ("fc.*") of names that are left out, and logged, where the network has no such name.
        rename: old to new first parts of names, cut at dots ({"module.body": "body"}); an empty new part is no part.
        source: where the tensors come from, for errors and the log.

    Raises:
        CheckpointError: any name is missing or has no place, or any shape differs; counts them and names the first.
    """
    renamed = [(_renamed(name, rename or {}), tensor) for name, tensor in state.items()]
    twice = [name for name, count in Counter(name for name, _ in renamed).items() if count > 1]
    if twice:
        raise CheckpointError(f"{source}: after renaming, these names come twice: {_shorten(twice)}")
    kept, dropped = split_heads(module, _without_prefix(module, dict(renamed), drop, source), drop)
    misfit = find_misfit(module, kept)
    if misfit:
        raise CheckpointError(
            f"{source} does not fit {type(module).__name__}; give weights of this very architecture, or name the"
            f" architecture that the file is of:\n{misfit}"
        )
    if dropped:
        _log.info("%s: left out its classifier (%s)", source, _shorten(dropped))
    module.load_state_dict({**module.state_dict(), **kept})


def _without_prefix(
    module: nn.Module, state: dict[str, Tensor], drop: tuple[str, ...], source: str
) -> dict[str, Tensor]:
    """The part of `state` that is the whole of the network, without what stands before its names; else `state`."""
    if module.state_dict().keys() & state.keys():
        return state
    fitting: dict[str, dict[str, Tensor]] = {}
    for prefix in dict.fromkeys(prefix for name in state for prefix in _prefixes(name)):
        part = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        if not find_misfit(module, split_heads(module, part, drop)[0]):
            fitting[prefix] = part
    if len(fitting) > 1:
        raise CheckpointError(
            f"{source} holds this network under {' and '.join(fitting)}; leave one of them in the file"
        )
    for prefix, part in fitting.items():
        others = [name for name in state if not name.startswith(prefix)]
        if others:
            _log.warning("%s: took what stands under %s, and left out the rest (%s)", source, prefix, _shorten(others))
        return part
    return state


def _prefixes(name: str) -> list[str]:
    """What may stand before the name of a weight: its first parts, with dots, while they are of `PREFIXES`."""
    parts = name.split(".")[:-1]
    known = next((place for place, part in enumerate(parts) if part not in PREFIXES), len(parts))
    return [".".join(parts[: place + 1]) + "." for place in range(known)]


def split_heads(
    module: nn.Module, state: Mapping[str, Tensor], drop: tuple[str, ...]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """`state` without what matches `drop` and is not in the network, and the names of what was taken out."""
    own = module.state_dict().keys()
    dropped = {name for name in state if name not in own and any(fnmatchcase(name, pattern) for pattern in drop)}
    return {name: tensor for name, tensor in state.items() if name not in dropped}, tuple(sorted(dropped))


def save_model(path: str | Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and words as safetensors; the file appears whole or not at all.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        plain = tensor.detach().cpu().contiguous()
        # Two names for one tensor (tied weights) are two tensors in the file: its format has no other way to say it.
        tensors[name] = plain.clone() if plain.untyped_storage().data_ptr() in seen else plain
        seen.add(plain.untyped_storage().data_ptr())
    with atomic_write(Path(path)) as file:
        file.write(safetensors.torch.save(tensors, metadata=dict(metadata)))


def reference_heads(state: Mapping[str, Tensor]) -> dict[str, Float[Tensor, "_ channels"]]:
    """The classifiers in an AffinityNet or SC-CAM checkpoint, without bias, as matrices.

    "parent" is fc8 (AffinityNet, SC-CAM's round 0) or fc8_20 (later rounds), "subcategory" is fc8_200 (or fc8_ with
    another number of classes times K), whose row is class * K + sub-category. An entry is absent where the file has
    none.

    Raises:
        CheckpointError: two parent heads or two sub-category heads, or a head that is not a 1x1 convolution.
    """
    heads: dict[str, Tensor] = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"fc8(?:_(\d+))?\.weight", name)
        if match is None:
            continue
        role = "parent" if match[1] in (None, "20") else "subcategory"
        if role in heads:
            raise CheckpointError(f"the checkpoint has more than one {role} head; {name} is the second")
        if tensor.ndim not in (2, 4) or tuple(tensor.shape[2:]) not in ((), (1, 1)):
            raise CheckpointError(
                f"{name} has shape {list(tensor.shape)}; expected a 1x1 convolution [outputs, channels, 1, 1]"
            )
        heads[role] = tensor.flatten(1)
    return heads


def no_file(path: Path) -> CheckpointError:
    """The error that says that a file of weights is not there."""
    return CheckpointError(f"there is no file {path} to read weights from; check the path")


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise no_file(path)
    if path.suffix not in (".safetensors", *TORCH_SUFFIXES):
        raise CheckpointError(
            f"{path} ends in '{path.suffix}'; weights are read from .safetensors, {', '.join(TORCH_SUFFIXES)}"
            " and, for resnet38, MXNet's .params"
        )
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty (0 bytes); get the file again")


def _load_torch(path: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals(_NUMPY_NUMBERS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # A damaged or hostile pickle can raise anything; all of it means the same to the user.
        raise CheckpointError(
            f"{path} is damaged, or not a file of plain tensors ({_what_is_wrong(error)})."
            " Only tensors are read, and code in such a file is never run. If you trust the file, save its state dict"
            " as safetensors where it was made"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    return _only_tensors(content, path)


def _only_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a state dict (names to tensors)")
    wrong = [
        f"{name} ({type(value).__name__})"
        for name, value in content.items()
        if not (isinstance(name, str) and isinstance(value, Tensor))
    ]
    if wrong:
        raise CheckpointError(f"{path}: these entries are no named tensors ({len(wrong)}): {_shorten(wrong)}")
    parallel = all(name.startswith("module.") for name in content)
    return {name.removeprefix("module.") if parallel else name: tensor.detach() for name, tensor in content.items()}


def _renamed(name: str, rename: Mapping[str, str]) -> str:
    for old, new in rename.items():
        if name == old or name.startswith(f"{old}."):
            return f"{new}{name[len(old) :]}".removeprefix(".")
    return name


def _shorten(names: tuple[str, ...] | list[str]) -> str:
    rest = f", ... and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest


def _not_whole(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is not a whole safetensors file ({_first_line(error)}); get the file again")


def _what_is_wrong(error: Exception) -> str:
    """The type that torch does not read, else what it says, without its advice to let the file run its code."""
    unsupported = re.search(r"(?:Unsupported global: GLOBAL|unsupported GLOBAL) (\S+)", str(error))
    if unsupported:
        return f"it holds a {unsupported[1]}"
    return f"{type(error).__name__}: {_first_line(error).partition('. ')[0]}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]
