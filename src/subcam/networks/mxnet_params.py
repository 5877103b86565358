"""Weights in MXNet's binary list format, read without MXNet: a `.params` file in, named arrays or a state dict out.

A file is a list of array records followed by their names, all little endian. The record's head changed twice, and the
published ImageNet weights of ResNet-38 are of the oldest kind; all three are read:

    list     u64 0x112, u64 0, u64 count, records, u64 count, then per name u64 length and bytes
    V2       u32 0xF993FAC9, i32 storage type (0 = dense), u32 ndim, i64 dims, then as below
    V1       u32 0xF993FAC8, u32 ndim, i64 dims, then as below
    legacy   u32 ndim, u32 dims, then: i32 device type, i32 device id, i32 type flag, raw values in C order

Every size is held against what is left of the file before anything of that size is made.
"""

import math
import os
import re
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from subcam.checks.arguments import takes_arrays
from subcam.errors import BadInputError, CheckpointError
from subcam.runtime.documents.regular_file import open_file

LIST_MAGIC = 0x112
V1_MAGIC = 0xF993FAC8
V2_MAGIC = 0xF993FAC9
MOST_DIMENSIONS = 32

DTYPES = {0: "<f4", 1: "<f8", 2: "<f2", 3: "|u1", 4: "<i4", 5: "|i1", 6: "<i8"}

_BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_var": "running_var"}
_STAGE = r"(?P<stage>[2-7])(?:a|b(?P<block>[1-9]))_branch(?P<branch>1|2a|2b1|2b2)"
_CONV_NAME = re.compile(rf"arg:res{_STAGE}_weight")
_NORM_NAME = re.compile(rf"(?:arg|aux):bn(?:{_STAGE}|7)_(?P<kind>gamma|beta|moving_mean|moving_var)")
_SKIPPED = ("arg:linear1000_weight", "arg:linear1000_bias")


