"""The recipe `small` whole beside the same command of an earlier version, which has an environment of its own.

    git worktree add ../subcam-0.1.0 9c0766b
    cd ../subcam-0.1.0 && uv venv && uv pip install -c constraints.txt -e . && cd -
    python -m benchmarks recipe --data DIR --weights FILE --baseline-python ../subcam-0.1.0/.venv/bin/python

Both run in turns, one seed after the other, each in a process of its own on one thread, and what counts is processor
time and highest resident memory of that process. What a run took, its time by stage and its scores are kept in the
folder of `--work` as soon as it is done, and are not measured again there; its own files are removed.
`python -m benchmarks.recipe WORK` shows them. With --quick and no data the images are generated, the network is small.
"""

import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Options, Process, run_process
from benchmarks.record import Row
from subcam.errors import BadInputError
from subcam.runtime.files import read_json, write_json

QUICK = (
    *("--data", "toy", "--dataset.toy.train-images", "24", "--dataset.toy.val-images", "8"),
    *("--network.name", "tiny", "--network.weights", "none", "--network.no-freeze-batch-norm"),
    *("--classify.least-steps", "4", "--refine.affinity.least-steps", "4", "--segment.train.least-steps", "4"),
    *("--segment.architecture", "deeplabv2", "--segment.network.output-stride", "None"),
)
RESULTS = ("pseudo masks, walk-crf", "network, crf")
"""What a run leaves behind, and versions are compared by; how its rounds' maps score is a step on the way."""

ONE_THREAD = ("--machine.threads", "1", "--machine.workers", "0")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the recipe.

    words: of the command, but for its folder. process: what it took. stages: seconds on the clock by stage, rounds
    together. scores: mIoU in per cent of the last split, by what was scored.
    """

    version: str
    words: tuple[str, ...]
    process: Process
    stages: dict[str, float]
    scores: dict[str, float]


def rows(options: Options) -> Iterator[Row]:
    """Ours beside the earlier version, over all seeds.

    Raises:
        BadInputError: there is no data or no earlier version to run.
    """
    if not options.baseline_python or not (options.quick or options.data):
        raise BadInputError(
            "the recipe needs --data DIR, --weights FILE and --baseline-python ENV/bin/python, an environment with the "
            f"earlier version: expected all, got {options.data}, {options.weights}, {options.baseline_python}"
        )
    pythons = {version_of(python): python for python in (options.baseline_python, Path(sys.executable))}
    if len(pythons) < 2:
        raise BadInputError(f"{options.baseline_python} runs this version itself ({', '.join(pythons)}); give another")
    if not options.quick:
        for version, python in pythons.items():  # compiles kernels and files, and counts for nothing
            measured(python, version, words(options, seed=0, generated=True), options.work / "warm-up")
    seeds = options.seeds[:1] if options.quick else options.seeds
    pairs = [
        tuple(measured(python, version, words(options, seed=seed), options.work) for version, python in pythons.items())
        for seed in seeds
    ]
    case = f"small, {options.data.name if options.data else 'generated images'}, {len(seeds)} seeds"
    yield row(pairs, case=" ".join((case, *options.flags)))


def words(options: Options, *, seed: int, generated: bool = False) -> tuple[str, ...]:
    """The command's words after `subcam run`, the same in both versions, but for the folder of the run."""
    given: tuple[str, ...] = QUICK
    if options.data and not generated:
        given = ("--data", str(options.data.resolve()))
        given += ("--network.weights", str(options.weights.resolve())) if options.weights else ()
        given += options.flags
    return "small", *given, "--seed", str(seed), *ONE_THREAD


def measured(python: Path, version: str, command: tuple[str, ...], work: Path) -> Run:
    """Run the command from the beginning, unless `work` has what it took already."""
    seed = command[command.index("--seed") + 1]
    kept, out = (work / f"{version}-seed{seed}{ending}" for ending in (".json", ""))
    if kept.is_file() and tuple(read_json(kept)["words"]) == command:
        found = read_json(kept)
        return Run(**found | {"words": command, "process": Process(**found["process"])})
    shutil.rmtree(out, ignore_errors=True)  # half a run would be resumed, and its first half not measured
    work.mkdir(parents=True, exist_ok=True)
    process = run_process((str(python), "-m", "subcam.cli", "run", *command, "--out", str(out)))
    run = Run(
        version=version,
        words=command,
        process=process,
        stages=stage_seconds(out / "stages"),
        scores=scores(read_json(out / "run.json")),
    )
    write_json(kept, {**vars(run), "process": vars(process)})
    shutil.rmtree(out)
    return run


