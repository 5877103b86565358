"""What the head of the page says: which split, which gain, and what was known for each number."""

from dataclasses import replace
from pathlib import Path

import pytest
from report.made_run import a_run, map_scores

from subcam.report.gather.names import network_name, round_name, row_name
from subcam.report.page.headline import _knowledge, headline, headline_split
from subcam.report.page.numbers import percent, signed
from subcam.results import FinishedRun, RoundResult


@pytest.fixture
def run(tmp_path: Path) -> FinishedRun:
    """Plain CAM 30.0, round 2 40.0, its control 35.0, pseudo masks, and networks with 50.0 to 80.0; all on val."""
    return FinishedRun(
        result=a_run(tmp_path), command=(), versions={}, skipped=(), peak_memory_mib=1.0, stages=(), settings={}
    )


def with_rounds(run: FinishedRun, *rounds: RoundResult) -> FinishedRun:
    return replace(run, result=replace(run.result, rounds=rounds))


@pytest.mark.parametrize("trained_on", ["pseudo", "truth"])
@pytest.mark.parametrize("kind", ["plain", "crf", "known"])
def test_known_labels_are_said(trained_on: str, kind: str) -> None:
    said = _knowledge(trained_on, kind)
    assert ("image-level labels given" in said) == (kind == "known")
    assert ("without image-level labels" in said) == (kind != "known")
    assert ("upper bound" in said) == (trained_on == "truth")


def test_tiles_are_in_the_order_of_the_pipeline(run: FinishedRun) -> None:
    told = headline(run)
    assert [(tile.name, tile.value) for tile in told.tiles] == [
        ("Plain CAM (round 0)", "30.0"),
        ("Round 2, response maps", "40.0"),
        ("Pseudo masks, round 2", "65.0"),
        ("Segmentation, pseudo masks of round 2", "50.0"),
        ("Segmentation, pseudo masks of round 2 + CRF", "55.0"),
        ("Segmentation, ground truth", "75.0"),
        ("Segmentation, ground truth + CRF", "80.0"),
    ]
    assert told.tiles[1].note.startswith("+10.0 points compared with plain CAM; threshold 0.15")
    assert told.tiles[2].note.startswith("random walk + CRF; image-level labels given")
    assert "7 images of val" in told.note


def test_pseudo_masks_are_those_of_the_last_round(run: FinishedRun) -> None:
    (last,) = run.result.refined
    earlier = replace(last, round_index=0)
    told = headline(replace(run, result=replace(run.result, refined=(earlier, last))))
    assert [tile.name for tile in told.tiles if "Pseudo masks," in tile.name] == ["Pseudo masks, round 2"]


def test_a_gain_a_loss_and_a_draw(run: FinishedRun) -> None:
    plain, _, last, control = run.result.rounds
    assert "10.0 points above plain CAM and 5.0 points above the control" in headline(run).verdict
    lost = headline(with_rounds(run, replace(plain, round_index=0), replace(control, control=False))).verdict
    assert "5.0 points above plain CAM" in lost
    worse = headline(with_rounds(run, replace(last, round_index=0), replace(plain, round_index=1)))
    assert "10.0 points below plain CAM" in worse.verdict
    assert worse.tiles[1].note.startswith("−10.0 points")
    level = headline(with_rounds(run, plain, replace(plain, round_index=1))).verdict
    assert "level with plain CAM; no control was trained" in level
    assert headline(with_rounds(run, plain)).verdict == "Plain CAM only: no further round was trained."


def test_val_comes_first_whatever_the_order(run: FinishedRun) -> None:
    plain = run.result.rounds[0]
    scores = map_scores(0.1, 2, 7)
    for splits, expected in ((("val", "train"), "val"), (("train", "test"), "test"), ((), "")):
        one = replace(plain, scores=dict.fromkeys(splits, scores))
        assert headline_split(with_rounds(run, one)) == expected


def test_names_of_rounds_and_networks(run: FinishedRun) -> None:
    rounds = run.result.rounds
    assert [round_name(entry) for entry in rounds] == ["plain CAM", "round 1", "round 2", "round 2 control"]
    assert [row_name(entry) for entry in rounds] == ["0 (CAM)", "1", "2", "2 control"]
    pseudo, truth = run.result.segmented
    assert network_name(pseudo) == "pseudo masks of round 2"
    assert network_name(truth, "known") == "ground truth, labels known"


def test_numbers() -> None:
    assert percent(0.1234) == "12.3"
    assert [signed(share) for share in (0.123, -0.123, 0.0)] == ["+12.3", "−12.3", "+0.0"]
