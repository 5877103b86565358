"""`subcam evaluate` as a person calls it: what it prints, what it writes, and how it refuses."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from tests.export.made_masks import NAMES, SIZES, write_made

from subcam import cli
from subcam.data.images import voc_palette, write_mask
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import scores


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Predictions with classes.csv, and ground-truth masks that differ from them by a shift of two pixels."""
    made = write_made(tmp_path / "predictions", unlabelled=False)
    for name, labels in made.items():
        path = tmp_path / "truth" / f"{name}.png"
        write_mask(path, np.roll(labels, 2, axis=1), palette=voc_palette(), durable=False)
    return tmp_path / "predictions", tmp_path / "truth"


def evaluate(folders: tuple[Path, Path], *words: object) -> int:
    predictions, truth = folders
    given = ["evaluate", "--predictions", str(predictions), "--truth", str(truth), *map(str, words)]
    return cli.main(given)


def test_the_table_and_the_files(folders, tmp_path: Path, capsys) -> None:
    assert evaluate(folders, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    made = write_made(tmp_path / "again", unlabelled=False)
    expected = scores(sum(confusion_matrix(v, np.roll(v, 2, axis=1), num_classes=4) for v in made.values()))
    assert f"3 masks: mIoU {100 * expected.miou:.1f}, pixel accuracy {100 * expected.pixel_accuracy:.1f}" in printed
    for name in ("background", *NAMES):
        assert name in printed
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["miou"] == pytest.approx(expected.miou)
    assert written["frequency_weighted_iou"] == pytest.approx(expected.frequency_weighted_iou)
    assert written["confusion"] == expected.matrix.tolist()
    assert (written["images"], written["missing"], written["ignored_value"]) == (3, [], 255)
    with (tmp_path / "out" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["background", *NAMES]
    for column, values in (
        ("iou", expected.iou),
        ("precision", expected.precision),
        ("recall", expected.recall),
        ("f_score", expected.class_f_score),
        ("true_pixels", expected.matrix.sum(1)),
    ):
        assert [float(row[column]) for row in rows] == pytest.approx(list(values))
    with (tmp_path / "out" / "confusion.csv").open() as file:
        header, *counts = csv.reader(file)
    assert header == ["true", "background", *NAMES]
    assert [[int(count) for count in row[1:]] for row in counts] == expected.matrix.tolist()


def test_a_list_names_the_masks_to_score(folders, tmp_path: Path, capsys) -> None:
    (tmp_path / "val.txt").write_text("2008_000007\n")
    assert evaluate(folders, "--list", tmp_path / "val.txt") == 0
    assert "1 masks: mIoU" in capsys.readouterr().out


def test_missing_predictions_are_told(folders, capsys) -> None:
    (folders[0] / "masks" / "2008_000002.png").unlink()
    assert evaluate(folders) == cli.EXIT_USER
    assert "got none for 1: 2008_000002" in capsys.readouterr().err
    assert evaluate(folders, "--missing", "background") == 0
    assert "1 masks have no prediction and were counted as all background: 2008_000002" in capsys.readouterr().out


def test_classes_are_matched_by_name_and_the_others_told(folders, tmp_path: Path, capsys) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cat\nhorse\ndog\n")
    # The truth's values 1, 2, 3 are then cat, horse and dog, where the predictions' are cat, dog and a pot.
    assert evaluate(folders, "--truth-classes", names, "--classes", "cat", "dog", "pot") == 0
    printed = capsys.readouterr().out
    assert "not scored, for the predictions do not know them: horse" in printed
    assert next(line for line in printed.splitlines() if "pot" in line).split()[1] in ("0.0", "-")


def test_pixels_without_a_label_are_told(folders, tmp_path: Path, capsys) -> None:
    path = folders[0] / "masks" / "2008_000001.png"
    write_mask(path, np.full(SIZES["2008_000001"], 255, np.uint8), palette=voc_palette(), durable=False)
    assert evaluate(folders) == cli.EXIT_USER
    assert "--unlabelled" in capsys.readouterr().err
    assert evaluate(folders, "--unlabelled", "skip") == 0
    assert "per cent of the pixels have no predicted label and were left out" in capsys.readouterr().out


def test_voc_masks_against_themselves(voc_animals: Path, tmp_path: Path, capsys) -> None:
    names = (voc_animals / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[:4]
    (tmp_path / "few.txt").write_text("\n".join(names))
    folders = (voc_animals / "SegmentationClassAug", voc_animals)
    assert evaluate(folders, "--list", tmp_path / "few.txt") == 0
    assert "4 masks: mIoU 100.0, pixel accuracy 100.0" in capsys.readouterr().out


def test_classes_that_are_taken_from_the_truth_are_told(folders, capsys) -> None:
    (folders[0] / "classes.csv").unlink()
    told = "the predictions do not name their classes; those of the ground truth are used"
    assert evaluate(folders, "--truth-classes", *NAMES) == 0
    assert told in capsys.readouterr().out
    assert evaluate(folders, "--truth-classes", *NAMES, "--classes", *NAMES) == 0
    assert told not in capsys.readouterr().out
