"""Which stages of a run are there, and which comes next: found by their fingerprints, without doing anything."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subcam.data.dataset import Dataset
from subcam.pipeline import whole_way
from subcam.runtime.devices import build_fabric
from subcam.runtime.progress import console
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages.context import Stages


def stages_there(settings: RunSettings, out: Path, *, dataset: Dataset) -> tuple[tuple[str, ...], str | None]:
    """Go through a run's stages in their order as far as they are done.

    Returns the names of the folders that are there, and that of the first which is not; None if all are.

    Args:
        settings: of the run.
        out: its folder; nothing is written in it.
        dataset: its images.
    """
    folder = _Looking(path=out)
    fabric = build_fabric(settings.machine, precision=settings.machine.precision)
    stages = Stages(settings=settings, folder=folder, dataset=dataset, fabric=fabric, inference=fabric)
    was_quiet, console.quiet = console.quiet, True  # that a stage was done before is no news here
    try:
        whole_way(stages)
    except _NotThereError as missing:
        return tuple(folder.there), str(missing)
    finally:
        console.quiet = was_quiet
    return tuple(folder.there), None


@dataclass(frozen=True, kw_only=True)
class _Looking(RunFolder):
    """A run folder that is only looked at: it collects the stages that are there and ends at the first that is not."""

    there: list[str] = field(default_factory=list)

    def stage(self, name: str, *, settings: Any = None, inputs: tuple[str, ...] = ()) -> Stage:
        found = super().stage(name, settings=settings, inputs=inputs)
        if not found.done:
            raise _NotThereError(found.path.name)
        self.there.append(found.path.name)
        return found


class _NotThereError(Exception):
    """Names the folder of the first stage that is not there."""
