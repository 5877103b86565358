"""Maps to the grid on which they are stored, by hand."""

import numpy as np
import torch

from subcam.cam.map_grid import coarsen


def test_coarse_values_by_hand() -> None:
    """Midway between pixels cubic weights are -3/32, 19/32, 19/32, -3/32; values below 0 and above 1 are cut."""
    full = torch.zeros(1, 4, 6)
    full[0, :2, :2] = 1.0
    full[0, 2, 4] = 0.5
    expected = np.zeros((1, 2, 3), np.uint8)
    expected[0, 0, 0], expected[0, 1, 2] = 255, round(255 * 0.5 * (19 / 32) ** 2)
    assert (coarsen(full, 2) == expected).all()
    assert (coarsen(full, 1) == (full * 255).round().numpy()).all()
    assert coarsen(torch.zeros(1, 5, 9), 4).shape == (1, 2, 3)
    assert coarsen(torch.zeros(0, 5, 9), 4).shape == (0, 2, 3)
    assert (coarsen(torch.ones(1, 7, 3), 4) == 255).all()
