"""What every stage of a run has at hand, and how a stage's key comes from what it is given.

The parameters of a stage's function are the one list of what it depends on. `Context.run` derives the stage's key from
the arguments, and hands over these and nothing else: what a stage does not name it cannot read.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

from subcam.data.check import CheckedImages
from subcam.data.dataset import Dataset
from subcam.runtime.devices import Device
from subcam.runtime.machine.malloc import give_back_freed_memory
from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.progress import say, silence
from subcam.runtime.run_folder import CONTENT, Keyed, RunFolder, Stage

Given = ParamSpec("Given")

MOST_REASONS = 4
"""Changes that are named when a stage is computed anew."""


def compute(folder: RunFolder, stage: Stage, work: Callable[[], None]) -> None:
    """Do the work of a stage unless it is done; say why it is done anew."""
    if stage.done:
        stage.drop_checkpoints()  # of a process that was killed just before it did
        return
    if stage.path.is_dir():
        say(f"{stage.name}: resumed")
    elif earlier := folder.earlier(stage):
        say(f"{stage.name}: computed anew, {' and '.join(reasons(earlier, stage))} ({earlier.path.name} stays)")
    work()
    give_back_freed_memory()


@dataclass(frozen=True, kw_only=True)
class Context:
    """A run's folder, images, devices and seed.

    training, inference: the same device at the precision of training, and of features, response maps and masks.
    carry_out: what is done with a stage's work; a dry run only looks.
    """

    folder: RunFolder
    dataset: Dataset
    training: Device
    inference: Device
    seed: int
    carry_out: Callable[[RunFolder, Stage, Callable[[], None]], None] = compute

    @classmethod
    def open(cls, folder: RunFolder, dataset: Dataset, *, machine: MachineSettings, seed: int) -> "Context":
        """A context on the device that `machine` names.

        Raises:
            SettingsError: there is no such device here, or fewer than there are processes.
        """
        return cls(
            folder=folder,
            dataset=dataset,
            training=Device.open(machine, precision=machine.precision),
            inference=Device.open(machine, precision=machine.resolved_inference_precision),
            seed=seed,
        )

    def planned(self, go: Callable[["Context"], object]) -> tuple["PlannedStage", ...]:
        """The stages that `go` asks of a context, in their order, each once; none is computed.

        `go` reads no result of a stage that is not done.
        """
        found: dict[Path, PlannedStage] = {}

        def note(_: RunFolder, stage: Stage, work: Callable[[], None]) -> None:
            assert isinstance(work, partial)
            found.setdefault(stage.path, PlannedStage(stage=stage, work=work.func, given=work.keywords))

        with silence():
            go(dataclasses.replace(self, carry_out=note))
        return tuple(found.values())

    def run(
        self, name: str, work: Callable[Concatenate[Stage, Given], None], *args: Given.args, **given: Given.kwargs
    ) -> Stage:
        """The stage that `work` and its arguments mean, done if it was not.

        Args:
            name: of the stage in this run, such as "round1-cam".
            work: the function of a module in `stages/`; the module's `VERSION` is a part of the key.
            args: none; arguments are given by name.
            given: all that the stage depends on.
        """
        if args:
            raise TypeError(f"{name}: expected the arguments of a stage by name, got {len(args)} without one")
        stage = self.folder.stage(name, version=version_of(work), inputs=inputs_of(work, given))
        self.carry_out(self.folder, stage, partial(work, stage, **given))
        return stage


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """A stage that a run will come to: its folder, its function and what that is given."""

    stage: Stage
    work: Callable[..., None]
    given: dict[str, Any]


def version_of(work: Callable[..., None]) -> int:
    """The version of a stage's computation: `VERSION` of the module that holds it."""
    return sys.modules[work.__module__].VERSION


def inputs_of(work: Callable[..., None], given: dict[str, Any]) -> dict[str, Any]:
    """What decides the results of `work`, by parameter, defaults included: plain values, keys and digests."""
    bound = inspect.signature(work).bind(None, **given)
    bound.apply_defaults()
    _, *parameters = bound.arguments.items()
    return {name: key_of(value) for name, value in parameters}


def key_of(value: Any) -> Any:
    """What of a value decides results, as JSON knows it.

    Of a stage its key, of images their digest, of a device its precision, of a file that a setting names its content,
    of a method its name, or of somebody else's its code.

    Raises:
        TypeError: nothing says what of such a value decides results.
    """
    if isinstance(value, Stage):
        return value.key
    if isinstance(value, CheckedImages):
        return value.digest
    if isinstance(value, Device):
        return value.precision
    if isinstance(value, Keyed):
        return key_of(value.key)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: _key_of_field(entry, getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): key_of(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [key_of(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a stage cannot depend on a {type(value).__name__}: nothing says what of it decides the results")


def _key_of_field(entry: dataclasses.Field, value: Any) -> Any:
    return entry.metadata[CONTENT](value) if CONTENT in entry.metadata else key_of(value)


def reasons(earlier: Stage, stage: Stage) -> list[str]:
    """Why `stage` is not the `earlier` one of the same name, for a person."""
    if not earlier.inputs:
        return ["because the existing one is from an earlier revision"]
    causes = []
    if earlier.version != stage.version:
        causes.append(f"because its computation changed (version {earlier.version} -> {stage.version})")
    before, now = dict(_leaves(earlier.inputs)), dict(_leaves(stage.inputs))
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        more = f" and {len(changed) - MOST_REASONS} more" if len(changed) > MOST_REASONS else ""
        causes.append(f"because {', '.join(changed[:MOST_REASONS])}{more} changed")
    return causes


def _leaves(inputs: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in inputs.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
