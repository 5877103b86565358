"""A finished run, read back from its folder: its results as the pipeline had them, and what each stage cost.

In: `run.json` and `stages/*/stage.json`. Out: frozen dataclasses. Nothing is computed, and no image is opened until
`open_images` is called. Nothing here is particular to the report.
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
from subcam.stages.evaluate import MapScores, RefinedScores

RECORD = "run.json"
"""The file in a run's folder that lists what was run."""


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """The time, memory and energy that one stage took.

    seconds: where a stage was interrupted and resumed, those since it was last resumed.
    peak_memory_mib: the process's peak when the stage ended, which earlier stages of the same process may have set.
    energy_joules: None where it was not measured.
    """

    name: str
    folder: Path
    seconds: float
    peak_memory_mib: float
    finished: str
    energy_joules: float | None = None


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run as its folder records it.

    stages: those that this run's results depend on, in the order in which they ended. The folder may hold others.
    skipped: why each file that was left out could not be used.
    settings: as `run.json` has them; `result.settings` has them as dataclasses.
    """

    result: RunResult
    command: tuple[str, ...]
    versions: dict[str, str]
    skipped: tuple[str, ...]
    peak_memory_mib: float
    stages: tuple[StageCost, ...]
    settings: dict[str, Any]

    @property
    def rounds(self) -> tuple[RoundResult, ...]:
        """Round 0 and those with sub-categories, without the control."""
        return tuple(one for one in self.result.rounds if not one.control)


def read_run(folder: Path, *, record: str = RECORD) -> FinishedRun:
    """Read a finished run; the parts that it did not have are empty.

    Args:
        folder: the run's folder.
        record: the file in it that lists what was run.

    Raises:
        RunFolderError: the record is missing or damaged; says what to do.
    """
    path = folder / record
    if not path.is_file():
        raise RunFolderError(
            f"{folder} holds no finished run: expected {record} in it; give the folder that was --out of `subcam run`,"
            " or end that run first"
        )
    content = read_json(path)
    try:
        result = _result(content, folder)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunFolderError(
            f"{path} is not the record of a run ({type(error).__name__}: {error}); give the run's command again"
        ) from error
    return FinishedRun(
        result=result,
        command=tuple(content["command"]),
        versions=content["versions"],
        skipped=tuple(skip["reason"] for skip in content.get("skipped", ())),
        peak_memory_mib=content.get("peak_memory_mib", math.nan),
        stages=_costs(result),
        settings=content["settings"],
    )


def open_images(run: FinishedRun, *, data: str = "") -> Dataset:
    """The run's images, from where they were, or from `data` if they have moved.

    Raises:
        SubcamError: they are not there, or one of the files cannot be used.
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
    """A value of type `kind` from JSON that `run_folder.as_plain` wrote, perhaps in another version of subcam.

    Keys that this version does not know are ignored. Fields that the record lacks take their default; numbers without
    a default become not-a-number.

    Raises:
        TypeError: a field is missing that is neither a number nor has a default.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
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
        options = [option for option in arguments if option is not NoneType]
        nested = [option for option in options if dataclasses.is_dataclass(option) == isinstance(plain, dict)]
        return from_record((nested or options)[0], plain)
    if origin is tuple:
        return tuple(from_record(arguments[0] if arguments else Any, entry) for entry in plain)
    if origin is list:
        return [from_record(arguments[0], entry) for entry in plain]
    if origin is dict:
        return {key: from_record(arguments[1], entry) for key, entry in plain.items()}
    return Path(plain) if kind is Path else plain


def _needs_number(entry: "dataclasses.Field[Any]", hints: dict[str, Any]) -> bool:
    has_default = entry.default is not dataclasses.MISSING or entry.default_factory is not dataclasses.MISSING
    return hints[entry.name] is float and not has_default


def _result(content: dict[str, Any], folder: Path) -> RunResult:
    return RunResult(
        settings=from_record(RunSettings, content["settings"]),
        out=folder,
        class_names=tuple(content["class_names"]),
        rounds=tuple(
            RoundResult(
                round_index=entry["round"],
                control=entry["control"],
                clusters=_clusters(folder, entry),
                **_network_and_maps(folder, entry),
            )
            for entry in content["rounds"]
        ),
        refined=tuple(
            RefinedResult(
                round_index=entry["round"],
                masks=_stage(folder, entry["masks"]),
                scores=from_record(dict[str, RefinedScores], entry["scores"]),
            )
            for entry in content.get("refined", ())
        ),
        segmented=tuple(
            SegmentedResult(
                trained_on=entry["trained_on"],
                round_index=entry["round"],
                model=_stage(folder, entry["model"]),
                masks=_stage(folder, entry["masks"]),
                scores=entry["scores"],
            )
            for entry in content.get("segment", ())
        ),
        compared=tuple(
            ComparisonResult(method=entry["method"], **_network_and_maps(folder, entry))
            for entry in content.get("compared", ())
        ),
        seconds=content.get("seconds_this_time", math.nan),
        recipe=content.get("recipe", ""),
    )


def _network_and_maps(folder: Path, entry: dict[str, Any]) -> dict[str, Any]:
    """What rounds and comparisons have in common: a network, its response maps, and their scores by split."""
    return {
        "model": _stage(folder, entry["model"]),
        "maps": _stage(folder, entry["maps"]),
        "scores": from_record(dict[str, MapScores], entry["scores"]),
    }


def _stage(folder: Path, relative: str) -> Stage:
    path = folder / relative
    record = read_json(path / "stage.json") if (path / "stage.json").is_file() else {}
    return Stage(
        name=record.get("stage", path.name.rpartition("-")[0]),
        key=record.get("key", ""),
        path=path,
        version=record.get("version", 0),
        inputs=_inputs(record),
    )


def _inputs(record: dict[str, Any]) -> dict[str, Any]:
    """A stage's inputs by parameter; none of a stage of an earlier revision, which listed them without names."""
    inputs = record.get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def _clusters(folder: Path, entry: dict[str, Any]) -> Stage | None:
    """The stage that found the round's sub-categories: as recorded, else the one among the inputs of its network."""
    if "clusters" in entry:
        return _stage(folder, entry["clusters"]) if entry["clusters"] else None
    key = _stage(folder, entry["model"]).inputs.get("clusters")
    paths = (folder / "stages").glob(f"round*-discover-{key[:10]}") if key else ()
    return next((_stage(folder, path.relative_to(folder).as_posix()) for path in paths), None)


