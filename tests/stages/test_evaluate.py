"""Scoring a stage's maps: the same numbers as counting by hand, each kind of image counted where it belongs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from tests.stages.given import images_of, stage_at

from subcam.cam.map_files import ResponseMaps, maps_path, read_response_maps, write_response_maps
from subcam.cam.threshold import threshold_of_maps
from subcam.data.images import read_mask, voc_palette, write_mask
from subcam.data.records import ImageSet, Record
from subcam.errors import BadInputError, SettingsError
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import scores
from subcam.runtime.files import write_json
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.stages import evaluate
from subcam.stages.context import compute
from subcam.stages.evaluate import MapScores
from subcam.stages.settings.evaluate import EvaluateSettings

SIZE = (24, 32)
LABELS = ((0,), (1,), (0, 2), (), (2,))
SETTINGS = EvaluateSettings(background_threshold=0.3)


@dataclass(frozen=True, kw_only=True)
class Given:
    """Images and the folder of their response maps."""

    image_set: ImageSet
    maps: Path


@pytest.fixture
def given(tmp_path: Path) -> Given:
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
    return Given(image_set=image_set, maps=tmp_path / "maps-stage")


def stage_of(folder: Path, settings: EvaluateSettings = SETTINGS) -> Stage:
    return RunFolder(path=folder).stage("evaluate", inputs={"settings": settings})


def run(given: Given, folder: Path, settings: EvaluateSettings = SETTINGS) -> MapScores:
    """Run the stage in a folder unless it is done, and read what it wrote."""
    stage = stage_of(folder, settings)
    images, maps = images_of(given.image_set), stage_at(given.maps)
    compute(
        RunFolder(path=folder), stage, partial(evaluate.run_maps, stage, settings=settings, images=images, maps=maps)
    )
    return evaluate.read_maps(stage)


def plain_matrix(given: Given, threshold: float, indices: Sequence[int]) -> np.ndarray:
    """Background where no response is above the threshold, else the strongest class; summed over images."""
    total = np.zeros((4, 4), np.int64)
    for index in indices:
        maps = read_response_maps(maps_path(given.maps, str(index)))
        truth = np.zeros(SIZE, np.uint8)
        for position, label in enumerate(LABELS[index]):
            truth[4 + 6 * position : 12 + 6 * position, 5:20] = label + 1
        truth[:, -2:] = 255
        stack = np.concatenate([np.full((1, *SIZE), threshold), maps.full_size()])
        prediction = np.array([0, *(np.array(LABELS[index], int) + 1)])[stack.argmax(0)]
        total += confusion_matrix(prediction, truth, num_classes=4)
    return total


def test_scores_are_those_of_the_summed_matrix(given: Given, tmp_path: Path) -> None:
    result = run(given, tmp_path)
    matrix = plain_matrix(given, 0.3, range(4))
    assert result.images == 4
    assert result.fixed["matrix"] == matrix.tolist()
    expected = scores(matrix)
    assert result.fixed_threshold == 0.3
    assert result.fixed["miou"] == pytest.approx(expected.miou)
    assert result.fixed["f_score"] == pytest.approx(expected.f_score)
    assert result.fixed["precision"] == pytest.approx(expected.mean_precision)
    assert result.fixed["recall"] == pytest.approx(expected.mean_accuracy)
    np.testing.assert_allclose(result.fixed["iou"], expected.iou)


def test_the_best_threshold_is_the_top_of_the_curve_and_says_that_it_used_masks(given: Given, tmp_path: Path) -> None:
    result = run(given, tmp_path)
    curve = [scores(plain_matrix(given, threshold, range(4))).miou for threshold in result.thresholds]
    np.testing.assert_allclose(result.miou_curve, curve)
    assert result.best_used_masks
    assert result.best["miou"] == pytest.approx(max(curve))
    assert result.best_threshold == result.thresholds[int(np.argmax(curve))]
    assert result.best["miou"] > result.fixed["miou"]


@pytest.mark.parametrize("threshold", [0.0, 0.15, 0.1234, 1.0])
def test_the_fixed_threshold_is_the_one_that_was_given(given: Given, tmp_path: Path, threshold: float) -> None:
    result = run(given, tmp_path, EvaluateSettings(background_threshold=threshold))
    assert result.fixed["matrix"] == plain_matrix(given, threshold, range(4)).tolist()
    assert result.fixed_threshold == threshold


def test_a_threshold_chosen_without_masks_is_the_same_with_other_masks(
    given: Given, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    for record in given.image_set.records:
        write_mask(record.image, rng.integers(0, 3, SIZE, dtype=np.uint8) * 80, palette=voc_palette())
    settings = EvaluateSettings(background_threshold="auto")
    result = run(given, tmp_path, settings)
    expected = threshold_of_maps(given.image_set.records, given.maps, num_classes=3)
    assert result.threshold_chosen
    assert result.fixed_threshold == expected.threshold
    assert result.choice["images"] == 4
    np.testing.assert_allclose(result.choice["scores"], expected.scores)
    assert result.fixed["matrix"] == plain_matrix(given, expected.threshold, range(4)).tolist()
    assert f"threshold {expected.threshold:g}, chosen without masks" in capsys.readouterr().out
    assert run(given, tmp_path, settings) == result

    for record in given.image_set.records[:4]:
        assert record.mask is not None
        write_mask(record.mask, np.zeros(SIZE, np.uint8), palette=voc_palette())
    other = run(given, tmp_path / "other masks", settings)
    assert other.fixed_threshold == result.fixed_threshold
    assert other.fixed["matrix"] != result.fixed["matrix"]


def test_each_class_can_have_a_threshold_of_its_own(given: Given, tmp_path: Path) -> None:
    for record in given.image_set.records:
        write_mask(
            record.image, np.arange(24 * 32, dtype=np.uint32).reshape(SIZE).astype(np.uint8), palette=voc_palette()
        )
    result = run(given, tmp_path, EvaluateSettings(background_threshold="by-class"))
    choice = threshold_of_maps(given.image_set.records, given.maps, num_classes=3)
    assert result.class_thresholds == list(choice.by_class)
    assert result.fixed_threshold == choice.threshold
    expected = np.zeros((4, 4), np.int64)
    for index in range(4):
        maps = read_response_maps(maps_path(given.maps, str(index)))
        mask = given.image_set.records[index].mask
        assert mask is not None
        truth = read_mask(mask, given.image_set.mask_values, size=SIZE)
        prediction = np.zeros(SIZE, np.uint8)
        if LABELS[index]:
            strongest = np.array(LABELS[index])[maps.full_size().argmax(0)]
            front = maps.full_size().max(0) > np.array(choice.by_class)[strongest]
            prediction[front] = strongest[front] + 1
        expected += confusion_matrix(prediction, truth, num_classes=4)
    assert result.fixed["matrix"] == expected.tolist()
    assert result.threshold_text.endswith("by class, chosen without masks")


def test_a_given_threshold_says_so_and_records_from_before_the_choice_are_read(given: Given, tmp_path: Path) -> None:
    result = run(given, tmp_path)
    assert result.threshold_text == "threshold 0.3, given"
    stage = stage_of(tmp_path)
    record = stage.record
    del record["outputs"]["choice"]
    write_json(stage.record_path, record)
    assert run(given, tmp_path) == result


@pytest.mark.parametrize("threshold", [-0.1, 15.0, float("nan")])
def test_a_threshold_is_a_share(threshold: Any) -> None:
    with pytest.raises(
        SettingsError, match=r"^background_threshold: expected a number from 0 to 1 or one of auto, by-class, got"
    ):
        EvaluateSettings(background_threshold=threshold)


def test_average_precision_counts_images_without_masks_too(given: Given, tmp_path: Path) -> None:
    result = run(given, tmp_path)
    logits = np.stack([read_response_maps(maps_path(given.maps, str(index))).logits for index in range(5)])
    expected = [average_precision_score([c in labels for labels in LABELS], logits[:, c]) for c in range(3)]
    assert result.class_average_precision == pytest.approx(expected)
    assert result.mean_average_precision == pytest.approx(np.mean(expected))


def test_a_stage_that_is_done_is_read_back(given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(given, tmp_path)
    monkeypatch.delattr(evaluate, "read_response_maps")
    assert run(given, tmp_path) == first


def test_a_class_that_no_image_has(given: Given, tmp_path: Path) -> None:
    """Its scores are not numbers, and no mean counts it; this survives being written and read."""
    only_a = replace(given.image_set, records=(given.image_set.records[0], given.image_set.records[3]))
    fewer = replace(given, image_set=only_a)
    for result in (run(fewer, tmp_path), run(fewer, tmp_path)):
        assert np.isnan(result.class_average_precision[1:]).all()
        assert result.mean_average_precision == pytest.approx(result.class_average_precision[0])
        assert np.isnan(result.fixed["iou"][2:]).all()
        assert result.fixed["miou"] == pytest.approx(np.mean(result.fixed["iou"][:2]))


def test_maps_that_are_missing_or_damaged_are_named(given: Given, tmp_path: Path) -> None:
    path = maps_path(given.maps, "2")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInputError, match=rf"{path} holds no response maps"):
        run(given, tmp_path)


def test_a_mask_of_another_size_is_named(given: Given, tmp_path: Path) -> None:
    mask = given.image_set.records[1].mask
    assert mask is not None
    write_mask(mask, np.zeros((24, 31), np.uint8), palette=voc_palette())
    with pytest.raises(BadInputError, match=rf"{mask}: expected a mask as large as its image, 32 x 24 pixels"):
        run(given, tmp_path)