def row(pairs: Sequence[Sequence[Run]], *, case: str) -> Row:
    """One row of all pairs of runs, the earlier version's first; the difference is that of `RESULTS`, at its worst."""
    base, ours = ([pair[index] for pair in pairs] for index in (0, 1))
    means = mean_scores(base, ours)
    below = [means[name][0] - means[name][1] for name in RESULTS if name in means]
    return Row(
        stage="recipe",
        case=f"{case} (difference: points of mIoU of the masks below, at most)",
        seconds=statistics.median(run.process.seconds for run in ours),
        cpu_seconds=statistics.median(run.process.cpu_seconds for run in ours),
        unit="runs",
        other=f"subcam {base[0].version}",
        other_seconds=statistics.median(run.process.seconds for run in base),
        other_cpu_seconds=statistics.median(run.process.cpu_seconds for run in base),
        ratio=statistics.median(b.process.seconds / a.process.seconds for a, b in zip(ours, base, strict=True)),
        peak_mib=max(run.process.peak_mib for run in ours),
        other_peak_mib=max(run.process.peak_mib for run in base),
        difference=max(below, default=None),
    )


def mean_scores(base: Sequence[Run], ours: Sequence[Run]) -> dict[str, tuple[float, float]]:
    """Means over seeds of what both versions scored."""
    names = [name for name in base[0].scores if name in ours[0].scores]
    return {
        name: (
            statistics.mean(run.scores[name] for run in base),
            statistics.mean(run.scores[name] for run in ours),
        )
        for name in names
    }


def scores(record: Mapping[str, Any]) -> dict[str, float]:
    """Per cent of mIoU of each round's maps, the pseudo masks and the network's masks, from a `run.json`."""
    found: dict[str, float] = {}
    for one in record["rounds"]:
        for score in list(one["scores"].values())[-1:]:
            found[f"maps of round {one['round']}"] = score["fixed"]["miou"]
    for kind, key in (("pseudo masks", "refined"), ("network", "segment")):
        for one in record[key]:
            for score in list(one["scores"].values())[-1:]:
                for variant, values in score.get("variants", score).items():
                    found[f"{kind}, {variant}"] = values["miou"]
    return {name: 100 * value for name, value in found.items()}


def stage_seconds(folder: Path) -> dict[str, float]:
    """Seconds of each kind of stage, most first; those of all rounds are one kind."""
    found: dict[str, float] = {}
    for path in sorted(folder.glob("*/stage.json")):
        record = read_json(path)
        kind = re.sub(r"^round\d+-", "", record["stage"])
        found[kind] = found.get(kind, 0.0) + record["seconds"]
    return dict(sorted(found.items(), key=lambda entry: -entry[1]))


def details(work: Path) -> str:
    """What the runs that a folder keeps took and scored, as two tables in Markdown, one column a run."""
    kept = [read_json(path) for path in sorted(work.glob("*-seed*.json"))]
    heads = [f"{one['version']}, seed {one['words'][one['words'].index('--seed') + 1]}" for one in kept]
    processes = [{f"whole: {name}": value for name, value in one["process"].items()} for one in kept]
    times = [process | one["stages"] for process, one in zip(processes, kept, strict=True)]
    tables = [("seconds", times), ("mIoU, per cent", [one["scores"] for one in kept])]
    return "\n\n".join(_table(title, heads, columns) for title, columns in tables)


def _table(title: str, heads: Sequence[str], columns: Sequence[Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name for column in columns for name in column))
    lines = [(title, *heads), ("---",) * (len(heads) + 1)]
    lines += [(name, *(f"{column[name]:.1f}" if name in column else "-" for column in columns)) for name in names]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def version_of(python: Path) -> str:
    """The version of subcam that an interpreter runs.

    Raises:
        BadInputError: it has none.
    """
    code = "from subcam._version import __version__; print(__version__)"
    try:
        return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise BadInputError(f"{python} is no Python that has subcam ({error}); install it there") from error


if __name__ == "__main__":
    print(details(Path(sys.argv[1])))
