"""A finished run read back from its folder: its result as the pipeline had it, and what each of its stages cost.

In: `run.json` and `stages/*/stage.json`. Out: frozen dataclasses. Nothing is computed and no image is opened here.
"""

import dataclasses
import math
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from subcam.data.dataset import Dataset, open_dataset
from subcam.errors import RunFolderError
from subcam.results import ComparisonResult, RefinedResult, RoundResult, RunResult, SegmentedResult
from subcam.runtime.files import read_json
from subcam.runtime.run_folder import Stage
from subcam.settings import RunSettings
from subcam.stages.evaluate import MapScores
from subcam.stages.evaluate_refined import RefinedScores

RECORD = "run.json"
UNSCORED_THRESHOLD = 0.3
"""Where the page's sliders begin if the run was to choose a threshold and had nothing to score."""


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What one stage took.

    seconds: of the last sitting, where it was cut off and taken up again.
    peak_memory_mib: the most that the process had held when the stage ended, stages before it in the same sitting
        included.
    energy_joules: None where nobody measured it.
    """

    name: str
    folder: Path
    seconds: float
    peak_memory_mib: float
    finished: str
    energy_joules: float | None = None


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run as it stands in its folder.

    stages: those that this run's results came from, in the order in which they ended; others may lie in the folder.
    """

    result: RunResult
    command: tuple[str, ...]
    versions: dict[str, str]
    skipped: tuple[str, ...]
    peak_memory_mib: float
    stages: tuple[StageCost, ...]
    settings: dict[str, Any]

    def threshold(self, split: str, found: RoundResult | ComparisonResult) -> float:
        """The background threshold at which response maps were scored on a split, given or chosen without masks."""
        if split in found.scores:
            return found.scores[split].fixed_threshold
        given = self.result.settings.evaluate.background_threshold
        return given if isinstance(given, float | int) else UNSCORED_THRESHOLD

    @property
    def rounds(self) -> tuple[RoundResult, ...]:
        """Round 0 and those with sub-categories, without the control."""
        return tuple(found for found in self.result.rounds if not found.control)


def read_run(folder: Path, *, record: str = RECORD) -> FinishedRun:
    """Read what a run left behind; parts that it did not have are empty.

    Args:
        folder: the run's folder.
        record: the file in it that lists what was run.

    Raises:
        RunFolderError: there is no record, or it is damaged; says what to do.
    """
    path = folder / record
    if not path.is_file():
        raise RunFolderError(
            f"{folder} holds no finished run: expected {record} in it; give the folder that was --out of `subcam run`,"
            " or end that run first"
        )
    plain = read_json(path)
    try:
        result = _result(plain, folder)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{path} is not the record of a run ({type(error).__name__}: {error}); give the run's command again"
        ) from error
    return FinishedRun(
        result=result,
        command=tuple(plain["command"]),
        versions=plain["versions"],
        skipped=tuple(skip["reason"] for skip in plain.get("skipped", ())),
        peak_memory_mib=plain.get("peak_memory_mib", math.nan),
        stages=_costs(result),
        settings=plain["settings"],
    )


def open_images(run: FinishedRun, *, data: str = "") -> Dataset:
    """The images of the run, from where they were or from `data` if they have moved.

    Raises:
        SubcamError: they are not there, or a file among them cannot be used.
    """
    settings = run.result.settings.dataset
    settings = dataclasses.replace(settings, root=data or settings.root)
    if settings.root != "toy" and not Path(settings.root).is_dir():
        raise RunFolderError(
            f"the run's images are no longer at {settings.root}; say where they are with --data DIR"
            if not data
            else f"--data {data} is no folder; give the one that holds the run's images"
        )
    return open_dataset(settings, work_folder=run.result.out)


