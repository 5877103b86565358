"""How often each loop makes the host wait for the device: counted on a pretended one, a bound for every batch.

A wait empties the device's queue: while the host then prepares what comes next, the device has nothing to do. One
`.item()` for each image, one mask as an index, one constant that is sent anew: each breaks its bound here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.predict.saved_network import save_tiny_network
from tests.pretend_device import DEVICE, PretendDevice, pretending
from tests.refine.made_maps import write_made_maps
from tests.stages.given import images_of, stage_at

if TYPE_CHECKING:
    from subcam.data.check import CheckedImages
    from subcam.runtime.devices import MachineSettings
    from subcam.settings import RunSettings

Loop = Callable[["Work", Path, int], None]
PER_BATCH, MOST_BATCHES = 2, 3


class Work:
    """What the loops work on: images of one size, networks with random weights, maps, marginals, prototypes."""

    def __init__(self, folder: Path, images: CheckedImages, settings: RunSettings, machine: MachineSettings) -> None:
        from subcam.affinity.network import AffinityConfig, AffinityNetwork
        from subcam.networks.classifier import ClassificationNetwork, ModelConfig
        from subcam.runtime.devices import Device, build_fabric
        from subcam.runtime.run_folder import RunFolder
        from subcam.stages import prototypes, sure_regions

        self.folder, self.settings = folder, settings
        self.machine = replace(machine, checkpoint_seconds=1e6)
        size = max(set(images.sizes), key=images.sizes.count)
        self.records = [r for r, own in zip(images.image_set.records, images.sizes, strict=True) if own == size]
        self.image_set, self.size = images.image_set, size
        torch.manual_seed(0)
        names = images.image_set.class_names
        config = ModelConfig(network=settings.network, class_names=names, num_subcategories=2)
        ClassificationNetwork(config).save(folder / "classifier")
        AffinityNetwork(AffinityConfig(network=settings.network)).save(folder / "affinity")
        save_tiny_network(folder / "segmenter", classes=names)
        write_made_maps(folder / "maps", replace(images.image_set, records=tuple(self.records)))
        on_host = Device(precision="32-true", machine=machine, fabric=build_fabric(machine, precision="32-true"))
        given: dict[str, Any] = {
            "images": self.some(MOST_BATCHES * PER_BATCH),
            "maps": self.at("maps"),
            "device": on_host,
        }
        runs = RunFolder(path=folder)
        self.sure, self.prototypes, self.labels = (runs.stage(name) for name in ("crf", "prototypes", "labels"))
        sure_regions.run(self.sure, settings=sure_regions.SureRegionSettings(), **given)
        few = prototypes.PrototypeSettings(num_objects=2, num_context=2)
        prototypes.run(self.prototypes, settings=few, model=self.at("classifier"), seed=0, **given)
        prototypes.run_labels(self.labels, settings=few, model=self.prototypes, **given)

    def at(self, name: str) -> Any:
        """An earlier stage."""
        return stage_at(self.folder / name)

    def some(self, count: int) -> CheckedImages:
        """The first images, all of one size."""
        records = tuple(self.records[:count])
        assert len(records) == count
        return images_of(replace(self.image_set, records=records), [self.size] * count)

    def given(self, fabric: Any, out: Path, batches: int, *, of: int = PER_BATCH) -> dict[str, Any]:
        """A stage's usual arguments."""
        from subcam.runtime.devices import Device
        from subcam.runtime.run_folder import RunFolder

        return {
            "stage": RunFolder(path=out).stage("loop"),
            "images": self.some(of * batches),
            "device": Device(precision="32-true", machine=self.machine, fabric=fabric),
        }


