"""All of refinement's kernels in one command: dense CRF and random walk, time and memory, beside what they replace.

    OMP_NUM_THREADS=1 python benchmarks/refine.py --images VOC/JPEGImages --pydensecrf-python ENV/bin/python
    OMP_NUM_THREADS=1 python benchmarks/refine.py --quick       # one small case of each, in about a minute

Dense CRF: pictures of 320 x 240, 500 x 375 and 1000 x 750, with 2, 5 and 21 classes, on 1 and 2 threads; low and high
alpha sharing a lattice; against pydensecrf where its interpreter is named, and against exact Gaussians on a small
picture. Random walk: the same pictures' grids at stride 8, against psa's dense squarings and plain sparse steps.
How each is measured is told in `crf.py` and `random_walk.py`. The last table holds the targets beside what was found.
"""

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import crf
import random_walk
from rich.console import Console
from rich.table import Table

from subcam.run_folder import versions

YARDSTICK_SIZE = (375, 500)
YARDSTICK_GRID = (47, 63)
YARDSTICK_MIB = 53.0
"""What pydensecrf's resident memory grows by at the yardstick's size with 5 classes."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One bound and what was measured; None where this run did not measure it.

    at_least: whether the bound is the least or the most that is allowed.
    """

    name: str
    bound: float
    at_least: bool
    found: float | None

    @property
    def verdict(self) -> str:
        """Whether it is met, as a word."""
        if self.found is None:
            return "not measured"
        met = self.found >= self.bound if self.at_least else self.found <= self.bound
        return "met" if met else "missed"


def crf_rows(options: argparse.Namespace) -> Iterator[crf.Row]:
    """Every row of the CRF's benchmark, or one small picture and one pair of alphas."""
    if not options.quick:
        yield from crf.measure_rows(turns=options.turns, images=options.images, python=options.pydensecrf_python)
        return
    for sets in (1, 2):
        yield crf.measure_row(
            height=240,
            width=320,
            classes=2,
            sets=sets,
            turns=2,
            images=options.images,
            python=options.pydensecrf_python,
        )


def walk_rows(options: argparse.Namespace) -> list[random_walk.Row]:
    """Every row of the walk's benchmark, or those of one small grid."""
    if options.quick:
        return random_walk.rows(((30, 40),), (2,))
    return random_walk.rows(dense_cells=options.dense_cells)


def crf_targets(rows: Sequence[crf.Row]) -> list[Target]:
    """Times over pydensecrf's at 500 x 375 on one thread, and memory."""
    at_yardstick = {
        (row.classes, row.sets): row for row in rows if (row.height, row.width) == YARDSTICK_SIZE and row.threads == 1
    }

    def ratio(classes: int, sets: int) -> float | None:
        row = at_yardstick.get((classes, sets))
        return row.ratio if row else None

    targets = [
        Target(name=f"dense CRF, {classes} classes: times faster", bound=bound, at_least=True, found=ratio(classes, 1))
        for classes, bound in ((2, 3.0), (5, 3.0), (21, 2.0))
    ]
    targets += [
        Target(name=f"both alphas, {classes} classes: times faster", bound=4.0, at_least=True, found=ratio(classes, 2))
        for classes in (2, 5, 21)
    ]
    five = at_yardstick.get((5, 1))
    peak = five.peak_mib if five else None
    return [*targets, Target(name="dense CRF, 5 classes: peak MiB", bound=YARDSTICK_MIB, at_least=False, found=peak)]


def walk_targets(rows: Sequence[random_walk.Row]) -> list[Target]:
    """Time and memory beside dense squarings at 47 x 63 cells, and the distance of the maps."""
    found = {(row.method, row.classes): row for row in rows if (row.height, row.width) == YARDSTICK_GRID}
    targets = []
    for classes in random_walk.CLASSES:
        ours, dense = found.get(("subcam", classes)), found.get(("dense squarings", classes))
        faster = smaller = difference = None
        if ours and dense:
            faster, difference = dense.seconds / ours.seconds, dense.difference
            smaller = dense.peak_mib / max(ours.peak_mib, 0.1)
        name = f"random walk, {classes} maps"
        targets += [
            Target(name=f"{name}: times faster", bound=100.0, at_least=True, found=faster),
            Target(name=f"{name}: times less memory", bound=20.0, at_least=True, found=smaller),
            Target(name=f"{name}: distance of the maps", bound=1e-4, at_least=False, found=difference),
        ]
    return targets


def target_table(targets: Sequence[Target]) -> Table:
    """Targets for a terminal."""
    table = Table(title=f"targets at {YARDSTICK_SIZE[1]} x {YARDSTICK_SIZE[0]} pixels, one thread")
    for heading in ("what", "bound", "found", ""):
        table.add_column(heading, justify="right" if heading in ("bound", "found") else "left")
    for target in targets:
        bound = f"{'at least' if target.at_least else 'at most'} {target.bound:g}"
        table.add_row(target.name, bound, "" if target.found is None else f"{target.found:.3g}", target.verdict)
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of .jpg photographs; synthetic pictures without")
    parser.add_argument("--pydensecrf-python", type=Path, help="interpreter that has numpy and pydensecrf2")
    parser.add_argument("--turns", type=int, default=12, help="how often the two CRFs take turns")
    parser.add_argument("--dense-cells", type=int, default=3000, help="largest grid for the dense matrix, in cells")
    parser.add_argument("--quick", action="store_true", help="one small case of each, to see that it runs")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args(arguments)
    console = Console(width=120)

    crf_measured = []
    for row in crf_rows(options):
        crf_measured.append(row)
        console.print(f"{row.width} x {row.height}, {row.classes} classes, {row.threads} threads", style="dim")
    console.print(crf.to_table(crf_measured))
    direct = crf.measure_direct(options.images)
    console.print(
        f"exact Gaussians at {direct.width} x {direct.height}, {direct.classes} classes: "
        f"{direct.direct_milliseconds:.0f} ms, ours {direct.milliseconds:.1f} ms, "
        f"mean distance {direct.mean_difference:.1e}"
    )
    walks_measured = walk_rows(options)
    console.print(random_walk.table(walks_measured))
    targets = crf_targets(crf_measured) + walk_targets(walks_measured)
    console.print(target_table(targets))
    if options.json:
        result = {
            "machine": platform.processor() or platform.machine(),
            "versions": versions(),
            "dense_crf": [asdict(row) for row in crf_measured],
            "direct": asdict(direct),
            "random_walk": [asdict(row) for row in walks_measured],
            "targets": [asdict(target) | {"verdict": target.verdict} for target in targets],
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
