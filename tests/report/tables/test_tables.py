"""Tables 1 and 2 of a run, as terminal text, Markdown and CSV: the right number in the right place."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from subcam.data.readers.voc import VOC_CLASSES
from subcam.refine.variants import VARIANTS
from subcam.report.tables.formats import Spread, csv_table, markdown_table, terminal_table
from subcam.report.tables.tables import ablation_table, class_tables, explanation, tables_of, write_tables
from subcam.results import RefinedResult, RoundResult, RunResult
from subcam.runtime.documents.plain_values import as_plain
from subcam.runtime.run_folder import Stage
from subcam.settings import RunSettings
from subcam.stages.evaluate import MapScores, RefinedScores


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
    masks = RefinedResult(
        round_index=1,
        masks=stage,
        variant="walk-crf",
        scores={"train": refined_scores(0.3), "val": refined_scores(0.8)},
    )
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


def with_published(result: RunResult) -> RunResult:
    """The same scores, as if they were of all of VOC 2012's val and of some other train."""
    rounds = tuple(
        replace(found, scores={split: replace(scores, images={"train": 10582, "val": 1449}[split])})
        for found in result.rounds
        for split, scores in [("val", found.scores["val"])]
    )
    return replace(result, rounds=rounds, class_names=VOC_CLASSES)


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
    assert table.sections == (2, 3, 5)
    assert table.best == {(row, column) for row in (1, 4) for column in (2, 3, 4, 5, 6, 8)}
    assert table.published_rows == 0


def test_table_1_stands_beside_the_maps_that_were_refined(result: RunResult) -> None:
    table = tables_of(result)[1]
    assert table.columns == ("split", "round", "CAM", "+CRF", "+RW", "+RW+CRF", "CAM *", "+RW *", "alpha *")
    assert table.rows == (
        ("train", "1", "21.0", "31.0", "32.0", "33.0", "25.0", "39.0", "16"),
        ("val", "1", "71.0", "81.0", "82.0", "83.0", "75.0", "89.0", "16"),
    )
    assert table.sections == (1,)
    assert not table.best
    assert len(tables_of(replace(result, refined=()))) == 1


def test_numbers_are_those_of_the_record(result: RunResult) -> None:
    """What the tables carry is what `run.json` holds, digit for digit."""
    record = json.loads(json.dumps(as_plain({"rounds": result.rounds, "refined": result.refined})))
    table = tables_of(result)[0]
    entries = [(entry, split) for split in ("train", "val") for entry in record["rounds"]]
    for row, (entry, split) in zip(table.numbers, entries, strict=True):
        scores = entry["scores"][split]
        fixed = [scores["fixed"][key] for key in ("miou", "f_score", "precision", "recall")]
        assert list(row[2:]) == [*fixed, scores["best"]["miou"], 0.31, scores["mean_average_precision"]]
    lines = list(csv.reader(io.StringIO(csv_table(tables_of(result)[1]))))
    for line, split in zip(lines[1:], ("train", "val"), strict=True):
        variants = record["refined"][0]["scores"][split]["variants"]
        assert [float(cell) for cell in line[3:6]] == [variants[variant]["miou"] for variant in VARIANTS]


def test_published_numbers_only_beside_all_of_voc(result: RunResult) -> None:
    table = tables_of(with_published(result))[0]
    assert table.published_rows == 4
    assert table.rows[-1] == ("val", "3 (published)", "49.6", "67.0", *["–"] * 5)
    assert "not measured here" in table.note
    assert not any("published" in " ".join(row) for row in table.rows[: -table.published_rows])
    refined = with_published(result)
    assert tables_of(refined)[1].rows[1:] == (
        ("val", "AffinityNet (published)", "46.8", "–", "57.0", "–", "–", "–", "–"),
        ("val", "SC-CAM (published)", "49.6", "–", "61.2", "–", "–", "–", "–"),
    )
    for other in (result, replace(with_published(result), class_names=("cat",))):
        for table in tables_of(other):
            assert table.published_rows == 0
            assert "ublished" not in markdown_table(table)


def test_no_masks_no_tables(result: RunResult) -> None:
    bare = replace(result, rounds=tuple(replace(found, scores={}) for found in result.rounds), refined=())
    assert tables_of(bare) == []
    assert class_tables(bare) == []
    write_tables(bare)
    summary = (bare.out / "summary.md").read_text("utf-8")
    assert "Nothing was scored, so there are no tables. The run has:\n\n- classes: cat, dög\n" in summary
    assert "\nBackground threshold 0.15" in summary
    assert "*" not in summary
    assert "star" not in summary
    assert not (bare.out / "rounds.csv").exists()


def test_what_used_masks_is_starred_and_said(result: RunResult) -> None:
    for table in tables_of(result):
        starred = [column for column in table.columns if column.endswith("*")]
        assert len(starred) >= 2
    text = explanation(result)
    assert "background threshold 0.15" in text
    assert "lambda = 5, K = 10, control: lambda = 0" in text
    assert "alpha 4 before the CRF, 16 for the random walk" in text
    assert "Chosen with the ground truth of the same images" in text
    assert "themselves" not in text
    plain = explanation(replace(result, refined=(), settings=RunSettings()))
    assert "alpha" not in plain
    assert "control" not in plain


def test_the_terminal_shows_every_number_within_80_columns(result: RunResult) -> None:
    for run in (result, with_published(result)):
        text = shown(run)
        assert max(map(len, text.splitlines())) <= 80
        for table in tables_of(run):
            for row in table.rows:
                numbers = " ".join(row[2:]).split()
                found = [line for line in text.splitlines() if line.split()[-len(numbers) :] == numbers]
                assert any(line.split()[:2] == [row[0], row[1].split()[0]] for line in found), row
        assert "…" not in text


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
    assert (result.out / "rounds.csv").read_text("utf-8") == csv_table(first)
    assert (result.out / "pseudo-masks.csv").read_text("utf-8") == csv_table(second)
    assert not (result.out / "segmentation.csv").exists()
    classes = read(result.out / "class-iou.csv")
    assert classes[0] == ["split", "round", "scored", "background", "cat", "dög", "mIoU"]
    scores = result.rounds[0].scores["train"].fixed
    assert classes[1] == ["train", "0 (CAM)", "threshold 0.15", *map(repr, scores["iou"]), repr(scores["miou"])]
    assert classes[1][5] == "nan"
    assert len(classes) == 1 + 3 * 2 + 2 * 3
    assert classes[-1][:3] == ["val", "1", "walk-crf"]
    assert [float(cell) for cell in classes[-1][3:]] == [0.8, 0.8 + 3 / 100, 0.8, 0.8 + 3 / 100]
    summary = (result.out / "summary.md").read_text("utf-8")
    assert summary == "\n".join([markdown_table(first), markdown_table(second), explanation(result)]) + "\n"


def test_ablation_table() -> None:
    table = ablation_table(
        "Response maps, val (mIoU)",
        settings=["K", "n"],
        scores=["round 3", "round 3 *"],
        rows=[
            ["1", "3", Spread(mean=0.468, std=0.004), Spread(mean=0.47)],
            ["10", "3", Spread(mean=0.496, std=0.002), None],
        ],
        name="ablation",
    )
    assert table.rows == (("1", "3", "46.8 ± 0.4", "47.0"), ("10", "3", "49.6 ± 0.2", "–"))
    assert table.best == {(1, 2)}
    assert csv_table(table).splitlines() == [
        "K,n,round 3,round 3 std,round 3 *",
        "1,3,0.468,0.004,0.47",
        "10,3,0.496,0.002,",
    ]
