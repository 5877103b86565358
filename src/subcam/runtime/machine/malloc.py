"""Lets this process keep the memory that it has freed, for the next arrays: on a CPU, pages cost more than arithmetic.

glibc gives each large block back to the system when it is freed and fetches it anew, page by page, for the next layer's
map. Response maps of MobileNetV2 spent 40 % of their time on that (`benchmarks/response_maps.py`).
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""glibc's numbers of these settings (malloc.h)."""

TOP_PAD_BYTES = 64 << 20
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Set glibc's malloc to keep what is freed and to take large blocks from the heap too; whether that was possible.

    Peak memory stays what it was, but memory that was needed once stays with the process to its end. Elsewhere than on
    Linux with glibc nothing changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # musl has neither the name nor the setting
        return False
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: NEVER, M_TOP_PAD: TOP_PAD_BYTES}
    taken = [mallopt(name, value) == 1 for name, value in settings.items()]
    return all(taken)
