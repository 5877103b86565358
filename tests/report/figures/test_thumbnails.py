"""Thumbnails keep their shape, never grow, and show the image."""

import base64
import io

import numpy as np
from PIL import Image

from subcam.report.figures.thumbnails import square, thumbnail, thumbnail_size


def test_square() -> None:
    image = np.arange(5 * 9 * 3, dtype=np.uint8).reshape(5, 9, 3)
    assert square(image).tolist() == image[:, 2:7].tolist()
    assert square(image.transpose(1, 0, 2)).tolist() == image[:, 2:7].transpose(1, 0, 2).tolist()


def test_thumbnails_keep_their_shape_and_never_grow() -> None:
    assert thumbnail_size(500, 375, 320) == (320, 240)
    assert thumbnail_size(64, 48, 320) == (64, 48)
    assert thumbnail_size(4000, 3, 100) == (100, 1)
    image = np.zeros((30, 50, 3), np.uint8)
    image[:, 10:40] = (200, 30, 30)
    for shown, size in ((image, (50, 30)), (square(image), (30, 30))):
        uri = thumbnail(shown, 400)
        with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as decoded:
            assert (decoded.format, decoded.size) == ("WEBP", size)
            red = np.asarray(decoded.convert("RGB"))[15, size[0] // 2]
        assert np.abs(red.astype(int) - (200, 30, 30)).max() < 25
