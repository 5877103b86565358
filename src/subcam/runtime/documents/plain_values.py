"""Dataclasses as the values that JSON knows, and back by their annotations: the one schema check of what is read.

In: a value, or what a file holds. Out: plain values, or a value of the type, or an error that says at which key.
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal

from subcam.checks.fields import Settings, check_all, shortly, types_of, unchecked
from subcam.errors import SettingsError


def as_plain(value: Any) -> Any:
    """Dataclasses, paths, tuples and numpy scalars as what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): as_plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(entry) for entry in value]
    if isinstance(value, Path):
        return value.as_posix()
    if hasattr(value, "tolist"):
        return value.tolist()
    return value


def from_plain(kind: Any, plain: Any, *, lenient: bool = False) -> Any:
    """A value of type `kind`, which may be a dataclass with others in it, from what `as_plain` made of it.

    Args:
        kind: a type, as in an annotation.
        plain: values as JSON knows them.
        lenient: take what another version of subcam wrote: keys that this one does not know are ignored, and numbers
            without a default that are not there become not-a-number.

    Raises:
        TypeError: a field is missing that has no default, a key is unknown, a value is of another type, or a setting
            is out of its range; says at which key.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Settings):
        settings = _settings_from_plain(kind, plain, lenient=lenient)
        try:
            check_all(settings)
        except SettingsError as error:
            raise TypeError(str(error)) from error
        return settings
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return kind(**_fields_from_plain(kind, plain, lenient=lenient))
    if origin in (typing.Union, UnionType):
        if plain is None:
            return None
        options = [option for option in arguments if option is not NoneType]
        nested = [option for option in options if dataclasses.is_dataclass(option) == isinstance(plain, dict)]
        return from_plain((nested or options)[0], plain, lenient=lenient)
    if origin in (tuple, list):
        inner = arguments[0] if arguments else Any
        entries = _of_type(plain, list | tuple, "a list")
        if inner in (int, float, str) and set(map(type, entries)) <= {inner} and (inner is not int or _fit(entries)):
            return origin(entries)  # at once: matrices have tens of thousands
        return origin(at_key(f"[{index}]", inner, entry, lenient=lenient) for index, entry in enumerate(entries))
    if origin is dict:
        entries = _of_type(plain, dict, "an object")
        return {key: at_key(f".{key}", arguments[1], entry, lenient=lenient) for key, entry in entries.items()}
    if typing.is_typeddict(kind):
        return _typed_dict_from_plain(kind, plain, lenient=lenient)
    if origin is Literal:
        if not any(type(plain) is type(choice) and plain == choice for choice in arguments):
            raise TypeError(f"expected one of {', '.join(map(str, arguments))}, got {shortly(plain)}")
        return plain
    if kind in (float, int):
        number = _of_type(plain, int if kind is int else int | float, _IN_WORDS[kind])
        if isinstance(number, int) and not _fit([number]):
            raise TypeError(f"expected {_IN_WORDS[kind]} of at most 19 digits, got {shortly(number)}")
        return kind(number)
    if kind in _IN_WORDS:
        return _of_type(plain, kind, _IN_WORDS[kind])
    return Path(_of_type(plain, str, "a path")) if kind is Path else plain


_IN_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}
_MOST = 2**63 - 1
"""Of whole numbers; those of 64 bits go into every array."""


def _fit(numbers: Sequence[int]) -> bool:
    return min(numbers, default=0) >= -_MOST and max(numbers, default=0) <= _MOST


def _of_type(plain: Any, kind: Any, words: str) -> Any:
    if not isinstance(plain, kind) or (isinstance(plain, bool) and kind is not bool):
        raise TypeError(f"expected {words}, got {shortly(plain)}")
    return plain


def _typed_dict_from_plain(kind: Any, plain: Any, *, lenient: bool) -> dict[str, Any]:
    """A dict with the keys of a `TypedDict`; others are kept as they are."""
    given = _of_type(plain, dict, "an object")
    hints = _hints(kind)
    if missing := sorted(kind.__required_keys__ - set(given)):
        raise TypeError(f"expected the key {missing[0]!r}, got {shortly(list(given))}")
    return {
        key: at_key(f".{key}", hints[key], value, lenient=lenient) if key in hints else value
        for key, value in given.items()
    }


def at_key(key: str, kind: Any, plain: Any, *, lenient: bool = False) -> Any:
    """`from_plain` of a value inside another one, with its key (".name" or "[index]") in what is raised."""
    try:
        return from_plain(kind, plain, lenient=lenient)
    except TypeError as error:
        text = str(error)
        joined = f"{key}{text}" if text.startswith(("[", ".")) else f"{key}: {text}"
        raise TypeError(joined) from error


_hints = functools.cache(typing.get_type_hints)


def _settings_from_plain(kind: type[Settings], plain: Any, *, lenient: bool) -> Any:
    """Settings with all groups in them, not checked yet, so that errors can say the whole name of a field."""
    values = dict(_known(kind, plain, lenient=lenient))
    for name, hint in types_of(kind).items():
        if name in values and isinstance(hint, type) and issubclass(hint, Settings):
            values[name] = _settings_from_plain(hint, values[name], lenient=lenient)
    return unchecked(kind, values)


def _known(kind: type, plain: Any, *, lenient: bool) -> dict[str, Any]:
    """The values of the fields that `kind` has."""
    if not isinstance(plain, dict):
        raise TypeError(f"expected the fields of {kind.__name__}, got {shortly(plain)}")
    names = {entry.name for entry in dataclasses.fields(kind) if entry.init}
    unknown = [key for key in plain if key not in names]
    if unknown and not lenient:
        raise TypeError(f"{kind.__name__} has no field {shortly(unknown[0])}")
    return {name: value for name, value in plain.items() if name in names}


def _fields_from_plain(kind: type, plain: Any, *, lenient: bool) -> dict[str, Any]:
    hints = _hints(kind)
    given = _known(kind, plain, lenient=lenient)
    values = {name: at_key(f".{name}", hints[name], value, lenient=lenient) for name, value in given.items()}
    required = [
        entry.name
        for entry in dataclasses.fields(kind)
        if entry.init and entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values and not (lenient and hints[name] is float)]
    if missing:
        raise TypeError(f"expected the key {missing[0]!r}, got {shortly(list(plain))}")
    if lenient:
        left = (entry for entry in dataclasses.fields(kind) if entry.init and entry.name not in values)
        values |= {entry.name: math.nan for entry in left if _is_number_without(entry, hints)}
    return values


def _is_number_without(entry: "dataclasses.Field[Any]", hints: dict[str, Any]) -> bool:
    has_default = entry.default is not dataclasses.MISSING or entry.default_factory is not dataclasses.MISSING
    return hints[entry.name] is float and not has_default
