"""Which stages of a run are done, and which comes next: found by their keys, without computing anything."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from subcam.data.dataset import Dataset
from subcam.pipeline import all_stages
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages.context import Context


def finished_stages(settings: RunSettings, out: Path, *, dataset: Dataset) -> tuple[tuple[str, ...], str | None]:
    """Go through a run's stages in their order as far as they are done.

    Returns the names of their folders, and that of the first which is not done; None if all are.

    Args:
        settings: of the run.
        out: its folder; nothing is written in it.
        dataset: its images.
    """
    finished: list[str] = []

    def look(_: RunFolder, stage: Stage, work: Callable[[], None]) -> None:
        del work  # a dry run does none
        if not stage.done:
            raise _NotFinishedError(stage.path.name)
        finished.append(stage.path.name)

    context = Context.open(RunFolder(path=out), dataset, machine=settings.machine, seed=settings.seed)
    try:
        all_stages(settings, replace(context, carry_out=look))
    except _NotFinishedError as missing:
        return tuple(finished), str(missing)
    return tuple(finished), None


class _NotFinishedError(Exception):
    """Names the folder of the first stage that is not done."""
