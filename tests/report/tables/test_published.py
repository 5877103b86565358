"""The paper's numbers agree with each other; where its text lies beside the checkout, they are in it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from subcam.data.readers.voc import VOC_CLASSES
from subcam.report.tables.published import IMAGES, TABLE_1, TABLE_2, TABLE_3, TABLE_4, compares
from subcam.results import RoundResult, RunResult
from subcam.runtime.run_folder import Stage
from subcam.settings import RunSettings
from subcam.stages.evaluate import MapScores


def test_table_3_rows_have_the_mean_that_is_printed() -> None:
    for row in TABLE_3:
        assert len(row.iou) == 21
        assert sum(row.iou) / 21 == pytest.approx(row.miou, abs=0.1), row.method


def test_tables_agree_with_each_other() -> None:
    val = {row.method: row.miou["val"] for row in TABLE_4}
    assert len(val) == len(TABLE_4) == 11
    for row in TABLE_3:
        if row.method != "SC-CAM" or row.crf:
            assert val[row.method] == row.miou, row.method
    assert TABLE_2[0].miou == TABLE_1[0].cam["val"], "round 0 is AffinityNet's response map"
    assert TABLE_2[-1].miou == TABLE_1[1].cam["val"]
    assert [row.round_index for row in TABLE_2] == [0, 1, 2, 3]
    ours = max(TABLE_4, key=lambda row: row.miou["val"])
    assert ours.method == "SC-CAM"
    assert [row.miou["val"] for row in TABLE_4] == sorted(val.values())


def rows_of(text: str) -> list[list[str]]:
    """The rows of the paper's tables, cells apart, without mark-up."""
    return [re.sub(r"<[^>]+>", "", line).split("\t") for line in text.splitlines() if "\t" in line]


@pytest.mark.data
def test_against_the_paper(shared: Path) -> None:
    path = shared / "paper" / "sc-cam-cvpr2020.txt"
    if not path.is_file():
        pytest.skip(f"needs the paper's text at {path}")
    rows = [[cell.strip() for cell in row if cell.strip()] for row in rows_of(path.read_text("utf-8"))]
    numbers = [[float(cell) for cell in row if re.fullmatch(r"[0-9]+\.[0-9]", cell)] for row in rows]
    for row in TABLE_1:
        assert [row.cam["train"], row.walk["train"], row.cam["val"], row.walk["val"]] in numbers
    for entry in TABLE_2:
        assert [entry.miou, entry.f_score] in numbers
    for classes in TABLE_3:
        assert [*classes.iou, classes.miou] in numbers
    for network in TABLE_4:
        (at,) = [i for i, row in enumerate(rows) if numbers[i] == [network.miou["val"], network.miou["test"]]]
        name = "Ours" if network.method == "SC-CAM" else network.method.removesuffix(" et al.")
        assert rows[at][0].startswith(name)
        assert rows[at][1].replace("-", "") == network.backbone.replace("-", "")
        if name != "Ours":
            conference, year = network.venue.split()
            assert f"{conference}’{year[2:]}" in rows[at][0]


def test_what_compares() -> None:
    stage = Stage(name="any", key="key", path=Path("nowhere"))
    scores = MapScores(
        images=IMAGES["val"],
        fixed_threshold=0.15,
        fixed={},
        best_threshold=0.15,
        best={},
        best_used_masks=True,
        mean_average_precision=0.5,
        class_average_precision=[],
        thresholds=[],
        miou_curve=[],
    )
    found = RoundResult(
        round_index=0, control=False, model=stage, maps=stage, scores={"val": scores, "train": replace(scores)}
    )
    result = RunResult(
        settings=RunSettings(),
        out=Path("nowhere"),
        class_names=VOC_CLASSES,
        rounds=(found,),
        refined=(),
        segmented=(),
        seconds=1.0,
    )
    assert compares(result, "val")
    assert not compares(result, "train"), "as many images as val has"
    more = replace(found, scores={"val": replace(scores, images=IMAGES["val"] + 1)})
    assert not compares(replace(result, rounds=(more,)), "val"), "more images than val has"
    assert not compares(result, "test")
    assert not compares(replace(result, class_names=VOC_CLASSES[::-1]), "val")
    assert not compares(replace(result, rounds=()), "val")
