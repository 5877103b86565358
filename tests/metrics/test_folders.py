"""Scores of folders of masks: by hand, against libraries, and each way in which two folders may not fit."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score
from torchmetrics.classification import MulticlassJaccardIndex

from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.voc import VOC_CLASSES
from subcam.data.records import first_of
from subcam.errors import BadInputError, SettingsError
from subcam.metrics import folders
from subcam.metrics.folders import names_of_values, score_folders

NAMES = ("cat", "dog", "cow")


def write(folder: Path, masks: Mapping[str, object]) -> dict[str, Path]:
    paths = {name: folder / f"{name}.png" for name in masks}
    for name, values in masks.items():
        write_mask(paths[name], np.array(values, np.uint8), palette=voc_palette(), durable=False)
    return paths


@pytest.fixture
def pair(tmp_path: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Twelve images of different sizes with classes 0..3, some pixels not scored; predictions are right by half."""
    rng = np.random.default_rng(0)
    truth, found = {}, {}
    for index in range(12):
        size = tuple(rng.integers(5, 20, 2))
        truth[f"{index}"] = rng.choice([0, 1, 2, 3, 255], size, p=[0.4, 0.2, 0.2, 0.1, 0.1])
        found[f"{index}"] = np.where(rng.random(size) < 0.5, truth[f"{index}"] % 255, rng.integers(0, 4, size))
    return write(tmp_path / "found", found), write(tmp_path / "truth", truth)


def pixels(paths: Mapping[str, Path]) -> np.ndarray:
    return np.concatenate([np.asarray(Image.open(path)).ravel() for path in paths.values()])


def test_by_hand(tmp_path: Path) -> None:
    truth = write(tmp_path / "t", {"a": [[0, 0, 1, 255], [0, 1, 1, 2]], "b": [[2, 2]]})
    found = write(tmp_path / "p", {"a": [[0, 1, 1, 2], [0, 1, 0, 2]], "b": [[0, 2]]})
    scored = score_folders(found, truth, class_names=("cat", "dog"))
    assert scored.class_names == ("background", "cat", "dog")
    assert scored.scores.matrix.tolist() == [[2, 1, 0], [1, 2, 0], [1, 0, 2]]
    assert scored.scores.iou == pytest.approx([2 / 5, 2 / 4, 2 / 3])
    assert scored.scores.pixel_accuracy == 6 / 9
    assert (scored.images, scored.missing, scored.unlabelled, scored.not_scored) == (2, (), 0.0, ())


def test_equals_scikit_learn_and_torchmetrics(pair) -> None:
    found = score_folders(*pair, class_names=NAMES).scores
    predicted, true = map(pixels, pair)
    keep = true != 255
    arguments = {"y_true": true[keep], "y_pred": predicted[keep]}
    assert found.iou == pytest.approx(jaccard_score(**arguments, average=None))
    assert found.precision == pytest.approx(precision_score(**arguments, average=None))
    assert found.recall == pytest.approx(recall_score(**arguments, average=None))
    assert found.class_f_score == pytest.approx(f1_score(**arguments, average=None))
    assert found.pixel_accuracy == pytest.approx(accuracy_score(**arguments))
    assert found.frequency_weighted_iou == pytest.approx(jaccard_score(**arguments, average="weighted"))
    index = MulticlassJaccardIndex(4, ignore_index=255)
    for name in pair[1]:  # one image after another, as a network would be scored
        one, other = (torch.from_numpy(np.array(Image.open(side[name]))).long() for side in pair)
        index.update(one, other)
    assert found.miou == pytest.approx(index.compute().item(), abs=1e-6)


@pytest.mark.parametrize("at_once", [1, 5, 12])
def test_each_mask_is_counted_once_however_many_a_thread_takes(pair, at_once: int, monkeypatch) -> None:
    expected = score_folders(*pair, class_names=NAMES)
    true = pixels(pair[1])
    assert expected.scores.matrix.sum() == (true != 255).sum()
    monkeypatch.setattr(folders, "AT_ONCE", at_once)
    found = score_folders(*pair, class_names=NAMES)
    assert found.scores.matrix.tolist() == expected.scores.matrix.tolist()
    assert found.images == expected.images == 12


def test_names_or_their_number_or_neither_count_the_same(pair) -> None:
    expected = score_folders(*pair, class_names=NAMES).scores.matrix
    for given in ({}, {"num_classes": 4}, {"true_class_names": NAMES}):
        assert (score_folders(*pair, **given).scores.matrix == expected).all()
    assert score_folders(*pair).class_names == ("background", "class 1", "class 2", "class 3")
    assert score_folders(*pair, num_classes=6).scores.matrix.shape == (6, 6)


