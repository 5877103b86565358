"""Tables 3 and 4 of a run: IoU of each class by step, and the segmentation networks beside full supervision."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from subcam.refine.variants import GIVEN
from subcam.report.gather.names import ENDINGS, GIVEN_MAPS, GIVEN_MASKS, masks_name, network_name
from subcam.report.tables import published
from subcam.report.tables.formats import Cell, ScoreTable, Shows, score_table
from subcam.results import RunResult, SegmentedResult
from subcam.runtime.files import read_as
from subcam.runtime.run_folder import Stage
from subcam.stages.evaluate import ScoreValues


def class_table(result: RunResult, split: str) -> ScoreTable:
    """Table 3 of one split: a row for each class, then their mean, and a column for each step of the pipeline."""
    steps: dict[str, tuple[Sequence[float], float]] = {
        name: (scores["iou"], scores["miou"]) for name, scores in _final_steps(result, split)
    }
    own = len(steps)
    if split == "val" and published.compares(result, split):
        for row in published.TABLE_3:
            if row.method == "SC-CAM":
                name = f"{row.method} seg.{' + CRF' if row.crf else ''} (published)"
                steps[name] = ([iou / 100 for iou in row.iou], row.miou / 100)
    names = ("background", *result.class_names)
    rows: list[list[Cell]] = [
        [str(label), name, *(iou[label] for iou, _ in steps.values())] for label, name in enumerate(names)
    ]
    return score_table(
        f"Table 3. Each class on {split} (IoU, per cent)",
        columns={"label": "text", "class": "text", **dict.fromkeys(steps, "percent")},
        rows=[*rows, ["", "mean", *(miou for _, miou in steps.values())]],
        sections=[len(rows)],
        compare="rows",
        name=f"table-3-{split}",
        note="Response maps are scored at the fixed threshold. Label: the value of the class in masks."
        + (f" {published.NOTE}" if len(steps) > own else ""),
    )


def _final_steps(result: RunResult, split: str) -> Iterator[tuple[str, ScoreValues]]:
    """Short name and scores of plain CAM, the last round and its control, pseudo masks and segmentation networks."""
    for entry in result.rounds:
        if split in entry.scores and entry.given:
            yield GIVEN_MAPS, entry.scores[split].fixed
        elif split in entry.scores and entry.round_index in (0, result.last.round_index):
            name = f"{'control' if entry.control else 'round'} {entry.round_index}" if entry.round_index else "CAM"
            yield name, entry.scores[split].fixed
    for refined in result.refined:
        if split in refined.scores:
            given = refined.of_given or refined.variant == GIVEN
            name = masks_name(refined) if given else f"masks {refined.round_index}"
            yield name, refined.scores[split].variants[refined.variant]
    for network in result.segmented:
        for kind, scores in network.scores.get(split, {}).items():
            given = network.of_given or network.trained_on == "given"
            own = "seg." if given else f"seg. {network.round_index}"
            name = "full" if network.trained_on == "truth" else own
            yield name + ENDINGS[kind], scores


def segmentation_table(result: RunResult) -> ScoreTable:
    """Table 4: each network with and without CRF, and its mIoU relative to a network trained on ground truth."""
    splits = list(dict.fromkeys(split for network in result.segmented for split in network.scores))
    full = {
        (split, kind): scores["miou"]
        for network in result.segmented
        if network.trained_on == "truth"
        for split, kinds in network.scores.items()
        for kind, scores in kinds.items()
    }
    rows: list[list[Cell]] = []
    for refined in result.refined:
        if refined.variant == GIVEN:
            own = {split: scores.variants[GIVEN]["miou"] for split, scores in refined.scores.items()}
            rows.append(
                [
                    f"the {GIVEN_MASKS} themselves",
                    "",
                    "",
                    *map(own.get, splits),
                    *([None] * len(splits) if full else []),
                ]
            )
    for network in result.segmented:
        for kind in dict.fromkeys(kind for kinds in network.scores.values() for kind in kinds):
            miou = {split: kinds[kind]["miou"] for split, kinds in network.scores.items() if kind in kinds}
            row: list[Cell] = [network_name(network, kind), _supervision(result, network), _backbone(network.model)]
            row += [miou.get(split) for split in splits]
            if full:
                row += [_ratio(miou.get(split), full.get((split, kind))) for split in splits]
            rows.append(row)
    num_own = len(rows)
    if "val" in splits and published.compares(result, "val"):
        rows += [
            [
                f"{row.method}, {row.venue} (published)",
                "labels",
                row.backbone,
                *(row.miou["val"] / 100 if split == "val" else None for split in splits),
                *([None] * len(splits) if full else []),
            ]
            for row in published.TABLE_4
        ]
    columns: dict[str, Shows] = dict.fromkeys(("trained on", "supervision", "backbone"), "text")
    columns |= dict.fromkeys(splits, "percent")
    columns |= dict.fromkeys((f"{split} / full" for split in splits if full), "percent")
    return score_table(
        "Table 4. Segmentation networks (mIoU, per cent)",
        columns=columns,
        rows=rows,
        sections=[place for place in range(1, num_own) if rows[place][1] != rows[place - 1][1]],
        published_rows=len(rows) - num_own,
        name="table-4",
        note="Published: copied from Table 4 of the paper, not measured here." if len(rows) > num_own else "",
    )


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _supervision(result: RunResult, network: SegmentedResult) -> str:
    learned_from = {"truth": "masks", "given": GIVEN_MASKS}.get(network.trained_on, "labels")
    corrected = result.settings.corrections.named and network.trained_on != "truth"
    return f"{learned_from}, corrected masks" if corrected else learned_from


@dataclass(frozen=True, kw_only=True)
class _Backbone:
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class _Config:
    """Of a saved network's config what a table shows."""

    architecture: str = ""
    network: _Backbone = _Backbone()


def _backbone(model: Stage) -> str:
    """Architecture and backbone as the saved configuration names them."""
    path = model.path / "config.json"
    if not path.is_file():
        return ""
    mend = "restore the folder, or move it away and give the run's command again"
    config: _Config = read_as(_Config, path, what="the config of a network", mend=mend)
    return " ".join(part for part in (config.architecture, config.network.name) if part)
