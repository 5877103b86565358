"""Where a run is among its stages: a line when one has ended, the time that is left, what is kept from before."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from subcam.data.records import first_of
from subcam.runtime.machine.cores import thread_count
from subcam.runtime.progress import Bar, about, duration, on_course, say
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.stages.context import Context, PlannedStage, compute
from subcam.steps.time_left import Costs, work_of


def follow(context: Context, planned: Sequence[PlannedStage]) -> Context:
    """A context that says, of each stage that it computes, which of all it is, what it took, and how long is left.

    What is done already is said at once, in a line.
    """
    kept = [one.stage.name for one in planned if one.stage.done]
    if kept:
        say(f"{len(kept)} of {len(planned)} stages kept from before: {first_of(kept)}")
    course = RunCourse(planned, threads=thread_count(context.training.machine.threads))
    return dataclasses.replace(context, carry_out=course.carry_out)


class RunCourse:
    """The stages of a run in their order, and what those cost that were computed in this process."""

    def __init__(self, planned: Sequence[PlannedStage], *, threads: int) -> None:
        self._places = {one.stage.path: place for place, one in enumerate(planned, start=1)}
        self._works = {one.stage.path: work_of(one) for one in planned}
        self._left = {one.stage.path for one in planned if not one.stage.done}
        self._costs = Costs(threads=threads)
        self._bars: list[Bar] = []
        self._started = 0.0
        self._running: Path | None = None
        self.place = ""

    def carry_out(self, folder: RunFolder, stage: Stage, work: Callable[[], None]) -> None:
        """Do the work of a stage unless it is done; say what it took and how long the others will take."""
        if stage.done:
            compute(folder, stage, work)
            return
        self._begin(stage)
        with on_course(self):
            compute(folder, stage, work)
        self._end(stage)

    def began(self, bar: Bar) -> None:
        """A job of the stage has begun."""
        self._bars.append(bar)

    def seconds_left(self) -> float | None:
        """How long this stage and those after it take from here; None where too little is known."""
        works = [self._works.get(path) for path in self._left if path != self._running]
        of_running = self._seconds_left_of_running()
        if of_running is None or None in works:
            return None
        return self._costs.seconds_of([work for work in works if work], beside=of_running)

    def _begin(self, stage: Stage) -> None:
        # A stage that hangs on results of others may not have been planned.
        number = self._places.setdefault(stage.path, len(self._places) + 1)
        self.place = f"stage {number} of {len(self._places)}"
        self._left.add(stage.path)
        self._running, self._bars, self._started = stage.path, [], time.monotonic()

    def _end(self, stage: Stage) -> None:
        seconds = time.monotonic() - self._started
        if work := self._works.get(stage.path):
            self._costs.measured(work, self._steady_seconds(time.monotonic()))
        self._left.discard(stage.path)
        self._running = None
        left = self.seconds_left() if self._left else None
        say(f"{self.place}: {stage.name}, {duration(seconds)}{f'; {about(left)} left' if left is not None else ''}")

    def _steady_seconds(self, now: float) -> float:
        """What the stage would take again: without imports, compilation, and what an earlier process had done of it."""
        if not self._bars:
            return now - self._started
        beside = now - self._bars[0].started - sum(bar.last - bar.started for bar in self._bars)
        return max(0.0, beside) + sum(bar.seconds_of_all for bar in self._bars)

    def _seconds_left_of_running(self) -> float | None:
        if self._running is None:
            return 0.0
        bar, work = (self._bars[-1] if self._bars else None), self._works.get(self._running)
        if bar is None or bar.seconds_left is None:
            return None
        if work:
            self._costs.measured(work, bar.seconds_of_all)
        return bar.seconds_left