def _costs(result: RunResult) -> tuple[StageCost, ...]:
    """What the stages cost that the results depend on, directly or through the inputs of other stages."""
    records = {record["key"]: (path, record) for path, record in _stage_records(result.out)}
    pending = [stage.key for stage in _stages(result)]
    needed: set[str] = set()
    while pending:
        key = pending.pop()
        if key in records and key not in needed:
            needed.add(key)
            pending.extend(_earlier_keys(records[key][1]))
    threshold = result.settings.evaluate.background_threshold
    for key, (_, record) in records.items():
        settings = _inputs(record).get("settings", {})
        same = settings.get("background_threshold", threshold) == threshold
        if "evaluate" in record["stage"] and same and needed.intersection(_earlier_keys(record)):
            needed.add(key)
    costs = [_cost(path, record) for key, (path, record) in records.items() if key in needed]
    return tuple(sorted(costs, key=lambda cost: (cost.finished, cost.name)))


def _stages(result: RunResult) -> Iterator[Stage]:
    """The stages that the results name."""
    for one in result.rounds:
        yield from (one.model, one.maps, *([one.clusters] if one.clusters else []))
    for comparison in result.compared:
        yield from (comparison.model, comparison.maps)
    for refined in result.refined:
        yield refined.masks
    for network in result.segmented:
        yield from (network.model, network.masks)


def _earlier_keys(record: dict[str, Any]) -> list[str]:
    """The texts among a stage's inputs: keys of earlier stages, and some that are none."""
    return [value for value in _inputs(record).values() if isinstance(value, str)]


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
