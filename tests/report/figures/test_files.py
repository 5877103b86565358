"""Figures as files: equal bytes for equal figures, opaque PNGs, SVGs whose images are photographs and masks."""

import base64
import io
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from report.figures.test_style import drawn

from subcam.report.figures.files import figure_bytes, save_figure
from subcam.report.figures.maps import SegmentationRow, segmentation_figure


def test_the_users_own_settings_do_not_show() -> None:
    plain = figure_bytes(drawn(), "png")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "figure.dpi": 50, "svg.hashsalt": None}):
        assert figure_bytes(drawn(), "png") == plain


def test_equal_figures_have_equal_bytes(tmp_path: Path) -> None:
    figure = drawn()
    first = save_figure(figure, tmp_path / "new", "curve")
    assert [path.relative_to(tmp_path).as_posix() for path in first] == ["new/curve.png", "new/curve.svg"]
    again, other = save_figure(figure, tmp_path, "again"), save_figure(drawn(), tmp_path, "other")
    for one, two, three in zip(first, again, other, strict=True):
        assert one.read_bytes() == two.read_bytes() == three.read_bytes()
    assert not [path for path in tmp_path.rglob("*") if path.suffix not in (".png", ".svg", "")]
    assert figure_bytes(drawn(title="Another"), "svg") != first[1].read_bytes()


def test_files_are_what_they_are_called(tmp_path: Path) -> None:
    png, svg = save_figure(drawn(), tmp_path, "curve")
    with Image.open(png) as image:
        assert image.size[0] == 600
        assert np.asarray(image.convert("RGBA"))[0, 0].tolist() == [255, 255, 255, 255]
    text = svg.read_text("utf-8")
    assert "<svg" in text
    assert "<text" not in text
    assert "date" not in text.lower()


def test_images_of_a_sheet_keep_what_they_are() -> None:
    """A photograph is put into the SVG as a JPEG, large ones smaller; a mask as a PNG with its own colours."""
    rng = np.random.default_rng(0)
    photograph = rng.integers(0, 256, (24, 36, 3), dtype=np.uint8).repeat(30, 0).repeat(30, 1)
    mask = np.array([[0, 1], [1, 2]], np.uint8).repeat(360, 0).repeat(540, 1)
    figure = segmentation_figure([SegmentationRow(image=photograph, prediction=mask)], ["cat", "dog"])
    svg = figure_bytes(figure, "svg").decode()
    assert figure_bytes(figure, "svg").decode() == svg
    place = r'x="([^"]+)" y="([^"]+)" width="([^"]+)" height="([^"]+)"'
    found = re.findall(rf'<image {place}[^>]*image/(\w+);base64,([^"]+)"', svg)
    (*_, across, down, kind, content), (*at, mask_kind, mask_content) = found
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert (kind, image.format) == ("jpeg", "JPEG")
        assert image.width == round(float(across) / 72 * 200) < photograph.shape[1]
        assert float(across) / float(down) == pytest.approx(9 / 6, abs=1e-3)
    with Image.open(io.BytesIO(base64.b64decode(mask_content))) as image:
        assert (mask_kind, image.format) == ("png", "PNG")
        colours = np.asarray(image.convert("RGB"))[[0, 0, -1], [0, -1, -1]].tolist()
        assert colours == [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    extent = figure.axes[0].images[1].get_window_extent()
    expected = (extent.x0, figure.bbox.height - extent.y1, extent.width, extent.height)
    np.testing.assert_allclose([float(one) for one in at], np.array(expected) * 72 / figure.dpi, atol=0.01)
    assert figure.axes[0].images[0].get_visible()
    with Image.open(io.BytesIO(figure_bytes(figure, "png"))) as image:  # the same place in the PNG
        x, y = (float(at[0]) + 3, float(at[1]) + 3)
        assert image.mode == "RGB"
        assert image.getpixel((round(x / 72 * 200), round(y / 72 * 200))) == (0, 0, 0)
