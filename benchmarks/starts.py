"""How long a command takes to say its first word: help, a mistake and a check of few images, each in a fresh process.

Beside it stands a process that imports numpy, which every command does; the goal is 1.5 times that and half a second.
Seconds are of the processor. The files of this package are compiled before the first turn, unless Python is told to
keep none (`PYTHONDONTWRITEBYTECODE`).
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Options, run_process
from benchmarks.predict import SMALL, write_images
from benchmarks.record import Row

COMMANDS = {
    "--help": ("--help",),
    "recipes": ("recipes",),
    "run --help": ("run", "--help"),
    "run small --help": ("run", "small", "--help"),
    "an unknown flag": ("run", "small", "--no-such-flag"),
    "a folder that is not there": ("run", "small", "--data", "/no/such"),
}


def rows(options: Options) -> Iterator[Row]:
    """Each command in turns with a process that imports numpy."""
    turns = 1 if options.quick else options.turns
    with tempfile.TemporaryDirectory() as work:
        checks = {}
        for count in (3,) if options.quick else (3, 300):
            images = write_images(Path(work) / f"{count}", count=count, size=SMALL)
            labels = [f"{index:05}.jpg,{('a', 'b', 'a;b')[index % 3]}" for index in range(count)]
            (images / "labels.csv").write_text("\n".join(["image,labels", *labels]), "utf-8")
            checks[f"data check, {count} images"] = ("data", "check", str(images))
        for case, words in {**COMMANDS, **checks}.items():
            yield _row(case, words, turns)


def _row(case: str, words: tuple[str, ...], turns: int) -> Row:
    def ours() -> float:
        return run_process((sys.executable, "-m", "subcam.cli", *words), statuses=(0, 2)).cpu_seconds

    def numpy() -> float:
        return run_process((sys.executable, "-c", "import numpy")).cpu_seconds

    ours()
    pairs = [(ours(), numpy()) for _ in range(turns)]
    return Row(
        stage="start",
        case=case,
        seconds=statistics.median(own for own, _ in pairs),
        unit="starts",
        other="a process that imports numpy",
        other_seconds=statistics.median(other for _, other in pairs),
        ratio=statistics.median(other / own for own, other in pairs),
    )
