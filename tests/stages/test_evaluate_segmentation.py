"""Scores of masks on disk: counted over the data set, against scikit-learn."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_matrix
from sklearn.metrics import f1_score, jaccard_score
from tests.stages.given import images_of, stage_at

from subcam.data.check import CheckedImages
from subcam.data.images import read_mask, voc_palette, write_mask
from subcam.data.records import ImageSet
from subcam.errors import BadInputError
from subcam.runtime.run_folder import RunFolder
from subcam.stages import evaluate
from subcam.stages.context import compute
from subcam.stages.evaluate import SegmentationScores

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
    masks: dict[str, list[np.ndarray]] = {}
    for variant, share in zip(VARIANTS, (0.3, 0.1), strict=True):
        for record in image_set.records[:5]:
            assert record.mask is not None
            truth = read_mask(record.mask, image_set.mask_values)
            noise = rng.integers(0, image_set.num_classes + 1, truth.shape, dtype=np.uint8)
            mask = np.where((rng.random(truth.shape) < share) | (truth == 255), noise, truth)
            masks.setdefault(variant, []).append(mask)
            write_mask(tmp_path / variant / f"{record.name}.png", mask, palette=voc_palette())
    return masks


def scored(image_set: ImageSet, folder: Path, variants: tuple[str, ...] = VARIANTS) -> SegmentationScores:
    """Run the stage in the folder of the masks unless it is done, and read what it wrote."""
    stage = RunFolder(path=folder).stage("evaluate")
    images, masks = images_of(image_set), stage_at(folder)
    compute(
        RunFolder(path=folder),
        stage,
        partial(evaluate.run_segmentation, stage, images=images, masks=masks, variants=variants),
    )
    return evaluate.read_segmentation(stage)


def test_scores_are_those_of_the_data_set(
    image_set: ImageSet, predicted: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    result = scored(image_set, tmp_path)
    assert result.images == 5
    assert tuple(result.variants) == VARIANTS
    truths = [read_mask(record.mask, image_set.mask_values).ravel() for record in image_set.records if record.mask]
    truth = np.concatenate(truths)
    for variant, masks in predicted.items():
        guess = np.concatenate([mask.ravel() for mask in masks])[truth != 255]
        true = truth[truth != 255]
        labels, present = range(image_set.num_classes + 1), np.unique(true)
        scores = result.variants[variant]
        assert (np.array(scores["matrix"]) == sklearn_matrix(true, guess, labels=labels)).all()
        expected = jaccard_score(true, guess, labels=present, average=None)
        np.testing.assert_allclose(np.array(scores["iou"])[present], expected)
        assert scores["miou"] == pytest.approx(expected.mean())
        assert scores["f_score"] == pytest.approx(f1_score(true, guess, labels=present, average="macro"))
    assert result.variants["masks-crf"]["miou"] > result.variants["masks"]["miou"]
    (tmp_path / "masks" / f"{image_set.records[0].name}.png").unlink()
    assert scored(image_set, tmp_path) == result, "what is done is not counted again"


def test_masks_that_do_not_fit_are_named(
    image_set: ImageSet, predicted: dict[str, list[np.ndarray]], tmp_path: Path
) -> None:
    path = tmp_path / "masks" / f"{image_set.records[1].name}.png"
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
            scored(image_set, tmp_path, ("masks",))
