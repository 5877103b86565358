"""The stage that writes every image's response maps: one file an image, taken up where it was cut off."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from subcam.cam.map_files import ResponseMaps, coarsen, maps_path, write_response_maps
from subcam.cam.multiscale import ImageResponse, multiscale_response
from subcam.data.decoded_cache import decoded_images
from subcam.data.inference_batches import inference_batches, same_size_batches
from subcam.data.records import ImageSet
from subcam.errors import SettingsError
from subcam.networks.classifier import ClassificationNetwork, for_inference
from subcam.runtime import distributed
from subcam.runtime.devices import MachineSettings
from subcam.runtime.parallel import threaded_map
from subcam.runtime.progress import bar
from subcam.runtime.run_folder import Stage


@dataclass(frozen=True, kw_only=True)
class CamSettings:
    """Settings of response maps.

    Attributes:
        scales: factors on the image's size; each is computed with its mirror image if `flip`.
        storage_stride: pixels between two stored values, in both directions.
        subcategory_maps: whether the sub-category heads' maps are stored too.
        batch_size: images of equal size that pass the network together (twice as many with flips).
        attention_layers: last layers of a vision transformer whose attention between patches guides the maps; 0 for
            none. Not in the paper.
        attention_steps: how often it is applied.
    """

    scales: tuple[float, ...] = (1.0, 0.5, 1.5, 2.0)
    flip: bool = True
    storage_stride: int = 4
    subcategory_maps: bool = False
    batch_size: int = 4
    attention_layers: int = 0
    attention_steps: int = 1

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise SettingsError(f"expected one scale or more, each above 0, got {list(self.scales)}")
        if min(self.storage_stride, self.batch_size) < 1:
            raise SettingsError(
                f"expected storage_stride and batch_size of 1 or more, got {self.storage_stride} and {self.batch_size}"
            )
        if self.attention_layers < 0 or self.attention_steps < 1:
            raise SettingsError(
                "expected attention_layers of 0 or more and attention_steps of 1 or more, got"
                f" {self.attention_layers} and {self.attention_steps}"
            )


@dataclass(frozen=True, kw_only=True)
class CamInputs:
    """model: folder of the network. sizes: (height, width) of each image."""

    image_set: ImageSet
    sizes: tuple[tuple[int, int], ...]
    model: Path


def run(
    settings: CamSettings,
    inputs: CamInputs,
    *,
    stage: Stage,
    fabric: Fabric,
    machine: MachineSettings,
    respond: Callable[..., list[ImageResponse]] = multiscale_response,
) -> Path:
    """Write the response maps of every image and return the stage's folder.

    respond: what makes them; takes the arguments of `multiscale_response`.
    """
    if stage.done:
        return stage.path
    records = inputs.image_set.records
    labels = torch.from_numpy(inputs.image_set.labels)
    there = [maps_path(stage.path, record.name).is_file() for record in records]
    # Attention is heard by way of the plain network's layers.
    network = for_inference(
        ClassificationNetwork.load(inputs.model), fabric, compiled=machine.compile and not settings.attention_layers
    )
    # A batch that was cut off is done again as a whole: in other company its last bits might differ.
    own = distributed.share(same_size_batches(range(len(records)), inputs.sizes, batch_size=settings.batch_size))
    batches = [batch for batch in own if not all(there[index] for index in batch)]
    total, left = sum(map(len, own)), sum(map(len, batches))

    def computed() -> Iterator[tuple[int, ImageResponse]]:
        for batch, images in inference_batches(
            records, batches, workers=machine.workers, decoded=decoded_images(machine)
        ):
            responses = respond(
                network,
                fabric.to_device(images),
                labels[list(batch)],
                scales=settings.scales,
                flip=settings.flip,
                subcategories=settings.subcategory_maps,
                attention_layers=settings.attention_layers,
                attention_steps=settings.attention_steps,
            )
            yield from zip(batch, responses, strict=True)

    def write(found: tuple[int, ImageResponse]) -> None:
        index, response = found
        classes = np.array(records[index].labels, np.int16)
        write_response_maps(
            maps_path(stage.path, records[index].name), _stored(response, classes, settings.storage_stride)
        )

    # Maps leave the device, are packed and written while the next are computed.
    with (
        bar(stage.name, total, done=total - left) as progress,
        closing(threaded_map(write, computed(), threads=1, ahead=settings.batch_size + 1)) as written,
    ):
        for _ in written:
            progress.advance()
    stage.finish({"images": len(records)})
    return stage.path


def _stored(response: ImageResponse, classes: np.ndarray, stride: int) -> ResponseMaps:
    maps = coarsen(response.maps, stride)
    if response.subcategory_maps is None or not len(maps):
        subcategory_maps = np.zeros((len(maps), 0, *maps.shape[1:]), np.uint8)
    else:
        subcategory_maps = coarsen(response.subcategory_maps, stride).reshape(len(maps), -1, *maps.shape[1:])
    height, width = response.maps.shape[1:]
    return ResponseMaps(
        maps=maps,
        classes=classes,
        subcategory_maps=subcategory_maps,
        logits=response.logits.cpu().numpy(),
        size=(height, width),
    )
