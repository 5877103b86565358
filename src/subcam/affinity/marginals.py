"""Marginals of the dense CRF with a low and a high alpha, as AffinityNet's training reads them: one npz an image."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from subcam.runtime.files import atomic_write, below, open_arrays


@dataclass(frozen=True, kw_only=True)
class CRFMarginals:
    """Marginals of background and present classes, 0..255 for 0..1, at the size of the image."""

    low_alpha: UInt8[np.ndarray, "channels h w"]
    high_alpha: UInt8[np.ndarray, "channels h w"]


def as_bytes(marginals: Float32[np.ndarray, "channels h w"]) -> UInt8[np.ndarray, "channels h w"]:
    """Marginals of 0..1 as they are stored, rounded to 0..255."""
    return np.rint(255 * marginals).astype(np.uint8)


def marginals_path(folder: Path, name: str) -> Path:
    """Where the marginals of the image called `name` lie in a stage's folder."""
    return below(folder, f"marginals/{name}", ".npz")


def write_marginals(path: Path, marginals: CRFMarginals) -> None:
    """Write one image's marginals atomically; they are nearly 0 or 1 in most places and shrink to a few kilobytes."""
    with atomic_write(path, durable=False) as file:
        np.savez_compressed(file, low_alpha=marginals.low_alpha, high_alpha=marginals.high_alpha)


def read_marginals(path: Path) -> CRFMarginals:
    """Read one image's marginals.

    Raises:
        BadInputError: missing, truncated or of another format; names the file.
    """
    with open_arrays(path, what="CRF marginals") as arrays:
        return CRFMarginals(low_alpha=arrays["low_alpha"], high_alpha=arrays["high_alpha"])
