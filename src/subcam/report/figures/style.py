"""One look for all figures: sizes, fonts, colours, and a layout in which nothing is cut.

Figures are made without pyplot, so nothing is kept open and no display is needed. Each function that draws one runs
inside `paper_style()`, which puts matplotlib's settings back when it ends, and returns what `laid_out` made of it.
"""

import bisect
import functools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import matplotlib
import matplotlib.style
import numpy as np
from jaxtyping import UInt8
from matplotlib.artist import Artist
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from subcam.data.images import voc_palette

ONE_COLUMN = 3.25
TWO_COLUMNS = 6.875
"""Widths in inches of a column and of the page in CVPR's format."""

PIXELS_PER_INCH = 200
TEXT_SIZE = 7.0
TITLE_SIZE = 8.5
"""Sizes of letters in points."""

PADDING = 0.05
"""Inches around what is drawn."""

SEQUENTIAL = "viridis"
"""Colour map of quantities from none to much; perceptually uniform."""

SHARES = "Blues"
"""Colour map of shares printed as numbers on it: white for 0, so that empty cells stay empty."""

LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's colours, which people with any colour vision tell apart, without the yellow that white swallows."""

GREY = "#6b6b6b"
GRID_GREY = "#dddddd"

_SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": TEXT_SIZE,
    "axes.titlesize": TITLE_SIZE,
    "axes.titlelocation": "left",
    "axes.labelsize": TEXT_SIZE,
    "xtick.labelsize": TEXT_SIZE - 0.5,
    "ytick.labelsize": TEXT_SIZE - 0.5,
    "legend.fontsize": TEXT_SIZE - 0.5,
    "legend.frameon": False,
    "figure.titlesize": TITLE_SIZE,
    "text.parse_math": False,  # a class may be called "$5 note" or "10$-20$"
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID_GREY,
    "grid.linewidth": 0.5,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "hatch.linewidth": 0.4,
    "hatch.color": GREY,
    "image.cmap": SEQUENTIAL,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": PADDING,
    "figure.constrained_layout.h_pad": PADDING,
    "figure.dpi": PIXELS_PER_INCH,
    "savefig.dpi": PIXELS_PER_INCH,
    "text.hinting": "no_hinting",  # hinted letters are wider by up to a tenth, and how much depends on the resolution
    # opaque, so that dark letters keep their white ground on a dark page
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "subcam",
    "svg.fonttype": "path",
}


@contextmanager
def paper_style() -> Iterator[None]:
    """Our settings on top of matplotlib's defaults, not the user's; the user's are restored at the end."""
    with matplotlib.style.context(_SETTINGS, after_reset=True):
        yield


SCREEN_COLOURS = (
    *("#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442"),
    *("#332288", "#882255", "#44aa99", "#999933", "#661100", "#aa4499", "#6699cc", "#117733", "#ddcc77"),
)
"""Colours of classes on a page: Okabe and Ito's, then Tol's, which people with any colour vision tell apart."""


def screen_palette() -> UInt8[np.ndarray, "256 3"]:
    """Colours of labels on a page: black, then those of `SCREEN_COLOURS`, then PASCAL VOC's. Files keep VOC's."""
    palette = voc_palette().copy()
    for index, colour in enumerate(SCREEN_COLOURS, start=1):
        palette[index] = tuple(bytes.fromhex(colour[1:]))
    return palette


def screen_colour(index: int) -> str:
    """The colour of label `index` on a page, as #rrggbb."""
    red, green, blue = screen_palette()[index].tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def class_colour(index: int) -> str:
    """PASCAL VOC's colour of label `index` (0 background, i + 1 the i-th class), as #rrggbb."""
    red, green, blue = voc_palette()[index].tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def laid_out(figure: Figure) -> Figure:
    """Lay everything out once and keep it so, for every later drawing and file. To be called inside `paper_style`."""
    engine = figure.get_layout_engine()
    if engine is not None and figure.axes:
        engine.execute(figure)  # nothing is drawn for it
    figure.set_layout_engine("none")
    return figure


@functools.lru_cache(maxsize=4096)
def text_width(text: str, size: float = TEXT_SIZE, *, bold: bool = False) -> float:
    """The width of a line of text in points, for letters of `size` points."""
    font = FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]) if text else 0.0


def shortened(text: str, width: float, size: float = TEXT_SIZE, *, bold: bool = False) -> str:
    """The text, or as much of its beginning as fits, with an ellipsis, into `width` points."""
    if text_width(text, size, bold=bold) <= width:
        return text
    lengths = range(len(text) + 1)
    fitting = bisect.bisect_right(lengths, width, key=lambda n: text_width(f"{text[:n]}…", size, bold=bold))
    return f"{text[: max(fitting - 1, 0)].rstrip()}…"


def broken(text: str, width: float, size: float = TEXT_SIZE, *, bold: bool = False) -> list[str]:
    """The words of a text in lines of at most `width` points; a word too wide for a line is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, bold=bold) <= width:
            lines[-1] = longer
        else:
            lines.append(shortened(word, width, size, bold=bold))
    return lines


def set_title(figure: Figure, title: str) -> None:
    """Put a title above the figure at the left, in lines; the figure grows by them. An empty title changes nothing."""
    if title:
        lines = broken(title, 72 * (figure.get_figwidth() - 2 * PADDING), TITLE_SIZE, bold=True)
        _make_room(figure, len(lines) * TITLE_SIZE)
        figure.suptitle("\n".join(lines), x=PADDING / figure.get_figwidth(), ha="left", weight="bold")


def _make_room(figure: Figure, letters: float) -> None:
    """Make the figure taller for lines whose letters are `letters` points high in total."""
    figure.set_figheight(figure.get_figheight() + 1.5 * letters / 72)


def legend_below(figure: Figure, handles: Sequence[Artist | Container]) -> None:
    """Put a legend under the figure, in as many columns of equal height as fit; the figure grows by it."""
    if not handles:
        return
    room = 72 * (figure.get_figwidth() - 3 * PADDING)
    size = TEXT_SIZE - 0.5
    around = 4.5 * size  # the sample of the line, and the space between columns
    labels = [shortened(str(handle.get_label()), room - around, size) for handle in handles]
    widest = max(text_width(label, size) for label in labels) + around
    rows = math.ceil(len(labels) / max(1, room // widest))
    columns = math.ceil(len(labels) / rows)
    _make_room(figure, rows * size)
    figure.legend(
        handles=handles, labels=labels, loc="outside lower center", ncols=columns, handlelength=2.0, columnspacing=1.2
    )


def as_percent(shares: Sequence[float]) -> list[float]:
    """Shares in 0..1 as per cent."""
    return [100 * share for share in shares]
