"""The parts, most important first, and how each is carried out under its time limit."""

import importlib
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.gpu.given import Case, Given
from benchmarks.gpu.limits import run_limited
from benchmarks.gpu.record import PartFound, Writer
from subcam.runtime.files import read_json, write_json

LEAST_SECONDS = 10.0
"""With less than this left of the budget no part is begun."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """name. module, function: where its rows come from. most: seconds it may take. needs_data: the folder of images."""

    name: str
    module: str
    function: str = "cases"
    most: float
    needs_data: bool = False
    on_gpu_alone: bool = False


PARTS = (
    Part(name="tests", module="tests", most=120, on_gpu_alone=True),
    Part(name="small", module="whole_run", most=260, needs_data=True),
    Part(name="training", module="train", most=200),
    Part(name="maps", module="maps", most=60),
    Part(name="crf", module="crf", most=90),
    Part(name="resume", module="resume", most=150),
    Part(name="reference", module="whole_run", function="reference_cases", most=240, needs_data=True),
)
"""In this order; each is given what is left of the budget, and no more than its own most."""


def rows_of(part: Part, given: Given) -> Iterator[Case]:
    """The rows of a part, in this process."""
    return getattr(importlib.import_module(f"benchmarks.gpu.{part.module}"), part.function)(given)


def reason_to_leave_out(part: Part, given: Given, seconds: float) -> str:
    """Why a part is not begun; empty where it is."""
    if part.on_gpu_alone and not given.on_gpu:
        return "there is no GPU: these tests would all be skipped"
    if part.needs_data and not given.tiny and (given.data is None or not given.data.is_dir()):
        return "the data folder is missing (--data)"
    if seconds < LEAST_SECONDS:
        return f"{max(seconds, 0):.0f} s of the budget were left"
    return ""


def carry_out(part: Part, given: Given, *, seconds: float, write: Writer) -> None:
    """Begin a part unless something forbids it; `write` gets it as it stands, after each row and in the end."""
    limit = min(part.most, seconds)
    if why := reason_to_leave_out(part, given, seconds):
        write(PartFound(name=part.name, state="left out", why=why))
    elif given.tiny:
        write(here(part, given, limit=limit))
    else:
        write(apart(part, given, limit=limit))


def here(part: Part, given: Given, *, limit: float) -> PartFound:
    """In this process, where nothing can cut it off: for networks so small that a process's start would cost more."""
    rows: list[Case] = []
    started = time.monotonic()
    try:
        rows.extend(rows_of(part, replace(given, note=rows.append)))
        state, why = "done", ""
    except Exception as error:  # whatever it is, it is what was found of this part, and the others go on
        state, why = "failed", _said(error)
    return PartFound(
        name=part.name,
        state=state,
        seconds=time.monotonic() - started,
        limit=limit,
        why=why,
        rows=tuple(rows),  # type: ignore[arg-type]
    )


def apart(part: Part, given: Given, *, limit: float) -> PartFound:
    """In a process of its own, which is killed with all its children when its time is over; its rows so far stay."""
    file = given.scratch.resolve() / f"{part.name}.json"
    file.unlink(missing_ok=True)
    ended = run_limited(child_words(part, given, file), seconds=limit, log=file.with_suffix(".log"))
    rows = tuple(read_json(file)) if file.is_file() else ()
    found = PartFound(name=part.name, state="done", seconds=ended.seconds, limit=limit, rows=rows)
    if ended.status is None:
        return replace(found, state="cut off", why=f"cut off after {limit:.0f} s")
    if ended.status:
        return replace(found, state="failed", why=f"ended with {ended.status}: {ended.said[-1500:]}")
    return found


def child_words(part: Part, given: Given, file: Path) -> list[str]:
    """The command of the process that carries out one part."""
    words = [sys.executable, "-m", "benchmarks.gpu.child", part.name, str(file)]
    words += ["--device", given.device, "--scratch", str(given.scratch.resolve())]
    words += ["--tiny"] if given.tiny else []
    for name, path in (("--data", given.data), ("--weights", given.weights)):
        words += [name, str(path.resolve())] if path is not None else []
    return words


def in_child(part: Part, given: Given, file: Path) -> None:
    """Carry out a part, writing all of its rows anew after each."""
    rows: list[Case] = []

    def note(row: Case) -> None:
        rows.append(row)
        write_json(file, rows)

    for row in rows_of(part, replace(given, note=note)):
        note(row)


def _said(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(where.filename).name}, line {where.lineno})"
