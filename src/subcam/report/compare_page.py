"""The page of a comparison: one HTML file that loads nothing, with scores, intervals and the images that differ most.

In: folders side by side, with their scores against ground truth (`Paired`) or, without one, how far they agree
(`Agreement`). Out: the page. Every image that is shown is read again.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from subcam.data.images import read_image, voc_palette
from subcam.data.overlay import colour_mask, overlay_mask
from subcam.export.compare import SideBySide
from subcam.metrics.agreement import Agreement
from subcam.metrics.paired import Interval, Paired
from subcam.report.figures.thumbnails import thumbnail, thumbnail_size
from subcam.report.page.numbers import percent, signed
from subcam.report.page.template import render
from subcam.runtime.files import atomic_write
from subcam.runtime.progress import track

_SIDE = 360
NOT_ANOTHER_SEED = (
    "Intervals hold 95 of 100 resamplings of the images (paired bootstrap). They say whether these images are enough to"
    " tell two sets of masks apart, not how another seed would come out."
)


def write_comparison(
    path: Path,
    side: SideBySide,
    found: Paired | Agreement,
    *,
    images: Mapping[str, Path],
    most: int,
    words: Sequence[str] = (),
) -> None:
    """Write the page of a comparison.

    Args:
        path: of the page, replaced if it is there.
        side: what was compared.
        found: scores, or agreement where there is no ground truth.
        images: files of the images by name; of others the masks are shown alone.
        most: images that are shown at most of each two.
        words: of the command that made the page.

    Raises:
        BadInputError: a mask or an image cannot be read.
        RunFolderError: the disk is full or the folder cannot be written.
    """
    text = comparison_html(side, found, images=images, most=most, words=words)
    with atomic_write(path, "w") as file:
        file.write(text)


def comparison_html(
    side: SideBySide,
    found: Paired | Agreement,
    *,
    images: Mapping[str, Path],
    most: int,
    words: Sequence[str] = (),
) -> str:
    """The whole page as one text."""
    is_scored = isinstance(found, Paired)
    groups = [
        (f"{side.labels[0]} and {label}", _shots(side, found, index, images=images, most=most))
        for index, label in enumerate(side.labels)
        if index
    ]
    shown = any(shot["name"] in images for _, shots in groups for shot in shots)
    palette = voc_palette()
    return render(
        "compare.html",
        title=" and ".join(side.labels) if len(side.labels) == 2 else ", ".join(side.labels),
        what=_what(side, is_scored=is_scored),
        verdicts=[verdict(found, index) for index in range(1, len(side.labels))],
        tiles=_tiles(found),
        tables=[_scores(found), _classes(found)],
        groups=groups if most else [],
        columns=len(_panel_names(side, 1, with_image=shown)),
        images_text=_images_text(is_scored=is_scored, shown=shown),
        key=[(name, _css(palette[place])) for place, name in enumerate(side.class_names) if place],
        how=_how(found),
        command=shlex.join(["subcam", "compare", *words]),
    )


def verdict(found: Paired | Agreement, index: int) -> str:
    """What there is to say about the set at `index` beside the first, in a sentence."""
    first, other = found.labels[0], found.labels[index]
    if isinstance(found, Agreement):
        interval = found.interval(index)
        return (
            f"{other} agrees with {first} on {percent(found.equal_pixels[index - 1])} per cent of the pixels; mean IoU"
            f" of the two {percent(interval.value)} ({percent(interval.low)} to {percent(interval.high)})."
        )
    interval = found.difference(index)
    points = f"{percent(abs(interval.value))} points of mIoU ({signed(interval.low)} to {signed(interval.high)})"
    if not interval.is_sure:
        return f"{len(found.images)} images do not tell {other} and {first} apart: {points} between them."
    return f"{other} is {points} {'above' if interval.value > 0 else 'below'} {first}."


def _what(side: SideBySide, *, is_scored: bool) -> str:
    counted = f"{len(side.images):,} images, {len(side.class_names) - 1} classes"
    if is_scored:
        return f"{counted}, scored against ground truth."
    return f"{counted}. There is no ground truth: this page says how far they agree, not which is right."


def _tiles(found: Paired | Agreement) -> list[dict[str, str]]:
    tiles = []
    for index, label in enumerate(found.labels):
        if isinstance(found, Paired):
            note = "what the others are compared with"
            if index:
                interval = found.difference(index)
                note = f"{signed(interval.value)}, 95% interval {_limits(interval)}"
            tiles.append({"name": label, "value": percent(found.miou[index]), "unit": "% mIoU", "note": note})
        elif index:
            interval = found.interval(index)
            note = f"95% interval {_limits(interval, sign=False)}"
            value = percent(interval.value)
            tiles.append({"name": f"{label} and {found.labels[0]}", "value": value, "unit": "% mean IoU", "note": note})
    return tiles


def _scores(found: Paired | Agreement) -> dict[str, Any]:
    rows = []
    if isinstance(found, Paired):
        intervals = [found.difference(index) for index in range(1, len(found.labels))]
        scale = _scale(intervals)
        for index, label in enumerate(found.labels):
            cells: list[dict[str, Any]] = [_text(percent(found.miou[index]))]
            cells.append(_text(percent(found.pixel_accuracy[index])))
            cells += _difference(intervals[index - 1], scale) if index else [_text(""), _text(""), {"span": None}]
            rows.append({"name": label, "cells": cells})
        columns = _columns("masks", "mIoU", "pixel accuracy", "difference", "95% interval")
        text = f"In per cent. Differences are to {found.labels[0]}, in points of mIoU."
    else:
        for index, label in enumerate(found.labels[1:], start=1):
            interval = found.interval(index)
            cells = [_text(percent(found.equal_pixels[index - 1])), _text(percent(interval.value))]
            rows.append({"name": label, "cells": [*cells, _text(_limits(interval, sign=False))]})
        columns = _columns("masks", "equal pixels", "mean IoU", "95% interval", span=False)
        text = f"In per cent, of each with {found.labels[0]}."
    return {"id": "scores", "title": "Scores", "text": text, "columns": columns, "rows": rows, "note": ""}


def _classes(found: Paired | Agreement) -> dict[str, Any]:
    others = range(1, len(found.labels))
    rows: list[dict[str, Any]] = []
    if isinstance(found, Paired):
        intervals = {
            (index, place): found.class_difference(index, place)
            for index in others
            for place in range(len(found.class_names))
        }
        scale = _scale(list(intervals.values()))
        for place, name in enumerate(found.class_names):
            cells = [_text(_or_dash(found.iou[0, place]))]
            for index in others:
                cells += [_text(_or_dash(found.iou[index, place])), *_difference(intervals[index, place], scale)]
            rows.append({"name": name, "cells": cells})
        columns = _columns("class", found.labels[0], span=False)
        for label in found.labels[1:]:
            columns += _columns(label, "difference", "95% interval")
        note = (
            "A dash: the class is not in the ground truth. Dot: the difference; bar: its interval; line: no difference."
            " In colour where the interval leaves 0 out."
        )
    else:
        for place, name in enumerate(found.class_names):
            cells = []
            for index in others:
                interval = found.class_interval(index, place)
                cells += [_text(_or_dash(interval.value)), _text(_limits(interval, sign=False))]
            rows.append({"name": name, "cells": cells})
        columns = _columns("class", span=False)
        for label in found.labels[1:]:
            columns += _columns(label, "95% interval", span=False)
        note = "A dash: neither has the class."
    text = "IoU by class, in per cent" + ("." if isinstance(found, Paired) else f", of each with {found.labels[0]}.")
    return {"id": "classes", "title": "Classes", "text": text, "columns": columns, "rows": rows, "note": note}


def _difference(interval: Interval, scale: float) -> list[dict[str, Any]]:
    """Cells of a difference: its number, its interval, and both drawn."""
    if interval.value != interval.value:
        return [_text("–"), _text("–"), {"span": None}]

    def at(share: float) -> float:
        return 50 + 50 * share / scale

    low, high = at(interval.low), at(interval.high)
    kind = ("up" if interval.value > 0 else "down") if interval.is_sure else ""
    drawn = {
        "zero": "50",
        "low": f"{low:.2f}",
        "width": f"{high - low:.2f}",
        "value": f"{at(interval.value):.2f}",
        "kind": kind,
        "text": f"{signed(interval.value)} ({_limits(interval)})",
    }
    return [_text(signed(interval.value)), _text(_limits(interval)), {"span": drawn}]


def _scale(intervals: Sequence[Interval]) -> float:
    """Half of the width of the drawings: the greatest limit, and a little more."""
    limits = [abs(limit) for one in intervals for limit in (one.low, one.high, one.value) if np.isfinite(limit)]
    return 1.05 * max(limits, default=0.0) or 1.0


def _shots(
    side: SideBySide, found: Paired | Agreement, index: int, *, images: Mapping[str, Path], most: int
) -> list[dict[str, Any]]:
    """The images on which two sets differ most: the image, both masks and the truth, with the scores of the image."""
    apart: list[tuple[str, str, str]]
    if isinstance(found, Paired):
        scored = found.images_that_differ(index, most=most)
        apart = [(name, percent(first), percent(other)) for name, first, other in scored]
    else:
        apart = [(name, "", percent(share)) for name, share in found.images_that_differ(index, most=most)]
    shots = []
    for name, first, other in track(apart, "compare: images", len(apart)):
        masks, true = side.read(name)
        panels = [(side.labels[0], masks[0], first), (side.labels[index], masks[index], other)]
        panels += [("ground truth", true, "")] if true is not None else []
        image = _image(images[name], masks[0].shape) if name in images else None
        drawn = [] if image is None else [_panel("image", image)]
        for title, mask, score in panels:
            pixels = colour_mask(mask) if image is None else overlay_mask(image, mask)
            drawn.append(_panel(title, pixels, score=score))
        shots.append({"name": name, "panels": drawn})
    return shots


def _image(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "h w 3"] | None:
    """The image, if it is as large as its masks."""
    image = read_image(path)
    return image if image.shape[:2] == shape else None


def _panel(name: str, pixels: UInt8[np.ndarray, "h w 3"], *, score: str = "") -> dict[str, Any]:
    # What is shown larger than it is stays sharp: a browser would blur the edges of a mask, and WebP its colours.
    times = max(1, _SIDE // max(pixels.shape[:2]))
    pixels = pixels.repeat(times, axis=0).repeat(times, axis=1)
    width, height = thumbnail_size(pixels.shape[1], pixels.shape[0], _SIDE)
    return {"name": name, "uri": thumbnail(pixels, _SIDE), "width": width, "height": height, "score": score}


def _panel_names(side: SideBySide, index: int, *, with_image: bool) -> list[str]:
    names = [side.labels[0], side.labels[index]]
    return [*(["image"] if with_image else []), *names, *(["ground truth"] if side.truth is not None else [])]


def _images_text(*, is_scored: bool, shown: bool) -> str:
    by = (
        "Those on which two differ most in the mIoU of the image, in per cent."
        if is_scored
        else "Those on which two agree least, with the mean IoU of the two in per cent."
    )
    return by + ("" if shown else " The images themselves are not known; --image-folder shows them under the masks.")


def _how(found: Paired | Agreement) -> list[str]:
    pixels = "A pixel that one of the folders gives no label counts in none."
    if isinstance(found, Paired):
        classes = "The mean IoU is over the classes, with background, that the ground truth has."
    else:
        classes = "The mean IoU is over the classes, with background, that either of two has."
    return [NOT_ANOTHER_SEED, f"{found.resamples} resamplings with seed {found.seed}. {pixels} {classes}"]


def _columns(*names: str, span: bool = True) -> list[dict[str, Any]]:
    drawn = [{"name": "", "span": True}] if span else []
    return [*({"name": name, "span": False} for name in names), *drawn]


def _text(text: str) -> dict[str, Any]:
    return {"text": text}


def _or_dash(share: float) -> str:
    return percent(share) if share == share else "–"


def _limits(interval: Interval, *, sign: bool = True) -> str:
    if interval.low != interval.low:
        return "–"
    written = signed if sign else percent
    return f"{written(interval.low)} to {written(interval.high)}"


def _css(colour: UInt8[np.ndarray, "3"]) -> str:
    return f"rgb({' '.join(map(str, colour.tolist()))})"
