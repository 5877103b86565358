"""The content of the page: a finished run's numbers, images and sentences, put into the template.

In: the gathered and packed images, tables and figures. Out: the HTML text.
"""

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup

from subcam.report.figures.style import SEQUENTIAL, screen_colour, screen_palette
from subcam.report.gather.clusters import ClusterRecord, ParentClusters
from subcam.report.gather.images import (
    Images,
    final_segmentation,
    published,
    response_threshold,
)
from subcam.report.gather.names import round_name
from subcam.report.page import sentences
from subcam.report.page.figures import PageFigure, inline_svg
from subcam.report.page.first_look import confidence_tiles, file_link, first_images, main_tiles, worst_fifth
from subcam.report.page.headline import headline
from subcam.report.page.numbers import percent, signed
from subcam.report.page.packing import PackedImage
from subcam.report.page.template import render, source
from subcam.report.tables.formats import ScoreTable, csv_table, latex_table, markdown_table
from subcam.report.tables.tables import explanation
from subcam.results import FinishedRun

_FINALS = 9
_MANY_CLUSTERS = 40
"""With more clusters than this, the page first shows those of one class."""

_BROAD = 600
"""A figure wider than this many pixels has a row of its own."""


def page_html(
    run: FinishedRun,
    *,
    tables: Sequence[ScoreTable],
    images: Images,
    packed: Sequence[PackedImage],
    parents: Sequence[ParentClusters],
    thumbnails: Mapping[Path, str],
    figures: Sequence[PageFigure],
    cost: PageFigure | None,
    drawings: Mapping[str, str],
    out: Path,
) -> str:
    """The whole page as one text.

    thumbnails: data URI of each cluster's images. drawings: SVG of each figure. out: the page's folder, from which it
    links to files.
    """
    result = run.result
    colours = {index + 1: screen_colour(index + 1) for index in range(len(result.class_names))}
    class_options = [("", "all", "")] + [(str(c), result.class_names[c - 1], colour) for c, colour in colours.items()]
    masks = list(dict.fromkeys(name for image in packed for name in image.record.masks))
    has_truth = any(image.record.truth for image in packed)
    splits = list(dict.fromkeys(image.record.split for image in packed))
    finals = _finals(packed)
    shown_parents = [parent for parent in parents if parent.clusters]
    summary = headline(run)
    last_round = run.mapped[-1].round_index if run.mapped else 0
    threshold = response_threshold(run, splits[0] if splits else "", run.mapped[-1]) if run.mapped else 0.0
    mask_chosen = published(run) or next(iter(masks), "")
    worst = worst_fifth([image.record.confidence for image in packed])
    tiles = summary.tiles or confidence_tiles([image.record.confidence for image in packed])
    return render(
        "page.html",
        js=source("responses.js") + source("page.js"),
        data=Markup(script_json(_data(packed, out))),
        title=result.out.absolute().name,
        what=sentences.what(run),
        verdict=summary.verdict,
        tiles=main_tiles(tiles),
        more_tiles=[tile for tile in tiles if tile not in main_tiles(tiles)],
        firsts=first_images(packed, mask_chosen),
        firsts_note=sentences.firsts_note([image.record for image in packed], mask_chosen, published(run)),
        mask_word=sentences.mask_word(mask_chosen),
        mask_note=sentences.mask_note(published(run)),
        notes=[note for note in (summary.note, *sentences.recipe_notes(run)) if note],
        sections=_sections(tables=tables, images=packed, clusters=shown_parents, segmentation=finals, figures=figures),
        tables=[_table(table) for table in tables],
        tables_note=explanation(result),
        images=[
            _image(image, result.class_names, out, mask_chosen, first=place in worst)
            for place, image in enumerate(packed)
        ],
        worst=len(worst),
        has_confidence=any(image.record.confidence is not None for image in packed),
        has_disagreement=any(image.record.disagreement is not None for image in packed),
        disagreement_note=sentences.disagreement_note([image.record for image in packed]),
        gallery_note=sentences.gallery_note(images, len(packed)),
        iou_note=sentences.iou_note(has_truth) if run.mapped else "",
        class_options=class_options,
        split_options=[("", "all", ""), *((split, split, "") for split in splits)],
        orders=_orders(packed),
        first_maps=round_name(run.mapped[0]) if run.mapped else "",
        last_round=last_round,
        threshold_percent=round(100 * threshold),
        mask_options=masks,
        mask_chosen=mask_chosen,
        panels=1 + bool(run.mapped) + bool(last_round) + bool(masks) + has_truth,
        scale_stops=", ".join(
            matplotlib.colors.to_hex(matplotlib.colormaps[SEQUENTIAL](at)) for at in np.linspace(0, 1, 9)
        ),
        colours=colours,
        class_names=result.class_names,
        parents=[_parent(parent, thumbnails) for parent in shown_parents],
        parent_options=class_options,
        parent_chosen=str(shown_parents[0].class_index + 1)
        if sum(len(parent.clusters) for parent in shown_parents) > _MANY_CLUSTERS
        else "",
        clusters_note=sentences.clusters_note(shown_parents),
        finals=finals,
        finals_note=sentences.finals_note(len(finals), has_truth and len(finals) == _FINALS),
        figures=[_figure(figure, drawings) for figure in figures],
        cost_figure=_figure(cost, drawings) if cost else None,
        cost_table=_cost_table(run),
        cost_note=sentences.cost_note(run),
        about=sentences.about(run),
        command=shlex.join((Path(run.command[0]).name, *run.command[1:])) if run.command else "",
        settings=json.dumps(run.settings, indent=1),
        skipped=run.skipped,
    )


