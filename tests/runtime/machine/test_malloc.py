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


GIVEN_BACK = """
import resource
from pathlib import Path
import numpy as np
from subcam.runtime.machine.malloc import give_back_freed_memory, keep_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20

assert keep_freed_memory()
arrays = [np.ones(1 << 20, np.uint8) for _ in range(200)]
last = arrays.pop()
full = resident()
del arrays
kept = resident()
give_back_freed_memory()
print(full - kept, full - resident())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is what is set")
def test_what_is_kept_is_given_back_when_asked_for() -> None:
    done = subprocess.run([sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True, timeout=60)
    before, after = map(int, done.stdout.split())
    assert before < 20
    assert after > 150
