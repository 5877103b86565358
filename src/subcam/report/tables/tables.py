"""Tables 1 to 4 of a run: response maps by round, pseudo masks, each class, and segmentation networks.

In: the results of a run (`RunResult`). Out: `ScoreTable`, and files in the run's folder. On the whole of PASCAL VOC
2012 the paper's numbers are added, marked as published.
"""

from collections.abc import Iterator, Sequence

from subcam.refine.alphas import alpha_text
from subcam.refine.variants import VARIANTS
from subcam.report.gather.names import GIVEN_MAPS, VARIANT_COLUMNS, network_name, row_name
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
from subcam.report.tables.segmentation import class_table, segmentation_table
from subcam.results import ComparisonResult, RoundResult, RunResult
from subcam.runtime.files import atomic_write
from subcam.settings import RunSettings
from subcam.stages.evaluate import MapScores, RefinedScores, ScoreValues

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
    "* Chosen with the ground truth of the same images, and so out of reach without masks. Response maps are made only"
    " for the classes that an image's labels name, as is usual."
)

_NOT_REFINED = "Maps of other methods are shown for comparison and were not refined (--compare.refine does)."


def tables_of(result: RunResult) -> list[ScoreTable]:
    """Table 2 (response maps by round), Table 1 (pseudo masks) and Table 4 (segmentation), where there are scores."""
    splits = [split for split in splits_of(result) if any(split in entry.scores for entry in result.rounds)]
    tables = []
    if splits:
        tables.append(_rounds_table(result, splits))
    if splits and (result.compared or any(refined.scores for refined in result.refined)):
        tables.append(_masks_table(result, splits))
    if any(network.scores for network in result.segmented):
        tables.append(segmentation_table(result))
    return tables


def splits_of(result: RunResult) -> list[str]:
    """The splits on which anything was scored, in order."""
    splits = [split for entry in result.rounds for split in entry.scores]
    splits += [split for refined in result.refined for split in refined.scores]
    splits += [split for network in result.segmented for split in network.scores]
    return list(dict.fromkeys(splits))


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
        is_control: bool | None = None
        for entry in result.rounds:
            if split not in entry.scores:
                continue
            if entry.control != is_control:
                sections.append(len(rows))
            is_control = entry.control
            rows.append([split, row_name(entry), *_maps_cells(entry.scores[split])])
        compared = [entry for entry in result.compared if split in entry.scores]
        sections += [len(rows)] if compared else []
        rows += [[split, row_name(entry), *_maps_cells(entry.scores[split])] for entry in compared]
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
        **dict.fromkeys(("CAM", *(VARIANT_COLUMNS[variant] for variant in VARIANTS), "CAM *", "+RW *"), "percent"),
        "alpha *": "plain",
    }
    rows: list[list[Cell]] = []
    sections = []
    for split in splits:
        sections.append(len(rows))
        rows += [_masks_row(result, entry, split) for entry in _in_table_1(result) if split in entry.scores]
    own = len(rows)
    for split in splits:
        if published.compares(result, split):
            rows += [
                [split, f"{row.method} (published)", row.cam[split] / 100, None, row.walk[split] / 100, *[None] * 4]
                for row in published.TABLE_1
            ]
    # Where nothing was refined, the columns of refined masks would be empty.
    names = list(columns)
    filled = [
        place
        for place, name in enumerate(names)
        if columns[name] == "text" or any(row[place] is not None for row in rows)
    ]
    return score_table(
        "Table 1. From response maps to pseudo masks (mIoU, per cent)",
        columns={names[place]: columns[names[place]] for place in filled},
        rows=[[row[place] for place in filled] for row in rows],
        sections=sections,
        published_rows=len(rows) - own,
        name="table-1",
        note=" ".join(
            [
                *([published.NOTE] if len(rows) > own else []),
                *([_NOT_REFINED] if any(not one.refined for one in result.compared) else []),
            ]
        ),
    )


def _in_table_1(result: RunResult) -> list[RoundResult | ComparisonResult]:
    """The rounds that were refined; where there are other maps, also those, plain CAM and the last round."""
    shown = {refined.round_index for refined in result.refined if refined.scores}
    shown |= {0, result.last.round_index} if result.compared else set()
    rounds = [entry for entry in result.rounds if entry.round_index in shown and not entry.control]
    return [*rounds[:1], *result.compared, *rounds[1:]]


def _masks_row(result: RunResult, entry: RoundResult | ComparisonResult, split: str) -> list[Cell]:
    maps = entry.scores[split]
    refined = _refined_scores(result, entry, split)
    variants = refined.variants if refined else {}
    alpha, best = refined.best_walk if refined else (None, None)
    return [
        split,
        row_name(entry),
        maps.fixed["miou"],
        *(variants[variant]["miou"] if variant in variants else None for variant in VARIANTS),
        maps.best["miou"],
        best,
        alpha,
    ]


def _refined_scores(result: RunResult, entry: RoundResult | ComparisonResult, split: str) -> RefinedScores | None:
    """The scores of the pseudo masks from these maps; None where they were not refined."""
    if isinstance(entry, ComparisonResult):
        return entry.refined.scores.get(split) if entry.refined else None
    refined = (one.scores.get(split) for one in result.refined if one.round_index == entry.round_index)
    return next(refined, None)


