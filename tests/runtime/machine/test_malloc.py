"""Freed memory stays with the process: large arrays that come and go cost no new pages."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from subcam.runtime.machine.malloc import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
for _ in range(3):
    np.ones(16 << 20, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(16 << 20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, keep: bool) -> int:
    """Page faults of ten arrays of 16 MiB, one after the other."""
    words = [sys.executable, "-c", FAULTS.format(keep=keep)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is what is set")
def test_kept_memory_costs_no_new_pages() -> None:
    assert faults(keep=True) < 100
