"""Which of several processes of one run this is, and how they agree; each has its own device. Alone, all of it is free.

A process is called by its rank, 0 .. world size - 1; the first one alone holds the folder, prints, and writes what is
written once. How they come together is in `runtime/devices.py`, and how they are started in `runtime/launch.py`.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")

_control: Any = None
"""The group of processes that exchanges small tensors on the CPU; None is the group of all."""


def tell_by(group: Any) -> None:
    """Exchange what lies on the CPU through `group`, where the default one is for GPUs."""
    global _control
    _control = group


def _distributed() -> Any:
    """torch.distributed where this process has joined others, else None. torch is not imported for the question."""
    module = sys.modules.get("torch.distributed")
    return module if module is not None and module.is_available() and module.is_initialized() else None


def rank() -> int:
    """Which process this is, 0 where it is alone."""
    dist = _distributed()
    return dist.get_rank() if dist else 0


def world_size() -> int:
    """How many processes there are."""
    dist = _distributed()
    return dist.get_world_size() if dist else 1


def is_first() -> bool:
    """Whether this is the process that prints, and writes what is written once."""
    return rank() == 0


def share(items: Sequence[Item]) -> list[Item]:
    """Every world-size-th of `items`, from the rank's own on: together the processes have each of them once.

    Hand in the same list everywhere: what is done already is left out after this, not before.
    """
    return list(items[rank() :: world_size()])


def barrier() -> None:
    """Wait until every process is here."""
    if _distributed():
        greatest(0)


@contextlib.contextmanager
def first_goes_ahead() -> Iterator[None]:
    """The block is run by the first process, and once that is through, by the others: they find what it wrote."""
    if not is_first():
        barrier()
    yield
    if is_first():
        barrier()


def greatest(number: int) -> int:
    """The greatest of the processes' numbers."""
    dist = _distributed()
    if not dist:
        return number
    import torch

    largest = torch.tensor(number, dtype=torch.int64)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=_control)
    return int(largest)


def total(array: np.ndarray) -> np.ndarray:
    """The sum of the processes' arrays, which have one shape and type."""
    dist = _distributed()
    if not dist:
        return array
    import torch

    summed = torch.from_numpy(np.array(array))
    dist.all_reduce(summed, group=_control)
    return summed.numpy()


def gathered(array: np.ndarray) -> list[np.ndarray]:
    """The arrays of all processes by rank, in the first process; nothing in the others.

    They have one type and, but for their number of rows, one shape.
    """
    dist = _distributed()
    if not dist:
        return [array]
    import torch

    # As bytes: gloo gathers only some types of numbers.
    own = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    sizes = np.zeros(world_size(), np.int64)
    sizes[rank()] = len(own)
    sizes = total(sizes)
    padded = torch.zeros(int(sizes.max()), dtype=torch.uint8)
    padded[: len(own)] = torch.from_numpy(own.copy())
    parts = [torch.empty_like(padded) for _ in sizes] if is_first() else None
    dist.gather(padded, parts, dst=0, group=_control)
    return [
        np.frombuffer(part[:size].numpy().tobytes(), array.dtype).reshape(-1, *array.shape[1:])
        for part, size in zip(parts or (), sizes.tolist(), strict=bool(parts))
    ]


def gathered_texts(texts: Sequence[str]) -> list[str]:
    """The texts of all processes in the first process, those of rank 0 first; nothing in the others."""
    if not _distributed():
        return list(texts)
    data = "\0".join([*texts, ""]).encode("utf-8", "surrogateescape")
    parts = gathered(np.frombuffer(data, np.uint8))
    return [text for part in parts for text in part.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1]]


def mean(value: "torch.Tensor") -> "torch.Tensor":
    """The mean of the processes' tensors, which lie on their devices; no gradient flows through it."""
    dist = _distributed()
    if not dist:
        return value
    summed = value.detach().clone()
    dist.all_reduce(summed)
    return summed / world_size()


def of_first(value: "torch.Tensor") -> "torch.Tensor":
    """The first process's tensor, which lies on the CPU."""
    dist = _distributed()
    if not dist:
        return value
    received = value.clone()
    dist.broadcast(received, src=0, group=_control)
    return received


def weight_of(count: "torch.Tensor") -> "torch.Tensor":
    """What a mean over `count` things of this process's part of a batch weighs beside those of the others; 1 alone.

    Data-parallel training takes the mean of the processes' gradients. A loss that is a mean over pixels or pairs has
    as many of them in each part as chance wants: times this weight, the mean over processes is that over the batch.
    """
    dist = _distributed()
    own = count.detach().float()
    if not dist:
        return own.new_ones(())
    return own / mean(own).clamp(min=1 / world_size())
