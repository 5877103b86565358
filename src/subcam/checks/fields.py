"""What a setting may be, said once, at its field: in its type and in a `Range` or `Entries` beside it.

The constructor of every `Settings`, a value changed by name, what is read from a file, the command line and its help
all go by that. Values are kept in the field's own type, so that `5` and `5.0` are the same number for a setting.
"""

import dataclasses
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from subcam.errors import SettingsError

MOST_CHARACTERS = 4096
"""Of a text, as of a path on Linux."""

_SHOWN = 60


@dataclass(frozen=True)
class Range:
    """The least and the greatest value of a number, both included. No real use comes near the greatest."""

    least: float
    most: float

    def __str__(self) -> str:
        return f"{plain_number(self.least)}..{plain_number(self.most)}"


@dataclass(frozen=True)
class Entries:
    """How many entries a tuple or dict has."""

    least: int = 0
    most: int = 100_000


@dataclass(frozen=True)
class Alias:
    """A short flag of a setting, beside the one of its name."""

    flag: str


Epochs = Annotated[int, Range(0, 1_000_000)]
Steps = Annotated[int, Range(0, 1_000_000_000)]
BatchSize = Annotated[int, Range(1, 100_000)]
Count = Annotated[int, Range(1, 1_000_000)]
Pixels = Annotated[int, Range(1, 100_000)]
Threads = Annotated[int, Range(0, 10_000)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Share = Annotated[float, Range(0.0, 1.0)]
Weight = Annotated[float, Range(0.0, 1e6)]
Exponent = Annotated[float, Range(0.0, 1000.0)]
Scale = Annotated[float, Range(0.01, 100.0)]
Scales = Annotated[tuple[Scale, ...], Entries(least=1, most=100)]
ScalesOrNone = Annotated[tuple[Scale, ...], Entries(most=100)]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all frozen dataclasses of settings have in common: nobody holds one with a value that it must not have."""

    def __post_init__(self) -> None:
        check_own(self)

    def check_together(self) -> None:
        """Refuse values that contradict each other.

        Raises:
            SettingsError: two fields that are right alone and not together.
        """


def types_of(kind: Any) -> dict[str, Any]:
    """The type of each field of a dataclass, with what is said beside it."""
    return _types_of(kind)


@cache
def _types_of(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {entry.name: hints[entry.name] for entry in dataclasses.fields(kind)}


def check_own(settings: Settings, *, called: Callable[[str], str] = str, where: str = "") -> None:
    """Check a group of settings and put each value into its field's own type; groups in it are taken as checked.

    Args:
        settings: the group.
        called: what an error calls a field, from its name.
        where: what an error calls the group as a whole; empty for nothing.

    Raises:
        SettingsError: a value of another type or out of its range, or values that contradict each other.
    """
    for name, kind in types_of(type(settings)).items():
        value = getattr(settings, name)
        object.__setattr__(settings, name, checked(value, kind, called=called(name)))
    try:
        settings.check_together()
    except SettingsError as error:
        raise (SettingsError(f"{where}: {error}") if where else error) from None


def check_all(settings: Settings, *, called: Callable[[str], str] = str, path: str = "") -> None:
    """Check a group of settings with all groups in it, innermost first; errors name fields by their dotted names."""
    prefix = f"{path}." if path else ""
    for name in types_of(type(settings)):
        value = getattr(settings, name)
        if isinstance(value, Settings):
            check_all(value, called=called, path=f"{prefix}{name}")
    where = called(path) if path else ""
    check_own(settings, called=lambda name: called(f"{prefix}{name}"), where=where if where.strip("-") else "")


def unchecked(kind: Any, values: Mapping[str, Any]) -> Any:
    """Settings of the class `kind` whose values `check_all` has still to see; fields that are not given are defaults.

    Raises:
        TypeError: a field without a default is not given.
    """
    settings: Any = object.__new__(kind)
    for entry in dataclasses.fields(kind):
        if entry.name in values:
            value = values[entry.name]
        elif entry.default is not dataclasses.MISSING:
            value = entry.default
        elif entry.default_factory is not dataclasses.MISSING:
            value = entry.default_factory()
        else:
            raise TypeError(f"{kind.__name__} needs a value of {entry.name!r}")
        object.__setattr__(settings, entry.name, value)
    return settings


def checked(value: Any, kind: Any, *, called: str) -> Any:
    """The value as one of type `kind`.

    Raises:
        SettingsError: it is none; says what `called` has to be.
    """
    try:
        return _as_kind(value, kind)
    except _Unfit:
        raise SettingsError(f"{called}: expected {in_words(kind)}, got {shortly(value)}") from None


class _Unfit(Exception):  # noqa: N818 - never seen outside of this file
    pass


def _as_kind(value: Any, kind: Any, beside: tuple[Any, ...] = ()) -> Any:
    """The value as one of type `kind`, within what is said beside the type."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _as_kind(value, parts[0], parts[1:])
    if origin in (typing.Union, types.UnionType):
        for part in parts:
            try:
                return _as_kind(value, part, beside)
            except _Unfit:
                continue
    elif origin is Literal:
        for choice in parts:
            if type(value) is type(choice) and value == choice:
                return choice
    elif origin is tuple and isinstance(value, tuple | list):
        own = parts[:1] * len(value) if parts[1:] == (...,) else parts
        if len(own) == len(value) and _has_right_length(value, beside):
            return tuple(_as_kind(entry, part) for entry, part in zip(value, own, strict=True))
    elif origin is dict and isinstance(value, Mapping):
        if _has_right_length(value, beside):
            return {_as_kind(key, parts[0]): _as_kind(entry, parts[1]) for key, entry in value.items()}
    elif kind is bool or isinstance(value, bool):
        if kind is bool and isinstance(value, bool):
            return value
    elif kind is int and isinstance(value, numbers.Integral) and _is_within(value, beside):
        return int(value)
    elif kind is float and isinstance(value, numbers.Real) and _is_within(value, beside):
        return float(value)
    elif kind in (str, Path) and isinstance(value, str | os.PathLike):
        text = os.fspath(value)
        if isinstance(text, str) and len(text) <= MOST_CHARACTERS and not any(map(_is_control, text)):
            return value if isinstance(value, kind) else kind(text)
    elif kind is type(None) and value is None:
        return None
    elif isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(value, kind):
        return value
    raise _Unfit


def _has_right_length(value: Any, beside: tuple[Any, ...]) -> bool:
    limits = next((entry for entry in beside if isinstance(entry, Entries)), Entries())
    return limits.least <= len(value) <= limits.most


def _is_within(value: Any, beside: tuple[Any, ...]) -> bool:
    """Whether a number is in its range; not-a-number is in none."""
    return all(entry.least <= value <= entry.most for entry in beside if isinstance(entry, Range))


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character < "\xa0"


def in_words(kind: Any, beside: tuple[Any, ...] = ()) -> str:
    """What a setting of this type may be, for an error."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return in_words(parts[0], parts[1:])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(in_words(part, beside) for part in parts)
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin is tuple:
        limits = next((entry for entry in beside if isinstance(entry, Entries)), None)
        many = f"{limits.least} to {limits.most} entries" if limits else "entries"
        return f"{many if parts[1:] == (...,) else f'{len(parts)} entries'}, each {in_words(parts[0])}"
    if origin is dict:
        return "a dict"
    limit = next((entry for entry in beside if isinstance(entry, Range)), None)
    span = f" from {plain_number(limit.least)} to {plain_number(limit.most)}" if limit else ""
    names = {bool: "true or false", int: "a whole number", float: "a number", type(None): "none"}
    if kind in (str, Path):
        return f"{'a path' if kind is Path else 'text'} of at most {MOST_CHARACTERS} printable characters"
    return f"{names.get(kind) or kind.__name__}{span}"


def plain_number(number: float) -> str:
    """A limit as a person writes it."""
    return str(number) if isinstance(number, int) else f"{number:.10g}"


def shortly(value: Any) -> str:
    """A value for an error, cut where it is long."""
    try:
        text = repr(value)
    except ValueError:  # Python does not write whole numbers of thousands of digits
        return f"{type(value).__name__} of very many digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def leaves(kind: type, path: str = "") -> Iterator[tuple[str, Any]]:
    """The type of every single setting by its dotted name, through all groups."""
    for name, hint in types_of(kind).items():
        plain = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
        if isinstance(plain, type) and issubclass(plain, Settings):
            yield from leaves(plain, f"{path}{name}.")
        else:
            yield f"{path}{name}", hint
