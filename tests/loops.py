"""The loops of the package that feed a device, each on a given number of batches: training, inference, the walk.

`subcam` is imported inside the functions, so that the run-time checks of shapes and types see it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tests.predict.saved_network import save_tiny_network
from tests.refine.made_maps import write_made_maps
from tests.stages.given import images_of, stage_at

if TYPE_CHECKING:
    from subcam.data.check import CheckedImages
    from subcam.runtime.machine.settings import MachineSettings
    from subcam.settings import RunSettings

PER_BATCH, MOST_BATCHES = 2, 3


class Work:
    """What the loops work on: images of one size, networks with random weights, maps, marginals, prototypes."""

    def __init__(self, folder: Path, images: CheckedImages, settings: RunSettings, machine: MachineSettings) -> None:
        from subcam.affinity.network import AffinityConfig, AffinityNetwork
        from subcam.networks.classifier import ClassificationNetwork, ModelConfig
        from subcam.runtime.devices import Device, build_fabric
        from subcam.runtime.run_folder import RunFolder
        from subcam.stages import prototypes
        from subcam.stages.refine import sure_regions

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
    from subcam.methods.registry import choose
    from subcam.methods.settings import CompareSettings

    (method,) = choose(CompareSettings(methods=("equivariance",)))
    classify_steps(work, fabric, out, batches, comparison=method.training)


def affinity_steps(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.data.settings import AugmentationSettings
    from subcam.stages.refine import affinity

    crops = AugmentationSettings(crop=72, scale_long_side=(72, 88))
    settings = affinity.AffinitySettings(epochs=1, batch_size=PER_BATCH, augmentation=crops)
    network = work.settings.network
    affinity.run(settings=settings, sure_regions=work.sure, network=network, seed=0, **work.given(fabric, out, batches))


def segment_steps(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.data.settings import AugmentationSettings
    from subcam.networks.settings import SegmentationConfig
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
    from subcam.stages.refine import random_walk

    settings = random_walk.WalkSettings(log_steps=4, alphas=(1.0, 2.0), all_pairs=True)
    given = work.given(fabric, out, batches, of=1)
    random_walk.run(settings=settings, maps=work.at("maps"), affinity=work.at("affinity"), **given)


def segmented(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.predict.settings import InferenceSettings
    from subcam.stages import predict

    settings = InferenceSettings(scales=(1.0, 1.5), flip=True, batch_size=PER_BATCH, known_labels=True)
    predict.run(settings=settings, model=work.at("segmenter"), **work.given(fabric, out, batches))


def predicted(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.networks.segmenter import SegmentationNetwork
    from subcam.predict.image_stream import Outputs, predict_each
    from subcam.predict.settings import InferenceSettings

    network = SegmentationNetwork.load(work.folder / "segmenter").eval()
    fabric.to_device(network)
    names = ("background", *work.image_set.class_names)
    settings = InferenceSettings(batch_size=PER_BATCH)
    records = work.some(PER_BATCH * batches).image_set.records
    list(
        predict_each(
            network, records, Outputs(out=out, names=names), settings=settings, device=fabric.device, threads=1
        )
    )
