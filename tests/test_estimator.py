from dataclasses import replace

import numpy as np
import pytest
import torch

from subcam import BadInputError, CheckpointError, SettingsError, SubCategoryCAM, read_folder
from subcam.cam import multiscale_response
from subcam.crf import dense_crf_many
from subcam.data.images import read_image
from subcam.data.readers.toy import write_toy
from subcam.data.settings import ToySettings
from subcam.networks.segmenter import SegmentationNetwork
from subcam.predict import segment_probabilities
from subcam.recipes import toy


@pytest.fixture(scope="module")
def images(tmp_path_factory):
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
        segment=replace(recipe.segment, train_on=()),
        machine=replace(recipe.machine, accelerator="cpu", workers=0, threads=1, inference_precision="32-true"),
    )


@pytest.fixture(scope="module")
def fitted(images, settings):
    return SubCategoryCAM(settings).fit(images)


def test_fit_keeps_every_round_and_its_scores(fitted):
    assert [found.round_index for found in fitted.result_.rounds] == [0, 1]
    assert fitted.result_.last.scores["all"].images == 24


def test_maps_of_an_array_and_of_a_file_are_the_same_and_absent_classes_are_zero(fitted, images):
    record = images.records[0]
    names = [fitted.class_names_[c] for c in record.labels]
    maps = fitted.response_maps(record.image, labels=names)
    assert maps.shape == (4, 48, 48)
    assert np.array_equal(maps, fitted.response_maps(read_image(record.image), labels=names))
    absent = [c for c in range(4) if c not in record.labels]
    assert not maps[absent].any()
    assert 0 <= maps.min() <= maps.max() <= 1
    every = fitted.response_maps(record.image)
    assert np.allclose(every[list(record.labels)], maps[list(record.labels)], atol=1e-5)


def test_maps_are_made_with_the_settings_scales_and_flips(settings, fitted, images):
    cam = settings.cam
    assert cam.flip
    pixels = read_image(images.records[0].image)
    batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    expected = multiscale_response(
        fitted.network_, batch, torch.ones(1, 4, dtype=torch.uint8), scales=cam.scales, flip=True
    )[0].maps
    np.testing.assert_allclose(fitted.response_maps(pixels), expected, atol=1e-6)


def test_a_mask_is_where_the_strongest_response_is_above_the_threshold(fitted, images):
    record = images.records[0]
    names = [fitted.class_names_[c] for c in record.labels]
    maps = fitted.response_maps(record.image, labels=names)
    expected = np.zeros(maps.shape[1:], np.uint8)
    for row, column in np.ndindex(*expected.shape):
        if maps[:, row, column].max() > 0.35:
            expected[row, column] = 1 + maps[:, row, column].argmax()
    found = fitted.predict(record.image, labels=names, threshold=0.35)
    assert 0 < (found > 0).mean() < 1
    assert np.array_equal(found, expected)
    assert set(np.unique(found)) <= {0, *(c + 1 for c in record.labels)}
    assert np.array_equal(
        fitted.predict(record.image, labels=names), fitted.predict(record.image, names, threshold=fitted.threshold_)
    )


def test_without_labels_the_classifier_says_what_is_there(fitted, images, monkeypatch):
    image = read_image(images.records[0].image)
    found = fitted.probabilities(image)
    with torch.inference_mode():
        batch = torch.from_numpy(image).permute(2, 0, 1)[None]
        assert np.allclose(found, fitted.network_(batch).parent[0].sigmoid().numpy())
    shares = np.array([0.9, 0.1, 0.6, 0.5], np.float32)
    monkeypatch.setattr(fitted, "probabilities", lambda _: shares)
    names = [fitted.class_names_[0], fitted.class_names_[2]]
    assert np.array_equal(fitted.predict(image), fitted.predict(image, names))
    monkeypatch.setattr(fitted, "probabilities", lambda _: 0 * shares)
    assert not fitted.predict(image).any()


