from dataclasses import replace

import numpy as np
import pytest

from subcam import BadInputError, CheckpointError, SettingsError, SubCategoryCAM, read_folder
from subcam.data.images import read_image
from subcam.data.toy import ToySettings, write_toy
from subcam.recipes import toy


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    settings = ToySettings(train_images=24, val_images=0, size=48)
    return read_folder(write_toy(tmp_path_factory.mktemp("toy"), settings))


@pytest.fixture(scope="module")
def settings():
    recipe = toy()
    return replace(
        recipe,
        rounds=1,
        control=False,
        classify=replace(recipe.classify, epochs=1, batch_size=8),
        refine=replace(recipe.refine, rounds="none"),
        machine=replace(recipe.machine, accelerator="cpu", workers=0, threads=1, inference_precision="32-true"),
    )


@pytest.fixture(scope="module")
def fitted(pictures, settings):
    return SubCategoryCAM(settings).fit(pictures)


def test_fit_keeps_every_round_and_its_scores(fitted):
    assert [found.round_index for found in fitted.result_.rounds] == [0, 1]
    assert fitted.result_.last.scores["all"].images == 24


def test_maps_of_an_array_and_of_a_file_are_the_same_and_absent_classes_are_zero(fitted, pictures):
    record = pictures.records[0]
    names = [fitted.class_names_[c] for c in record.labels]
    maps = fitted.response_maps(record.image, labels=names)
    assert maps.shape == (4, 48, 48)
    assert np.array_equal(maps, fitted.response_maps(read_image(record.image), labels=names))
    absent = [c for c in range(4) if c not in record.labels]
    assert not maps[absent].any()
    assert 0 <= maps.min() <= maps.max() <= 1
    every = fitted.response_maps(record.image)
    assert np.allclose(every[list(record.labels)], maps[list(record.labels)], atol=1e-5)


def test_saved_and_loaded_gives_the_same_maps(fitted, pictures, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = SubCategoryCAM.load(tmp_path / "model")
    image = pictures.records[0].image
    assert loaded.settings.cam == fitted.settings.cam
    assert np.array_equal(loaded.response_maps(image), fitted.response_maps(image))


def test_a_folder_is_a_data_set_too_and_a_run_folder_is_taken_up(pictures, settings, tmp_path):
    root = pictures.records[0].image.parents[1]
    first = SubCategoryCAM(settings).fit(root, out=tmp_path / "run")
    again = SubCategoryCAM(settings).fit(root, out=tmp_path / "run")
    assert first.result_.last.model == again.result_.last.model
    loaded = SubCategoryCAM.load(first.result_.last.model.path)
    assert loaded.class_names_ == first.class_names_


def test_mistakes(fitted, pictures, tmp_path):
    with pytest.raises(SettingsError, match="no recipe 'big'"):
        SubCategoryCAM("big")
    with pytest.raises(SettingsError, match="call fit or load first"):
        SubCategoryCAM("toy").response_maps(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(SettingsError, match=r"\['zebra'\] are no classes"):
        fitted.response_maps(pictures.records[0].image, labels=["zebra"])
    with pytest.raises(BadInputError, match=r"nothing\.png"):
        fitted.response_maps(tmp_path / "nothing.png")
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        SubCategoryCAM.load(tmp_path)