def test_classes_are_matched_by_name(tmp_path: Path) -> None:
    """A network of two classes, in its own order, against VOC's twenty: aeroplanes are nobody's fault."""
    cat, dog, plane = (VOC_CLASSES.index(name) + 1 for name in ("cat", "dog", "aeroplane"))
    truth = write(tmp_path / "t", {"a": [[0, cat, dog, dog, plane, 255]]})
    found = write(tmp_path / "p", {"a": [[0, 2, 1, 2, 1, 1]]})
    scored = score_folders(found, truth, class_names=("dog", "cat"), true_class_names=VOC_CLASSES)
    assert scored.class_names == ("background", "dog", "cat")
    assert scored.scores.matrix.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert set(scored.not_scored) == set(VOC_CLASSES) - {"cat", "dog"}
    wider = score_folders(found, truth, class_names=("dog", "cat", "zebra"), true_class_names=VOC_CLASSES)
    assert np.isnan(wider.scores.iou[3])
    with pytest.raises(SettingsError, match=r"no class of the predictions .* 'kitten'.*--truth-classes"):
        score_folders(found, truth, class_names=("kitten",), true_class_names=VOC_CLASSES)


def test_grey_and_coloured_masks_are_read_as_well(pair, tmp_path: Path) -> None:
    expected = score_folders(*pair).scores.matrix
    coloured = {}
    for kind, convert in (("grey", lambda v: Image.fromarray(v)), ("rgb", lambda v: Image.fromarray(voc_palette()[v]))):
        for name, path in pair[1].items():
            coloured[name] = tmp_path / kind / f"{name}.png"
            coloured[name].parent.mkdir(exist_ok=True)
            convert(np.asarray(Image.open(path))).save(coloured[name])
        assert (score_folders(pair[0], coloured).scores.matrix == expected).all()


