"""TOML as Python values, whatever stands in it: what Python's own reader raises is one kind of error here."""

import codecs
import tomllib
from typing import Any

import tomli_w

_NAMES_KEEP_ALL_BYTES = "surrogateescape"
"""File names, which settings may hold, need not be UTF-8."""


def loads(text: bytes) -> dict[str, Any]:
    """What a text in TOML says, in UTF-8, with or without its mark.

    Raises:
        ValueError: it is no TOML, is nested too deep, or has a number of thousands of digits.
    """
    try:
        return tomllib.loads(text.removeprefix(codecs.BOM_UTF8).decode("utf-8", _NAMES_KEEP_ALL_BYTES))
    except RecursionError as error:
        raise ValueError("lists and tables are nested too deep, more than some hundred") from error


def dumps(values: dict[str, Any]) -> bytes:
    """The values as TOML that `loads` reads as the same: text, numbers, booleans, and lists and dicts of them."""
    return tomli_w.dumps(values).encode("utf-8", _NAMES_KEEP_ALL_BYTES)
