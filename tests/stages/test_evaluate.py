"""Scoring a stage's maps: the same numbers as counting by hand, each kind of image counted where it belongs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from subcam.cam.map_files import ResponseMaps, maps_path, read_response_maps, write_response_maps
from subcam.cam.threshold import threshold_of_maps
from subcam.data.images import read_mask, voc_palette, write_mask
from subcam.data.records import ImageSet, Record
from subcam.errors import BadInputError, SettingsError
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import scores
from subcam.runtime.files import write_json
from subcam.runtime.run_folder import RunFolder
from subcam.stages import evaluate
from subcam.stages.evaluate import EvaluateInputs, EvaluateSettings, MapScores

SIZE = (24, 32)
LABELS = ((0,), (1,), (0, 2), (), (2,))
SETTINGS = EvaluateSettings(background_threshold=0.3)


@pytest.fixture
def inputs(tmp_path: Path) -> EvaluateInputs:
    """Five images of three classes; the last has no mask. Masks hold a class that is not scored, as 255."""
    rng = np.random.default_rng(0)
    records = []
    for index, labels in enumerate(LABELS):
        mask = tmp_path / "masks" / f"{index}.png"
        truth = np.zeros(SIZE, np.uint8)
        for position, label in enumerate(labels):
            truth[4 + 6 * position : 12 + 6 * position, 5:20] = label + 1
        truth[:, -2:] = 9  # a class that exists and is not learned
        write_mask(mask, truth, palette=voc_palette())
        records.append(
            Record(name=str(index), image=tmp_path / "none.png", labels=labels, mask=mask if index < 4 else None)
        )
        write_response_maps(
            maps_path(tmp_path / "maps-stage", str(index)),
            ResponseMaps(
                maps=rng.integers(0, 256, (len(labels), 6, 8), dtype=np.uint8),
                classes=np.array(labels, np.int16),
                subcategory_maps=np.zeros((len(labels), 0, 6, 8), np.uint8),
                logits=rng.normal(size=3).astype(np.float32),
                size=SIZE,
            ),
        )
    values = [0, 1, 2, 3, *[-1] * 5, 255, *[-1] * 245, 255]
    image_set = ImageSet(class_names=("a", "b", "c"), records=tuple(records), mask_values=tuple(values))
    return EvaluateInputs(image_set=image_set, maps=tmp_path / "maps-stage")


def run(inputs: EvaluateInputs, folder: Path, settings: EvaluateSettings = SETTINGS) -> MapScores:
    return evaluate.run(settings, inputs, stage=RunFolder(path=folder).stage("evaluate", settings=settings))


def plain_matrix(inputs: EvaluateInputs, threshold: float, indices: Sequence[int]) -> np.ndarray:
    """Background where no response is above the threshold, else the strongest class; summed over images."""
    total = np.zeros((4, 4), np.int64)
    for index in indices:
        maps = read_response_maps(maps_path(inputs.maps, str(index)))
        truth = np.zeros(SIZE, np.uint8)
        for position, label in enumerate(LABELS[index]):
            truth[4 + 6 * position : 12 + 6 * position, 5:20] = label + 1
        truth[:, -2:] = 255
        stack = np.concatenate([np.full((1, *SIZE), threshold), maps.full_size()])
        prediction = np.array([0, *(np.array(LABELS[index], int) + 1)])[stack.argmax(0)]
        total += confusion_matrix(prediction, truth, num_classes=4)
    return total


def test_scores_are_those_of_the_summed_matrix(inputs: EvaluateInputs, tmp_path: Path) -> None:
    found = run(inputs, tmp_path)
    matrix = plain_matrix(inputs, 0.3, range(4))
    assert found.images == 4
    assert found.fixed["matrix"] == matrix.tolist()
    expected = scores(matrix)
    assert found.fixed_threshold == 0.3
    assert found.fixed["miou"] == pytest.approx(expected.miou)
    assert found.fixed["f_score"] == pytest.approx(expected.f_score)
    assert found.fixed["precision"] == pytest.approx(expected.mean_precision)
    assert found.fixed["recall"] == pytest.approx(expected.mean_accuracy)
    np.testing.assert_allclose(found.fixed["iou"], expected.iou)


def test_the_best_threshold_is_the_top_of_the_curve_and_says_that_it_used_masks(
    inputs: EvaluateInputs, tmp_path: Path
) -> None:
    found = run(inputs, tmp_path)
    curve = [scores(plain_matrix(inputs, threshold, range(4))).miou for threshold in found.thresholds]
    np.testing.assert_allclose(found.miou_curve, curve)
    assert found.best_used_masks
    assert found.best["miou"] == pytest.approx(max(curve))
    assert found.best_threshold == found.thresholds[int(np.argmax(curve))]
    assert found.best["miou"] > found.fixed["miou"]


@pytest.mark.parametrize("threshold", [0.0, 0.15, 0.1234, 1.0])
def test_the_fixed_threshold_is_the_one_that_was_given(
    inputs: EvaluateInputs, tmp_path: Path, threshold: float
) -> None:
    found = run(inputs, tmp_path, EvaluateSettings(background_threshold=threshold))
    assert found.fixed["matrix"] == plain_matrix(inputs, threshold, range(4)).tolist()
    assert found.fixed_threshold == threshold


def test_a_threshold_chosen_without_masks_is_the_same_with_other_masks(
    inputs: EvaluateInputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    for record in inputs.image_set.records:
        write_mask(record.image, rng.integers(0, 3, SIZE, dtype=np.uint8) * 80, palette=voc_palette())
    settings = EvaluateSettings(background_threshold="auto")
    found = run(inputs, tmp_path, settings)
    expected = threshold_of_maps(inputs.image_set.records, inputs.maps, num_classes=3)
    assert found.threshold_chosen
    assert found.fixed_threshold == expected.threshold
    assert found.choice["images"] == 4
    np.testing.assert_allclose(found.choice["scores"], expected.scores)
    assert found.fixed["matrix"] == plain_matrix(inputs, expected.threshold, range(4)).tolist()
    assert f"threshold {expected.threshold:g}, chosen without masks" in capsys.readouterr().out
    assert run(inputs, tmp_path, settings) == found

    for record in inputs.image_set.records[:4]:
        assert record.mask is not None
        write_mask(record.mask, np.zeros(SIZE, np.uint8), palette=voc_palette())
    other = run(inputs, tmp_path / "other masks", settings)
    assert other.fixed_threshold == found.fixed_threshold
    assert other.fixed["matrix"] != found.fixed["matrix"]


def test_each_class_can_have_a_threshold_of_its_own(inputs: EvaluateInputs, tmp_path: Path) -> None:
    for record in inputs.image_set.records:
        write_mask(
            record.image, np.arange(24 * 32, dtype=np.uint32).reshape(SIZE).astype(np.uint8), palette=voc_palette()
        )
    found = run(inputs, tmp_path, EvaluateSettings(background_threshold="by-class"))
    choice = threshold_of_maps(inputs.image_set.records, inputs.maps, num_classes=3)
    assert found.class_thresholds == list(choice.by_class)
    assert found.fixed_threshold == choice.threshold
    expected = np.zeros((4, 4), np.int64)
    for index in range(4):
        maps = read_response_maps(maps_path(inputs.maps, str(index)))
        mask = inputs.image_set.records[index].mask
        assert mask is not None
        truth = read_mask(mask, inputs.image_set.mask_values, size=SIZE)
        prediction = np.zeros(SIZE, np.uint8)
        if LABELS[index]:
            strongest = np.array(LABELS[index])[maps.full_size().argmax(0)]
            front = maps.full_size().max(0) > np.array(choice.by_class)[strongest]
            prediction[front] = strongest[front] + 1
        expected += confusion_matrix(prediction, truth, num_classes=4)
    assert found.fixed["matrix"] == expected.tolist()
    assert found.threshold_text.endswith("by class, chosen without masks")


def test_a_given_threshold_says_so_and_records_from_before_the_choice_are_read(
    inputs: EvaluateInputs, tmp_path: Path
) -> None:
    found = run(inputs, tmp_path)
    assert found.threshold_text == "threshold 0.3, given"
    stage = RunFolder(path=tmp_path).stage("evaluate", settings=SETTINGS)
    record = stage.record
    del record["outputs"]["choice"]
    write_json(stage.record_path, record)
    assert run(inputs, tmp_path) == found


@pytest.mark.parametrize("threshold", [-0.1, 15.0, float("nan")])
def test_a_threshold_is_a_share(threshold: Any) -> None:
    with pytest.raises(SettingsError, match=r"expected a background_threshold in 0\.\.1, auto or by-class, got"):
        EvaluateSettings(background_threshold=threshold)


def test_average_precision_counts_images_without_masks_too(inputs: EvaluateInputs, tmp_path: Path) -> None:
    found = run(inputs, tmp_path)
    logits = np.stack([read_response_maps(maps_path(inputs.maps, str(index))).logits for index in range(5)])
    expected = [average_precision_score([c in labels for labels in LABELS], logits[:, c]) for c in range(3)]
    assert found.class_average_precision == pytest.approx(expected)
    assert found.mean_average_precision == pytest.approx(np.mean(expected))


def test_a_stage_that_is_done_is_read_back(
    inputs: EvaluateInputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(inputs, tmp_path)
    monkeypatch.delattr(evaluate, "read_response_maps")
    assert run(inputs, tmp_path) == first


def test_a_class_that_no_image_has(inputs: EvaluateInputs, tmp_path: Path) -> None:
    """Its scores are not numbers, and no mean counts it; this survives being written and read."""
    only_a = replace(inputs.image_set, records=(inputs.image_set.records[0], inputs.image_set.records[3]))
    given = replace(inputs, image_set=only_a)
    for found in (run(given, tmp_path), run(given, tmp_path)):
        assert np.isnan(found.class_average_precision[1:]).all()
        assert found.mean_average_precision == pytest.approx(found.class_average_precision[0])
        assert np.isnan(found.fixed["iou"][2:]).all()
        assert found.fixed["miou"] == pytest.approx(np.mean(found.fixed["iou"][:2]))


def test_maps_that_are_missing_or_damaged_are_named(inputs: EvaluateInputs, tmp_path: Path) -> None:
    path = maps_path(inputs.maps, "2")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInputError, match=rf"{path} holds no response maps"):
        run(inputs, tmp_path)


def test_a_mask_of_another_size_is_named(inputs: EvaluateInputs, tmp_path: Path) -> None:
    mask = inputs.image_set.records[1].mask
    assert mask is not None
    write_mask(mask, np.zeros((24, 31), np.uint8), palette=voc_palette())
    with pytest.raises(BadInputError, match=rf"{mask}: expected a mask as large as its image, 32 x 24 pixels"):
        run(inputs, tmp_path)
