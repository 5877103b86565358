"""What `run.json` holds, by key, and what its stages cost: the one reader of it, for a whole run, its network or masks.

In: the file that `results.write_record` wrote, or that somebody edited. Out: a `RunRecord`, or what is wrong where.
Scores are as in the file; `results.read_run`, which knows what was scored, reads them further.
"""

import glob
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from subcam.checks.fields import shortly
from subcam.errors import RunFolderError
from subcam.runtime.files import RECORD_FILE, fault_of_name, read_as
from subcam.runtime.run_folder import RECORD, Stage, read_stage_record

MEND = "move it away and give the run's command again"

MasksOf = Literal["pseudo", "truth", "given"]
"""What a network learned from: a run's pseudo masks, ground truth, or masks of another program."""


@dataclass(frozen=True, kw_only=True)
class RecordedRound:
    """An entry of `rounds` in a record; `clusters` is "" where it was not written down."""

    round: int
    control: bool
    model: str | None
    maps: str | None
    scores: dict[str, Any]
    clusters: str | None = ""
    given: bool = False


@dataclass(frozen=True, kw_only=True)
class RecordedComparison:
    """An entry of `compared` in a record."""

    method: str
    model: str
    maps: str
    scores: dict[str, Any]
    title: str = ""
    refined: "RecordedMasks | None" = None


@dataclass(frozen=True, kw_only=True)
class RecordedMasks:
    """An entry of `refined` in a record."""

    round: int
    masks: str
    scores: dict[str, Any]
    variant: str = ""
    of_given: bool = False
    confidence: str | None = None
    corrected: str | None = None


@dataclass(frozen=True, kw_only=True)
class RecordedNetwork:
    """An entry of `segment` in a record."""

    trained_on: MasksOf
    model: str
    round: int
    masks: str
    scores: dict[str, Any]
    of_given: bool = False


@dataclass(frozen=True, kw_only=True)
class RecordedSkip:
    """An entry of `skipped` in a record."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a record holds, by key."""

    settings: dict[str, Any]
    class_names: tuple[str, ...]
    command: tuple[str, ...]
    versions: dict[str, str]
    rounds: tuple[RecordedRound, ...]
    compared: tuple[RecordedComparison, ...] = ()
    refined: tuple[RecordedMasks, ...] = ()
    segment: tuple[RecordedNetwork, ...] = ()
    skipped: tuple[RecordedSkip, ...] = ()
    seconds_this_time: float = math.nan
    peak_memory_mib: float = math.nan
    recipe: str = ""


def record_in(folder: Path, name: str = RECORD) -> Path:
    """The record of that name in a run's folder.

    Raises:
        RunFolderError: there is none.
    """
    path = folder / name
    if not path.is_file():
        raise RunFolderError(
            f"{folder} holds no finished run: expected {name} in it; give the folder that was --out of `subcam run`,"
            " or end that run first"
        )
    return path


def read_record(path: Path) -> RunRecord:
    """Read the record of a run; keys that other versions wrote are passed over.

    Raises:
        RunFolderError: the file cannot be read, is no JSON, lacks a key, has another value under one or names a folder
            outside the run's; names file and key.
    """
    record: RunRecord = read_as(RunRecord, path, what="the record of a run", mend=MEND)
    try:
        _check_rounds(record)
        _check_splits(record)
    except TypeError as error:
        raise RunFolderError(f"{path} is not the record of a run ({error}); {MEND}") from error
    for key, folder in _folders(record):
        if fault := fault_of_name(folder):
            raise RunFolderError(
                f"{path} is not the record of a run ({key}: no folder can be called {folder!r:.100}: {fault}); {MEND}"
            )
    return record


def _check_rounds(record: RunRecord) -> None:
    """Raise `TypeError` with the key unless scored maps are there, and the network that made those of a run."""
    for place, entry in enumerate(record.rounds):
        if entry.maps is None and entry.scores:
            raise TypeError(f".rounds[{place}].maps: expected the folder of the maps that were scored, got None")
        if entry.maps is not None and entry.model is None and not entry.given:
            raise TypeError(f".rounds[{place}].model: expected the folder of the network that made the maps, got None")


def _check_splits(record: RunRecord) -> None:
    """Raise `TypeError` with the key unless all of a run that was scored was scored on the same splits."""
    known: list[str] = []
    for name in ("rounds", "compared", "refined", "segment"):
        for place, entry in enumerate(getattr(record, name)):
            splits = sorted(entry.scores)
            known = known or splits
            if splits and splits != known:
                raise TypeError(f".{name}[{place}].scores: expected those of {known}, got {shortly(splits)}")


