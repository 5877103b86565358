"""When sub-categories gain: the last round's mIoU less its control's, by one setting, over seeds.

    subcam ablate toy --seeds 0 1 2 --grid dataset.toy.class_tint=0,0.3,1 --refine.rounds none --out runs/tint
    python -m benchmarks.gain docs/results/gain-by-class-tint.csv --collect runs/tint
    python -m benchmarks.gain docs/results/gain-by-class-tint.csv --table docs/sub-categories.md --figure FILE.webp

The control (`--control`, as recipe `toy` has it) trains as often, without sub-categories. A line of the CSV is a run:
the setting's value, the seed, and mIoU in per cent on val at thresholds chosen without masks.
"""

import argparse
import csv
import io
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from benchmarks.quality import between
from subcam.errors import BadInputError
from subcam.report.figures.files import figure_bytes
from subcam.report.figures.style import LINE_COLOURS, ONE_COLUMN, laid_out, legend_below, paper_style
from subcam.report.gather.ablation import ABLATION

SPLIT = "val"
BEGIN, END = "<!-- gains of {} -->", "<!-- end of gains -->"
COLUMNS = ("round 0", "control", "sub-categories")


@dataclass(frozen=True, kw_only=True)
class Gains:
    """The runs of one grid.

    setting: its name, as on the grid. scores: of each value and seed those of `COLUMNS`, in per cent.
    """

    setting: str
    scores: dict[tuple[float, int], tuple[float, float, float]]

    def of(self, value: float) -> list[tuple[float, float, float]]:
        """The scores of a value's seeds."""
        return [scores for (own, _), scores in sorted(self.scores.items()) if own == value]

    @property
    def values(self) -> list[float]:
        """What the setting was."""
        return sorted({value for value, _ in self.scores})


def collected(folder: Path) -> Gains:
    """The runs of an ablation over one setting.

    Raises:
        BadInputError: another number of settings is on its grid, or one that is no number, or a run has no control.
    """
    runs = json.loads((folder / ABLATION).read_text("utf-8"))["runs"]
    settings = {name for run in runs for name in run["grid"]}
    if len(settings) != 1:
        raise BadInputError(f"{folder}: expected an ablation over one setting, got {sorted(settings)}")
    (setting,), scores = settings, {}
    for run in runs:
        last, own = run["settings"]["rounds"], run["scores"][SPLIT]
        names = ("response maps: round 0", f"control (lambda = 0): round {last}", f"response maps: round {last}")
        if missing := [name for name in names if name not in own]:
            raise BadInputError(f"{folder}: expected {missing} of {run['name']}; run it with --control")
        plain, control, ours = (100 * own[name] for name in names)
        value = run["grid"][setting]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise BadInputError(f"{folder}: expected {setting} to be a number, got {value!r}")
        scores[float(value), int(run["seed"])] = (plain, control, ours)
    return Gains(setting=setting, scores=scores)


def as_csv(gains: Gains) -> str:
    """A line for each run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([gains.setting, "seed", *COLUMNS])
    for (value, seed), scores in sorted(gains.scores.items()):
        writer.writerow([f"{value:g}", seed, *(f"{score:.2f}" for score in scores)])
    return text.getvalue()


def from_csv(path: Path) -> Gains:
    """What `as_csv` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        (setting, *_), *lines = csv.reader(file)
    scores = {}
    for value, seed, *own in lines:
        plain, control, ours = map(float, own)
        scores[float(value), int(seed)] = (plain, control, ours)
    return Gains(setting=setting, scores=scores)


def table(gains: Gains) -> str:
    """Means and standard deviations over seeds; of the gain those of the differences seed by seed."""
    name = gains.setting.rpartition(".")[2]
    lines = [f"| `{name}` | seeds | {' | '.join(COLUMNS)} | gain |", "|" + "---|" * (len(COLUMNS) + 3)]
    for value in gains.values:
        runs = gains.of(value)
        columns = [*zip(*runs, strict=True), [ours - control for _, control, ours in runs]]
        lines.append(f"| {value:g} | {len(runs)} | {' | '.join(map(_cell, columns))} |")
    return "\n".join(lines)


def _cell(scores: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return f"{statistics.fmean(scores):.1f}{deviation}"


@paper_style()
def figure(gains: Gains, *, x_label: str) -> Figure:
    """A line through the means of each column, and a dot for each run."""
    drawn = Figure(figsize=(ONE_COLUMN, 2.2))
    axes = drawn.subplots()
    for place, name in enumerate(COLUMNS):
        colour = LINE_COLOURS[place]
        means = [statistics.fmean(scores[place] for scores in gains.of(value)) for value in gains.values]
        axes.plot(gains.values, means, color=colour, label=name)
        points = [(value, scores[place]) for (value, _), scores in gains.scores.items()]
        axes.plot(*zip(*points, strict=True), ".", color=colour, markersize=3)
    axes.set_xlabel(x_label)
    axes.set_ylabel("mIoU (%)")
    legend_below(drawn, axes.get_legend_handles_labels()[0])
    return laid_out(drawn)


def main() -> None:
    """Collect, or write what documents show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--collect", type=Path, metavar="RUN", help="the folder of an ablation, to make the CSV of")
    parser.add_argument("--table", type=Path, help="a Markdown file with the two marks")
    parser.add_argument("--figure", type=Path, help="a WebP image to write")
    parser.add_argument("--x-label", default="", help="of the figure; else the setting's name")
    given = parser.parse_args()
    if given.collect:
        given.csv.write_text(as_csv(collected(given.collect)), "utf-8")
    gains = from_csv(given.csv)
    if given.table:
        text, begin = given.table.read_text("utf-8"), BEGIN.format(given.csv.name)
        given.table.write_text(between(text, table(gains), begin=begin, end=END), "utf-8")
    if given.figure:
        drawn = figure(gains, x_label=given.x_label or gains.setting.rpartition(".")[2])
        Image.open(io.BytesIO(figure_bytes(drawn, "png"))).save(given.figure, lossless=True)
    if not (given.collect or given.table or given.figure):
        print(table(gains))


if __name__ == "__main__":
    main()
