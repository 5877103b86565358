"""Spatial lattices that are kept: they depend on an image's size alone, and most images of a set share a few sizes.

Building one is a fifth to a third of a dense CRF's time.
"""

import threading
from collections.abc import Callable
from typing import NamedTuple

from subcam.crf.lattice import Lattice


class Shape(NamedTuple):
    """What a spatial lattice depends on."""

    height: int
    width: int
    sigma: float


class KeptLattices:
    """The lattices that were asked for last, as many as fit into `most_bytes`; for several threads at once.

    build: makes the one of a shape; it may run twice at a time for the same shape, which is harmless.
    """

    def __init__(self, build: Callable[[Shape], Lattice], *, most_bytes: int) -> None:
        self._build = build
        self._most_bytes = most_bytes
        self._kept: dict[Shape, Lattice] = {}
        self._lock = threading.Lock()

    def of(self, shape: Shape) -> Lattice:
        """The lattice of a shape, built unless it is here; one that is too large alone is not kept."""
        with self._lock:
            found = self._kept.pop(shape, None)
            if found is not None:
                self._kept[shape] = found  # now the last to go
                return found
        built = self._build(shape)
        if built.nbytes <= self._most_bytes:
            with self._lock:
                self._kept[shape] = built
                while sum(lattice.nbytes for lattice in self._kept.values()) > self._most_bytes:
                    self._kept.pop(next(iter(self._kept)))
        return built

    def clear(self) -> None:
        """Keep none of them any longer."""
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, shape: Shape) -> bool:
        return shape in self._kept