def _folders(record: RunRecord) -> Iterator[tuple[str, str]]:
    """The folders that a record names, with their keys."""
    for index, one in enumerate(record.rounds):
        for key, folder in (("model", one.model), ("maps", one.maps), ("clusters", one.clusters)):
            if folder:
                yield f".rounds[{index}].{key}", folder
    for index, compared in enumerate(record.compared):
        yield from ((f".compared[{index}].{key}", getattr(compared, key)) for key in ("model", "maps"))
        if compared.refined:
            yield f".compared[{index}].refined.masks", compared.refined.masks
    for index, refined in enumerate(record.refined):
        yield f".refined[{index}].masks", refined.masks
        for key, folder in (("confidence", refined.confidence), ("corrected", refined.corrected)):
            if folder:
                yield f".refined[{index}].{key}", folder
    for index, network in enumerate(record.segment):
        yield from ((f".segment[{index}].{key}", getattr(network, key)) for key in ("model", "masks"))


def pseudo_masks_of(folder: Path) -> tuple[str, RunRecord]:
    """Where in a run's folder the masks lie that count, "" if it made none, and its record.

    They are those of the last refined round, of the variant that it names, or else the settings; or with those in
    their place that people corrected.

    Raises:
        RunFolderError: see `read_record`; or the settings do not name the variant.
    """
    path = folder / RECORD
    record = read_record(path)
    if not record.refined:
        return "", record
    last = record.refined[-1]
    if last.corrected:
        return f"{last.corrected}/corrected", record
    variant: Any = last.variant or record.settings
    if variant is record.settings:  # of 0.1.0
        for key in ("refine", "masks", "pseudo_mask"):
            variant = variant.get(key) if isinstance(variant, dict) else None
    if not isinstance(variant, str):
        raise RunFolderError(
            f"{path} is not the record of a run (.settings.refine.masks.pseudo_mask: expected a text, got"
            f" {shortly(variant)}); {MEND}"
        )
    return f"{last.masks}/{variant}", record


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


def stage_costs(folder: Path, keys: Sequence[str], *, threshold: float | str) -> tuple[StageCost, ...]:
    """What the stages cost that results depend on, directly or through the inputs of other stages.

    Args:
        folder: of the run.
        keys: of the stages that the results name.
        threshold: at which the run scored its maps; the folder may hold scores at others.
    """
    records = {record["key"]: (path, record) for path, record in _stage_records(folder)}
    pending = list(keys)
    needed: set[str] = set()
    while pending:
        key = pending.pop()
        if key in records and key not in needed:
            needed.add(key)
            pending.extend(_earlier_keys(records[key][1]))
    for key, (_, record) in records.items():
        settings = inputs_of(record).get("settings")
        same = not isinstance(settings, dict) or settings.get("background_threshold", threshold) == threshold
        if "evaluate" in record["stage"] and same and needed.intersection(_earlier_keys(record)):
            needed.add(key)
    costs = [_cost(path, record) for key, (path, record) in records.items() if key in needed]
    return tuple(sorted(costs, key=lambda cost: (cost.finished, cost.name)))


def recorded_stage(folder: Path, relative: str) -> Stage:
    """The stage whose folder a run's record names, as far as its own record says what it is.

    Raises:
        RunFolderError: its record is none; see `read_stage_record`.
    """
    path = folder / relative
    record = read_stage_record(path / RECORD_FILE) if (path / RECORD_FILE).is_file() else {}
    return Stage(
        name=record.get("stage", path.name.rpartition("-")[0]),
        key=record.get("key", ""),
        path=path,
        version=record.get("version", 0),
        inputs=inputs_of(record),
    )


def recorded_clusters(folder: Path, entry: RecordedRound) -> Stage | None:
    """The stage that found the round's sub-categories: as recorded, else the one among the inputs of its network."""
    if entry.clusters != "":
        return recorded_stage(folder, entry.clusters) if entry.clusters else None
    key = recorded_stage(folder, entry.model).inputs.get("clusters") if entry.model else None
    paths = (folder / "stages").glob(f"round*-discover-{glob.escape(key[:10])}") if isinstance(key, str) else ()
    return next((recorded_stage(folder, path.relative_to(folder).as_posix()) for path in paths), None)


def inputs_of(record: dict[str, Any]) -> dict[str, Any]:
    """A stage's inputs by parameter; none of a stage of an earlier revision, which listed them without names."""
    inputs = record.get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def _earlier_keys(record: dict[str, Any]) -> list[str]:
    """The texts among a stage's inputs: keys of earlier stages, and some that are none."""
    return [value for value in inputs_of(record).values() if isinstance(value, str)]


def _stage_records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((folder / "stages").glob("*/stage.json")):
        yield path.parent, read_stage_record(path)


def _cost(path: Path, record: dict[str, Any]) -> StageCost:
    return StageCost(
        name=record["stage"],
        folder=path,
        seconds=record["seconds"],
        peak_memory_mib=record["peak_memory_mib"],
        finished=record["finished"],
        energy_joules=record.get("energy_joules"),
    )
