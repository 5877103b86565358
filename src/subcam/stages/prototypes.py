"""The stages of prototypes: finding them among the features of confident positions, and labelling positions by them.

`run`: a network and response maps of the training images in; a copy of the network with prototypes out, whose response
maps then come from them. `run_labels`: such a network and its response maps in; the prototype of each confident
position of the training images out. Cut off, either starts again: each is one pass over the images at scale 1. Not in
the paper.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int16

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.batches.inference import inference_batches, same_size_batches
from subcam.data.check import CheckedImages
from subcam.data.decoded_cache import decoded_images
from subcam.errors import SettingsError
from subcam.networks.classifier import ClassificationNetwork, for_inference
from subcam.prototypes.clustering import (
    CONTEXT,
    PositionSample,
    Prototypes,
    assign,
    confident_positions,
    find_prototypes,
)
from subcam.prototypes.label_files import gather_grids, write_label_grids
from subcam.refine.alphas import AlphasOfMaps, settled
from subcam.runtime import distributed
from subcam.runtime.devices import Device, HostCopy, one_behind
from subcam.runtime.progress import bar
from subcam.runtime.run_folder import Stage
from subcam.runtime.seeds import derive_seed
from subcam.stages.settings.prototypes import PrototypeSettings

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


def run(
    stage: Stage,
    *,
    settings: PrototypeSettings,
    images: CheckedImages,
    model: Stage,
    maps: Stage,
    seed: int,
    device: Device,
    limits: Stage | None = None,
) -> None:
    """Find the prototypes and write a copy of the network that has them.

    limits: the stage that chose the limits of confident positions, where the settings leave them to it.
    """
    settings = _with_limits(settings, limits)
    network = ClassificationNetwork.load(model.path)
    dim, class_names = network.backbone.num_features, images.image_set.class_names
    objects, context = ([PositionSample(settings.most_positions, dim=dim) for _ in class_names] for _ in range(2))
    for index, features, shown in _positions(stage, settings, images, network, maps, device):
        # The word names this use of chance; another one would draw other samples.
        rng = np.random.default_rng(derive_seed(seed, "local", index))
        for c in images.image_set.records[index].labels:
            objects[c].add(features[shown == c], rng)
            context[c].add(features[shown == CONTEXT], rng)
    for sample in (*objects, *context):
        sample.gather()
    if not distributed.is_first():  # prototypes are found once; the others wait for them
        stage.finish()
        return
    prototypes = find_prototypes(
        [sample.features for sample in objects],
        [sample.features for sample in context],
        num_objects=settings.num_objects,
        num_context=settings.num_context,
        seed=seed,
        restarts=settings.restarts,
        max_iterations=settings.max_iterations,
    )
    network.with_prototypes(torch.from_numpy(prototypes.together), num_objects=settings.num_objects).save(stage.path)
    counts = {name: {"objects": objects[c].seen, "context": context[c].seen} for c, name in enumerate(class_names)}
    limits_used = {"object_above": settings.object_above, "context_below": settings.context_below}
    stage.finish({"confident_positions": counts, **limits_used})


def run_labels(
    stage: Stage,
    *,
    settings: PrototypeSettings,
    images: CheckedImages,
    model: Stage,
    maps: Stage,
    device: Device,
    limits: Stage | None = None,
) -> None:
    """Write the nearest prototype of every confident position of every training image (`read_label_grids`).

    limits: as in `run`.

    Raises:
        SettingsError: the network has no prototypes.
    """
    settings = _with_limits(settings, limits)
    network = ClassificationNetwork.load(model.path)
    if network.prototype_classifier is None:
        raise SettingsError(f"the network in {model.path} has no prototypes; run the stage of prototypes first")
    k = network.config.num_objects
    rows = network.prototype_classifier.prototypes.detach().numpy()
    prototypes = Prototypes(objects=rows[:, :k], context=rows[:, k:])
    grids: dict[int, np.ndarray] = {}
    for index, features, shown in _positions(stage, settings, images, network, maps, device):
        classes = np.array(images.image_set.records[index].labels, np.int64)
        grids[index] = assign(features, shown, classes, prototypes)
    gathered = gather_grids(grids)
    if not distributed.is_first():
        stage.finish()
        return
    write_label_grids(stage.path, gathered)
    labels = np.concatenate([grid.ravel() for grid in gathered])
    stage.finish({"labelled_share": float((labels >= 0).mean())})


def _with_limits(settings: PrototypeSettings, limits: Stage | None) -> PrototypeSettings:
    """The settings with the limits that were chosen, if they were."""
    if limits is None:
        return settings
    chosen = limits.outputs_as(AlphasOfMaps)
    return replace(settings, object_above=chosen.object_above, context_below=chosen.context_below)


def _positions(
    stage: Stage,
    settings: PrototypeSettings,
    images: CheckedImages,
    network: ClassificationNetwork,
    maps: Stage,
    device: Device,
) -> Iterator[tuple[int, Float32[np.ndarray, "h w dim"], Int16[np.ndarray, "h w"]]]:
    """Of each image its index, its feature map at scale 1 without flip, and what each position shows.

    Of several processes each sees its share of the images.
    """
    records, machine = images.image_set.records, device.machine
    model = for_inference(network, device.fabric, compiled=machine.compile)
    batches = distributed.share(same_size_batches(range(len(records)), images.sizes, batch_size=settings.batch_size))

    def computed() -> Iterator[tuple[tuple[int, ...], HostCopy]]:
        for batch, pixels in inference_batches(
            records, batches, workers=machine.workers, decoded=decoded_images(machine)
        ):
            # Not as a decorator: around a generator it would hold, or not, by what else wraps the function.
            with torch.inference_mode():
                feature_maps = model.feature_map(
                    device.fabric.to_device(pixels).contiguous(memory_format=torch.channels_last)
                )
                copy = HostCopy(feature_maps.permute(0, 2, 3, 1).float())
            yield batch, copy

    with bar(stage.name, sum(map(len, batches))) as progress:
        for batch, copy in one_behind(computed(), device=device.fabric.device):
            for index, features in zip(batch, copy.numpy(), strict=True):
                stored = read_response_maps(maps_path(maps.path, records[index].name))
                yield index, features, _shown(stored.maps, stored.classes, features.shape[:2], settings)
            progress.advance(len(batch))


def _shown(maps: np.ndarray, classes: np.ndarray, grid: tuple[int, ...], settings: PrototypeSettings) -> np.ndarray:
    if not len(maps):
        return confident_positions(np.zeros((0, *grid), np.float32), classes, object_above=1.0, context_below=0.0)
    mean = F.interpolate(torch.from_numpy(maps).float()[None] / 255, size=grid, mode="area")[0].numpy()
    above, below = settled(settings.object_above, None), settled(settings.context_below, None)
    return confident_positions(mean, classes, object_above=above, context_below=below)
