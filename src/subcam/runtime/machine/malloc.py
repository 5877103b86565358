"""Lets this process keep the memory that it has freed, for the next arrays: on a CPU, pages cost more than arithmetic.

glibc gives each large block back to the system when it is freed and fetches it anew, page by page, for the next layer's
map. Response maps of MobileNetV2 spent 40 % of their time on that (`benchmarks/response_maps.py`).
"""

import ctypes
import gc
import sys
from collections.abc import Callable

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""glibc's numbers of these settings (malloc.h)."""

TOP_PAD_BYTES = 64 << 20
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Set glibc's malloc to keep what is freed and to take large blocks from the heap too; whether that was possible.

    Peak memory stays what it was, but what was needed once stays with the process until `give_back_freed_memory`.
    Elsewhere than on Linux with glibc nothing changes.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER, M_TOP_PAD: TOP_PAD_BYTES}
    taken = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(taken)


def give_back_freed_memory() -> None:
    """Give the system what is kept: at the end of a stage, as the next one needs arrays of other sizes."""
    gc.collect()  # networks and optimisers hold each other
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None elsewhere than on Linux with glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return getattr(ctypes.CDLL("libc.so.6"), name)
    except (OSError, AttributeError):  # musl has neither the name nor the settings
        return None
