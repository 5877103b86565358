"""`subcam.load`: a run's best model, and masks of images from it one after the other."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import subcam
from subcam import CheckpointError, SegmentationNetwork, SubCategoryCAM, hub
from subcam.data.images import read_image
from subcam.predict.find_model import find_model


def same(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    other = two.state_dict()
    return all(torch.equal(value, other[name]) for name, value in one.state_dict().items())


def test_every_loader_takes_a_run_s_folder(refined_run: Path) -> None:
    """And takes the network that `predict` takes."""
    expected = SegmentationNetwork.load(find_model(refined_run))
    model = subcam.load(refined_run)
    whole = SubCategoryCAM.load(refined_run)
    for found in (SegmentationNetwork.load(refined_run), hub.load(refined_run), model.network, whole.segmenter_):
        assert isinstance(found, SegmentationNetwork)
        assert same(found, expected)
    assert whole.source_ == "segmentation"
    assert model.class_names == ("background", *whole.class_names_)


def test_masks_are_those_that_the_run_s_network_makes(refined_run: Path, toy_folder: Path) -> None:
    """From a folder, files, arrays, tensors and PIL images; in the order asked for; in batches as one by one."""
    model, whole = subcam.load(refined_run), SubCategoryCAM.load(refined_run)
    files = sorted((toy_folder / "images").iterdir())[:6]
    expected = [whole.predict(file) for file in files]
    arrays = [read_image(file) for file in files]
    given = (files, arrays, [torch.from_numpy(a) for a in arrays], [Image.fromarray(a) for a in arrays])
    for images in given:
        found = list(model.predict(images))
        assert all((one.mask == mask).all() for one, mask in zip(found, expected, strict=True))
    assert [one.image for one in model.predict(files)] == files
    assert len(list(model.predict(toy_folder / "images"))) == 32
    (one,) = model.predict(arrays[0])
    assert one.image is None
    assert sum(one.present.values()) == pytest.approx((expected[0] > 0).mean())
    assert set(one.present) <= set(model.class_names[1:])


def test_no_more_images_are_read_than_a_batch(refined_run: Path) -> None:
    model = subcam.load(refined_run)
    model.settings = replace(model.settings, batch_size=2)
    read: list[int] = []

    def images():
        for index in range(10):
            read.append(index)
            yield np.full((32 if index < 5 else 40, 48, 3), index, np.uint8)

    found = model.predict(images())
    first = next(found)
    assert first.mask.shape == (32, 48)
    assert len(read) == 3
    assert [one.mask.shape for one in found] == [(32, 48)] * 4 + [(40, 48)] * 5


def test_a_run_without_a_segmentation_network_has_maps(refined_run: Path, toy_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(refined_run / "stages", run / "stages")
    record = json.loads((refined_run / "run.json").read_text("utf-8"))
    (run / "run.json").write_text(json.dumps({**record, "segment": []}))
    image = toy_folder / "images" / "val-00000.png"
    model = subcam.load(run)
    assert isinstance(model.network, SubCategoryCAM)
    assert isinstance(hub.load(run), SubCategoryCAM)
    assert model.network.source_ == "crf"
    (found,) = model.predict(image)
    assert (found.mask == SubCategoryCAM.load(run).predict(image)).all()
    with pytest.raises(CheckpointError, match="is a run without a segmentation network"):
        SegmentationNetwork.load(run)


def test_where_there_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder; give that of a run or of a saved network"):
        subcam.load(tmp_path / "gone")
    with pytest.raises(CheckpointError, match="no such folder; give that of a run or of a saved network"):
        subcam.load("a" * 5000)
    with pytest.raises(CheckpointError, match="expected a segmentation network or a classifier that subcam saved"):
        subcam.load(tmp_path)
