"""Tables 1 and 2 of a run, as terminal text, Markdown and CSV: the right number in the right place."""

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from subcam.evaluate.refined_stage import RefinedScores
from subcam.evaluate.stage import MapScores
from subcam.results import RefinedResult, RoundResult, RunResult
from subcam.refine.label_map import VARIANTS
from subcam.report.tables import BEST_NOTE, explanation, markdown_table, tables_of, terminal_table, write_tables
from subcam.run_folder import Stage
from subcam.settings import RunSettings


def map_scores(base: float) -> MapScores:
    """Scores that all differ: base + 0.01, base + 0.02, ..."""
    fixed = {"miou": base + 0.01, "f_score": base + 0.02, "precision": base + 0.03, "recall": base + 0.04}
    return MapScores(
        images=7,
        fixed_threshold=0.15,
        fixed=fixed | {"iou": [base + 0.005, base, float("nan")]},
        best_threshold=0.31,
        best={"miou": base + 0.05, "f_score": base + 0.06},
        best_used_masks=True,
        mean_average_precision=base + 0.07,
        class_average_precision=[base, base],
        thresholds=[0.15, 0.31],
        miou_curve=[base + 0.01, base + 0.05],
    )


def refined_scores(base: float) -> RefinedScores:
    return RefinedScores(
        images=7,
        variants={
            variant: {"miou": base + step / 100, "iou": [base, base + step / 100, base]}
            for step, variant in enumerate(VARIANTS, start=1)
        },
        alphas=[4.0, 16.0],
        walk_curve=[base + 0.05, base + 0.09],
    )


def a_round(index: int, base: float, *, control: bool = False) -> RoundResult:
    stage = Stage(name="any", key="key", path=Path("nowhere"))
    scores = {"train": map_scores(base), "val": map_scores(base + 0.5)}
    return RoundResult(round_index=index, control=control, model=stage, maps=stage, scores=scores)


@pytest.fixture
def result(tmp_path: Path) -> RunResult:
    """Rounds 0 and 1, the control of round 1, and pseudo masks of round 1, on two splits."""
    stage = Stage(name="any", key="key", path=Path("nowhere"))
    masks = RefinedResult(round_index=1, masks=stage, scores={"train": refined_scores(0.3), "val": refined_scores(0.8)})
    return RunResult(
        settings=RunSettings(control=True),
        out=tmp_path,
        class_names=("cat", "dög"),
        rounds=(a_round(0, 0.1), a_round(1, 0.2), a_round(1, 0.15, control=True)),
        refined=(masks,),
        segmented=(),
        seconds=1.0,
    )


def shown(result: RunResult) -> str:
    console = Console(width=80, record=True, file=io.StringIO())
    for table in tables_of(result):
        console.print(terminal_table(table))
    return console.export_text()


def test_table_2_has_a_row_a_split_and_round(result: RunResult) -> None:
    table = tables_of(result)[0]
    assert table.columns == ("split", "round", "mIoU", "F-score", "prec.", "recall", "mIoU *", "at *", "mAP")
    assert table.rows == (
        ("train", "0 (CAM)", "11.0", "12.0", "13.0", "14.0", "15.0", "0.31", "17.0"),
        ("train", "1", "21.0", "22.0", "23.0", "24.0", "25.0", "0.31", "27.0"),
        ("train", "1 control", "16.0", "17.0", "18.0", "19.0", "20.0", "0.31", "22.0"),
        ("val", "0 (CAM)", "61.0", "62.0", "63.0", "64.0", "65.0", "0.31", "67.0"),
        ("val", "1", "71.0", "72.0", "73.0", "74.0", "75.0", "0.31", "77.0"),
        ("val", "1 control", "66.0", "67.0", "68.0", "69.0", "70.0", "0.31", "72.0"),
    )


def test_table_1_stands_beside_the_maps_that_were_refined(result: RunResult) -> None:
    table = tables_of(result)[1]
    assert table.columns == ("split", "round", "CAM", "+CRF", "+RW", "+RW+CRF", "CAM *", "+RW *", "alpha *")
    assert table.rows == (
        ("train", "1", "21.0", "31.0", "32.0", "33.0", "25.0", "39.0", "16"),
        ("val", "1", "71.0", "81.0", "82.0", "83.0", "75.0", "89.0", "16"),
    )
    assert len(tables_of(replace(result, refined=()))) == 1


def test_no_masks_no_tables(result: RunResult) -> None:
    bare = replace(result, rounds=tuple(replace(found, scores={}) for found in result.rounds), refined=())
    assert tables_of(bare) == []
    write_tables(bare)
    assert BEST_NOTE in (bare.out / "summary.md").read_text("utf-8")
    assert not (bare.out / "rounds.csv").exists()


def test_what_used_masks_is_starred_and_said(result: RunResult) -> None:
    for table in tables_of(result):
        starred = [column for column in table.columns if column.endswith("*")]
        assert len(starred) >= 2
    text = explanation(result)
    assert "background threshold 0.15" in text
    assert "lambda = 5, K = 10, control: lambda = 0" in text
    assert "alpha 4 before the CRF, 16 for the random walk" in text
    assert "chosen by looking at the masks of the same pictures" in text
    plain = explanation(replace(result, refined=(), settings=RunSettings()))
    assert "alpha" not in plain
    assert "control" not in plain


def test_the_terminal_shows_every_number_within_80_columns(result: RunResult) -> None:
    text = shown(result)
    assert max(map(len, text.splitlines())) <= 80
    for table in tables_of(result):
        for row in table.rows:
            (line,) = [line for line in text.splitlines() if line.split() == " ".join(row).split()]
            assert "…" not in line


def test_markdown(result: RunResult) -> None:
    lines = markdown_table(tables_of(result)[1]).splitlines()
    assert lines == [
        "**Table 1. From response maps to pseudo masks (mIoU, per cent)**",
        "",
        "| split | round | CAM | +CRF | +RW | +RW+CRF | CAM * | +RW * | alpha * |",
        "|---|---|---|---|---|---|---|---|---|",
        "| train | 1 | 21.0 | 31.0 | 32.0 | 33.0 | 25.0 | 39.0 | 16 |",
        "| val | 1 | 71.0 | 81.0 | 82.0 | 83.0 | 75.0 | 89.0 | 16 |",
    ]


def read(path: Path) -> list[list[str]]:
    return list(csv.reader(path.open(encoding="utf-8")))


def test_files(result: RunResult) -> None:
    write_tables(result)
    first, second = tables_of(result)
    assert read(result.out / "rounds.csv") == [list(first.columns), *map(list, first.rows)]
    assert read(result.out / "pseudo-masks.csv") == [list(second.columns), *map(list, second.rows)]
    classes = read(result.out / "classes.csv")
    assert classes[0] == ["split", "round", "maps", "background", "cat", "dög"]
    assert classes[1] == ["train", "0 (CAM)", "threshold 0.15", "10.50", "10.00", "nan"]
    assert len(classes) == 1 + 3 * 2 + 2 * 3
    assert classes[-1] == ["val", "1", "walk-crf", "80.00", "83.00", "80.00"]
    summary = (result.out / "summary.md").read_text("utf-8")
    assert summary == "\n".join([markdown_table(first), markdown_table(second), explanation(result)]) + "\n"
