"""Response maps after the random walk on disk: one npz an image, 16-bit floats on the grid of stride 8."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Int16

from subcam.runtime.files import atomic_write, below, open_arrays


@dataclass(frozen=True, kw_only=True)
class WalkedMaps:
    """One image after the walk, on the grid of stride 8.

    backgrounds: one for each of `alphas`. maps: those of `classes`, in 0..1.
    """

    alphas: tuple[float, ...]
    backgrounds: Float16[np.ndarray, "alphas h w"]
    maps: Float16[np.ndarray, "present h w"]
    classes: Int16[np.ndarray, " present"]
    size: tuple[int, int]

    def scores(self, alpha: float) -> np.ndarray:
        """Background at `alpha` and classes at the size of the image, float32 [1 + present, height, width]."""
        import torch  # who only reads a run, such as the report, does without

        from subcam.affinity.pairs import upsample_from_grid

        background = self.backgrounds[self.alphas.index(alpha)]
        grid = torch.from_numpy(np.concatenate([background[None], self.maps]).astype(np.float32))
        return upsample_from_grid(grid, size=self.size).numpy()


def walked_path(folder: Path, name: str) -> Path:
    """Where the walked maps of the image called `name` lie in a stage's folder."""
    return below(folder, f"walked/{name}", ".npz")


def write_walked(path: Path, walked: WalkedMaps) -> None:
    """Write one image's walked maps atomically."""
    with atomic_write(path, durable=False) as file:
        np.savez_compressed(
            file,
            alphas=np.array(walked.alphas),
            backgrounds=walked.backgrounds,
            maps=walked.maps,
            classes=walked.classes,
            size=np.array(walked.size, np.int32),
        )


def read_walked(path: Path) -> WalkedMaps:
    """Read one image's walked maps.

    Raises:
        BadInputError: missing, truncated, of another format, or with scores that are negative or not finite; names it.
    """
    with open_arrays(path, what="walked maps") as arrays:
        height, width = arrays["size"].tolist()
        backgrounds, maps = arrays["backgrounds"], arrays["maps"]
        for name, values in (("backgrounds", backgrounds), ("maps", maps)):
            if not (np.isfinite(values) & (values >= 0)).all():
                raise ValueError(f"expected finite {name} of at least 0")
        return WalkedMaps(
            alphas=tuple(arrays["alphas"].tolist()),
            backgrounds=backgrounds,
            maps=maps,
            classes=arrays["classes"],
            size=(height, width),
        )
