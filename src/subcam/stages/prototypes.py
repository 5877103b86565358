"""The stage that finds local sub-categories: prototypes on a network's features, kept in a copy of the network.

In: a network and response maps of the training images. Out: the network with a local classifier, whose response maps
then come from its prototypes. Cut off, it starts again: it takes as long as one pass over the images at scale 1.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32, Int16
from lightning_fabric import Fabric

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.decoded_cache import decoded_images
from subcam.data.inference_batches import inference_batches, same_size_batches
from subcam.data.records import ImageSet, Record
from subcam.errors import SettingsError
from subcam.networks.classifier import ClassificationNetwork, for_inference
from subcam.prototypes.clustering import CONTEXT, PositionSample, find_prototypes, sure_positions
from subcam.runtime import distributed
from subcam.runtime.devices import MachineSettings
from subcam.runtime.progress import bar
from subcam.runtime.run_folder import Stage
from subcam.runtime.seeds import derive_seed


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """Settings of local sub-categories.

    Attributes:
        num_subcategories: K, the clusters of each class's objects.
        num_context: the clusters of what surrounds them, for each class.
        object_above: a position whose strongest response is greater shows that class.
        context_below: one whose strongest response is less shows none of the image's classes.
        most_positions: positions that are clustered at most in a group; of more a random sample is.
        restarts: K-means runs from different seeds; the one of least inertia counts.
        max_iterations: the limit of one K-means run.
        batch_size: images of equal size that pass the network together.
    """

    num_subcategories: int = 5
    num_context: int = 5
    object_above: float = 0.4
    context_below: float = 0.2
    most_positions: int = 4000
    restarts: int = 2
    max_iterations: int = 100
    batch_size: int = 8

    def __post_init__(self) -> None:
        names = ("num_subcategories", "num_context", "most_positions", "restarts", "max_iterations", "batch_size")
        if min(getattr(self, name) for name in names) < 1:
            given = ", ".join(f"{name} {getattr(self, name)}" for name in names)
            raise SettingsError(f"local sub-categories: expected numbers of 1 or more, got {given}")
        if not 0 <= self.context_below <= self.object_above <= 1:
            raise SettingsError(
                "local sub-categories: expected 0 <= context_below <= object_above <= 1, got "
                f"{self.context_below} and {self.object_above}"
            )


@dataclass(frozen=True, kw_only=True)
class LocalInputs:
    """model: folder of the network whose features are looked at. maps: folder of the stage of response maps."""

    image_set: ImageSet
    sizes: tuple[tuple[int, int], ...]
    model: Path
    maps: Path
    seed: int


def run(
    settings: LocalSettings, inputs: LocalInputs, *, stage: Stage, fabric: Fabric, machine: MachineSettings
) -> Path:
    """Find the prototypes and return the folder of the network that has them."""
    if stage.done:
        return stage.path
    before = ClassificationNetwork.load(inputs.model)
    dim = before.backbone.num_features
    objects, context = (
        [PositionSample(settings.most_positions, dim=dim) for _ in inputs.image_set.class_names] for _ in range(2)
    )
    for index, features, sure in positions(settings, inputs, before, title=stage.name, fabric=fabric, machine=machine):
        rng = np.random.default_rng(derive_seed(inputs.seed, "local", index))
        for c in inputs.image_set.records[index].labels:
            objects[c].add(features[sure == c], rng)
            context[c].add(features[sure == CONTEXT], rng)
    for sample in (*objects, *context):
        sample.gather()
    if not distributed.is_first():  # prototypes are found once; the others wait for them
        stage.finish()
        return stage.path
    found = find_prototypes(
        [sample.features for sample in objects],
        [sample.features for sample in context],
        num_subcategories=settings.num_subcategories,
        num_context=settings.num_context,
        seed=inputs.seed,
        restarts=settings.restarts,
        max_iterations=settings.max_iterations,
    )
    before.with_prototypes(torch.from_numpy(found.together), num_subcategories=settings.num_subcategories).save(
        stage.path
    )
    counts = {
        name: {"objects": objects[c].seen, "context": context[c].seen}
        for c, name in enumerate(inputs.image_set.class_names)
    }
    stage.finish({"sure_positions": counts})
    return stage.path


def positions(
    settings: LocalSettings,
    inputs: LocalInputs,
    network: ClassificationNetwork,
    *,
    title: str,
    fabric: Fabric,
    machine: MachineSettings,
) -> Iterator[tuple[int, Float32[np.ndarray, "h w dim"], Int16[np.ndarray, "h w"]]]:
    """Of each image its index, its feature map at scale 1 without flip, and what each position surely shows.

    Of several processes each sees its share of the images.
    """
    records: Sequence[Record] = inputs.image_set.records
    model = for_inference(network, fabric, compiled=machine.compile)
    batches = distributed.share(same_size_batches(range(len(records)), inputs.sizes, batch_size=settings.batch_size))
    with bar(title, sum(map(len, batches))) as progress:
        for batch, images in inference_batches(
            records, batches, workers=machine.workers, decoded=decoded_images(machine)
        ):
            # Not as a decorator: around a generator it would hold, or not, by what else wraps the function.
            with torch.inference_mode():
                maps = model.feature_map(fabric.to_device(images).contiguous(memory_format=torch.channels_last))
            for index, features in zip(batch, maps.permute(0, 2, 3, 1).float().cpu().numpy(), strict=True):
                stored = read_response_maps(maps_path(inputs.maps, records[index].name))
                yield index, features, _sure(stored.maps, stored.classes, features.shape[:2], settings)
            progress.advance(len(batch))


def _sure(maps: np.ndarray, classes: np.ndarray, grid: tuple[int, ...], settings: LocalSettings) -> np.ndarray:
    if not len(maps):
        return sure_positions(np.zeros((0, *grid), np.float32), classes, object_above=1.0, context_below=0.0)
    mean = F.interpolate(torch.from_numpy(maps).float()[None] / 255, size=grid, mode="area")[0].numpy()
    return sure_positions(mean, classes, object_above=settings.object_above, context_below=settings.context_below)
