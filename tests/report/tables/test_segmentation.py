"""Tables 3 and 4: each class by step, networks beside full supervision and, on VOC 2012, beside published numbers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from report.made_run import a_run

from subcam.data.readers.voc import VOC_CLASSES
from subcam.report.tables.published import TABLE_3
from subcam.report.tables.tables import class_tables, explanation, tables_of, write_tables


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
    assert "segmentation, ground truth + CRF" in (tmp_path / "class-iou.csv").read_text("utf-8")


def test_corrected_masks_are_no_image_level_labels(tmp_path: Path) -> None:
    run = a_run(tmp_path)
    corrected = replace(run, settings=run.settings.with_({"corrections.folder": "corrected"}))
    assert [row[1] for row in tables_of(corrected)[2].rows] == ["labels, corrected masks"] * 2 + ["masks"] * 2


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
