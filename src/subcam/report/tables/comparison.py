"""The tables of a comparison of masks for the terminal, and all its numbers for a file."""

from typing import Any

from rich.table import Table

from subcam.metrics.agreement import Agreement
from subcam.metrics.paired import Interval, Paired
from subcam.runtime.progress import text_table


def table_of(found: Paired | Agreement) -> Table:
    """Scores of each, and the difference in mIoU to the first; or how far each agrees with it. In per cent."""
    rows: list[tuple[str, ...]] = []
    columns: tuple[str, ...]
    if isinstance(found, Paired):
        columns = ("masks", "mIoU", "pixel accuracy", "difference in mIoU", "95% interval")
        for index, label in enumerate(found.labels):
            scores = (_percent(found.miou[index]), _percent(found.pixel_accuracy[index]))
            rows.append((label, *scores, *(_cells(found.difference(index)) if index else ("", ""))))
        return text_table(columns, rows, title="Scores (per cent)")
    for index, label in enumerate(found.labels[1:], start=1):
        equal = _percent(found.equal_pixels[index - 1])
        rows.append((label, equal, *_agreement_cells(found.interval(index))))
    columns = ("masks", "equal pixels", "mean IoU of the two", "95% interval")
    return text_table(columns, rows, title=f"Agreement with {found.labels[0]} (per cent)")


def class_table(found: Paired | Agreement) -> Table:
    """IoU of each class in the first, and in the others with the interval of the difference; or with the first."""
    others = range(1, len(found.labels))
    if isinstance(found, Paired):
        header = [part for label in found.labels[1:] for part in (label, "difference", "95% interval")]
        rows = []
        for place, name in enumerate(found.class_names):
            cells = [_percent(found.iou[0, place])]
            for index in others:
                cells += [_percent(found.iou[index, place]), *_cells(found.class_difference(index, place))]
            rows.append((name, *cells))
        return text_table(("class", found.labels[0], *header), rows, title="IoU by class (per cent)")
    header = [part for label in found.labels[1:] for part in (label, "95% interval")]
    rows = [
        (name, *(cell for index in others for cell in _agreement_cells(found.class_interval(index, place))))
        for place, name in enumerate(found.class_names)
    ]
    return text_table(("class", *header), rows, title=f"IoU by class with {found.labels[0]} (per cent)")


def numbers(found: Paired | Agreement) -> dict[str, Any]:
    """All scores, differences and intervals, as shares, and the mIoU of each image."""
    common = {
        "compared": found.labels,
        "images": len(found.images),
        "resamples": found.resamples,
        "seed": found.seed,
    }
    others, labels = range(1, len(found.labels)), found.labels[1:]
    if isinstance(found, Paired):
        return common | {
            "miou": dict(zip(found.labels, found.miou.tolist(), strict=True)),
            "difference": {found.labels[index]: found.difference(index) for index in others},
            "classes": [
                {
                    "class": name,
                    "iou": dict(zip(found.labels, found.iou[:, place].tolist(), strict=True)),
                    "difference": {found.labels[index]: found.class_difference(index, place) for index in others},
                }
                for place, name in enumerate(found.class_names)
            ],
            "by_image": _by_image(found, found.labels),
        }
    return common | {
        "equal_pixels": dict(zip(labels, found.equal_pixels.tolist(), strict=True)),
        "agreement": {found.labels[index]: found.interval(index) for index in others},
        "classes": [
            {
                "class": name,
                "agreement": {found.labels[index]: found.class_interval(index, place) for index in others},
            }
            for place, name in enumerate(found.class_names)
        ],
        "by_image": _by_image(found, labels),
    }


def _by_image(found: Paired | Agreement, labels: tuple[str, ...]) -> dict[str, dict[str, float]]:
    return {
        name: dict(zip(labels, found.image_miou[:, place].tolist(), strict=True))
        for place, name in enumerate(found.images)
    }


def _cells(interval: Interval) -> tuple[str, str]:
    """A difference, with a star where 0 is outside of its interval, and the interval."""
    if interval.value != interval.value:
        return "-", "-"
    star = " *" if interval.is_sure else ""
    return f"{100 * interval.value:+.1f}{star}", f"{100 * interval.low:+.1f} .. {100 * interval.high:+.1f}"


def _agreement_cells(interval: Interval) -> tuple[str, str]:
    if interval.value != interval.value:
        return "-", "-"
    return _percent(interval.value), f"{_percent(interval.low)} .. {_percent(interval.high)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share == share else "-"
