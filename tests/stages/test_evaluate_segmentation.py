"""Scores of masks on disk: counted over the data set, against scikit-learn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_matrix
from sklearn.metrics import f1_score, jaccard_score

from subcam.data.check import CheckedImages
from subcam.data.images import read_mask, voc_palette, write_mask
from subcam.data.records import ImageSet
from subcam.errors import BadInputError
from subcam.runtime.run_folder import RunFolder
from subcam.stages import evaluate_segmentation
from subcam.stages.evaluate_segmentation import SegmentationInputs

VARIANTS = ("masks", "masks-crf")


@pytest.fixture
def image_set(toy_train: CheckedImages) -> ImageSet:
    """Six images, the last of which has no mask."""
    records = toy_train.image_set.records[:6]
    return replace(toy_train.image_set, records=(*records[:5], replace(records[5], mask=None)))


@pytest.fixture
def predicted(image_set: ImageSet, tmp_path: Path) -> dict[str, list[np.ndarray]]:
    """Masks that are right but for some pixels; those of one folder are right more often."""
    rng = np.random.default_rng(0)
    found: dict[str, list[np.ndarray]] = {}
    for variant, share in zip(VARIANTS, (0.3, 0.1), strict=True):
        for record in image_set.records[:5]:
            assert record.mask is not None
            truth = read_mask(record.mask, image_set.mask_values)
            noise = rng.integers(0, image_set.num_classes + 1, truth.shape, dtype=np.uint8)
            mask = np.where((rng.random(truth.shape) < share) | (truth == 255), noise, truth)
            found.setdefault(variant, []).append(mask)
            write_mask(tmp_path / variant / f"{record.name}.png", mask, palette=voc_palette())
    return found


def test_scores_are_those_of_the_data_set(
    image_set: ImageSet, predicted: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    inputs = SegmentationInputs(image_set=image_set, masks=tmp_path, variants=VARIANTS)
    stage = RunFolder(path=tmp_path).stage("evaluate")
    found = evaluate_segmentation.run(inputs, stage=stage)
    assert found.images == 5
    assert tuple(found.variants) == VARIANTS
    truths = [read_mask(record.mask, image_set.mask_values).ravel() for record in image_set.records if record.mask]
    truth = np.concatenate(truths)
    for variant, masks in predicted.items():
        guess = np.concatenate([mask.ravel() for mask in masks])[truth != 255]
        true = truth[truth != 255]
        labels, present = range(image_set.num_classes + 1), np.unique(true)
        scores = found.variants[variant]
        assert (np.array(scores["matrix"]) == sklearn_matrix(true, guess, labels=labels)).all()
        expected = jaccard_score(true, guess, labels=present, average=None)
        np.testing.assert_allclose(np.array(scores["iou"])[present], expected)
        assert scores["miou"] == pytest.approx(expected.mean())
        assert scores["f_score"] == pytest.approx(f1_score(true, guess, labels=present, average="macro"))
    assert found.variants["masks-crf"]["miou"] > found.variants["masks"]["miou"]
    (tmp_path / "masks" / f"{image_set.records[0].name}.png").unlink()
    assert evaluate_segmentation.run(inputs, stage=stage) == found, "what is done is not counted again"


def test_masks_that_do_not_fit_are_named(
    image_set: ImageSet, predicted: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    path = tmp_path / "masks" / f"{image_set.records[1].name}.png"
    inputs = SegmentationInputs(image_set=image_set, masks=tmp_path, variants=("masks",))
    shape = predicted["masks"][1].shape
    for content, said in (
        (np.full(shape, image_set.num_classes + 1, np.uint8), "prediction holds values"),
        (np.zeros((3, 4), np.uint8), "expected a mask as large as its image"),
        (None, "no such file"),
    ):
        path.unlink()
        if content is not None:
            write_mask(path, content, palette=voc_palette())
        with pytest.raises(BadInputError, match=said):
            evaluate_segmentation.run(inputs, stage=RunFolder(path=tmp_path).stage("evaluate"))
