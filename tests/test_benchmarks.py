"""The benchmarks' smallest cases: both ways agree, results survive a file, and the docs hold the table of one."""

import importlib
import inspect
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks import __main__ as command
from benchmarks import (
    choices,
    choices_of_runs,
    clustering,
    confidence,
    evaluation,
    goals,
    maps_beside_peers,
    report,
    response_maps,
    segmentation,
    show,
    training,
)
from benchmarks.goals import Goal
from benchmarks.measure import (
    Options,
    Process,
    Time,
    Turns,
    all_in_turns,
    compared,
    in_turns,
    median_time,
    peak_growth_mib,
)
from benchmarks.record import Bound, Growth, Results, Row, merged, missed

from subcam.data.images import read_mask, voc_palette, write_mask
from subcam.errors import BadInputError, SubcamError
from subcam.export.mask_folder import open_masks
from subcam.metrics.scores import scores
from subcam.results import open_images, read_run
from subcam.settings import RunSettings

ROOT = Path(__file__).resolve().parents[1]
QUICK = Options(quick=True, turns=1)


@pytest.mark.parametrize("network", ["tiny", "mobilenetv2_100"])
def test_response_maps_equal_the_naive_loop(network: str) -> None:
    ours, naive = response_maps.both_ways(response_maps.Case(network=network, height=45, width=60, present=3))
    for found, expected in zip(ours(), naive(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
        assert expected.amax() > 0.9


def test_response_maps_without_the_forward_pass_equal_the_naive_loop() -> None:
    ours, naive = response_maps.both_ways(response_maps.Case(network="resnet38", height=40, width=56, forward=False))
    for found, expected in zip(ours(), naive(), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_maps_equal_those_of_the_loop_that_stands_for_plain_pytorch() -> None:
    """onnxruntime's are that loop's with another forward pass."""
    case = maps_beside_peers.make_case(height=40, width=56, count=1)
    found, plain = maps_beside_peers.ours(case, "32-true")(), maps_beside_peers.plain_maps(case, case.body)
    assert found.shape == (1, 2, 40, 56)
    torch.testing.assert_close(found, plain, atol=1e-4, rtol=0)


def test_segmentation_equals_the_naive_loop() -> None:
    ours, naive = segmentation.both_ways("tiny", 40, 56)
    torch.testing.assert_close(ours(), naive(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("module", [training, evaluation])
def test_both_ways_agree_in_the_quick_case(module: object) -> None:
    found = tuple(module.rows(QUICK))  # type: ignore[attr-defined]
    assert found
    assert not missed(found)
    assert all(row.bounds and row.bounds[-1].met(row) for row in found)


def test_a_pass_of_k_means_is_measured_at_two_sizes() -> None:
    first, second = clustering.single_passes(QUICK)
    assert second.items == 2 * first.items
    assert first.seconds > 0


def test_the_report_is_measured_as_a_whole_and_for_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[RunSettings] = []

    def process(words: tuple[str, ...]) -> Process:
        seconds = 3.0 + 0.5 * int(words[-1]) if "report" in words else 2.0
        return Process(seconds=9.0, cpu_seconds=seconds, peak_mib=0.0)

    monkeypatch.setattr("subcam.pipeline.run", lambda settings, _: made.append(settings))
    monkeypatch.setattr(report, "run_process", process)
    whole, image = report.rows(QUICK)
    assert (whole.seconds, whole.other_seconds, whole.ratio) == (4.0, 2.0, 0.5)
    assert image.seconds == pytest.approx(0.5)
    assert [settings.dataset.toy.val_images for settings in made] == [4]


def test_two_ways_take_turns_after_a_call_that_does_not_count() -> None:
    calls: list[str] = []
    turns = in_turns(lambda: calls.append("ours"), lambda: calls.append("other"), turns=2)
    assert calls == ["ours", "other"] * 3
    assert turns.ratio > 0


def test_a_call_that_timed_itself_is_believed() -> None:
    """Of three turns of a call that runs elsewhere."""
    elsewhere = iter(Time(seconds=seconds, cpu_seconds=seconds / 2) for seconds in (99, 8, 2, 4))
    found = all_in_turns({"elsewhere": lambda: next(elsewhere)}, turns=3)["elsewhere"]
    assert median_time(found) == Time(seconds=4, cpu_seconds=2)
    twice = [Time(seconds=2 * one.seconds, cpu_seconds=1) for one in found]
    assert compared(found, twice) == Turns(seconds=4, cpu_seconds=2, other_seconds=8, other_cpu_seconds=1, ratio=2)


def test_growth_of_memory_is_that_of_the_call() -> None:
    found = peak_growth_mib(lambda: torch.ones(64 << 20, dtype=torch.uint8))
    if found is None:
        pytest.skip("resident memory is read on Linux only")
    assert 60 < found < 100


def results() -> Results:
    slow = Row(
        stage="maps",
        case="small",
        seconds=0.5,
        cpu_seconds=0.48,
        items=4,
        other="naive | loop",
        other_seconds=1.0,
        ratio=2.0,
        peak_mib=10.0,
        other_peak_mib=40.0,
        difference=1e-6,
        bounds=(Bound(of="ratio", limit=4.0), Bound(of="difference", limit=1e-4), Bound(of="memory_ratio", limit=3.0)),
    )
    growth = tuple(Growth(stage="run", count=count, seconds=2.0, peak_mib=500.0 + count / 100) for count in (100, 1000))
    rows = (slow, Row(stage="walk", case="small", seconds=2e-5))
    return Results(rows=rows, growth=growth, load=(0.5, 1.2), peers={"faiss-cpu": "absent"})


def test_results_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    results().write(path)
    assert Results.read(path) == results()
    path.write_text(json.dumps({"format": 0}), "utf-8")
    with pytest.raises(BadInputError, match="holds no results"):
        Results.read(path)


def test_only_a_missed_bound_is_named() -> None:
    assert missed(results().rows) == ["maps, small: expected ratio >= 4, got 2"]
    slow, bare = results().rows
    assert slow.throughput == 8
    assert slow.memory_ratio == 4
    assert bare.memory_ratio is None
    assert Bound(of="ratio", limit=1).met(bare) is None


def test_new_rows_take_the_place_of_earlier_ones() -> None:
    earlier = results()
    slow, bare = earlier.rows
    later = replace(earlier, rows=(replace(slow, seconds=0.1),), growth=())
    assert merged(earlier, later).rows == (bare, replace(slow, seconds=0.1))
    assert merged(earlier, later).growth == earlier.growth
    assert merged(earlier, replace(later, load=(0.1, 3.0))).load == (0.5, 3.0)
    with pytest.raises(BadInputError, match="threads = 1, these with 2"):
        merged(earlier, replace(later, threads=2))


def test_a_page_gets_the_table_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{show.BEGIN}\nold\n{show.END}\nafter\n", "utf-8")
    show.write_markdown(page, results())
    show.write_markdown(page, results())
    text = page.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| maps | small | 500 ms | 480 ms | 8 images | naive / loop | 1 s | - | 2 | 10 MiB | 40 MiB |" in text
    assert "load average 0.5 before and 1.2 after" in text
    assert "peers: faiss-cpu absent" in text
    assert "ratio >= 4 *" in text
    assert "| run | 1000 | 2 s | 500 | 510 MiB | +9 MiB |" in text
    page.write_text("nothing\n", "utf-8")
    with pytest.raises(BadInputError, match="expected the lines"):
        show.write_markdown(page, results())


def test_the_docs_hold_the_table_of_the_last_results() -> None:
    """`python -m benchmarks --load benchmarks/last.json --markdown docs/scale.md` writes it."""
    last = Results.read(ROOT / "benchmarks" / "last.json")
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    assert show.to_markdown(last) in page
    assert show.to_goal_markdown(last) in page
    assert not last.quick


def test_the_worst_row_decides_on_a_goal_by_processor_time() -> None:
    fast = Row(stage="maps", case="a", other="loop", seconds=1, other_seconds=9, ratio=9, cpu_seconds=1)
    rows = [replace(fast, other_cpu_seconds=3.0), replace(fast, case="b", other_cpu_seconds=2.0), fast]
    ratio = Goal(what="maps", before="1x", benchmark="maps", stage="maps", limit=2.5)
    assert ratio.measured(rows) == 2.0
    assert ratio.measured(rows[2:]) == 9
    assert replace(ratio, case="a*").measured(rows) == 3.0
    assert replace(ratio, of="seconds", limit=1.5).measured([*rows, replace(fast, cpu_seconds=2.0)]) == 2.0
    missing = replace(ratio, stage="walk")
    found = [line[2:] for line in goals.cells(rows, (ratio, replace(ratio, limit=2.0), missing))]
    assert found == [(">= 2.5x", "2x", "no"), (">= 2x", "2x", "yes"), (">= 2.5x", "not measured", "")]


def test_goals_are_of_benchmarks_that_there_are() -> None:
    assert {goal.benchmark for goal in goals.GOALS} <= set(command.BENCHMARKS)
    crf = Row(stage="dense CRF", case="500 x 375, 21 classes", other="pydensecrf", seconds=1, ratio=4.0)
    names = [goal.what for goal in goals.GOALS if goal.measured([crf])]
    assert names == ["dense CRF, psa's settings, 500 x 375, C = 21, beside pydensecrf"]


def test_the_command_measures_keeps_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = tmp_path / "found.json"
    assert command.main(["scores", "--quick", "--turns", "1", "--json", str(kept)]) == 0
    assert "confusion matrix" in capsys.readouterr().out
    first = Results.read(kept)
    assert first.quick
    assert command.main(["--load", str(kept), "--against", str(kept)]) == 0
    assert "then / now" in capsys.readouterr().out
    assert command.main(["--load", str(tmp_path / "none.json")]) == 2
    with pytest.raises(SystemExit):
        command.main(["nothing"])
    slow = tmp_path / "slow.json"
    results().write(slow)
    assert command.main(["--load", str(slow)]) == 1
    assert "missed: maps, small" in capsys.readouterr().out


def test_every_benchmark_is_a_function_of_its_file() -> None:
    for module, function in command.BENCHMARKS.values():
        found = getattr(importlib.import_module(f"benchmarks.{module}"), function)
        assert list(inspect.signature(found).parameters) == ["options"]


def test_rank_correlation_by_hand_and_of_a_run(refined_run: Path) -> None:
    """Equal values share the mean of their ranks: 1, 2.5, 2.5, 4 against 2, 1, 3, 4."""
    assert confidence.ranks([1, 5, 5, 9]).tolist() == [1, 2.5, 2.5, 4]
    assert confidence.spearman([1, 5, 5, 9], [2, 1, 3, 4]) == pytest.approx(3 / (4.5 * 5) ** 0.5)
    run = read_run(refined_run)
    table = confidence.table_of(run, open_images(run))
    columns = [list(column.cells) for column in table.columns]
    assert columns[0] == ["val"] * 5
    assert set(columns[2]) == {"8"}
    assert all(-1 <= float(cell) <= 1 for cell in columns[3])


def test_a_run_chosen_on_other_classes(refined_run: Path, tmp_path: Path) -> None:
    """The first as it is, one whose masks are the ground truth, one that finds the first two classes alone."""
    run = read_run(refined_run)
    scored = open_images(run).scored["val"].image_set
    first, perfect, half = (tmp_path / name for name in ("first", "perfect", "half"))
    for folder in (first, perfect, half):
        shutil.copytree(refined_run, folder)
    for record in scored.records:
        assert record.mask is not None
        truth = read_mask(record.mask, scored.mask_values, turn=record.mask_turn)
        truth[truth == 255] = 0
        write_mask(open_masks(perfect).files[record.name], truth, palette=voc_palette())
        write_mask(open_masks(half).files[record.name], np.where(truth <= 2, truth, 0), palette=voc_palette())

    def chosen(*runs: Path) -> tuple[list[tuple[str, ...]], dict[str, list[float]]]:
        table, by_way = choices_of_runs.table_of(runs, choose_on="val", score_on="val")
        return [tuple(cells) for cells in zip(*(column.cells for column in table.columns), strict=True)], by_way

    rows, by_way = chosen(first, perfect, half)
    assert [row[1:3] for row in rows] == 2 * [
        ("on the other classes", "perfect"),
        ("on these images *", "perfect"),
        ("the first run", "first"),
    ]
    assert by_way["on the other classes"] == [1, 1]
    assert max(by_way["the first run"]) < 1
    # what is best for the first two classes finds nothing of the others
    rows, by_way = chosen(first, half)
    assert [row[2] for row in rows] == ["half", "first", "first", "first", "half", "first"]
    assert by_way["on the other classes"][0] < by_way["the first run"][0]
    one, other = next(choices.halves(4))
    own = {"val": choices_of_runs.count(scored, {"first": open_masks(first)}, "")}["val"]
    matrix = sum(found["first"] for shown, found in own.items() if shown and shown <= other)
    assert by_way["the first run"][0] == pytest.approx(float(np.nanmean(scores(matrix).iou[[0, 3, 4]])))
    assert one == {0, 1}
    with pytest.raises(SubcamError, match="two or more runs"):
        chosen(first, first)
    with pytest.raises(SubcamError, match="splits with masks, val, got test"):
        choices_of_runs.table_of([first, half], choose_on="val", score_on="test")


def test_settings_of_the_walk_chosen_on_other_classes(refined_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = read_run(refined_run)
    walk = run.result.settings.refine.walk
    counted = []
    count = choices.count

    def keep(*args: Any) -> Any:
        counted.append(count(*args))
        return counted[-1]

    monkeypatch.setattr(choices, "count", keep)
    table, by_way = choices.table_of(run, betas=(walk.beta, 2.0), choose_on="val", score_on="val")
    # All images together are what the run itself has scored.
    (refined,) = run.result.refined
    for alpha, expected in zip(refined.scores["val"].alphas, refined.scores["val"].walk_curve, strict=True):
        own = choices.Choice(walk.beta, walk.all_pairs, alpha)
        assert scores(sum(matrices[own] for matrices in counted[0].values())).miou == pytest.approx(expected, abs=0.01)
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert [row[1] for row in rows] == [*by_way, *by_way]
    best = by_way["on these images *"]
    assert all(best[half] >= found[half] for found in by_way.values() for half in (0, 1))
    assert all(0 <= score <= 1 for found in by_way.values() for score in found)
    one, other = next(choices.halves(4))
    by_hand = [matrices for shown, matrices in counted[0].items() if shown <= other]
    chosen = choices.Choice(walk.beta, walk.all_pairs, refined.made.walk_alpha if refined.made else 0.0)
    iou = scores(sum(matrices[chosen] for matrices in by_hand)).iou
    assert by_way["as in the run"][0] == pytest.approx(float(np.nanmean(iou[[0, 3, 4]])))
    assert one | other == {0, 1, 2, 3}
