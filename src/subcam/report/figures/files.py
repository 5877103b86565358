"""Figures as files: PNG and SVG with stable bytes. In: figures that are laid out. Out: bytes, and files of them."""

import base64
import io
import zlib
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import quoteattr

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

from subcam.report.figures.sheet import Sheet
from subcam.report.figures.style import PIXELS_PER_INCH, paper_style
from subcam.runtime.files import atomic_write

_PACKED = {"compress_level": 1, "compress_type": zlib.Z_RLE}
"""Of a PNG: runs alone, which takes half the time of level 4 for a file of the same size, within a twelfth."""

_QUALITY = 92


def figure_bytes(figure: Figure, kind: Literal["png", "svg"]) -> bytes:
    """A PNG of 200 pixels per inch, or an SVG with letters as outlines. Equal figures give equal bytes.

    A canvas is asked, not `figure.savefig`, which would draw what is laid out already a second time.
    """
    dpi, canvas = figure.dpi, figure.canvas
    try:
        figure.dpi = PIXELS_PER_INCH
        with paper_style():
            return _png(figure) if kind == "png" else _svg(figure)
    finally:
        figure.dpi = dpi
        figure.set_canvas(canvas)


def save_figure(figure: Figure, folder: Path, name: str) -> tuple[Path, Path]:
    """Write `NAME.png` and `NAME.svg` into a folder, each whole or not at all; returns their paths.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    for path, content in ((png, figure_bytes(figure, "png")), (svg, figure_bytes(figure, "svg"))):
        with atomic_write(path, durable=False) as file:
            file.write(content)
    return png, svg


def _png(figure: Figure) -> bytes:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    opaque = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
    with io.BytesIO() as file:
        Image.fromarray(opaque).save(file, "PNG", dpi=(PIXELS_PER_INCH,) * 2, **_PACKED)
        return file.getvalue()


def _svg(figure: Figure) -> bytes:
    """The images of a sheet are put in as JPEG and PNG files, not as one PNG of them all; nothing lies on them."""
    images = [(axes, image) for axes in figure.axes for image in axes.images] if isinstance(figure, Sheet) else []
    for _, image in images:
        image.set_visible(False)
    try:
        # otherwise all images are composed into one, those that are not visible too
        with matplotlib.rc_context({"image.composite_image": not images}), io.BytesIO() as file:
            FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
            drawn = file.getvalue()
    finally:
        for _, image in images:
            image.set_visible(True)
    elements = "".join(_element(figure, axes, image) for axes, image in images)
    return drawn.removesuffix(b"</svg>\n") + f"{elements}</svg>\n".encode() if elements else drawn


def _element(figure: Figure, axes: Axes, image: AxesImage) -> str:
    """An image of a sheet as an element of its SVG, whose unit is a point."""
    left, right, bottom, top = image.get_extent()
    corners = axes.transData.transform([(left, top), (right, bottom)]) / figure.dpi * 72
    (x, upper), (end, lower) = corners.tolist()
    y, width, height = 72 * figure.get_figheight() - upper, end - x, upper - lower
    address = _data_uri(np.asarray(image.get_array()), width / 72 * PIXELS_PER_INCH)
    place = f'x="{x:.3f}" y="{y:.3f}" width="{width:.3f}" height="{height:.3f}"'
    return f'<image {place} preserveAspectRatio="none" xlink:href={quoteattr(address)}/>\n'


def _data_uri(pixels: np.ndarray, most: float) -> str:
    """An image of `most` columns at most: a mask, which has few colours, as PNG, a photograph as JPEG."""
    image = Image.fromarray(pixels)
    few = image.getcolors(256) is not None
    if image.width > most:
        size = (max(1, round(most)), max(1, round(most * image.height / image.width)))
        image = image.resize(size, Image.Resampling.NEAREST if few else Image.Resampling.LANCZOS)
    with io.BytesIO() as file:
        if few:
            image.quantize(256).save(file, "PNG", **_PACKED)
        else:
            image.save(file, "JPEG", quality=_QUALITY, subsampling=0)
        return f"data:image/{'png' if few else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"