def class_tables(result: RunResult) -> list[ScoreTable]:
    """Table 3 for each split."""
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
    """Means and standard deviations over seeds, a row for each grid point; the best mean of each column is marked.

    Args:
        title: what was varied and scored.
        settings: names of the columns of text: the settings on the grid, and others such as the number of seeds.
        scores: names of the columns of scores.
        rows: for each grid point its settings as text, then a `Spread` for each score, None where there is none.
        name: of the table's files.
        note: the text below the table.

    Raises:
        ValueError: a row does not have a cell for each column.
    """
    columns: dict[str, Shows] = {**dict.fromkeys(settings, "text"), **dict.fromkeys(scores, "percent")}
    return score_table(title, columns=columns, rows=rows, name=name, note=note)


def explanation(result: RunResult) -> str:
    """How maps and masks were made; where there are tables, also what their starred columns and rows mean."""
    settings, scored = result.settings, bool(tables_of(result))
    if not result.rounds:
        text = "Masks were given: nothing is known here of how they were made."
    else:
        text = f"{'Without a star: b' if scored else 'B'}ackground {_thresholds(result)}"
        if result.refined:
            masks, made = settings.refine.masks, result.refined[-1].made
            text += f", alpha {alpha_text(masks.crf_alpha, made.crf_alpha if made else None)} before the CRF"
            if settings.refine.random_walk:
                text += f", {alpha_text(masks.walk_alpha, made.walk_alpha if made else None)} for the random walk"
        given = result.rounds[0].given
        text += ". Response maps were given" if given else f". Rounds: {subcategories_text(settings)}"
        text += f".\n{BEST_NOTE}" if scored else "."
    if result.segmented and scored:
        text += " Segmentation networks predict the classes themselves, except in rows that say “labels known”."
    return text


def subcategories_text(settings: RunSettings) -> str:
    """What the rounds after round 0 were trained on, and what their control was not."""
    if settings.route == "prototypes":
        prototypes = settings.prototypes
        text = f"prototypes, {prototypes.num_objects} of each class and {prototypes.num_context} of its context"
        return text + (", control: trained without them" if settings.control else "")
    discover = settings.discover
    k = f"K = {discover.num_subcategories}" if discover.method == "kmeans" else f"K of each class by {discover.method}"
    text = f"lambda = {settings.classify.subcategory_weight:g}, {k}"
    return text + (", control: lambda = 0" if settings.control else "")


def _thresholds(result: RunResult) -> str:
    """The thresholds of the response maps, and whether they were given or chosen without masks."""
    given = result.settings.evaluate.background_threshold
    if not isinstance(given, str):
        return f"threshold {given:g}"
    chosen = [scores.fixed_threshold for entry in _all_maps(result) for scores in entry.scores.values()]
    extent = f"{min(chosen):g} to {max(chosen):g}, " if chosen else ""
    return f"thresholds {extent}chosen without masks{' for each class' if given == 'by-class' else ''}"


def write_tables(result: RunResult) -> None:
    """Write `summary.md`, and `rounds`, `pseudo-masks`, `segmentation`, `class-iou` as CSV, into the run's folder.

    Where nothing was scored, `summary.md` says what the run has.
    """
    tables = tables_of(result)
    with atomic_write(result.out / "summary.md", "w") as file:
        parts = [markdown_table(table) for table in tables] or [_unscored(result)]
        file.write("\n".join([*parts, explanation(result)]) + "\n")
    files = {"table-2": "rounds", "table-1": "pseudo-masks", "table-4": "segmentation"}
    contents = {files[table.name]: csv_table(table) for table in tables}
    header = ["split", "round", "scored", "background", *result.class_names, "mIoU"]
    rows = [[*names, *map(repr, [*scores["iou"], scores["miou"]])] for *names, scores in _all_scores(result)]
    for name, content in {**contents, "class-iou": csv_text([header, *rows])}.items():
        with atomic_write(result.out / f"{name}.csv", "w") as file:
            file.write(content)


def _unscored(result: RunResult) -> str:
    """What a run has that scored nothing, in Markdown."""
    lines = [f"classes: {', '.join(result.class_names)}"]
    if maps := [entry.maps for entry in result.rounds if entry.maps and not entry.control]:
        lines.append(f"response maps: `stages/{maps[-1].path.name}`")
    if result.refined:
        rated = " (how far each can be trusted: `masks/masks.csv`)" if result.refined[-1].confidence else ""
        lines.append(f"masks: `masks`{rated}")
    if result.segmented:
        lines.append("segmentation network: `model`")
    return "\n".join(["Nothing was scored, so there are no tables. The run has:", "", *(f"- {x}" for x in lines), ""])


def _all_scores(result: RunResult) -> Iterator[tuple[str, str, str, ScoreValues]]:
    """Split, round, what was scored and its scores; nothing whose threshold was chosen with masks."""
    for entry in _all_maps(result):
        for split, scores in entry.scores.items():
            yield split, row_name(entry), f"threshold {scores.fixed_threshold:g}", scores.fixed
    all_refined = [(GIVEN_MAPS if one.of_given else str(one.round_index), one) for one in result.refined]
    all_refined += [(one.title, one.refined) for one in result.compared if one.refined]
    for name, refined in all_refined:
        for split, of_masks in refined.scores.items():
            for variant, values in of_masks.variants.items():
                yield split, name, variant, values
    for network in result.segmented:
        for split, kinds in network.scores.items():
            for kind, values in kinds.items():
                of = GIVEN_MAPS if network.of_given else str(network.round_index)
                yield split, of, f"segmentation, {network_name(network, kind)}", values


def _all_maps(result: RunResult) -> list[RoundResult | ComparisonResult]:
    return [*result.rounds, *result.compared]
