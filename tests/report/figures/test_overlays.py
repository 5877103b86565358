"""Maps over images: the right colour at the right pixel."""

import matplotlib
import numpy as np
import pytest

from subcam.data.overlay import outlines
from subcam.report.figures.overlays import colour_map, overlay_map


def test_colour_map() -> None:
    response = np.array([[0.0, 0.5], [1.0, 2.0]], np.float32)
    expected = [[matplotlib.colormaps["viridis"](value, bytes=True)[:3] for value in row] for row in response]
    assert colour_map(response).tolist() == np.array(expected).tolist()
    assert colour_map(response)[1, 0].tolist() == colour_map(response)[1, 1].tolist()


def test_overlay_map() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    response = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    drawn = overlay_map(image, response, opacity=0.25)
    grey = image[4, 5] @ np.array([0.299, 0.587, 0.114])
    assert drawn[4, 5] == pytest.approx(0.75 * grey + 0.25 * colour_map(response)[4, 5], abs=0.51)
    assert overlay_map(image, response, opacity=1).tolist() == colour_map(response).tolist()
    lined = overlay_map(image, response, opacity=0.25, threshold=0.5)
    line = outlines((response > 0.5).astype(np.uint8))
    assert (lined[line] == 255).all()
    assert lined[~line].tolist() == drawn[~line].tolist()
