"""Tables 3 and 4: each class by step, networks beside full supervision and, on VOC 2012, beside published numbers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from subcam.data.readers.voc import VOC_CLASSES
from subcam.refine.scores_and_masks import VARIANTS
from subcam.report.tables.published import TABLE_3
from subcam.report.tables.tables import class_tables, explanation, tables_of, write_tables
from subcam.results import RefinedResult, RoundResult, RunResult, SegmentedResult
from subcam.runtime.run_folder import Stage
from subcam.settings import RunSettings
from subcam.stages.evaluate import MapScores, RefinedScores

NOWHERE = Stage(name="any", key="key", path=Path("nowhere"))


def values(base: float, classes: int) -> dict[str, object]:
    """IoU base, base + 0.01, ... of background and classes, and base + 0.2 for their mean."""
    return {"miou": base + 0.2, "f_score": base, "iou": [base + label / 100 for label in range(classes + 1)]}


def map_scores(base: float, classes: int, images: int) -> MapScores:
    fixed = values(base, classes) | {"precision": base, "recall": base}
    return MapScores(
        images=images,
        fixed_threshold=0.15,
        fixed=fixed,
        best_threshold=0.2,
        best=fixed,
        best_used_masks=True,
        mean_average_precision=base,
        class_average_precision=[base] * classes,
        thresholds=[0.15],
        miou_curve=[base],
    )


def a_run(out: Path, class_names: tuple[str, ...] = ("cat", "dog"), *, images: int = 7) -> RunResult:
    """Rounds 0 to 2 with a control, masks of round 2, a trained on them and one from true masks; scored on val."""
    classes = len(class_names)

    def a_round(index: int, base: float, *, control: bool = False) -> RoundResult:
        scores = {"val": map_scores(base, classes, images)}
        return RoundResult(round_index=index, control=control, model=NOWHERE, maps=NOWHERE, scores=scores)

    def network(trained_on: Literal["pseudo", "truth"], base: float) -> SegmentedResult:
        scores = {"val": {"plain": values(base, classes), "crf": values(base + 0.05, classes)}}
        model = replace(NOWHERE, path=out / trained_on)
        return SegmentedResult(trained_on=trained_on, round_index=2, model=model, masks=NOWHERE, scores=scores)

    variants = {variant: values(0.25 + place / 10, classes) for place, variant in enumerate(VARIANTS)}
    masks = RefinedScores(images=images, variants=variants, alphas=[4.0], walk_curve=[0.4])
    return RunResult(
        settings=RunSettings(control=True),
        out=out,
        class_names=class_names,
        rounds=(a_round(0, 0.1), a_round(1, 0.12), a_round(2, 0.2), a_round(2, 0.15, control=True)),
        refined=(RefinedResult(round_index=2, masks=NOWHERE, scores={"val": masks}),),
        segmented=(network("pseudo", 0.3), network("truth", 0.55)),
        seconds=1.0,
    )


def test_table_3(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    (table,) = class_tables(run)
    assert table.name == "table-3-val"
    steps = ("CAM", "round 2", "control 2", "masks 2", "seg. 2", "seg. 2 + CRF", "full", "full + CRF")
    assert table.columns == ("label", "class", *steps)
    masks = {"crf": "25.0", "walk": "35.0", "walk-crf": "45.0"}[run.settings.refine.masks.pseudo_mask]
    assert table.rows[0] == ("0", "background", "10.0", "20.0", "15.0", masks, "30.0", "35.0", "55.0", "60.0")
    assert table.rows[2][:4] == ("2", "dog", "12.0", "22.0")
    assert table.rows[-1][:4] == ("", "mean", "30.0", "40.0")
    assert len(table.rows) == 4
    assert table.best == {(row, 9) for row in range(4)}
    assert table.sections == (3,)
    assert table.numbers[2][2] == run.rounds[0].scores["val"].fixed["iou"][2]


def test_table_4(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    (tmp_path / "pseudo").mkdir()
    config = {"architecture": "deeplabv2", "network": {"name": "resnet101"}}
    (tmp_path / "pseudo" / "config.json").write_text(json.dumps(config), "utf-8")
    table = tables_of(run)[2]
    assert table.columns == ("trained on", "supervision", "backbone", "val", "val / full")
    assert table.rows == (
        ("pseudo masks of round 2", "labels", "deeplabv2 resnet101", "50.0", "66.7"),
        ("pseudo masks of round 2 + CRF", "labels", "deeplabv2 resnet101", "55.0", "68.8"),
        ("ground truth", "masks", "", "75.0", "100.0"),
        ("ground truth + CRF", "masks", "", "80.0", "100.0"),
    )
    assert table.numbers[0][4] == pytest.approx(0.5 / 0.75)
    assert table.sections == (2,)
    assert table.text_columns == 3
    assert "predict the classes themselves" in explanation(run)
    write_tables(run)
    assert len((tmp_path / "segmentation.csv").read_text("utf-8").splitlines()) == 5
    assert "segmentation, ground truth + CRF" in (tmp_path / "classes.csv").read_text("utf-8")


def test_without_full_supervision_there_is_no_share(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    table = tables_of(replace(run, segmented=run.segmented[:1]))[2]
    assert table.columns == ("trained on", "supervision", "backbone", "val")
    assert len(tables_of(replace(run, segmented=()))) == 2


def test_published_numbers_beside_voc(tmp_path: Path) -> None:
    run = a_run(tmp_path, VOC_CLASSES, images=1449)
    table = tables_of(run)[2]
    assert table.published_rows == 11
    assert table.rows[-1] == ("SC-CAM, CVPR 2020 (published)", "labels", "ResNet-101", "66.1", "–")
    assert (len(table.rows) - 1, 3) in table.best
    (classes,) = class_tables(run)
    assert classes.columns[-2:] == ("SC-CAM seg. (published)", "SC-CAM seg. + CRF (published)")
    assert classes.rows[20][1] == "tvmonitor"
    numbers = (*TABLE_3[-1].iou, TABLE_3[-1].miou)
    assert [row[-1] for row in classes.rows] == [str(number) for number in numbers]
    assert "not measured here" in classes.note
    (plain,) = class_tables(a_run(tmp_path, VOC_CLASSES, images=245))
    assert not any("published" in column for column in plain.columns)
