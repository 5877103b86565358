"""What a run says of its stages: which is done, what it took, and how long is left, measured and not guessed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.stages.all_stages import STAGES

from subcam.data.check import CheckedImages
from subcam.data.records import ImageSet, Record
from subcam.recipes import small
from subcam.runtime import progress
from subcam.runtime.progress import bar
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.stages import cam, classify, evaluate, predict
from subcam.stages.context import PlannedStage
from subcam.stages.refine import sure_regions
from subcam.steps import course
from subcam.steps.course import RunCourse
from subcam.steps.time_left import _COUNTED, CRF, MOST_ASSUMED, Costs, Work, work_of


def images(count: int, *, size: tuple[int, int] = (100, 200)) -> CheckedImages:
    records = tuple(Record(name=f"{index}", image=Path(f"{index}.jpg"), labels=(0,)) for index in range(count))
    return CheckedImages(
        image_set=ImageSet(class_names=("cat",), records=records, mask_values=()),
        sizes=(size,) * count,
        digest=f"{count}",
    )


def planned(work: Callable[..., None], *, name: str = "x", **given: Any) -> PlannedStage:
    stage = Stage(name=name, key=name, path=Path(f"/no/stages/{name}"))
    return PlannedStage(stage=stage, work=work, given=given)


# How much a stage does


def test_the_work_of_every_stage_is_counted() -> None:
    """Of a run with one that is not, nothing would be said."""
    assert set(_COUNTED) == set(STAGES)


def test_trainings_count_their_crops_and_maps_their_scales() -> None:
    """60 images in batches of 16 are 3 steps, 3 epochs 9; 200 steps at least make that 207."""
    recipe = small()

    def amount(work: Callable[..., None], settings: Any, count: int) -> float:
        found = work_of(planned(work, settings=settings, images=images(count)))
        assert found is not None
        return found.amount

    trained = amount(classify.run, recipe.classify, 60)
    assert amount(classify.run, recipe.classify, 16 * 207 // 3) == pytest.approx(trained)
    assert amount(classify.run, recipe.classify.of_round(0, with_subcategories=False), 60) == pytest.approx(trained)
    quick = recipe.quick_look()
    assert amount(classify.run, quick.classify, 60) == pytest.approx(trained * 21 / 207)
    once = amount(cam.run, quick.cam, 60)
    assert amount(cam.run, recipe.cam, 60) == pytest.approx(5 * once)  # 1 + 4
    assert amount(cam.run, quick.cam, 120) == pytest.approx(2 * once)
    # Two megapixels through the network twice, at one and at one and a half, and through the CRF twice.
    predicted = work_of(planned(predict.run, settings=recipe.segment.predict, images=images(100)))
    assert predicted is not None
    assert predicted.processor == pytest.approx(CRF * 13 / 3 * 2 * 2.0)
    assert work_of(planned(cam.run, settings=quick.cam, images=images(60), method=object())) is None


# How long it takes

NET = Work(kind="net", network=10.0)
OTHER_NET = Work(kind="other", network=30.0)
CPU = Work(kind="cpu", processor=8.0)


def test_time_is_of_the_same_kind_else_of_kinds_like_it() -> None:
    costs = Costs(threads=4)
    assert costs.seconds_of([OTHER_NET]) is None
    costs.measured(NET, 20.0)
    assert costs.seconds_of([OTHER_NET]) == pytest.approx(60)
    assert costs.seconds_of([Work(kind="net", network=5.0)]) == pytest.approx(10)
    assert costs.seconds_of([OTHER_NET, CPU]) == pytest.approx(62), "8 s of one core on four threads"
    costs.measured(OTHER_NET, 15.0)
    assert costs.seconds_of([OTHER_NET]) == pytest.approx(15), "measured itself"
    costs.measured(CPU, 16.0)
    assert costs.seconds_of([Work(kind="cpu too", processor=2.0)]) == pytest.approx(4)
    assert costs.seconds_of([]) == 0


def test_nothing_is_said_where_most_is_assumed() -> None:
    costs = Costs()
    costs.measured(NET, 10.0)
    known, assumed = Work(kind="net", network=10.0), 10.0 * MOST_ASSUMED / (1 - MOST_ASSUMED)
    assert costs.seconds_of([known, Work(kind="cpu", processor=0.99 * assumed)]) is not None
    assert costs.seconds_of([known, Work(kind="cpu", processor=1.01 * assumed)]) is None
    assert costs.seconds_of([CPU]) is None


# What is said


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(course, "say", lines.append)
    monkeypatch.setattr(progress, "say", lines.append)
    monkeypatch.setattr(type(progress.console), "is_terminal", False)
    return lines


@pytest.fixture
def pass_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    return pass_time


def test_a_line_for_each_stage_and_compilation_spoils_nothing(
    said: list[str], pass_time: Callable[[float], None], tmp_path: Path
) -> None:
    """The first batch takes 100 s of compilation; the next stage of its kind is expected without."""
    recipe, folder = small().quick_look(), RunFolder(path=tmp_path)
    own = [planned(cam.run, name=name, settings=recipe.cam, images=images(40)) for name in ("a", "b", "c")]
    run = RunCourse(
        [*own, planned(sure_regions.run, name="d", settings=small().refine.sure_regions, images=images(1))], threads=1
    )

    def work(title: str, *, first: float) -> Callable[[], None]:
        def work() -> None:
            pass_time(5)  # imports
            with bar(title, 40) as job:
                for seconds in (first, *[1.0] * 39):
                    pass_time(seconds)
                    job.advance()

        return work

    for one, first in zip(own, (100.0, 1.0, 1.0), strict=True):
        run.carry_out(folder, one.stage, work(one.stage.name, first=first))
    assert said == [
        "stage 1 of 4, a: 1/40",
        "stage 1 of 4, a: 32/40, about 10 s left of this stage, 1 min 30 s left of the run",
        "stage 1 of 4: a, 2 min 24 s; about 1 min 20 s left",
        "stage 2 of 4, b: 31/40, about 10 s left of this stage, 50 s left of the run",
        "stage 2 of 4: b, 45 s; about 40 s left",
        "stage 3 of 4, c: 31/40, about 10 s left of this stage, 10 s left of the run",
        "stage 3 of 4: c, 45 s",
    ]


def test_a_stage_that_was_not_planned_counts_too(said: list[str], tmp_path: Path) -> None:
    run = RunCourse([planned(evaluate.run_maps, name="a", images=images(1))], threads=1)
    for name in ("a", "late"):
        run.carry_out(RunFolder(path=tmp_path), planned(evaluate.run_maps, name=name).stage, lambda: None)
    assert [line.partition(",")[0] for line in said] == ["stage 1 of 1: a", "stage 2 of 2: late"]
