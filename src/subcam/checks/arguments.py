"""What a person may hand to a public function: arrays of any library as the kind that its annotation names.

`@takes_arrays` reads the annotations of a function. NumPy arrays, torch tensors, PIL images and lists of numbers stand
for each other. What is no array at all, of another type of numbers, of another number of axes, empty, or of sizes that
do not fit together is refused with the argument's name; arrays that are right already are passed on as they are.
"""

import collections.abc
import functools
import inspect
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

import numpy as np
from jaxtyping import AbstractArray

from subcam.checks.fields import checked, shortly
from subcam.errors import SettingsError

P = ParamSpec("P")
R = TypeVar("R")

Sizes = dict[str, tuple[int, str]]
"""The size of each axis by its name, and the argument that it was seen at first."""


def takes_arrays(*, may_be_empty: tuple[str, ...] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Check the arguments of a function by its annotations before it is called.

    Args:
        may_be_empty: arguments that may have no entry; "maps[]" means the arrays in a list of them.

    The function then raises:
        TypeError: an argument is missing, unknown, or nothing of the kind that is expected.
        ValueError: an array of another type of numbers or another shape than expected.
        SettingsError: a number or word out of its range, as a setting.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def accepting(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            sizes: Sizes = {}
            for name, value in bound.arguments.items():
                kind = signature.parameters[name].annotation
                if kind is not inspect.Parameter.empty:
                    bound.arguments[name] = _accepted(value, kind, name, sizes, may_be_empty)
            return function(*bound.args, **bound.kwargs)

        return accepting

    return decorate


def _accepted(value: Any, kind: Any, name: str, sizes: Sizes, may_be_empty: tuple[str, ...]) -> Any:
    """The value of one argument as the kind that its annotation names."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if isinstance(kind, type) and issubclass(kind, AbstractArray):
        return _array(value, kind, name, sizes, may_be_empty)
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, parts, name, sizes, may_be_empty)
    if origin in (collections.abc.Sequence, collections.abc.Iterable):
        if isinstance(value, str | bytes) or not isinstance(value, Iterable):
            raise TypeError(f"{name}: expected several, in a list or tuple, got {_what(value)}")
        entries = [_accepted(entry, parts[0], f"{name}[{i}]", sizes, may_be_empty) for i, entry in enumerate(value)]
        words = {str, Path}.issuperset(typing.get_args(parts[0]) or parts)
        if not entries and not words and name not in may_be_empty:
            raise ValueError(f"{name}: expected one or more, got none")
        return tuple(entries) if isinstance(value, tuple) else entries
    if kind is Path:
        if not isinstance(value, str | os.PathLike) or "\0" in str(value):
            raise TypeError(f"{name}: expected a path, got {_what(value)}")
        return Path(value)
    if kind is str:
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected text, got {_what(value)}")
        return value
    if kind in (int, float, bool) or origin in (Annotated, Literal, tuple):
        return checked(value, kind, called=name)
    checked_kind = origin or kind
    if isinstance(checked_kind, type) and not isinstance(value, checked_kind):
        raise TypeError(f"{name}: expected {checked_kind.__name__}, got {_what(value)}")
    return value


def _one_of(value: Any, kinds: tuple[Any, ...], name: str, sizes: Sizes, may_be_empty: tuple[str, ...]) -> Any:
    """The value as the first kind that it is; the error is that of the last one."""
    if type(value) in kinds:
        return value
    choices = [kind for kind in kinds if kind is not type(None)]
    if str in choices and Path in choices:
        others = [kind for kind in choices if kind not in (str, Path)]
        path = [str] if isinstance(value, str) else [Path]
        choices = path if not others or isinstance(value, str | os.PathLike) else others
    for kind in choices[:-1]:
        try:
            own = dict(sizes)
            value = _accepted(value, kind, name, own, may_be_empty)
            sizes |= own
            return value
        except (TypeError, ValueError, SettingsError):
            continue
    return _accepted(value, choices[-1], name, sizes, may_be_empty)


def _array(value: Any, kind: Any, name: str, sizes: Sizes, may_be_empty: tuple[str, ...]) -> Any:
    array = value
    is_torch = kind.array_type.__module__.partition(".")[0] == "torch"
    if not isinstance(value, kind.array_type) or _is_masked(value):
        array = as_numpy(value, name, is_rgb=kind.dim_str.endswith(" 3"))
        array = _of_type(array, kind, name, is_list=isinstance(value, list | tuple))
        if is_torch:
            import torch

            array = torch.from_numpy(np.require(array, requirements=["C", "W"]))
            # Numbers without a type of their own take torch's.
            array = array.float() if isinstance(value, list | tuple) and array.dtype == torch.float64 else array
    array = _of_type(array, kind, name, is_list=False)
    _check_shape(tuple(array.shape), kind.dim_str, name, sizes)
    if 0 in array.shape and re.sub(r"\[\d+\]", "[]", name) not in may_be_empty:
        raise ValueError(f"{name}: expected an array with entries, got one of shape {list(array.shape)}")
    return array


def as_numpy(value: Any, name: str, *, is_rgb: bool = False) -> np.ndarray:
    """A tensor, PIL image, list of numbers or other array as a NumPy array.

    Args:
        value: what is to be one.
        name: of the argument, for errors.
        is_rgb: whether a PIL image becomes RGB; else a mask or grey image keeps its values.

    Raises:
        TypeError: it is nothing of that kind.
        ValueError: lists of different lengths, a masked array, or what holds no numbers.
    """
    if hasattr(value, "getbands") and hasattr(value, "convert"):
        array = np.asarray(value.convert("RGB") if is_rgb else value)
    elif hasattr(value, "detach") and hasattr(value, "cpu"):
        tensor = value.detach().cpu()
        array = (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
    elif _is_masked(value):
        raise ValueError(f"{name}: expected an array without a mask, got a masked one; fill it first (.filled)")
    elif isinstance(value, list | tuple) or (hasattr(value, "__array__") and not isinstance(value, np.generic)):
        is_list = isinstance(value, list | tuple)
        try:
            array = np.asarray(
                [as_numpy(each, name) if hasattr(each, "detach") else each for each in value] if is_list else value
            )
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"{name}: expected an array, got lists that make none ({error})") from error
    else:
        raise TypeError(f"{name}: expected an array, a tensor or a list of numbers, got {_what(value)}")
    if array.dtype.kind not in "biufc":
        raise ValueError(f"{name}: expected numbers, got an array of {array.dtype}")
    return array


def _is_masked(value: Any) -> bool:
    """Whether it is one of NumPy's masked arrays, which are imported on first use: before that there is none."""
    return "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray)


def _of_type(array: Any, kind: Any, name: str, *, is_list: bool) -> Any:
    """The array in a type of numbers that the annotation names, where that loses nothing."""
    found = str(array.dtype).removeprefix("torch.")
    if not isinstance(kind.dtypes, list | tuple):  # of any type
        return array
    allowed = [entry for entry in kind.dtypes if isinstance(entry, str)]
    if not isinstance(array, np.ndarray) and found in ("uint16", "uint32", "uint64") and "int64" in allowed:
        return _cast(array, "int64")  # torch computes little with these
    if found in allowed or any(entry.match(found) for entry in kind.dtypes if not isinstance(entry, str)):
        return array
    floats, whole = found.startswith(("float", "bfloat")), found.startswith(("int", "uint"))
    wants_floats = all(entry.startswith(("float", "bfloat")) for entry in allowed)
    if wants_floats and (floats or (is_list and whole)):
        return _cast(array, "float64" if "float64" in allowed else allowed[0])
    if not wants_floats:
        target = "int64" if "int64" in allowed else allowed[0]
        if found == "bool":
            return _cast(array, "uint8" if "uint8" in allowed else target)
        cast = _cast(array, target) if (floats and len(allowed) > 1) or whole else None
        if cast is not None and bool((cast == array).all()):
            return cast
    expected = "floats" if wants_floats and len(allowed) > 1 else "whole numbers" if len(allowed) > 1 else allowed[0]
    raise ValueError(f"{name}: expected {expected}, got {found}; convert it first")


def _cast(array: Any, target: str) -> Any:
    if isinstance(array, np.ndarray):
        with np.errstate(invalid="ignore"):
            return array.astype(target)
    import torch

    return array.to(getattr(torch, target))


def _check_shape(shape: tuple[int, ...], dims: str, name: str, sizes: Sizes) -> None:
    """Compare a shape with an annotation as "*batch dim h w 3"; axes of one name have one size in all arguments."""
    tokens = dims.split()
    loose = next((i for i, token in enumerate(tokens) if token == "..." or token.startswith("*")), None)
    if loose is None:
        named, own, fits = tokens, shape, len(shape) == len(tokens)
    else:  # the axes before it and those after it, from the end
        named = tokens[:loose] + tokens[loose + 1 :]
        own, fits = shape[:loose] + shape[len(shape) - len(named) + loose :], len(shape) >= len(named)
    pairs = list(zip(named, own, strict=True)) if fits else []
    wanted = f"[{', '.join(token.replace('*', '') if token != '...' else '...' for token in tokens)}]"
    if not fits or any(token.isdigit() and int(token) != size for token, size in pairs):
        raise ValueError(f"{name}: expected an array of shape {wanted}, got {list(shape)}")
    for token, size in pairs:
        if token.isidentifier() and token != "_":
            before, first = sizes.setdefault(token, (size, name))
            if size != before:
                raise ValueError(
                    f"{name}: expected shape {wanted} with {token} = {before} as in {first}, got {list(shape)}"
                )


def _what(value: Any) -> str:
    return f"{type(value).__name__} {shortly(value)}" if value is not None else "None"
