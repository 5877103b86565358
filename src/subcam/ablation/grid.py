"""Reads the values that settings take in turn, `discover.num_subcategories=1,5,10`, each by the setting's own type.

In: words of a command line and settings. Out: values by dotted name, as `RunSettings.with_` takes them.
"""

import csv
import shlex
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from subcam.checks.fields import checked, in_words
from subcam.errors import SettingsError
from subcam.settings import RunSettings, setting_types, unknown_setting

SEED = "seed"
OnFailure = Literal["continue", "stop"]
"""What to do when a variant of the grid fails."""

_TRUE, _FALSE, _NONE = ("true", "yes", "1"), ("false", "no", "0"), ("none",)


def read_grid(words: Iterable[str], settings: RunSettings) -> dict[str, tuple[Any, ...]]:
    """Read `name=value,value,...` for each setting on the grid.

    Names are dotted and may be written with dashes, as on the command line. The entries of a tuple are separated by
    spaces: `cam.scales=1,1 0.5 2` is (1.0,) and then (1.0, 0.5, 2.0). Quotes protect commas.

    Raises:
        SettingsError: an unknown setting (says which may be meant), one that is named twice or stands for itself
            (`seed`), or a value that is not of the setting's type or comes twice.
    """
    kinds = setting_types(settings)
    grid: dict[str, tuple[Any, ...]] = {}
    for word in words:
        written, equals, text = word.partition("=")
        name = written.strip().lstrip("-").replace("-", "_")
        if not equals:
            raise SettingsError(f"--grid takes NAME=VALUE,VALUE,... for each setting, got {word!r}")
        if name == SEED:
            raise SettingsError("seeds are no setting of the grid; give them as --seeds 0 1 2")
        if name not in kinds:
            inside = [known for known in kinds if known.startswith(f"{name}.")]
            why = f"{name!r} is a group of settings: {', '.join(inside)}" if inside else unknown_setting(name, settings)
            raise SettingsError(f"--grid {word}: {why}")
        if name in grid:
            raise SettingsError(f"--grid names {name} twice; list all its values at one place")
        grid[name] = _read_values(text, kinds[name], where=f"--grid {name}")
    return grid


def _read_values(text: str, kind: Any, *, where: str) -> tuple[Any, ...]:
    try:
        cells = next(csv.reader([text], strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise SettingsError(f"{where}: the quotes in {text!r} do not match ({error})") from error
    values = tuple(read_value(cell.strip(), kind, where=where) for cell in cells)
    if not values:
        raise SettingsError(f"{where}: expected one value or more behind '=', got none")
    for place, value in enumerate(values):
        if value in values[:place]:
            raise SettingsError(f"{where}: expected each value once, got {shown(value)} twice")
    return values


def read_value(text: str, kind: Any, *, where: str) -> Any:
    """One value of a setting of type `kind` from its text; `where` is what an error calls it.

    Raises:
        SettingsError: the text is no such value; says what was expected.
    """
    try:
        value = _parse(text, kind)
    except ValueError as error:
        raise SettingsError(f"{where}: expected {_text_in_words(kind)}, got {text!r}") from error
    return checked(value, kind, called=where)


def _parse(text: str, kind: Any) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _parse(text, parts[0])
    if origin in (typing.Union, types.UnionType):
        # text fits any word, so it is tried last
        for part in sorted(parts, key=lambda part: part is str):
            try:
                return _parse(text, part)
            except ValueError:
                continue
    elif origin is Literal:
        for choice in parts:
            if str(choice) == text:
                return choice
    elif origin is tuple:
        entries = shlex.split(text)
        own = parts[:1] * len(entries) if parts[1:] == (...,) else parts
        return tuple(_parse(entry, part) for entry, part in zip(entries, own, strict=True))
    elif kind is bool and text.casefold() in _TRUE + _FALSE:
        return text.casefold() in _TRUE
    elif kind is type(None) and text.casefold() in _NONE:
        return None
    elif kind in (int, float, str, Path):
        return kind(text)
    raise ValueError(text)


def _text_in_words(kind: Any) -> str:
    if typing.get_origin(kind) is Annotated and typing.get_origin(typing.get_args(kind)[0]) in (tuple, dict):
        return in_words(kind).replace(", each", " separated by spaces, each")
    if typing.get_origin(kind) is tuple:
        return in_words(kind).replace(", each", " separated by spaces, each")
    if typing.get_origin(kind) is dict:
        return f"{in_words(kind)}, which a grid cannot hold"
    return in_words(kind)


def shown(value: Any) -> str:
    """A value as the grid reads it."""
    if isinstance(value, tuple | list):
        return shlex.join(map(shown, value))
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)
