"""A function that goes through torch.compile where that works."""

from collections.abc import Callable
from typing import Any

import torch

from subcam.runtime.progress import say

MOST_CHARACTERS = 200
"""Of the reason why a function is not compiled, that are shown."""


class Compiled:
    """A function that torch.compile makes faster; if it cannot be compiled, or fails compiled, it runs as it is.

    Compiling takes from seconds to minutes, once for each function and again where shapes differ much.

    Args:
        function: a module or a function of tensors without side effects: a call that fails compiled is made again.
        what: how the message calls it.
    """

    def __init__(self, function: Callable[..., Any], *, what: str) -> None:
        self.plain = function
        self.what = what
        self.reason = ""
        """Why it is not compiled; empty as long as it is, or was not called yet."""
        self._fast: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns; the first failure of the compiled one is said, and ends its use."""
        if self.reason:
            return self.plain(*arguments)
        try:
            if self._fast is None:
                self._fast = torch.compile(self.plain, dynamic=True)
            return self._fast(*arguments)
        except Exception as error:  # the compiler, its backends and the C++ compiler behind them raise every kind
            result = self.plain(*arguments)  # if the function itself is at fault, it fails here too
            lines = str(error).strip().splitlines() or [""]
            self.reason = f"{type(error).__name__}: {lines[0]}"[:MOST_CHARACTERS]
            self._fast = None
            say(f"{self.what} runs without torch.compile ({self.reason})")
            return result