def _sections(**parts: Sequence[Any]) -> list[tuple[str, str]]:
    """Targets and names for the navigation: those of the parts that are not empty."""
    names = {"clusters": "Sub-categories"}
    filled = [(target, names.get(target, target.capitalize())) for target, content in parts.items() if content]
    return [("summary", "Summary"), *filled, ("cost", "Cost"), ("about", "Settings")]


def _data(packed: Sequence[PackedImage], out: Path) -> dict[str, Any]:
    """What the script needs: colours, and every image's maps and masks, with links to the files of the masks."""
    scale = matplotlib.colormaps[SEQUENTIAL](np.arange(256), bytes=True)[:, :3]
    return {
        "palette": base64.b64encode(screen_palette().tobytes()).decode(),
        "scale": base64.b64encode(np.ascontiguousarray(scale).tobytes()).decode(),
        "images": [
            {
                "width": image.width,
                "height": image.height,
                "files": {name: file_link(path, out) for name, path in image.record.masks.items()},
                **image.data,
            }
            for image in packed
        ],
    }


def script_json(value: Any) -> str:
    """JSON that is safe in a script element, whatever names the user's files and classes have."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _table(table: ScoreTable) -> dict[str, Any]:
    own = len(table.rows) - table.published_rows
    files = {"csv": csv_table(table), "md": markdown_table(table), "tex": latex_table(table)}
    return {
        "name": table.name,
        "title": table.title,
        "columns": table.columns,
        "rows": [
            {
                "cells": [(text, (place, column) in table.best) for column, text in enumerate(cells)],
                "kind": ("break " if place in table.sections else "") + ("published" if place >= own else ""),
            }
            for place, cells in enumerate(table.rows)
        ],
        "text_columns": table.text_columns,
        "note": table.note,
        "files": [(kind, _download(text)) for kind, text in files.items()],
    }


def _download(text: str) -> str:
    return f"data:text/plain;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"


def _image(image: PackedImage, class_names: tuple[str, ...], out: Path, mask: str, *, first: bool) -> dict[str, Any]:
    """One card. mask: the name of its mask at the beginning. first: whether it is among those to look at first."""
    record = image.record
    labels = [label + 1 for label in record.labels]
    story = f"IoU {percent(record.last_iou)}" if record.last_iou is not None else ""
    gain = ""
    if record.plain_iou is not None and record.last_iou is not None and record.gain is not None:
        story = f"IoU {percent(record.plain_iou)} → {percent(record.last_iou)}"
        gain = signed(record.gain)
    return {
        "name": record.name,
        "split": record.split,
        "labels": labels,
        "label_names": ", ".join(class_names[label - 1] for label in labels) or "nothing",
        "gain_value": "" if record.gain is None else f"{record.gain:.4f}",
        "iou_value": "" if record.last_iou is None else f"{record.last_iou:.4f}",
        "story": story,
        "confidence": "" if record.confidence is None else f"{record.confidence:.4f}",
        "doubt": record.doubt,
        "first": first,
        "disagreement": "" if record.disagreement is None else f"{record.disagreement:.4f}",
        "files": [
            (what, link)
            for what, path in (("image", record.image), ("mask", record.masks.get(mask)))
            if path is not None and (link := file_link(path, out))
        ],
        "gain": gain,
        "kind": "good" if (record.gain or 0) > 0 else "bad",
        "thumbnail": image.thumbnail,
        "width": image.width,
        "height": image.height,
        "has_truth": record.truth is not None,
    }


def _orders(packed: Sequence[PackedImage]) -> list[tuple[str, str, str]]:
    orders = [("name", "by name", "")]
    if any(image.record.confidence is not None for image in packed):
        orders = [("doubt", "least certain", ""), *orders]
    if any(image.record.disagreement is not None for image in packed):
        orders = [*orders, ("disagreement", "most disagreement", "")]
    if any(image.record.last_iou is not None for image in packed):
        orders = [("best", "highest IoU", ""), ("worst", "lowest IoU", ""), *orders]
    if any(image.record.gain is not None for image in packed):
        orders = [("gain", "greatest gain", ""), ("loss", "greatest loss", ""), *orders]
    return orders


def _parent(parent: ParentClusters, thumbnails: Mapping[Path, str]) -> dict[str, Any]:
    images = sum(cluster.size for cluster in parent.clusters)
    story = f"{images} images in {len(parent.clusters)} sub-categories"
    if parent.purity is not None:
        story += f", purity {100 * parent.purity:.0f}%"
    return {
        "label": parent.class_index + 1,
        "name": parent.class_name,
        "story": story,
        "clusters": [
            {
                "name": cluster.name,
                "size": f"{cluster.size} image{'' if cluster.size == 1 else 's'}",
                "thumbnails": [thumbnails[path] for path in cluster.nearest],
                "facts": _facts(cluster),
            }
            for cluster in parent.clusters
        ],
    }


def _facts(cluster: ClusterRecord) -> list[tuple[str, str]]:
    facts = []
    if cluster.purity is not None:
        facts.append(("purity", f"{100 * cluster.purity:.0f}% {cluster.subtype}"))
    if cluster.silhouette is not None:
        facts.append(("silhouette", f"{cluster.silhouette:.2f}".replace("-", "−")))
    if cluster.companion is not None:
        name, inside, whole = cluster.companion
        facts.append((f"with {name}", f"{100 * inside:.0f}% (all {100 * whole:.0f}%)"))
    return facts


def _finals(packed: Sequence[PackedImage]) -> list[dict[str, Any]]:
    """Images with their final segmentation: of many, those of highest, middle and lowest IoU."""
    scored = [
        (-1.0 if image.final_iou is None else image.final_iou, index, image.record)
        for index, image in enumerate(packed)
        if final_segmentation(image.record.masks)
    ]
    scored.sort(key=lambda entry: -entry[0])
    third = _FINALS // 3
    middle = (len(scored) - third) // 2
    chosen = [*scored[:third], *scored[middle : middle + third], *scored[-third:]] if len(scored) > _FINALS else scored
    return [
        {
            "name": record.name,
            "story": f"IoU {percent(iou)}" if iou >= 0 else "",
            "image": index,
            "thumbnail": packed[index].thumbnail,
            "width": packed[index].width,
            "height": packed[index].height,
            "panels": [
                (final_segmentation(record.masks), "segmentation"),
                *([("truth", "ground truth")] if record.truth is not None else []),
            ],
        }
        for iou, index, record in chosen
    ]


def _figure(figure: PageFigure, drawings: Mapping[str, str]) -> dict[str, Any]:
    width = 96 * figure.figure.get_figwidth()
    return {
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "follows_theme": figure.follows_theme,
        "svg": Markup(inline_svg(drawings[figure.name], figure)),
        "broad": width > _BROAD,
        "least_width": round(0.8 * width),
        "most_width": round(1.5 * width),
    }


def _cost_table(run: FinishedRun) -> dict[str, Any]:
    energy = any(cost.energy_joules is not None for cost in run.stages)
    rows = [
        (
            cost.name,
            f"{cost.seconds:.1f}",
            f"{cost.peak_memory_mib:.0f}",
            *([f"{cost.energy_joules / 3600:.2f}" if cost.energy_joules is not None else "–"] if energy else []),
        )
        for cost in run.stages
    ]
    rows.append(("all stages", f"{sum(cost.seconds for cost in run.stages):.1f}", f"{run.peak_memory_mib:.0f}"))
    if energy:
        rows[-1] += (f"{sum(cost.energy_joules or 0.0 for cost in run.stages) / 3600:.2f}",)
    columns = ("stage", "seconds", "peak memory (MiB)", *(["energy (Wh)"] if energy else []))
    return {
        "name": "table-cost",
        "title": "Cost by stage",
        "columns": columns,
        "rows": [
            {"cells": [(text, False) for text in cells], "kind": "break" if cells[0] == "all stages" else ""}
            for cells in rows
        ],
        "text_columns": 1,
        "note": "",
        "files": [],
    }
