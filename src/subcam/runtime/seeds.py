"""One seed for a run, and from it an independent one for each purpose."""

import zlib

import numpy as np


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in 0..2^31-1 for `purpose`, e.g. `derive_seed(0, "initialise", round_index)`.

    Different purposes get unrelated seeds, so that adding one use of chance changes no other.
    """
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in purpose]
    return int(np.random.SeedSequence([seed, *words]).generate_state(1)[0] >> 1)
