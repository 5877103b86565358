"""What `run.json` holds, by key, for whoever reads a whole run; rooms below read the few keys that they need.

In: the file that `results.write_record` wrote, or that somebody edited. Out: a `RunRecord`, or what is wrong where.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subcam.runtime.files import from_plain, read_json
from subcam.stages.evaluate import MapScores, RefinedScores


@dataclass(frozen=True, kw_only=True)
class RecordedRound:
    """An entry of `rounds` in a record; `clusters` is "" where it was not written down."""

    round: int
    control: bool
    model: str
    maps: str
    scores: dict[str, MapScores]
    clusters: str | None = ""


@dataclass(frozen=True, kw_only=True)
class RecordedComparison:
    """An entry of `compared` in a record."""

    method: str
    model: str
    maps: str
    scores: dict[str, MapScores]


@dataclass(frozen=True, kw_only=True)
class RecordedMasks:
    """An entry of `refined` in a record."""

    round: int
    masks: str
    scores: dict[str, RefinedScores]


@dataclass(frozen=True, kw_only=True)
class RecordedNetwork:
    """An entry of `segment` in a record."""

    trained_on: str
    model: str
    round: int = 0
    masks: str = ""
    scores: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)


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


def read_record(path: Path) -> RunRecord:
    """Read the record of a run; keys that other versions wrote are passed over.

    Raises:
        RunFolderError: the file is no JSON; names it.
        TypeError: a key is missing or of another type; names the key.
    """
    return from_plain(RunRecord, read_json(path), lenient=True)