def test_colours_and_deep_masks_are_refused_by_name(pair, tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    Image.fromarray(np.full((4, 4, 3), 7, np.uint8)).save(path)
    with pytest.raises(BadInputError, match=r"odd\.png: expected a mask, got RGB with the colour \(7, 7, 7\)"):
        score_folders({"0": path}, {"0": pair[1]["0"]})
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(path)
    with pytest.raises(BadInputError, match=r"odd\.png: expected class indices 0-255, got values 300 to 300"):
        score_folders({"0": path}, {"0": pair[1]["0"]})


def test_missing_predictions(pair) -> None:
    found, truth = pair
    for name in ("3", "7"):
        del found[name]
    with pytest.raises(BadInputError, match=r"each of 12 masks, got none for 2: 3, 7 \(there are 10 .*--missing"):
        score_folders(found, truth)
    skipped = score_folders(found, truth, missing="skip")
    left = {name: path for name, path in truth.items() if name in found}
    assert (skipped.scores.matrix == score_folders(found, left).scores.matrix).all()
    assert (skipped.images, skipped.missing) == (10, ("3", "7"))
    empty = score_folders(found, truth, missing="background", num_classes=4)
    background = np.bincount(pixels({name: truth[name] for name in ("3", "7")}), minlength=256)[:4]
    assert (empty.scores.matrix[:, 0] - skipped.scores.matrix[:, 0] == background).all()
    assert empty.images == 12
    with pytest.raises(BadInputError, match="got none for 12"):
        score_folders({"other": found["1"]}, truth, missing="skip")


@pytest.mark.parametrize("named", [True, False])
def test_predicted_pixels_without_a_label(tmp_path: Path, named: bool) -> None:
    truth = write(tmp_path / "t", {"a": [[0, 1, 1, 255]]})
    found = write(tmp_path / "p", {"a": [[0, 1, 255, 255]]})
    given = {"class_names": ("cat",)} if named else {}
    with pytest.raises(BadInputError, match=r"some without a label; .*--unlabelled"):
        score_folders(found, truth, **given)
    skipped = score_folders(found, truth, unlabelled="skip", **given)
    assert skipped.scores.matrix.tolist() == [[1, 0], [0, 1]]
    filled = score_folders(found, truth, unlabelled="background", **given)
    assert filled.scores.matrix.tolist() == [[1, 0], [1, 1]]
    assert skipped.unlabelled == filled.unlabelled == pytest.approx(1 / 3)


def test_sizes_that_differ_are_named(tmp_path: Path) -> None:
    truth = write(tmp_path / "t", {"a": np.zeros((3, 5))})
    found = write(tmp_path / "p", {"a": np.zeros((5, 3))})
    with pytest.raises(BadInputError, match=rf"{found['a']}: .* {truth['a']}, 5 x 3 pixels .* got 3 x 5"):
        score_folders(found, truth)


def test_values_that_no_class_has_are_named(tmp_path: Path) -> None:
    good, bad = {"a": [[0, 1]]}, {"a": [[7, 9]]}
    one, other = write(tmp_path / "one", good), write(tmp_path / "other", bad)
    with pytest.raises(BadInputError, match=rf"{other['a']}: expected the values 0..3, 255, got 7, 9; .*--classes"):
        score_folders(one, other, class_names=NAMES)
    with pytest.raises(BadInputError, match=rf"{other['a']}: expected the values 0..3, 255, got 7, 9"):
        score_folders(other, one, class_names=NAMES)
    # Where the truth is not scored, a prediction may say anything.
    other, unscored = write(tmp_path / "other", {"a": [[7, 1]]}), write(tmp_path / "unscored", {"a": [[255, 1]]})
    assert score_folders(other, unscored, class_names=NAMES).scores.matrix.sum() == 1


@pytest.mark.parametrize(("ignore", "expected"), [(2, [[1, 0], [0, 1]]), (-1, [[1, 0, 0], [0, 1, 0], [0, 0, 1]])])
def test_the_ignored_value(tmp_path: Path, ignore: int, expected: list[list[int]]) -> None:
    truth = write(tmp_path / "t", {"a": [[0, 1, 2]]})
    found = write(tmp_path / "p", {"a": [[0, 1, 2]]})
    assert score_folders(found, truth, ignore=ignore).scores.matrix.tolist() == expected


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"ignore": 0}, "ignored value to be in 1..255"),
        ({"num_classes": 1}, "num_classes in 2..256"),
        ({"num_classes": 9, "class_names": NAMES}, "num_classes 4 for background and cat, dog, cow, got 9"),
    ],
)
def test_settings_that_cannot_be(pair, given: dict, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        score_folders(*pair, **given)


def test_names_of_classes_that_have_none() -> None:
    assert names_of_values(20) == VOC_CLASSES
    assert names_of_values(2) == ("class 1", "class 2")
    assert names_of_values(21)[-1] == "class 21"


def test_every_value_may_be_a_class(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_mask(path, np.array([[0, 255]], np.uint8), palette=voc_palette())
    result = score_folders({"a": path}, {"a": path}, num_classes=256, ignore=-1)
    assert result.scores.pixel_accuracy == 1
    assert len(result.class_names) == 256
    with pytest.raises(SettingsError, match=r"expected num_classes in 2\.\.256"):
        score_folders({"a": path}, {"a": path}, num_classes=257, ignore=-1)


def test_the_first_five_of_many_names() -> None:
    assert first_of("abcde") == "a, b, c, d, e"
    assert first_of("abcdef") == "a, b, c, d, e, ..."


# Nothing to score


NOTHING = {
    "background and border": ([[0, 0, 255]], r"its values are 0 \(2 pixels\), 255 \(1 pixels\)\..*give --two-valued"),
    "background alone": ([[0, 0, 0]], r"its values are 0 \(3 pixels\)"),
    "nothing that is scored": ([[255, 255, 255]], r"its values are 255 \(3 pixels\)"),
    "a class that the predictions do not know": ([[0, 2, 2]], r"expected pixels of dog in the ground truth, got none"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_a_score_of_the_background_alone_is_none(tmp_path: Path, case: str) -> None:
    values, message = NOTHING[case]
    truth, found = write(tmp_path / "t", {"a": values}), write(tmp_path / "p", {"a": [[0, 0, 0]]})
    with pytest.raises(BadInputError, match=message):
        score_folders(found, truth, class_names=("dog",), true_class_names=("dog", "cat"))


@pytest.mark.parametrize("predicted", [[[0, 255, 255, 0]], [[0, 1, 1, 0]]])
@pytest.mark.parametrize("names", [None, ("cat",)])
def test_of_masks_of_two_values_the_higher_is_the_class(tmp_path: Path, predicted: object, names: object) -> None:
    truth, found = write(tmp_path / "t", {"a": [[0, 255, 255, 255]]}), write(tmp_path / "p", {"a": predicted})
    scored = score_folders(found, truth, class_names=names, two_valued=True)  # type: ignore[arg-type]
    assert scored.scores.matrix.tolist() == [[1, 0], [1, 2]]
    both = write(tmp_path / "p", {"a": [[0, 1, 255, 255]]})  # a network's, with pixels that it gave no label
    assert score_folders(both, truth, two_valued=True, unlabelled="skip").scores.matrix.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(SettingsError, match="two_valued is for one class"):
        score_folders(found, truth, class_names=NAMES, two_valued=True)
    mixed = write(tmp_path / "m", {"a": [[0, 1, 255, 255]]})
    with pytest.raises(BadInputError, match=r"m/a\.png: expected the values 0, 255, got 1"):
        score_folders(found, mixed, two_valued=True)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_count_as_one_loop_and_name_the_first_damaged_mask(pair, monkeypatch, threads: int) -> None:
    monkeypatch.setattr("subcam.metrics.folders.thread_count", lambda wanted: threads)
    found, truth = pair
    predicted, true = map(pixels, pair)
    expected = np.bincount(true[true != 255].astype(int) * 4 + predicted[true != 255], minlength=16).reshape(4, 4)
    assert (score_folders(found, truth).scores.matrix == expected).all()
    for name in ("4", "5", "9"):
        found[name].write_bytes(found[name].read_bytes()[:40])
    with pytest.raises(BadInputError, match=r"4\.png: expected an image"):
        score_folders(found, truth)
