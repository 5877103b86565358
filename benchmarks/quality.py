"""The README's table of mIoU, from the summaries in `docs/results`; no number is typed.

    python -m benchmarks.quality                                         # shows it
    python -m benchmarks.quality --write README.md                       # puts it between the marks in that file
    python -m benchmarks.quality --collect NAME.csv RUN [RUN ...]        # the summary of runs that differ in their seed

A summary is what `subcam ablate` writes, too: mean and standard deviation over seeds of every score of a split.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from subcam.ablation.variants import Finished, scores_of, summarise, summary_csv
from subcam.errors import SettingsError
from subcam.results import read_run
from subcam.runtime.run_folder import fingerprint

RESULTS = Path(__file__).parent.parent / "docs" / "results"
BEGIN, END = "<!-- results: python -m benchmarks.quality --write README.md -->", "<!-- end of results -->"
SPLIT = "val"
COLUMNS = ("response maps", "+ CRF", "+ random walk", "+ random walk + CRF")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table.

    title: what it is called. file: a summary in `docs/results`. what: for each column the name that the summary has
        for it; fewer where the later ones were not computed.
    """

    title: str
    file: str
    what: tuple[str, ...]


def refined(index: int) -> tuple[str, ...]:
    """What a summary calls the four columns of a round that has pseudo masks."""
    masks = (f"pseudo masks of round {index}: {variant}" for variant in ("crf", "walk", "walk-crf"))
    return f"response maps: round {index}", *masks


PAPER, SMALL, COMPARED = "voc-animals-paper.csv", "voc-animals-small.csv", "voc-animals-compared.csv"
EARLIER, MOBILENET = "voc-animals-small-0.1.0.csv", "voc-animals-small-mobilenetv2.csv"
ROWS = (
    Row(title="plain CAM, the paper's settings (round 0)", file=PAPER, what=refined(0)),
    Row(title="the paper's sub-categories (round 3)", file=PAPER, what=refined(3)),
    Row(title="its control (lambda = 0, round 3)", file=PAPER, what=("control (lambda = 0): round 3",)),
    Row(title="`small` of 0.1.0: plain CAM (round 0)", file=EARLIER, what=("response maps: round 0",)),
    Row(title="its control (no labels of positions, round 2)", file=EARLIER, what=("control (lambda = 0): round 2",)),
    Row(title="its prototypes (round 2), alphas chosen with masks", file=EARLIER, what=refined(2)),
    *(
        Row(title=f"{name}, for comparison", file=COMPARED, what=(f"response maps of other methods: {name}",))
        for name in ("Grad-CAM++", "LayerCAM", "erasing", "equivariance")
    ),
    Row(title="`small` with MobileNetV2: plain CAM (round 0)", file=MOBILENET, what=("response maps: round 0",)),
    Row(title="its prototypes (round 2), limits chosen with masks", file=MOBILENET, what=refined(2)),
    Row(title="recipe `small`, EfficientNet-Lite 0: plain CAM (round 0)", file=SMALL, what=("response maps: round 0",)),
    Row(title="prototypes, nothing trained (round 1)", file=SMALL, what=("response maps: round 1",)),
    Row(title="**prototypes (round 2)**", file=SMALL, what=refined(2)),
)


def read_summary(path: Path) -> dict[str, dict[str, str]]:
    """The rows of a summary's split `val` by their "what"; each has mIoU (per cent), std (may be empty) and n."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["what"]: row for row in csv.DictReader(file) if row["split"] == SPLIT}


def cell(row: dict[str, str] | None) -> str:
    """Mean and, of several seeds, standard deviation in per cent; empty where there is nothing."""
    if row is None:
        return ""
    return f"{float(row['mIoU']):.1f}" + (f" ± {float(row['std']):.1f}" if row["std"] else "")


def table(folder: Path = RESULTS) -> str:
    """The table in Markdown."""
    lines = [f"| {SPLIT}, mIoU | seeds | {' | '.join(COLUMNS)} |", "|" + "---|" * (len(COLUMNS) + 2)]
    for row in ROWS:
        summary = read_summary(folder / row.file)
        found = [summary.get(what) for what in row.what]
        if not any(found):
            continue
        cells = [cell(entry) for entry in found] + [""] * (len(COLUMNS) - len(found))
        seeds = max(int(entry["n"]) for entry in found if entry)
        lines.append(f"| {row.title} | {seeds} | {' | '.join(cells)} |")
    return "\n".join(lines)


def collected(folders: Sequence[Path]) -> str:
    """The summary of finished runs, as CSV.

    Raises:
        SettingsError: they differ in more than their seed, or two have the same.
    """
    runs = [read_run(folder) for folder in folders]
    alike = {fingerprint({**run.settings, "seed": 0, "machine": {}}) for run in runs}
    seeds = [run.result.settings.seed for run in runs]
    if len(alike) > 1 or len(set(seeds)) < len(seeds):
        raise SettingsError(f"expected runs that differ in their seed alone, got {len(alike)} kinds, seeds {seeds}")
    finished = [
        Finished(
            name=folder.name,
            settings=run.settings,
            grid={},
            seed=seed,
            scores=scores_of(run.result),
            seconds=run.result.seconds,
        )
        for folder, run, seed in zip(folders, runs, seeds, strict=True)
    ]
    return summary_csv(summarise(finished))


def between_marks(text: str, content: str) -> str:
    """The README with `content` as its table; raises as `between`."""
    return between(text, content, begin=BEGIN, end=END)


def between(text: str, content: str, *, begin: str, end: str) -> str:
    """`text` with `content` in place of what stands between two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"expected the marks {begin} and {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def main() -> None:
    """Show the table, write it, or make a summary of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="a Markdown file with the two marks")
    parser.add_argument("--collect", metavar="NAME.csv", help="the summary that the runs are to become")
    parser.add_argument("runs", type=Path, nargs="*", help="folders of finished runs")
    given = parser.parse_args()
    if bool(given.collect) != bool(given.runs):
        parser.error("runs and --collect belong together")
    if given.collect:
        (RESULTS / given.collect).write_text(collected(given.runs), "utf-8")
    if given.write:
        given.write.write_text(between_marks(given.write.read_text("utf-8"), table()), "utf-8")
    if not given.collect and not given.write:
        print(table())


if __name__ == "__main__":
    main()
