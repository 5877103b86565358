"""The stage of response maps: one small file an image, nothing lost by storing them, resumable."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.stages.given import images_of, stage_at

from subcam.cam.map_files import ResponseMaps, maps_path, read_response_maps
from subcam.cam.map_grid import coarsen
from subcam.cam.multiscale import multiscale_response
from subcam.cam.settings import CamSettings
from subcam.clustering.subcategories import Subcategories, write_subcategories
from subcam.data.check import CheckedImages, check_images
from subcam.data.images import read_image, read_mask
from subcam.data.readers.folder import read_folder
from subcam.data.readers.toy import write_toy
from subcam.data.readers.voc import read_voc
from subcam.data.records import ImageSet
from subcam.data.settings import ToySettings
from subcam.errors import BadInputError, SettingsError
from subcam.methods.compute import responses_of
from subcam.metrics.threshold_sweep import ThresholdSweep
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages import cam, classify
from subcam.stages.context import compute

IMAGENET = {
    "cat": range(281, 286),
    "cow": (345,),
    "dog": range(151, 269),
    "horse": (339,),
    "sheep": (348, 349),
}
"""Numbers of ImageNet's classes that are one of VOC's animals."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A saved network and images for it."""

    stage: Stage
    images: CheckedImages


@pytest.fixture(scope="module")
def trained(tiny_run: RunSettings, device: Device, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The small network after some epochs on generated images, with sub-category heads; 48 other images."""
    root = tmp_path_factory.mktemp("trained")
    toy = write_toy(root / "toy", ToySettings(train_images=120, val_images=48))
    train = check_images(read_folder(toy, split="train"))
    settings = replace(
        tiny_run.classify,
        epochs=6,
        batch_size=20,
        head_dropout=0.0,
        augmentation=replace(tiny_run.classify.augmentation, crop=64, scale_long_side=(56, 84)),
    )
    labels = train.image_set.labels
    write_subcategories(
        root / "clusters",
        Subcategories(
            assignments=labels.astype(np.int16) - 1,
            labels=np.repeat(labels, 2, axis=1),
            num_clusters=np.full(labels.shape[1], 2),
            inertia=np.zeros(labels.shape[1]),
            centroids=np.zeros((2 * labels.shape[1], 1), np.float32),
        ),
    )
    stage = RunFolder(path=root).stage("classify")
    classify.run(
        stage,
        settings=settings,
        images=train,
        network=tiny_run.network,
        round_index=1,
        seed=0,
        device=device,
        clusters=stage_at(root / "clusters"),
    )
    return Model(stage=stage, images=check_images(read_folder(toy, split="val")))


@pytest.fixture
def run(device: Device) -> Callable[[CamSettings, Model, Path], Stage]:
    """Write the maps into a folder unless they are there."""

    def run(settings: CamSettings, model: Model, folder: Path) -> Stage:
        run_folder = RunFolder(path=folder)
        stage = run_folder.stage("cam", inputs={"settings": settings})
        work = partial(cam.run, stage, settings=settings, images=model.images, model=model.stage, device=device)
        compute(run_folder, stage, work)
        return stage

    return run


def full_maps(model: Model, settings: CamSettings) -> list[np.ndarray]:
    """The maps of the present classes of each image, float32, at its size."""
    network = ClassificationNetwork.load(model.stage.path).eval()
    labels = torch.from_numpy(model.images.image_set.labels)
    maps = []
    for record, row in zip(model.images.image_set.records, labels, strict=True):
        image = torch.from_numpy(read_image(record.image)).permute(2, 0, 1)[None]
        (response,) = multiscale_response(network, image, row[None], scales=settings.scales, flip=settings.flip)
        maps.append(response.maps.numpy())
    return maps


def miou(image_set: ImageSet, maps: list[np.ndarray], threshold: float) -> float:
    """In per cent, at a fixed background threshold."""
    sweep = ThresholdSweep(image_set.num_classes + 1)
    for record, responses in zip(image_set.records, maps, strict=True):
        assert record.mask is not None
        truth = read_mask(record.mask, image_set.mask_values, size=responses.shape[1:])
        sweep.add(responses, np.array(record.labels, np.int16), truth)
    return 100 * sweep.at(threshold).miou


def test_each_image_has_its_file(trained: Model, run: Callable, tmp_path: Path) -> None:
    settings = CamSettings(scales=(1.0, 1.5), subcategory_maps=True, batch_size=3)
    stage = run(settings, trained, tmp_path)
    assert stage.record["outputs"] == {"images": 48}
    records = trained.images.image_set.records
    assert len(list((stage.path / "maps").iterdir())) == len(records)
    network = ClassificationNetwork.load(trained.stage.path).eval()
    for record, full in zip(records, full_maps(trained, settings), strict=True):
        stored = read_response_maps(maps_path(stage.path, record.name))
        assert stored.size == (64, 64)
        assert stored.classes.tolist() == list(record.labels)
        expected = coarsen(torch.from_numpy(full), 4).astype(int)
        assert np.abs(stored.maps - expected).max() <= 1
        assert stored.subcategory_maps.shape == (len(record.labels), 2, 16, 16)
        pixels = torch.from_numpy(read_image(record.image)).permute(2, 0, 1)[None]
        logits = network(pixels).parent[0].detach().numpy()
        np.testing.assert_allclose(stored.logits, logits, atol=1e-4)


def assert_storing_costs_little(
    model: Model, settings: CamSettings, stage: Stage, *, thresholds: tuple[float, ...]
) -> None:
    """Less than 0.1 points of mIoU at fixed thresholds, and less than a tenth of the space of float32 arrays."""
    image_set = model.images.image_set
    full = full_maps(model, settings)
    paths = [maps_path(stage.path, record.name) for record in image_set.records]
    stored = [read_response_maps(path).full_size() for path in paths]
    for threshold in thresholds:
        assert miou(image_set, stored, threshold) == pytest.approx(miou(image_set, full, threshold), abs=0.1)
    assert sum(path.stat().st_size for path in paths) < sum(maps.nbytes for maps in full) / 10


def test_storing_costs_little(trained: Model, run: Callable, tmp_path: Path) -> None:
    """Images of 64 pixels, whose maps have ridges 4 pixels apart, need the finer grid."""
    settings = CamSettings(batch_size=16, storage_stride=2)
    stage = run(settings, trained, tmp_path)
    assert_storing_costs_little(trained, settings, stage, thresholds=(0.3, 0.4, 0.5))


@pytest.mark.data
@pytest.mark.thorough
def test_storing_costs_little_on_real_photographs(
    voc_animals: Path, shared: Path, run: Callable, tmp_path: Path
) -> None:
    """MobileNetV2 with heads from its own ImageNet classifier: no training, and maps that mean something."""
    weights = shared / "weights" / "mobilenetv2_100_imagenet.safetensors"
    network = ClassificationNetwork(
        ModelConfig(
            network=NetworkSettings(name="mobilenetv2_100", weights=str(weights), model_args={"pad_type": "same"}),
            class_names=tuple(IMAGENET),
        )
    )
    rows = load_file(weights)["classifier.weight"]
    network.parent_head.weight.data = torch.stack([rows[list(ids)].mean(0) for ids in IMAGENET.values()]) - rows.mean(0)
    network.save(tmp_path / "model")
    val = read_voc(voc_animals, split="val", classes=tuple(IMAGENET))
    model = Model(stage=stage_at(tmp_path / "model"), images=check_images(replace(val, records=val.records[::20])))
    settings = CamSettings(scales=(1.0, 0.5))
    stage = run(settings, model, tmp_path)
    assert_storing_costs_little(model, settings, stage, thresholds=(0.15, 0.2, 0.3, 0.4, 0.5))


def test_a_stage_that_was_cut_off_goes_on_and_ends_the_same(
    trained: Model, run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole batches are done again, so that every image is computed in the company that it had."""
    settings = CamSettings(scales=(1.0,), batch_size=20)
    undisturbed = run(settings, trained, tmp_path / "undisturbed")
    names = [record.name for record in trained.images.image_set.records]
    writes: list[Path] = []
    really_write = cam.write_response_maps

    def killed(path: Path, maps: ResponseMaps) -> None:
        if len(writes) == 27:
            raise KeyboardInterrupt
        writes.append(path)
        really_write(path, maps)

    with monkeypatch.context() as patch:
        patch.setattr(cam, "write_response_maps", killed)
        with pytest.raises(KeyboardInterrupt):
            run(settings, trained, tmp_path / "killed")
    sizes: list[int] = []

    def counted(chosen: None, network: ClassificationNetwork, images: torch.Tensor, *args: Any, **kwargs: Any) -> list:
        sizes.append(len(images))
        return responses_of(chosen, network, images, *args, **kwargs)

    monkeypatch.setattr(cam, "responses_of", counted)
    stage = run(settings, trained, tmp_path / "killed")
    assert sizes == [20, 8]  # of 20 + 20 + 8 the first batch was complete
    for name in names:
        mine, theirs = (maps_path(each.path, name).read_bytes() for each in (stage, undisturbed))
        assert mine == theirs
    sizes.clear()
    run(settings, trained, tmp_path / "killed")
    assert sizes == []


def test_images_without_labels_get_empty_maps(trained: Model, run: Callable, tmp_path: Path) -> None:
    images = trained.images
    bare = replace(images.image_set.records[0], labels=())
    image_set = replace(images.image_set, records=(bare, *images.image_set.records[1:3]))
    three = replace(trained, images=images_of(image_set, images.sizes[:3]))
    stage = run(CamSettings(scales=(1.0,), subcategory_maps=True), three, tmp_path)
    stored = read_response_maps(maps_path(stage.path, bare.name))
    assert stored.maps.shape == (0, 16, 16)
    assert stored.classes.tolist() == []
    assert len(stored.logits) == 4
    assert stored.full_size().shape == (0, 64, 64)


def test_images_of_different_sizes(tiny_run: RunSettings, run: Callable, tmp_path: Path) -> None:
    small, large = (write_toy(tmp_path / str(n), ToySettings(train_images=3, val_images=1, size=n)) for n in (31, 50))
    sets = [check_images(read_folder(folder, split="train")) for folder in (small, large)]
    records = [
        replace(record, name=f"{index}/{record.name}")
        for index, images in enumerate(sets)
        for record in images.image_set.records
    ]
    network = ClassificationNetwork(ModelConfig(network=tiny_run.network, class_names=sets[0].image_set.class_names))
    network.save(tmp_path / "model")
    order = [0, 3, 1, 4, 5, 2]
    mixed = images_of(
        replace(sets[0].image_set, records=tuple(records[i] for i in order)),
        [(sets[0].sizes + sets[1].sizes)[i] for i in order],
    )
    model = Model(stage=stage_at(tmp_path / "model"), images=mixed)
    stage = run(CamSettings(scales=(1.0, 0.5), batch_size=2), model, tmp_path)
    for record, size in zip(mixed.image_set.records, mixed.sizes, strict=True):
        assert read_response_maps(maps_path(stage.path, record.name)).size == size


def test_an_image_that_went_bad_is_named(trained: Model, run: Callable, tmp_path: Path) -> None:
    images = trained.images
    gone = replace(images.image_set.records[1], image=tmp_path / "gone.png")
    image_set = replace(images.image_set, records=(images.image_set.records[0], gone))
    broken = replace(trained, images=images_of(image_set, images.sizes[:2]))
    with pytest.raises(BadInputError, match=r"gone\.png: no such file"):
        run(CamSettings(scales=(1.0,)), broken, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": ()}, "scales: expected 1 to 100 entries"),
        ({"scales": (1.0, 0.0)}, r"each a number from 0\.01 to 100"),
        ({"storage_stride": 0}, "storage_stride: expected a whole number from 1 to 1024, got 0"),
    ],
)
def test_settings_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        CamSettings(**changes)
