"""A device for machines that have none: the processor's memory, in two halves that only named copies cross.

Under `PretendDevice` a tensor that was sent to the device says that it lies on "cuda", and so do tensors computed from
it. Every crossing is counted, and those that make the host wait for the device apart from the others: a number or truth
value taken out of a tensor, a size that depends on values (`nonzero`, a mask as an index), a blocking copy either way.
What a GPU refuses is refused here: arithmetic between both halves, `numpy()` of what lies on the device.

Only the thread that entered the mode is watched: it is the one that feeds the device, and others may wait.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode

DEVICE, HOST = torch.device("cuda", 0), torch.device("cpu")

NUMBERS = ("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "is_nonzero", "equal", "allclose")
"""What takes numbers out of a tensor: the host waits."""

SIZES = ("nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "bincount")
"""What makes a tensor as large as values say: the host waits for them."""

INDEXED = ("__getitem__", "__setitem__", "index_put", "index_put_")
DATA = ("tensor", "as_tensor", "asarray")


class PretendDevice(TorchFunctionMode):
    """Watches the block it is entered for.

    waits: how often the host waited for the device, by what made it wait.
    copies: copies that nobody waits for, by their direction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()

    def send(self, value: Any) -> Any:
        """A tensor, or a module in place, on the device; as Fabric moves batches, without waiting."""
        if isinstance(value, nn.Module):
            for tensor in (*value.parameters(), *value.buffers()):
                _mark(tensor)
            return value
        if isinstance(value, Tensor) and not _is_there(value):
            self.copies["to the device"] += 1
            value = _mark(value.clone())
        return value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name, owner = getattr(func, "__name__", ""), getattr(func, "__self__", None)
        if name == "__get__":
            return self._attribute(func, owner, args[0])
        if name == "__set__" or isinstance(owner, type):
            return func(*args, **kwargs)
        there = [_is_there(tensor) for tensor in _tensors((args, kwargs))]
        if name in ("cpu", "to", "cuda", "type_as", "copy_"):
            return self._copy(func, name, args, kwargs)
        if not any(there):
            return self._made(func, name, args, kwargs)
        if name == "numpy" or name == "__array__":
            raise TypeError("can't convert cuda:0 device type tensor to numpy; copy it to the host first")
        if name in (*NUMBERS, *SIZES) or _is_sized_by_values(name, args, kwargs):
            self.waits[name] += 1
        elif name in INDEXED:
            self._index(args)
        elif not name.startswith("__len") and name not in ("size", "dim", "stride"):
            _check_together(name, args, kwargs)
        _without_device(kwargs)
        result = func(*args, **kwargs)
        if name in ("__setitem__", "index_put_", "index_add_"):
            return result
        return _mark_all(result)

    def _attribute(self, func: Any, owner: Any, tensor: Tensor) -> Any:
        there = _is_there(tensor)
        if there and owner is Tensor.device:
            return DEVICE
        if there and owner is Tensor.is_cuda:
            return True
        value = func(tensor)
        return _mark_all(value) if there else value

    def _made(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        """A function none of whose tensors lies there; what it makes may."""
        device = kwargs.get("device")
        wanted = device is not None and torch.device(device).type == "cuda"
        if wanted and name in DATA:
            self.waits["tensor(data, device)"] += 1
        _without_device(kwargs)
        result = func(*args, **kwargs)
        return _mark_all(result) if wanted else result

    def _copy(self, func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        source: Tensor = args[0]
        blocking = not kwargs.get("non_blocking", False)
        if name == "copy_":
            source, target = args[1], args[0]
            self._cross(_is_there(source), _is_there(target), blocking)
            return func(*args, **kwargs)
        target_there = _is_there(source)
        if name == "cpu":
            target_there = False
        elif name == "cuda":
            target_there = True
        rest = []
        for value in args[1:]:
            if isinstance(value, torch.device | str):
                target_there = torch.device(value).type == "cuda"
                value = HOST
            elif isinstance(value, Tensor):
                target_there = _is_there(value)
            rest.append(value)
        if kwargs.get("device") is not None:
            target_there = torch.device(kwargs["device"]).type == "cuda"
        _without_device(kwargs)
        crosses = self._cross(_is_there(source), target_there, blocking)
        result = source.clone() if name == "cuda" else func(source, *rest, **kwargs)
        if crosses and result.untyped_storage().data_ptr() == source.untyped_storage().data_ptr():
            result = result.clone()
        return _mark(result) if target_there else result

    def _cross(self, source_there: bool, target_there: bool, blocking: bool) -> bool:
        if source_there == target_there:
            return False
        direction = "to the device" if target_there else "to the host"
        (self.waits if blocking else self.copies)[direction] += 1
        return True

    def _index(self, args: Any) -> None:
        target, index = args[0], args[1]
        for part in index if isinstance(index, tuple | list) else (index,):
            if isinstance(part, Tensor):
                if part.dtype in (torch.bool, torch.uint8) and part.ndim:
                    self.waits["a mask as an index"] += 1
                elif _is_there(target) and not _is_there(part) and part.ndim:
                    self.waits["an index from the host"] += 1
        if len(args) > 2 and isinstance(args[2], Tensor) and args[2].ndim and _is_there(args[2]) != _is_there(target):
            raise RuntimeError("expected all tensors to be on the same device, but what is set lies on the other")


def _is_sized_by_values(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    if name == "repeat_interleave":
        return "output_size" not in kwargs and any(isinstance(one, Tensor) for one in args[1:])
    return name == "where" and len(args) == 1


def _is_there(tensor: Tensor) -> bool:
    return getattr(tensor.untyped_storage(), "pretends", False)


def _mark(tensor: Tensor) -> Tensor:
    tensor.untyped_storage().pretends = True  # type: ignore[attr-defined]
    return tensor


def _mark_all(value: Any) -> Any:
    for tensor in _tensors(value):
        _mark(tensor)
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _without_device(kwargs: dict[str, Any]) -> None:
    if kwargs.get("device") is not None:
        kwargs["device"] = HOST
    kwargs.pop("pin_memory", None)


def _check_together(name: str, args: Any, kwargs: dict[str, Any]) -> None:
    places = {_is_there(tensor) for tensor in _tensors((args, kwargs)) if tensor.ndim}
    if len(places) > 1:
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cuda:0 and cpu")


class Event:
    """In place of CUDA's: the copy is done at once, and a wait for it is no wait for what comes after it."""

    def record(self) -> None:
        """Nothing to note."""

    def synchronize(self) -> None:
        """Nothing to wait for."""


class PretendFabric(Fabric):
    """Fabric on the processor that sends networks and batches to a pretended device."""

    def __init__(self, pretended: PretendDevice) -> None:
        super().__init__(accelerator="cpu", devices=1, precision="32-true")
        self.pretended = pretended

    def to_device(self, obj: Any) -> Any:
        """On the pretended device."""
        return self.pretended.send(obj)

    @property
    def device(self) -> torch.device:
        """Where it pretends to be."""
        return DEVICE

    def autocast(self) -> Any:
        """Float32."""
        return nullcontext()

    def _move_model_to_device(self, model: nn.Module, optimizers: list[Any]) -> nn.Module:
        return self.pretended.send(model)


@contextmanager
def pretending(monkeypatch: Any) -> Iterator[PretendFabric]:
    """A fabric on a pretended device, watched as long as the block runs."""
    really_grouped = clip_grad._group_tensors_by_device_and_dtype

    def grouped(tensors: Any) -> Any:
        """By where they pretend to be: torch asks this in C++, which nothing deceives."""
        there = _is_there(next(_tensors(tensors)))
        groups = really_grouped(tensors)
        return {(DEVICE if there else place, kind): group for (place, kind), group in groups.items()}

    monkeypatch.setattr(clip_grad, "_group_tensors_by_device_and_dtype", grouped)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    with PretendDevice() as pretended:
        yield PretendFabric(pretended)