class _Reader:
    """Reads numbers and arrays from an open file and never asks for more than the file still holds."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.file = file
        self.path = path
        self.left = os.fstat(file.fileno()).st_size

    def error(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} is not a whole MXNet .params file: {what} at byte {self.file.tell()}. Get the file again,"
            " or give weights as .safetensors or .pth"
        )

    def take(self, size: int, what: str) -> None:
        """Book `size` bytes, before they are read."""
        if size > self.left:
            raise self.error(f"{what} needs {size} bytes where {self.left} are left")
        self.left -= size

    def numbers(self, layout: str, what: str) -> tuple[Any, ...]:
        layout = "<" + layout
        size = struct.calcsize(layout)
        self.take(size, what)
        return struct.unpack(layout, self.file.read(size))

    def count(self, what: str, *, least_bytes: int) -> int:
        """A u64 that counts things of which each takes `least_bytes` or more."""
        (count,) = self.numbers("Q", what)
        if count * least_bytes > self.left:
            raise self.error(f"{what} is {count}, more than the {self.left} bytes that are left can hold")
        return count

    def array(self) -> np.ndarray:
        """One record, of any of the three layouts."""
        (first,) = self.numbers("I", "a record")
        dimension, ndim = "q", first
        if first == V2_MAGIC:
            storage, ndim = self.numbers("iI", "a record's head")
            if storage != 0:
                raise self.error(f"a sparse array (storage type {storage}); only dense ones are read")
        elif first == V1_MAGIC:
            (ndim,) = self.numbers("I", "a record's head")
        else:
            dimension = "I"
        if not 1 <= ndim <= MOST_DIMENSIONS:
            raise self.error(f"a record with {ndim} dimensions (expected 1 to {MOST_DIMENSIONS})")
        shape = self.numbers(f"{ndim}{dimension}", "an array's shape")
        if min(shape) < 1:
            raise self.error(f"an array of shape {list(shape)}")
        _, _, flag = self.numbers("iii", "an array's device and type")
        if flag not in DTYPES:
            raise self.error(f"values of type {flag} (expected one of {sorted(DTYPES)})")
        dtype = np.dtype(DTYPES[flag])
        self.take(math.prod(shape) * dtype.itemsize, f"an array of shape {list(shape)}")
        values = np.fromfile(self.file, dtype, math.prod(shape))
        if values.size != math.prod(shape):
            raise self.error("the file became shorter while it was read")
        return values.reshape(shape)

    def name(self) -> str:
        length = self.count("a name's length", least_bytes=1)
        self.take(length, "a name")
        try:
            return self.file.read(length).decode("utf-8")
        except UnicodeDecodeError:
            raise self.error("a name that is not UTF-8") from None


@takes_arrays()
def read_mxnet_params(path: str | Path) -> dict[str, np.ndarray]:
    """The named arrays of an MXNet `.params` file (`mx.nd.save` of a dict), in the order of the file.

    Names keep MXNet's "arg:" and "aux:"; arrays keep their shape and type.

    Raises:
        CheckpointError: the file is missing, truncated, has absurd sizes, bytes too many, arrays without names, or
            sparse or unknown types. It is raised before memory of a claimed size is taken.
    """
    path = Path(path)
    try:
        with open_file(path) as file:
            return _read_list(_Reader(file, path))
    except BadInputError as error:  # a folder, a pipe, a device
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error})") from error


def _read_list(reader: _Reader) -> dict[str, np.ndarray]:
    magic, reserved = reader.numbers("QQ", "the head of the list")
    if (magic, reserved) != (LIST_MAGIC, 0):
        raise reader.error(f"it starts with {magic:#x}, {reserved:#x} (expected {LIST_MAGIC:#x}, 0x0)")
    arrays = [reader.array() for _ in range(reader.count("the number of arrays", least_bytes=21))]
    names = [reader.name() for _ in range(reader.count("the number of names", least_bytes=8))]
    if len(names) != len(arrays):
        raise reader.error(f"{len(arrays)} arrays with {len(names)} names")
    if len(set(names)) != len(names):
        raise reader.error(f"a name twice ({next(name for name in names if names.count(name) > 1)})")
    if reader.left:
        raise reader.error(f"{reader.left} bytes after the end of the list")
    return dict(zip(names, arrays, strict=True))


def resnet38_from_mxnet(params: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """State dict of `ResNet38` from MXNet's arrays: same values, other names; the ImageNet classifier is left out.

    "arg:res4b3_branch2a_weight" becomes "b4_3.conv_branch2a.weight", "aux:bn5a_branch2b1_moving_var" becomes
    "b5.bn_branch2b1.running_var", and "linear1000" has no place. Counters of batch norm are not in such files.

    Raises:
        CheckpointError: names that are not those of ResNet-38; lists them.
    """
    names = {name: torch_name(name) for name in params if name not in _SKIPPED}
    unknown = [name for name, new in names.items() if new is None]
    if unknown:
        shown = ", ".join(unknown[:20]) + (f" and {len(unknown) - 20} more" if len(unknown) > 20 else "")
        raise CheckpointError(
            f"these MXNet arrays are not ResNet-38's ({len(unknown)} of {len(params)}): {shown}. Give the ImageNet"
            " weights of the wide ResNet-38 (AffinityNet's ilsvrc-cls_rna-a1_cls1000_ep-0001.params)"
        )
    return {str(new): torch.from_numpy(params[name]) for name, new in names.items()}


def torch_name(name: str) -> str | None:
    """The name in `ResNet38` of one of MXNet's arrays, None if it has none."""
    if name == "arg:conv1a_weight":
        return "conv1a.weight"
    if match := _CONV_NAME.fullmatch(name):
        return f"{_block(match)}.conv_branch{match['branch']}.weight"
    if match := _NORM_NAME.fullmatch(name):
        layer = f"{_block(match)}.bn_branch{match['branch']}" if match["stage"] else "bn7"
        return f"{layer}.{_BATCH_NORM[match['kind']]}"
    return None


def _block(match: re.Match[str]) -> str:
    return f"b{match['stage']}" + (f"_{match['block']}" if match["block"] else "")
