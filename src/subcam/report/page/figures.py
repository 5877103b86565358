"""The figures of a run's numbers with their captions: curves, confusion matrices, Figures 4 and 6, training, cost.

In: a finished run. Out: drawings, and the elements that show them on the page.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from subcam.data.readers.csv_file import read_csv
from subcam.errors import RunFolderError
from subcam.report.figures.clusters import weights_tsne
from subcam.report.figures.confusion import confusion_figure
from subcam.report.figures.curves import Curve, cost_figure, k_figure, threshold_curves, training_curves
from subcam.report.figures.style import GREY, GRID_GREY
from subcam.report.gather.ablation import Summary, read_summary
from subcam.report.gather.clusters import head_weights
from subcam.report.gather.names import round_name
from subcam.report.page.headline import headline_split
from subcam.results import FinishedRun
from subcam.run_record import StageCost

_LONGEST_WORDS = 80
GRID_K = "discover.num_subcategories"
MAPS_OF_ROUND = r"response maps: round (\d+)"
MAPS_OF_ROUND_0 = "response maps: round 0"
"""How `subcam ablate` names its file, K, and the scores of response maps."""


@dataclass(frozen=True, kw_only=True)
class PageFigure:
    """A figure with its title and caption. `follows_theme`: it may be shown light on dark."""

    name: str
    figure: Figure
    title: str
    caption: str
    follows_theme: bool = True


def number_figures(run: FinishedRun) -> Iterator[PageFigure]:
    """Curves, confusion matrices, Figures 4 and 6: those that the run has data for."""
    yield from _k_figures(run)
    weights = head_weights(run)
    if weights is not None:
        yield PageFigure(
            name="figure-6-weights",
            title="Figure 6. Classifier weights",
            figure=weights_tsne(
                weights.parent,
                weights.subcategory,
                run.result.class_names,
                seed=run.result.settings.seed,
                shown=weights.has_images,
            ),
            caption=(
                "t-SNE of the weights of both classifiers: dots are parent classes, crosses in the same colour their "
                "sub-categories. Neighbours have similar weights; distances between far points mean little."
            ),
            follows_theme=False,
        )
    for split in dict.fromkeys(split for entry in run.result.rounds for split in entry.scores):
        yield _thresholds(run, split)
        yield _confusion(run, split)
    yield from _training(run)


def cost_bars(run: FinishedRun) -> PageFigure | None:
    """Time and peak memory by kind of stage; None where no stage is known."""
    kinds: dict[str, list[StageCost]] = {}
    for cost in run.stages:
        kinds.setdefault(kind_of(cost), []).append(cost)
    if not kinds:
        return None
    joules = [
        [np.nan if cost.energy_joules is None else cost.energy_joules for cost in costs] for costs in kinds.values()
    ]
    energy = [sum(spent) / 3600 for spent in joules]
    return PageFigure(
        name="cost",
        title="Cost by kind of stage",
        figure=cost_figure(
            list(kinds),
            [sum(cost.seconds for cost in costs) for costs in kinds.values()],
            [max(cost.peak_memory_mib for cost in costs) for costs in kinds.values()],
            energy_wh=energy if np.isfinite(energy).any() else None,
        ),
        caption="Seconds are summed over rounds; memory is the peak of the process when the stage ended.",
    )


def kind_of(cost: StageCost) -> str:
    """A stage's name without its round: "round3-control-classify" is "classify (control)"."""
    parts = re.fullmatch(r"(?:round\d+-|given-)?(control-)?(.+)", cost.name)
    assert parts is not None
    kind = "evaluate" if parts[2].startswith("evaluate") else parts[2]
    return f"{kind} (control)" if parts[1] else kind