def test_the_threshold_is_chosen_without_masks_or_given(fitted, images, settings):
    assert settings.evaluate.background_threshold == "auto"
    assert 0 < fitted.threshold_ < 1
    # All images are scored here, so that the run chose on the same ones.
    assert fitted.threshold_ == fitted.result_.last.scores["all"].fixed_threshold
    given = replace(settings, rounds=0, evaluate=replace(settings.evaluate, background_threshold=0.25))
    assert SubCategoryCAM(given).fit(images).threshold_ == 0.25


REFINED = {"refine.rounds": "last", "refine.affinity.epochs": 1, "rounds": 0, "evaluate.background_threshold": 0.3}


@pytest.fixture(scope="module")
def refined_run(tmp_path_factory):
    return tmp_path_factory.mktemp("refined")


@pytest.fixture(scope="module")
def refined(images, settings, refined_run):
    """With refinement, and segmentation networks on the pseudo masks and, for comparison, on ground truth."""
    changes = {"segment.train_on": ("pseudo", "truth"), "segment.train.epochs": 1, "segment.predict.crf": True}
    return SubCategoryCAM(settings.with_(REFINED | changes)).fit(images, out=refined_run)


def test_its_segmentation_network_learned_from_labels_alone(refined):
    expected = SegmentationNetwork.load(refined.result_.segmented[0].model.path).state_dict()
    assert [network.trained_on for network in refined.result_.segmented] == ["pseudo", "truth"]
    assert all(torch.equal(value, expected[name]) for name, value in refined.segmenter_.state_dict().items())


@pytest.mark.usefixtures("refined")
def test_without_a_segmentation_network_the_best_masks_are_the_maps_after_the_crf(images, settings, refined_run):
    model = SubCategoryCAM(settings.with_(REFINED)).fit(images, out=refined_run)
    assert model.source_ == "crf"
    assert np.array_equal(model.predict(images.records[0].image), model.predict(images.records[0].image, source="crf"))


def test_the_best_masks_are_those_of_the_segmentation_network(refined, images):
    assert refined.source_ == "segmentation"
    record = images.records[0]
    pixels = read_image(record.image)
    with torch.inference_mode():
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
        shares = segment_probabilities(refined.segmenter_, batch, settings=refined.settings.segment.predict)[0].numpy()
    crf = refined.settings.segment.predict.crf_settings
    every = dense_crf_many(pixels, [shares], settings=crf)[0].argmax(0)
    assert np.array_equal(refined.predict(record.image), every)
    values = [0, *(label + 1 for label in record.labels)]
    own = shares[values] / shares[values].sum(0)
    expected = np.array(values)[dense_crf_many(pixels, [own], settings=crf)[0].argmax(0)]
    names = [refined.class_names_[label] for label in record.labels]
    assert np.array_equal(refined.predict(record.image, names), expected)
    with pytest.raises(SettingsError, match=r"\['zebra'\] are no classes"):
        refined.predict(record.image, ["zebra"])


def test_without_a_crf_the_masks_are_the_networks_own(refined, images, monkeypatch):
    every = [read_image(record.image) for record in images.records]
    with_crf = [refined.predict(pixels) for pixels in every]
    monkeypatch.setattr(refined, "settings", refined.settings.with_({"segment.predict.crf": False}))
    own = []
    for pixels in every:
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).permute(2, 0, 1)[None]
            shares = segment_probabilities(refined.segmenter_, batch, settings=refined.settings.segment.predict)
        own.append(shares[0].numpy().argmax(0))
    assert not np.array_equal(own, with_crf)
    assert np.array_equal([refined.predict(pixels) for pixels in every], own)


def test_other_sources_can_be_asked_for(refined, fitted, images):
    record = next(record for record in images.records if len(record.labels) > 1)
    pixels = read_image(record.image)
    names = [refined.class_names_[label] for label in record.labels]
    maps = refined.response_maps(pixels, names)
    own, masks = maps[list(record.labels)], refined.settings.refine.masks
    scores = np.concatenate([(1 - own.max(0, keepdims=True)) ** masks.crf_alpha, own])
    values = np.array([0, *(label + 1 for label in record.labels)])
    expected = values[dense_crf_many(pixels, [scores], settings=masks.crf)[0].argmax(0)]
    assert np.array_equal(refined.predict(pixels, names, source="crf"), expected)
    cut = np.where(maps.max(0) > 0.3, maps.argmax(0) + 1, 0)
    assert np.array_equal(refined.predict(pixels, names, source="maps"), cut)
    assert np.array_equal(refined.predict(pixels, names, threshold=0.3), cut)
    assert not refined.predict(pixels, [], source="crf").any()
    assert fitted.source_ == "maps"
    with pytest.raises(SettingsError, match="this model has no segmentation network"):
        fitted.predict(pixels, source="segmentation")
    with pytest.raises(SettingsError, match="a threshold cuts response maps and nothing else"):
        refined.predict(pixels, source="crf", threshold=0.3)


