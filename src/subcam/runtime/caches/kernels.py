"""Kernels that numba compiles once and keeps on the disk; where there is no place for that, in each process anew."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba.core import config

from subcam.runtime.caches.places import temporary_place

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(**options: Any) -> Callable[[Function], Function]:
    """Decorate a function that numba compiles and that lets other threads run (`numba.njit(nogil=True, ...)`).

    What is compiled is kept beside the source, else in the home folder, else among the temporary files, else nowhere.
    """

    def decorate(function: Function) -> Function:
        kept = _kept(function, options)
        if kept is None and (place := temporary_place()) is not None:
            os.environ["NUMBA_CACHE_DIR"] = config.CACHE_DIR = str(place / "numba")  # type: ignore[attr-defined]
            kept = _kept(function, options)
        return numba.njit(nogil=True, **options)(function) if kept is None else kept

    return decorate


def _kept(function: Function, options: dict[str, Any]) -> Function | None:
    """The function, kept on the disk once it is compiled; None where numba finds no place for it."""
    try:
        return numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError as error:
        if "cannot cache" in str(error):
            return None
        raise