@pytest.fixture(scope="module")
def work(
    toy_train: CheckedImages,
    tiny_run: RunSettings,
    machine: MachineSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Work:
    return Work(tmp_path_factory.mktemp("work"), toy_train, tiny_run, machine)


def classify_steps(work: Work, fabric: Any, out: Path, batches: int, **more: Any) -> None:
    from subcam.stages import classify

    settings = replace(work.settings.classify, epochs=1, batch_size=PER_BATCH)
    settings = replace(settings, optimiser=replace(settings.optimiser, gradient_clip=1.0))
    classify.run(
        settings=settings,
        network=work.settings.network,
        round_index=0,
        seed=0,
        **work.given(fabric, out, batches),
        **more,
    )


def classify_steps_with_prototypes(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.prototypes.label_files import read_label_grids, write_label_grids

    labels = stage_at(out / "labels")
    labels.path.mkdir(parents=True)
    write_label_grids(labels.path, read_label_grids(work.labels.path)[: PER_BATCH * batches])
    classify_steps(work, fabric, out, batches, prototypes=work.prototypes, prototype_labels=labels)


def equivariance_steps(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.comparisons.equivariance import EquivarianceSettings

    classify_steps(work, fabric, out, batches, comparison=EquivarianceSettings())


def affinity_steps(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.data.augmentation import AugmentationSettings
    from subcam.stages import affinity

    crops = AugmentationSettings(crop=72, scale_long_side=(72, 88))
    settings = affinity.AffinitySettings(epochs=1, batch_size=PER_BATCH, augmentation=crops)
    network = work.settings.network
    affinity.run(settings=settings, sure_regions=work.sure, network=network, seed=0, **work.given(fabric, out, batches))


def segment_steps(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.data.augmentation import AugmentationSettings
    from subcam.networks.segmenter import SegmentationConfig
    from subcam.stages import segment

    crops = AugmentationSettings(crop=48, scale_long_side=(40, 64))
    config = SegmentationConfig(
        network=work.settings.network, class_names=work.image_set.class_names, multi_scale_inputs=(0.5,)
    )
    segment.run(
        settings=segment.TrainSettings(epochs=1, batch_size=PER_BATCH, augmentation=crops, average_decay=0.9),
        config=config,
        masks=None,
        variant="walk",
        validation=None,
        seed=0,
        **work.given(fabric, out, batches),
    )


def scored_batches(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.networks.segmenter import SegmentationNetwork
    from subcam.stages.segment import score_images

    network = SegmentationNetwork.load(work.folder / "segmenter").eval()
    fabric.to_device(network)
    score_images(network, work.some(PER_BATCH * batches), fabric=fabric, batch_size=PER_BATCH, machine=work.machine)


def features(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.clustering.features import extract_features
    from subcam.networks.classifier import ClassificationNetwork

    images = work.some(PER_BATCH * batches)
    extract_features(
        ClassificationNetwork.load(work.folder / "classifier"),
        images.image_set.records,
        images.sizes,
        folder=out,
        fabric=fabric,
        batch_size=PER_BATCH,
        machine=work.machine,
    )


def response_maps(work: Work, fabric: Any, out: Path, batches: int, *, model: str = "classifier") -> None:
    from subcam.cam.settings import CamSettings
    from subcam.stages import cam

    settings = CamSettings(scales=(1.0, 0.5), subcategory_maps=True, batch_size=PER_BATCH)
    source = work.prototypes if model == "prototypes" else work.at(model)
    cam.run(settings=settings, model=source, **work.given(fabric, out, batches))


def prototype_maps(work: Work, fabric: Any, out: Path, batches: int) -> None:
    response_maps(work, fabric, out, batches, model="prototypes")


def positions(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.stages import prototypes

    settings = prototypes.PrototypeSettings(num_objects=2, num_context=2, batch_size=PER_BATCH)
    prototypes.run(
        settings=settings,
        model=work.at("classifier"),
        maps=work.at("maps"),
        seed=0,
        **work.given(fabric, out, batches),
    )


def walked_images(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.stages import random_walk

    settings = random_walk.WalkSettings(log_steps=4, alphas=(1.0, 2.0), all_pairs=True)
    given = work.given(fabric, out, batches, of=1)
    random_walk.run(settings=settings, maps=work.at("maps"), affinity=work.at("affinity"), **given)


def segmented(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.predict.tiles import InferenceSettings
    from subcam.stages import predict

    settings = InferenceSettings(scales=(1.0, 1.5), flip=True, batch_size=PER_BATCH, known_labels=True)
    predict.run(settings=settings, model=work.at("segmenter"), **work.given(fabric, out, batches))


def predicted(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.networks.segmenter import SegmentationNetwork
    from subcam.predict.image_stream import Outputs, predict_each
    from subcam.predict.tiles import InferenceSettings

    network = SegmentationNetwork.load(work.folder / "segmenter").eval()
    fabric.to_device(network)
    names = ("background", *work.image_set.class_names)
    settings = InferenceSettings(batch_size=PER_BATCH)
    records = work.some(PER_BATCH * batches).image_set.records
    list(predict_each(network, records, Outputs(out=out, names=names), settings=settings, device=DEVICE, threads=1))


LOOPS = {
    "training the classifier": (classify_steps, 0),
    "training on positions": (classify_steps_with_prototypes, 1),
    "training for equivariance": (equivariance_steps, 1),
    "training AffinityNet": (affinity_steps, 0),
    "training the segmenter": (segment_steps, 0),
    "scoring the segmenter": (scored_batches, 0),
    "features": (features, 0),
    "response maps": (response_maps, 0),
    "response maps from prototypes": (prototype_maps, 0),
    "features of positions": (positions, 0),
    "random walk, each image": (walked_images, 3),
    "masks of a data set": (segmented, 0),
    "prediction": (predicted, 0),
}
"""Each loop, and how often the host may wait in each batch or step. What training on positions waits for is how many
positions are labelled; the walk for a check of the features, one of the maps, and its number of terms."""


def dense_crfs(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.crf.dense_crf_torch import dense_crf_torch

    for count in range(1, batches + 1):
        images = [torch.full((7 + place, 9, 3), 50 * place, dtype=torch.uint8) for place in range(count)]
        scores = [torch.full((2, *image.shape[:2]), 0.5) for image in images]
        dense_crf_torch(*([fabric.to_device(one) for one in many] for many in (images, scores)))


def test_a_batch_of_the_dense_crf_waits_for_a_check_and_two_lattices(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many images are in it."""
    assert waits(work, dense_crfs, 3, tmp_path, monkeypatch) == {"tolist": 3, "unique": 6}


def test_a_row_of_the_log_waits_once() -> None:
    from subcam.training.checkpoint import TrainingLog

    with PretendDevice() as pretended:
        losses = {name: pretended.send(torch.tensor(value)) for name, value in (("loss", 0.5), ("part", 0.25))}
        log = TrainingLog(Path("nowhere"))
        log._board = SimpleNamespace(add_scalar=lambda *_: None)  # type: ignore[assignment]
        row = log.add(step=1, epoch=1.0, rate_factor=1.0, losses=losses)
    assert (row["loss"], row["part"]) == (0.5, 0.25)
    assert pretended.waits == {"tolist": 1}


def test_what_makes_the_host_wait_is_seen() -> None:
    """The pretended device itself: what it lets pass, counts and refuses."""
    with PretendDevice() as pretended:
        there = pretended.send(torch.arange(6.0).view(2, 3))
        assert there.device == DEVICE
        assert (there * 2 + 1)[0].device == DEVICE
        assert torch.zeros(2, device=there.device).is_cuda
        assert not pretended.waits
        there[0, 0].item()
        there[there > 1] = 0
        there.nonzero()
        torch.tensor([1.0], device=there.device)
        there.cpu()
        bool(there.sum() > 0)
        assert pretended.waits == {
            "item": 1,
            "a mask as an index": 1,
            "nonzero": 1,
            "tensor(data, device)": 1,
            "to the host": 1,
            "__bool__": 1,
        }
        assert pretended.copies == {"to the device": 1}
        with pytest.raises(RuntimeError, match="on the same device"):
            there + torch.ones(2, 3)
        with pytest.raises(TypeError, match="copy it to the host first"):
            there.numpy()


def test_copies_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from subcam.runtime.devices import HostCopy, one_behind, to_device

    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(3):
            asked.append(number)
            yield number

    with pretending(monkeypatch) as fabric:
        there = to_device(torch.arange(4), fabric.device)
        assert there.device == DEVICE
        found = HostCopy(there * 2).numpy()
        assert found.tolist() == [0, 2, 4, 6]
        assert fabric.pretended.copies == {"to the device": 1, "to the host": 1}
        assert not fabric.pretended.waits
        seen = [(item, list(asked)) for item in one_behind(items(), device=fabric.device)]
    assert seen == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2])]
    asked.clear()
    assert next((item, list(asked)) for item in one_behind(items(), device=torch.device("cpu"))) == (0, [0])


def waits(work: Work, loop: Any, batches: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    from subcam.training import loop as training_loop

    monkeypatch.setattr(training_loop, "LOG_EVERY", 10**6)
    with pretending(monkeypatch) as fabric:
        loop(work, fabric, folder / str(batches), batches)
        return fabric.pretended.waits


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_waits_no_more_than_it_may(
    work: Work, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, most = LOOPS[name]
    few, many = (waits(work, loop, batches, tmp_path, monkeypatch) for batches in (1, MOST_BATCHES))
    by_batch = {what: (count - few[what]) / (MOST_BATCHES - 1) for what, count in many.items() if count != few[what]}
    assert sum(by_batch.values()) <= most, by_batch
