"""JSON as Python values, whatever stands in it: what Python's own reader raises is one kind of error here."""

import json
from typing import Any


def loads(text: str | bytes) -> Any:
    """What a text in JSON says; bytes are UTF-8, with or without their mark.

    Raises:
        ValueError: it is no JSON or no UTF-8, is nested too deep, or has a number of thousands of digits.
    """
    try:
        return json.loads(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except RecursionError as error:
        raise ValueError("lists and objects are nested too deep, more than some hundred") from error
