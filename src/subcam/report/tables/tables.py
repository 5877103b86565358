"""Tables 1 to 4 of a run: response maps by round, pseudo masks, each class, and segmentation networks.

In: what a run left behind (`RunResult`). Out: `ScoreTable`, and files in the run's folder. On the whole of PASCAL VOC
2012 the paper's numbers stand beside ours, marked as published.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from subcam.refine.label_map import VARIANTS
from subcam.report.tables import published
from subcam.report.tables.formats import (
    Cell,
    ScoreTable,
    Shows,
    Spread,
    csv_table,
    csv_text,
    latex_table,
    markdown_table,
    score_table,
    terminal_table,
    write_table,
)
from subcam.report.tables.segmentation import class_table, network_name, segmentation_table
from subcam.results import ComparisonResult, RoundResult, RunResult
from subcam.runtime.files import atomic_write
from subcam.settings import RunSettings
from subcam.stages.evaluate import MapScores
from subcam.stages.evaluate_refined import RefinedScores

__all__ = [
    "BEST_NOTE",
    "ScoreTable",
    "Spread",
    "ablation_table",
    "class_tables",
    "csv_table",
    "explanation",
    "latex_table",
    "markdown_table",
    "tables_of",
    "terminal_table",
    "write_table",
    "write_tables",
]

BEST_NOTE = (
    "* chosen by looking at the masks of the same images, so not a score that can be had without masks. Absent"
    " classes are known from the image-level labels of the scored images, as is the custom for response maps."
)


def tables_of(result: RunResult) -> list[ScoreTable]:
    """Table 2 (response maps by round), Table 1 (pseudo masks) and Table 4 (segmentation), where there are scores."""
    splits = splits_of(result)
    tables = []
    if splits:
        tables.append(_rounds_table(result, splits))
    if splits and (result.compared or any(found.scores for found in result.refined)):
        tables.append(_masks_table(result, splits))
    if any(found.scores for found in result.segmented):
        tables.append(segmentation_table(result))
    return tables


def splits_of(result: RunResult) -> list[str]:
    """The splits on which response maps were scored, in order."""
    return list(dict.fromkeys(split for found in result.rounds for split in found.scores))


def _rounds_table(result: RunResult, splits: Sequence[str]) -> ScoreTable:
    columns: dict[str, Shows] = {
        "split": "text",
        "round": "text",
        **dict.fromkeys(("mIoU", "F-score", "prec.", "recall", "mIoU *"), "percent"),
        "at *": "hundredths",
        "mAP": "percent",
    }
    rows: list[list[Cell]] = []
    sections = []
    for split in splits:
        shown = [found for found in result.rounds if split in found.scores]
        course: bool | None = None
        for found in shown:
            if found.control != course:
                sections.append(len(rows))
            course = found.control
            rows.append([split, _maps_name(found), *_maps_cells(found.scores[split])])
        compared = [found for found in result.compared if split in found.scores]
        sections += [len(rows)] if compared else []
        rows += [[split, _maps_name(found), *_maps_cells(found.scores[split])] for found in compared]
    own = len(rows)
    if "val" in splits and published.compares(result, "val"):
        rows += [
            ["val", f"{row.round_index} (published)", row.miou / 100, row.f_score / 100, *[None] * 5]
            for row in published.TABLE_2
        ]
    return score_table(
        "Table 2. Response maps by round (per cent)",
        columns=columns,
        rows=rows,
        sections=sections,
        published_rows=len(rows) - own,
        name="table-2",
        note=published.NOTE if len(rows) > own else "",
    )


def _maps_cells(scores: MapScores) -> list[Cell]:
    return [
        *(scores.fixed[key] for key in ("miou", "f_score", "precision", "recall")),
        scores.best["miou"],
        scores.best_threshold,
        scores.mean_average_precision,
    ]


def _masks_table(result: RunResult, splits: Sequence[str]) -> ScoreTable:
    columns: dict[str, Shows] = {
        "split": "text",
        "maps of" if result.compared else "round": "text",
        **dict.fromkeys(("CAM", "+CRF", "+RW", "+RW+CRF", "CAM *", "+RW *"), "percent"),
        "alpha *": "plain",
    }
    rows: list[list[Cell]] = []
    sections = []
    for split in splits:
        sections.append(len(rows))
        rows += [_masks_row(result, found, split) for found in _beside_each_other(result) if split in found.scores]
    own = len(rows)
    for split in splits:
        if published.compares(result, split):
            rows += [
                [split, f"{row.method} (published)", row.cam[split] / 100, None, row.walk[split] / 100, *[None] * 4]
                for row in published.TABLE_1
            ]
    # Where nothing was refined, the columns of what would have come of it say nothing.
    names = list(columns)
    told = [
        place
        for place, name in enumerate(names)
        if columns[name] == "text" or any(row[place] is not None for row in rows)
    ]
    return score_table(
        "Table 1. From response maps to pseudo masks (mIoU, per cent)",
        columns={names[place]: columns[names[place]] for place in told},
        rows=[[row[place] for place in told] for row in rows],
        sections=sections,
        published_rows=len(rows) - own,
        name="table-1",
        note=" ".join(
            [
                *([published.NOTE] if len(rows) > own else []),
                *(["Maps that are not of a round are comparisons and were not refined."] if result.compared else []),
            ]
        ),
    )


def _beside_each_other(result: RunResult) -> list[RoundResult | ComparisonResult]:
    """The rounds that were refined; with comparisons also those, and plain CAM and the last round in any case."""
    shown = {refined.round_index for refined in result.refined if refined.scores}
    shown |= {0, result.last.round_index} if result.compared else set()
    rounds = [found for found in result.rounds if found.round_index in shown and not found.control]
    return [*rounds[:1], *result.compared, *rounds[1:]]


def _masks_row(result: RunResult, found: RoundResult | ComparisonResult, split: str) -> list[Cell]:
    maps = found.scores[split]
    refined = _refined_scores(result, found, split)
    alpha, best = refined.best_walk if refined else (None, None)
    return [
        split,
        _maps_name(found),
        maps.fixed["miou"],
        *(refined.variants[variant]["miou"] if refined else None for variant in VARIANTS),
        maps.best["miou"],
        best,
        alpha,
    ]


def _refined_scores(result: RunResult, found: RoundResult | ComparisonResult, split: str) -> RefinedScores | None:
    """The scores of what these maps became; None where they were not refined."""
    if isinstance(found, ComparisonResult):
        return None
    return next((own.scores.get(split) for own in result.refined if own.round_index == found.round_index), None)


def class_tables(result: RunResult) -> list[ScoreTable]:
    """Table 3 for each split: a row a class, then their mean, and a column a step of the pipeline."""
    return [class_table(result, split) for split in splits_of(result)]


def ablation_table(
    title: str,
    *,
    settings: Sequence[str],
    scores: Sequence[str],
    rows: Sequence[Sequence[str | Spread | None]],
    name: str = "",
    note: str = "",
) -> ScoreTable:
    """Means and standard deviations over seeds, a row a point of the grid; the best mean of each column is marked.

    Args:
        title: what was varied and scored.
        settings: the settings on the grid, and what else is text, such as the number of seeds.
        scores: what was scored.
        rows: for each point its settings as text, then a `Spread` for each score, None where there is none.
        name: of the table's files.
        note: what stands under it.

    Raises:
        ValueError: a row has not as many cells as there are columns.
    """
    columns: dict[str, Shows] = {**dict.fromkeys(settings, "text"), **dict.fromkeys(scores, "percent")}
    return score_table(title, columns=columns, rows=rows, name=name, note=note)


def explanation(result: RunResult) -> str:
    """What the columns mean: thresholds, lambda, the starred columns."""
    settings = result.settings
    text = f"Without a star: background {_thresholds(result)}"
    if result.refined:
        masks = settings.refine.masks
        text += f", alpha {masks.crf_alpha:g} before the CRF, {masks.walk_alpha:g} for the random walk"
    text += f". Rounds: {subcategories_text(settings)}"
    text = f"{text}.\n{BEST_NOTE}"
    return (
        f"{text} Segmentation networks find the classes by themselves, but for rows that say otherwise."
        if result.segmented
        else text
    )


def subcategories_text(settings: RunSettings) -> str:
    """What the rounds after round 0 learned, and what their control did not."""
    if settings.subcategories == "local":
        local = settings.local
        text = (
            f"local sub-categories, K = {local.num_subcategories} of each class and {local.num_context} of its context"
        )
        return text + (", control: not trained on" if settings.control else "")
    found = settings.discover
    k = f"K = {found.num_subcategories}" if found.method == "kmeans" else f"K of each class by {found.method}"
    text = f"lambda = {settings.classify.subcategory_weight:g}, {k}"
    return text + (", control: lambda = 0" if settings.control else "")


def _thresholds(result: RunResult) -> str:
    """The thresholds of the response maps, and whether they were given or chosen without masks."""
    given = result.settings.evaluate.background_threshold
    if not isinstance(given, str):
        return f"threshold {given:g}"
    found = [scores.fixed_threshold for each in _all_maps(result) for scores in each.scores.values()]
    between = f"{min(found):g} to {max(found):g}, " if found else ""
    return f"thresholds {between}chosen without masks{' for each class' if given == 'by-class' else ''}"


def write_tables(result: RunResult) -> None:
    """Write `summary.md`, and as CSV `rounds`, `pseudo-masks`, `segmentation` and `classes`, into the run's folder."""
    tables = tables_of(result)
    with atomic_write(result.out / "summary.md", "w") as file:
        file.write("\n".join([*map(markdown_table, tables), explanation(result)]) + "\n")
    files = {"table-2": "rounds", "table-1": "pseudo-masks", "table-4": "segmentation"}
    contents = {files[table.name]: csv_table(table) for table in tables}
    header = ["split", "round", "scored", "background", *result.class_names, "mIoU"]
    rows = [[*names, *map(repr, [*scores["iou"], scores["miou"]])] for *names, scores in _all_scores(result)]
    for name, content in {**contents, "classes": csv_text([header, *rows])}.items():
        with atomic_write(result.out / f"{name}.csv", "w") as file:
            file.write(content)


def _all_scores(result: RunResult) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Split, round, what was scored and its scores, of everything but the thresholds that were found with masks."""
    for found in _all_maps(result):
        for split, scores in found.scores.items():
            yield split, _maps_name(found), f"threshold {scores.fixed_threshold:g}", scores.fixed
    for refined in result.refined:
        for split, of_masks in refined.scores.items():
            for variant, values in of_masks.variants.items():
                yield split, str(refined.round_index), variant, values
    for network in result.segmented:
        for split, kinds in network.scores.items():
            for kind, values in kinds.items():
                yield split, str(network.round_index), f"segmentation, {network_name(network, kind)}", values


def _all_maps(result: RunResult) -> list[RoundResult | ComparisonResult]:
    return [*result.rounds, *result.compared]


def _maps_name(found: RoundResult | ComparisonResult) -> str:
    if isinstance(found, ComparisonResult):
        return found.title
    return f"{found.round_index}" + (" (CAM)" if not found.round_index else " control" if found.control else "")
