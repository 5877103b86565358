"""Some stages beside those of an earlier version of this package, in turns, each version in a process of its own.

The interpreter of the earlier one is given by `--baseline-python` (`recipe.py` says how its environment is made).
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks.measure import Options, Time, in_turns
from benchmarks.peers import ABSENT
from benchmarks.recipe import version_of
from benchmarks.record import Row

WORKER = Path(__file__).with_name("earlier_worker.py")
CASES = {
    "walk": ("random walk", "47 x 63 cells, 12 maps", 20),
    "response": ("response maps", "mobilenetv2_100, 2 images of 640 x 480, 4 scales and flips, default precision", 1),
}
"""What `earlier_worker.py` computes: stage, case, and how often in one call."""


class Version:
    """A process that computes cases with one version of the package."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), str(WORKER), str(torch.get_num_threads())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, case: str, *, quick: bool) -> Time:
        """One call; waits for the answer.

        Raises:
            RuntimeError: the process ended; it has said why.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"case": case, "quick": quick}) + "\n")
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline()):
            raise RuntimeError(f"{self._process.args[0]}: the process of {WORKER.name} ended")
        return Time(**json.loads(answer))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def rows(options: Options) -> Iterator[Row]:
    """Each case beside the earlier version; without one, ours alone and that it is absent."""
    with ExitStack() as stack:

        def started(python: Path) -> Version:
            version = Version(python)
            stack.callback(version.close)
            return version

        ours = started(Path(sys.executable))
        earlier = started(options.baseline_python) if options.baseline_python else None
        name = f"subcam {version_of(options.baseline_python)}" if options.baseline_python else f"0.1.0 ({ABSENT})"
        for case, (stage, title, times) in CASES.items():

            def call(version: Version, case: str = case) -> Time:
                return version.run(case, quick=options.quick)

            if earlier is None:
                call(ours)
                found = vars(call(ours))
            else:
                turns = 2 if options.quick else options.turns
                found = vars(in_turns(lambda: call(ours), lambda: call(earlier), turns=turns))
            found = {key: value / (1 if key == "ratio" else times) for key, value in found.items()}
            yield Row(stage=stage, case=f"{title}{', quick' if options.quick else ''}", other=name, **found)
