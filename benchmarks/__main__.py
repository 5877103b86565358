"""Times and memory of every stage beside a plain way of doing the same, in one process, taking turns.

    python -m benchmarks                                  # everything that takes minutes
    python -m benchmarks goals                            # what `goals.py` sets goals for
    python -m benchmarks memory prediction-memory         # growth with the number of images, half an hour
    python -m benchmarks recipe --data DIR --weights FILE --baseline-python ENV/bin/python -- FLAGS    # hours
    python -m benchmarks maps walk --json found.json      # two of them, kept
    python -m benchmarks --quick                          # the smallest case of each: to see that it runs
    python -m benchmarks maps --against found.json        # beside an earlier run
    python -m benchmarks --load found.json --markdown docs/scale.md     # nothing measured, the page written anew
    python -m benchmarks gpu --help                       # the whole path on a GPU, a command of its own

Ends with status 1 if a bound was missed, but not with --quick: what is a bound on the sizes that it is meant for says
nothing about the smallest. `precision.py`, `thresholds.py` and `map_shifts.py` in this folder study a run of your own.
"""

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import Options

if TYPE_CHECKING:  # the thread variables are set before anything heavy is imported
    from rich.console import Console

    from benchmarks.record import Results

BENCHMARKS = {
    "maps": ("response_maps", "rows"),
    "maps-peers": ("maps_beside_peers", "rows"),
    "compile": ("compiled", "rows"),
    "training": ("training", "rows"),
    "input": ("input", "rows"),
    "clustering": ("clustering", "rows"),
    "faiss": ("clustering", "faiss_rows"),
    "crf": ("crf", "rows"),
    "walk": ("random_walk", "rows"),
    "segmentation": ("segmentation", "rows"),
    "scores": ("evaluation", "rows"),
    "evaluate": ("evaluation", "processes"),
    "prediction": ("predict", "rows"),
    "starts": ("starts", "rows"),
    "report": ("report", "rows"),
    "earlier": ("earlier", "rows"),
    "memory": ("memory", "growth"),
    "prediction-memory": ("predict", "growth"),
    "recipe": ("recipe", "rows"),
}
"""Names, and where each is: a file here, and the function in it that takes `Options`."""
ONLY_BY_NAME = ("memory", "prediction-memory", "recipe")
"""What takes long, or needs more than a machine."""
GOALS = "goals"
"""In place of names: those that `goals.py` has goals for."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is asked for, show it, keep it; the exit status."""
    words = sys.argv[1:] if words is None else list(words)
    if words[:1] == ["gpu"]:
        from benchmarks.gpu.command import main as gpu

        return gpu(words[1:])
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BENCHMARKS)}, {GOALS}; without names all but {', '.join(ONLY_BY_NAME)}",
    )
    parser.add_argument("--quick", action="store_true", help="the smallest case of each; times say nothing")
    parser.add_argument("--turns", type=int, default=5, help="how often two ways take turns")
    parser.add_argument("--threads", type=int, default=1, help="threads of arithmetic")
    parser.add_argument("--images", type=Path, help="folder of .jpg photographs; made images without")
    parser.add_argument("--peers-python", type=Path, help="interpreter that has pydensecrf2, if not this one")
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000], help="images, for memory")
    parser.add_argument("--baseline-python", type=Path, help="interpreter that has an earlier version of subcam")
    parser.add_argument("--data", type=Path, help="images for the recipe; words after -- are flags of its run")
    parser.add_argument("--weights", type=Path, help="weights for the recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the recipe's runs")
    parser.add_argument("--work", type=Path, default=Options.work, help="keeps what each run of the recipe took")
    parser.add_argument("--json", type=Path, help="keep the results; rows of an earlier file that are not new stay")
    parser.add_argument("--load", type=Path, help="measure nothing, take these results")
    parser.add_argument("--against", type=Path, help="results of an earlier run to stand beside")
    parser.add_argument("--markdown", type=Path, help="write the tables between the marks of this page")
    split = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:split])
    options.flags = words[split + 1 :]
    if GOALS in options.names:
        from benchmarks.goals import BENCHMARKS_OF_GOALS

        options.names = list(dict.fromkeys([*BENCHMARKS_OF_GOALS, *(name for name in options.names if name != GOALS)]))
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    # Read when the libraries are loaded, so before they are.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(variable, str(options.threads))
    from rich.console import Console

    from subcam.errors import SubcamError

    console = Console(width=220)
    try:
        return run(options, console)
    except SubcamError as error:
        console.print(str(error), style="red", highlight=False)
        return 2


def run(options: argparse.Namespace, console: "Console") -> int:
    """Everything after the words of the command line are understood."""
    from benchmarks.goals import are_measured
    from benchmarks.record import Results, missed
    from benchmarks.show import to_goal_table, to_growth_table, to_table, write_markdown

    against = Results.read(options.against) if options.against else None
    results = Results.read(options.load) if options.load else measured(options, console)
    if options.load and options.json:
        results.write(options.json)
    console.print(to_table(results, against=against))
    if are_measured(results):
        console.print(to_goal_table(results))
    if results.growth:
        console.print(to_growth_table(results.growth))
    if options.markdown:
        write_markdown(options.markdown, results)
    failed = [] if results.quick else missed(results.rows)
    for line in failed:
        console.print(f"missed: {line}", style="red", highlight=False)
    return 1 if failed else 0


def measured(options: argparse.Namespace, console: "Console") -> "Results":
    """Run the benchmarks that were named, one after the other; each is kept when it is done.

    Raises:
        BadInputError: the file of `--json` holds results that are not to be mixed with these.
    """
    import torch

    from benchmarks import peers
    from benchmarks.record import Growth, Results, Row, merged

    torch.set_num_threads(options.threads)
    asked = Options(
        quick=options.quick,
        turns=options.turns,
        images=options.images,
        peers_python=options.peers_python or peers.own_interpreter(),
        counts=tuple(options.counts),
        baseline_python=options.baseline_python,
        data=options.data,
        weights=options.weights,
        seeds=tuple(options.seeds),
        flags=tuple(options.flags),
        work=options.work,
    )
    before = os.getloadavg()[0]
    earlier = Results.read(options.json) if options.json and options.json.is_file() else None
    found: list[Row | Growth] = []

    def so_far() -> Results:
        results = Results(
            rows=tuple(one for one in found if isinstance(one, Row)),
            growth=tuple(one for one in found if isinstance(one, Growth)),
            quick=options.quick,
            threads=options.threads,
            load=(before, os.getloadavg()[0]),
            peers=peers.versions(asked.peers_python),
        )
        return merged(earlier, results) if earlier else results

    so_far()  # refuses a file of other results before anything is measured
    for name in options.names or [name for name in BENCHMARKS if name not in ONLY_BY_NAME]:
        module, function = BENCHMARKS[name]
        started = time.monotonic()
        for one in getattr(importlib.import_module(f"benchmarks.{module}"), function)(asked):
            found.append(one)
            what = one.case if isinstance(one, Row) else f"{one.count} images"
            console.print(f"{name}: {one.stage}, {what}: {one.seconds:.3g} s", style="dim", highlight=False)
        console.print(f"{name}: took {time.monotonic() - started:.0f} s", style="dim", highlight=False)
        if options.json:
            so_far().write(options.json)
    return so_far()


if __name__ == "__main__":
    sys.exit(main())