def from_record(kind: Any, plain: Any) -> Any:
    """A value of type `kind` from what `run_folder.as_plain` made of one, perhaps in another version of subcam.

    Keys that this version does not know are left out; fields that the record lacks take their default, and numbers
    without one are not-a-number.

    Raises:
        TypeError: a field is missing that is neither a number nor has a default.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        known = [entry for entry in dataclasses.fields(kind) if entry.init]
        values = {
            entry.name: from_record(hints[entry.name], plain[entry.name]) for entry in known if entry.name in plain
        }
        absent = {entry.name: math.nan for entry in known if entry.name not in plain and _needs_number(entry, hints)}
        return kind(**values, **absent)
    if origin in (typing.Union, UnionType):
        if plain is None:
            return None
        options = [option for option in inner if option is not NoneType]
        nested = [option for option in options if dataclasses.is_dataclass(option) == isinstance(plain, dict)]
        return from_record((nested or options)[0], plain)
    if origin is tuple:
        return tuple(from_record(inner[0] if inner else Any, entry) for entry in plain)
    if origin is list:
        return [from_record(inner[0], entry) for entry in plain]
    if origin is dict:
        return {key: from_record(inner[1], entry) for key, entry in plain.items()}
    return Path(plain) if kind is Path else plain


def _needs_number(entry: "dataclasses.Field[Any]", hints: dict[str, Any]) -> bool:
    has_default = entry.default is not dataclasses.MISSING or entry.default_factory is not dataclasses.MISSING
    return hints[entry.name] is float and not has_default


def _result(plain: dict[str, Any], folder: Path) -> RunResult:
    return RunResult(
        settings=from_record(RunSettings, plain["settings"]),
        out=folder,
        class_names=tuple(plain["class_names"]),
        rounds=tuple(
            RoundResult(
                round_index=entry["round"],
                control=entry["control"],
                model=_stage(folder, entry["model"]),
                maps=_stage(folder, entry["maps"]),
                clusters=_clusters(folder, entry),
                scores={split: from_record(MapScores, scores) for split, scores in entry["scores"].items()},
            )
            for entry in plain["rounds"]
        ),
        refined=tuple(
            RefinedResult(
                round_index=entry["round"],
                masks=_stage(folder, entry["masks"]),
                scores={split: from_record(RefinedScores, scores) for split, scores in entry["scores"].items()},
            )
            for entry in plain.get("refined", ())
        ),
        segmented=tuple(
            SegmentedResult(
                trained_on=entry["trained_on"],
                round_index=entry["round"],
                model=_stage(folder, entry["model"]),
                masks=_stage(folder, entry["masks"]),
                scores=entry["scores"],
            )
            for entry in plain.get("segment", ())
        ),
        compared=tuple(
            ComparisonResult(
                method=entry["method"],
                model=_stage(folder, entry["model"]),
                maps=_stage(folder, entry["maps"]),
                scores={split: from_record(MapScores, scores) for split, scores in entry["scores"].items()},
            )
            for entry in plain.get("compared", ())
        ),
        seconds=plain.get("seconds_this_time", math.nan),
        recipe=plain.get("recipe", ""),
    )


def _stage(folder: Path, relative: str) -> Stage:
    path = folder / relative
    record = read_json(path / "stage.json") if (path / "stage.json").is_file() else {}
    return Stage(
        name=record.get("stage", path.name.rpartition("-")[0]),
        key=record.get("key", ""),
        path=path,
        inputs=tuple(record.get("inputs", ())),
    )


def _clusters(folder: Path, entry: dict[str, Any]) -> Stage | None:
    """The round's stage of discovery: as the record says, else the one among the inputs of its network."""
    if "clusters" in entry:
        return _stage(folder, entry["clusters"]) if entry["clusters"] else None
    for key in _stage(folder, entry["model"]).inputs:
        for path in (folder / "stages").glob(f"round*-discover-{key[:10]}"):
            return _stage(folder, path.relative_to(folder).as_posix())
    return None


def _costs(result: RunResult) -> tuple[StageCost, ...]:
    """The stages that the results came from, found by what each was given."""
    records = {record["key"]: (path, record) for path, record in _stage_records(result.out)}
    rounds = [stage for found in result.rounds for stage in (found.model, found.maps, found.clusters) if stage]
    rounds += [stage for found in result.compared for stage in (found.model, found.maps)]
    later = [found.masks for found in result.refined] + [found.masks for found in result.segmented]
    wanted = [stage.key for stage in (*rounds, *later, *(found.model for found in result.segmented))]
    taken: set[str] = set()
    while wanted:
        key = wanted.pop()
        if key in records and key not in taken:
            taken.add(key)
            wanted.extend(records[key][1]["inputs"])
    threshold = result.settings.evaluate.background_threshold
    for key, (_, record) in records.items():
        settings = record["settings"] or {}
        same = settings.get("background_threshold", threshold) == threshold
        if "evaluate" in record["stage"] and same and taken.intersection(record["inputs"]):
            taken.add(key)
    found = [_cost(path, record) for key, (path, record) in records.items() if key in taken]
    return tuple(sorted(found, key=lambda cost: (cost.finished, cost.name)))


def _stage_records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((folder / "stages").glob("*/stage.json")):
        yield path.parent, read_json(path)


def _cost(path: Path, record: dict[str, Any]) -> StageCost:
    return StageCost(
        name=record["stage"],
        folder=path,
        seconds=record["seconds"],
        peak_memory_mib=record["peak_memory_mib"],
        finished=record["finished"],
        energy_joules=record.get("energy_joules"),
    )
