"""What was found on a GPU, as one JSON file that is written anew after every row; and its targets, met or missed."""

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed

from benchmarks.gpu.given import Case, Given, Missing
from benchmarks.record import machine
from subcam.errors import BadInputError
from subcam.runtime.files import read_json, write_json
from subcam.runtime.resources import versions

FORMAT = 1
Writer = Callable[["PartFound"], None]
"""Takes a part as it stands, to be written at once."""

State = Literal["done", "cut off", "failed", "left out"]

PEAK_SHARE, MAPS_RATIO, CRF_RATIO, SMALL_SECONDS, LEAST_BUSY = 0.45, 8.0, 10.0, 240.0, 0.5
"""The targets, on an H100-class device. A stage whose device works less than half of the time is bound by the host."""


@dataclass(frozen=True, kw_only=True)
class PartFound:
    """One part. state: how it ended. why: of an end that was no good one. limit: seconds it was given."""

    name: str
    state: State
    seconds: float = 0.0
    limit: float = 0.0
    why: str = ""
    rows: tuple[Case, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Target:
    """A number to be reached. measured: None where it was not. profile: of what missed it."""

    what: str
    wanted: str
    measured: float | None = None
    met: bool | None = None
    profile: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """All parts of one device."""

    device: dict[str, Any]
    tiny: bool
    budget: float
    missing: tuple[Missing, ...] = ()
    parts: tuple[PartFound, ...] = ()
    date: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    machine: dict[str, Any] = field(default_factory=machine)
    versions: dict[str, str] = field(default_factory=lambda: all_versions())

    @property
    def targets(self) -> tuple[Target, ...]:
        """What was to be reached, in the order of the issue; nothing is met or missed on a CPU or by tiny networks."""
        return tuple(targets_of(self.parts, counts=self.device["kind"] == "cuda" and not self.tiny))

    def with_part(self, part: PartFound) -> "Found":
        """With a part in the place of an earlier one of its name."""
        return replace(self, parts=(*(one for one in self.parts if one.name != part.name), part))

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_json(path, {"format": FORMAT, **vars(self), "targets": self.targets})

    @classmethod
    def read(cls, path: Path) -> "Found":
        """Read what `write` wrote.

        Raises:
            BadInputError: it is no such file.
        """
        try:
            value = read_json(path)
            if value.pop("format") != FORMAT:
                raise ValueError("another format")
            del value["targets"]
            parts = tuple(PartFound(**part | {"rows": tuple(part["rows"])}) for part in value.pop("parts"))
            lacking = tuple(Missing(what=one["what"], costs=tuple(one["costs"])) for one in value.pop("missing"))
            return cls(parts=parts, missing=lacking, **value)
        except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise BadInputError(
                f"{path} holds nothing that was found on a GPU ({type(error).__name__}: {error}); make it with"
                " python -m benchmarks gpu --json"
            ) from error


def device_facts(given: Given) -> dict[str, Any]:
    """Kind and name of the device, and of a GPU its memory and capability."""
    if not given.on_gpu or not torch.cuda.is_available():
        return {"kind": given.device, "name": machine()["processor"]}
    facts = torch.cuda.get_device_properties(0)
    return {
        "kind": given.device,
        "name": facts.name,
        "memory_gib": round(facts.total_memory / 2**30, 1),
        "multiprocessors": facts.multi_processor_count,
        "capability": f"{facts.major}.{facts.minor}",
    }


def all_versions() -> dict[str, str]:
    """Of what computes, CUDA's own too."""
    found = {**versions(), "system": platform.platform()}
    if torch.version.cuda:
        found["cuda"] = torch.version.cuda
    if torch.cuda.is_available():
        found["cudnn"] = str(torch.backends.cudnn.version())
        if torch.distributed.is_available() and torch.distributed.is_nccl_available():
            found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return found


def targets_of(parts: Sequence[PartFound], *, counts: bool) -> Iterable[Target]:
    """Each target with the number that was measured for it."""
    rows = {part.name: part.rows for part in parts}
    training = [row for row in rows.get("training", ()) if row.get("way") == "step alone" and "share_of_peak" in row]
    for network in ("resnet38", "DeepLab-v2 on resnet101"):
        own = [row for row in training if row["network"].startswith(network)]
        best = max(own, key=lambda row: row["share_of_peak"], default=None)
        yield _target(
            f"training of {network}: share of the bf16 peak",
            best,
            "share_of_peak",
            PEAK_SHARE,
            at_least=True,
            counts=counts,
        )
    maps = next((row for row in rows.get("maps", ()) if "bf16" in row["case"]), None)
    yield _target("response maps: times the naive loop", maps, "ratio", MAPS_RATIO, at_least=True, counts=counts)
    crf = next((row for row in rows.get("crf", ()) if row["case"].startswith("500 x 375, 21")), None)
    what = "dense_crf_torch at 500 x 375, 21 classes: times one core"
    yield _target(what, crf, "ratio_one_core", CRF_RATIO, at_least=True, counts=counts)
    small = next((row for row in rows.get("small", ()) if row["case"] == "small"), None)
    yield _target(
        "small on voc-animals, whole: seconds", small, "seconds", SMALL_SECONDS, at_least=False, counts=counts
    )
    stages = [row for row in rows.get("reference", ()) if row.get("device_busy") is not None]
    least = min(stages, key=lambda row: row["device_busy"], default=None)
    target = _target(
        "voc12_reference: least share of a stage's time that the device works",
        least,
        "device_busy",
        LEAST_BUSY,
        at_least=True,
        counts=counts,
    )
    bound = {row["stage"]: row["device_busy"] for row in stages if row["device_busy"] < LEAST_BUSY}
    yield replace(target, profile={"bound by the host": bound} if target.met is False else None)


def _target(what: str, row: Case | None, number: str, limit: float, *, at_least: bool, counts: bool) -> Target:
    wanted = f"{'>=' if at_least else '<='} {limit:g}"
    if row is None or not counts:
        return Target(what=what, wanted=wanted)
    measured = row[number]
    met = bool(measured >= limit if at_least else measured <= limit)
    return Target(what=what, wanted=wanted, measured=measured, met=met, profile=None if met else row.get("profile"))