def inline_svg(svg: str, figure: PageFigure) -> str:
    """A figure's SVG file as an element of a page: no prolog, its own ids, a name for those who cannot see it.

    Where it follows the theme, its ink, ground and greys become those of the page.
    """
    name = figure.name
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    fill = ""
    if figure.follows_theme:
        fill = ' fill="currentColor"'
        for colour, variable in (("#000000", "ink"), ("#ffffff", "paper"), (GRID_GREY, "line"), (GREY, "soft")):
            svg = svg.replace(f": {colour}", f": var(--{variable})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(figure.title)}"{fill} ', 1)


def _thresholds(run: FinishedRun, split: str) -> PageFigure:
    curves: dict[str, Curve] = {}
    control_of = {}
    for entry in run.result.rounds:
        scores = entry.scores.get(split)
        if scores is None or (entry.control and entry.round_index != run.mapped[-1].round_index):
            continue
        label = round_name(entry)
        curves[label] = (scores.thresholds, scores.miou_curve)
        if entry.control:
            control_of[label] = f"round {entry.round_index}"
    for other in run.result.compared:
        if split in other.scores:
            curves[other.title] = (other.scores[split].thresholds, other.scores[split].miou_curve)
    last = next(entry for entry in reversed(run.rounds) if split in entry.scores)
    origin = "chosen without masks" if last.scores[split].threshold_chosen else "given"
    return PageFigure(
        name=f"thresholds-{file_name(split)}",
        title=f"mIoU by threshold, {split}",
        figure=threshold_curves(curves, marked={origin: last.scores[split].fixed_threshold}, control_of=control_of),
        caption="Stars mark the best thresholds. Finding them takes masks, so they are not results of the method.",
    )


def _confusion(run: FinishedRun, split: str) -> PageFigure:
    last = next(entry for entry in reversed(run.rounds) if split in entry.scores)
    return PageFigure(
        name=f"confusion-{file_name(split)}",
        title=f"Confusion, {split}: response maps of {round_name(last)}",
        figure=confusion_figure(np.array(last.scores[split].fixed["matrix"]), run.result.class_names),
        caption=(
            "Rows are the ground truth. A class that an image's labels do not name cannot be predicted in it, so most "
            "confusion is with the background."
        ),
        follows_theme=False,
    )


def _training(run: FinishedRun) -> Iterator[PageFigure]:
    by_kind: dict[str, dict[str, dict[str, Curve]]] = {}
    controls: dict[str, str] = {}
    for cost in run.stages:
        kind = kind_of(cost).removesuffix(" (control)")
        label = re.sub(r"-.*", "", cost.name).replace("round", "round ") if "-" in cost.name else cost.name
        if "control" in cost.name:
            controls[f"{label} control"], label = label, f"{label} control"
        for loss, curve in _losses(cost.folder / "training.csv").items():
            by_kind.setdefault(kind, {}).setdefault(loss, {})[label] = curve
    for kind, panels in by_kind.items():
        yield PageFigure(
            name=f"training-{file_name(kind)}",
            title=f"Training: {kind}",
            figure=training_curves(panels, control_of=controls),
            caption="Losses as logged during training, on augmented crops; they say nothing about other images.",
        )


def _losses(path: Path) -> dict[str, Curve]:
    """Loss -> (epochs, values) of one training, without the total where its parts were logged."""
    if not path.is_file() or not path.stat().st_size:  # of a network that was ready: no step, not even a header
        return {}
    rows = read_csv(path, needed=("epoch",)).dicts()
    columns = [name for name in (rows[0] if rows else ()) if name.endswith("loss")]
    curves: dict[str, Curve] = {}
    try:
        for name in columns:
            values = [float(row[name]) for row in rows if row[name]]
            if values and not (name == "loss" and len(columns) > 1) and any(values):
                curves[name.replace("_", " ")] = ([float(row["epoch"]) for row in rows if row[name]], values)
    except ValueError as error:
        raise RunFolderError(f"{path}: expected numbers, got others ({error}); move it away") from error
    return curves


def _k_figures(run: FinishedRun) -> Iterator[PageFigure]:
    """Figure 4 from the file of `subcam ablate`: mIoU of the last round by K, for each setting of the other axes."""
    split = headline_split(run)
    rests: dict[str, dict[int, dict[str, Summary]]] = {}
    for entry in read_summary(run.result.out):
        others = {name: value for name, value in entry.grid.items() if name != GRID_K}
        k = entry.grid.get(GRID_K)
        if isinstance(k, int) and entry.split == split:
            steps = rests.setdefault(", ".join(f"{name} = {value}" for name, value in others.items()), {})
            steps.setdefault(k, {})[entry.what] = entry
    for number, (rest, by_k) in enumerate(rests.items(), start=1):
        last = {k: _last_round(steps) for k, steps in sorted(by_k.items())}
        points = {k: entry for k, entry in last.items() if entry is not None}
        if len(points) < 2:
            continue
        plain = [steps[MAPS_OF_ROUND_0].mean for steps in by_k.values() if MAPS_OF_ROUND_0 in steps]
        yield PageFigure(
            name=f"figure-4-subcategories-{number}",
            title=f"Figure 4. mIoU on {split} by number of sub-categories K" + (f" ({rest})" if rest else ""),
            figure=k_figure(
                list(points),
                [entry.mean for entry in points.values()],
                [np.nan if entry.std is None else entry.std for entry in points.values()],
                baseline=float(np.mean(plain)) if plain else None,
                seeds=min(entry.n for entry in points.values()),
            ),
            caption="Response maps of the last round at the fixed threshold; the paper marks plain CAM at K = 1.",
        )


def _last_round(steps: dict[str, Summary]) -> Summary | None:
    """Of one grid point's scores by step, that of the last round's response maps."""
    rounds = {int(match[1]): entry for what, entry in steps.items() if (match := re.fullmatch(MAPS_OF_ROUND, what))}
    return rounds[max(rounds)] if rounds else None


def file_name(text: str) -> str:
    """`text` as the name of a file: letters, digits and dashes; a digest tells texts apart that would be one name."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()
    if plain and text.isascii() and len(plain) <= _LONGEST_WORDS:
        return plain
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{plain[:_LONGEST_WORDS]}-{digest}".strip("-")