def test_a_saved_model_makes_the_same_masks_from_every_source(refined, images, tmp_path):
    refined.save(tmp_path / "model")
    loaded = SubCategoryCAM.load(tmp_path / "model")
    assert loaded.source_ == "segmentation"
    image = images.records[0].image
    for source in (None, "segmentation", "crf", "maps"):
        assert np.array_equal(loaded.predict(image, source=source), refined.predict(image, source=source)), source
    (tmp_path / "model" / "masks.json").write_text('{"source": "crf"}')
    with pytest.raises(CheckpointError, match=r"masks\.json does not say how masks are made"):
        SubCategoryCAM.load(tmp_path / "model")


def test_it_says_what_it_is(fitted, settings):
    assert repr(fitted) == "<SubCategoryCAM: tiny, 1 rounds of sub-categories of images, 4 classes>"
    assert "not trained" in repr(SubCategoryCAM(settings))


def test_saved_and_loaded_gives_the_same_maps(fitted, images, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = SubCategoryCAM.load(tmp_path / "model")
    image = images.records[0].image
    assert loaded.settings.cam == fitted.settings.cam
    assert loaded.threshold_ == fitted.threshold_
    assert np.array_equal(loaded.predict(image), fitted.predict(image))
    assert np.array_equal(loaded.response_maps(image), fitted.response_maps(image))


def test_a_folder_is_a_data_set_too_and_a_run_folder_is_taken_up(images, settings, tmp_path):
    root = images.records[0].image.parents[1]
    first = SubCategoryCAM(settings).fit(root, out=tmp_path / "run")
    again = SubCategoryCAM(settings).fit(root, out=tmp_path / "run")
    assert first.result_.last.model == again.result_.last.model
    loaded = SubCategoryCAM.load(first.result_.last.model.path)
    assert loaded.class_names_ == first.class_names_


def test_several_processes_need_a_folder(images, settings, tmp_path, monkeypatch):
    monkeypatch.setattr("subcam.estimator.launch.launched", lambda: True)
    monkeypatch.setattr("subcam.estimator.run", lambda _settings, folder, **_: pytest.fail(f"ran in {folder}"))
    with pytest.raises(SettingsError, match=r"several processes need a folder that all of them see"):
        SubCategoryCAM(settings).fit(images)
    with pytest.raises(pytest.fail.Exception, match=f"ran in {tmp_path}"):
        SubCategoryCAM(settings).fit(images, out=tmp_path)


def test_mistakes(fitted, images, tmp_path):
    with pytest.raises(SettingsError, match="no recipe 'big'"):
        SubCategoryCAM("big")
    with pytest.raises(SettingsError, match="call fit or load first"):
        SubCategoryCAM("toy").response_maps(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(SettingsError, match=r"\['zebra'\] are no classes"):
        fitted.response_maps(images.records[0].image, labels=["zebra"])
    with pytest.raises(BadInputError, match=r"nothing\.png"):
        fitted.response_maps(tmp_path / "nothing.png")
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        SubCategoryCAM.load(tmp_path)
    fitted.save(tmp_path / "model")
    (tmp_path / "model" / "response_maps.json").unlink()
    with pytest.raises(SettingsError, match="no background threshold came with this model"):
        SubCategoryCAM.load(tmp_path / "model").predict(np.zeros((8, 8, 3), np.uint8))
    for text in ("[1]", '{"scale": 3}'):
        (tmp_path / "model" / "response_maps.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"response_maps\.json does not say how response maps are computed"):
            SubCategoryCAM.load(tmp_path / "model")
