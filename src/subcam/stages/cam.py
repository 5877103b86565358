"""The stage that writes every image's response maps: one file an image; resumable."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch

from subcam.cam.map_files import ResponseMaps, coarsen, maps_path, write_response_maps
from subcam.cam.multiscale import ImageResponse, multiscale_response
from subcam.cam.settings import CamSettings
from subcam.comparisons.methods import RESPONSES, Comparison
from subcam.data.check import CheckedImages
from subcam.data.decoded_cache import decoded_images
from subcam.data.inference_batches import inference_batches, same_size_batches
from subcam.networks.classifier import ClassificationNetwork, for_inference
from subcam.runtime import distributed
from subcam.runtime.devices import Device
from subcam.runtime.parallel import threaded_map
from subcam.runtime.progress import bar
from subcam.runtime.run_folder import Stage

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


def run(
    stage: Stage,
    *,
    settings: CamSettings,
    images: CheckedImages,
    model: Stage,
    device: Device,
    method: Comparison | None = None,
) -> None:
    """Write the response maps of every image.

    method: another way to make them; None for class activation maps (Eq. 1).
    """
    respond = multiscale_response if method is None else RESPONSES[method]
    machine, fabric = device.machine, device.fabric
    records = images.image_set.records
    labels = torch.from_numpy(images.image_set.labels)
    there = [maps_path(stage.path, record.name).is_file() for record in records]
    # Attention is heard by way of the plain network's layers.
    network = for_inference(
        ClassificationNetwork.load(model.path), fabric, compiled=machine.compile and not settings.attention_layers
    )
    # An interrupted batch is computed again as a whole: in other company its last bits might differ.
    own = distributed.share(same_size_batches(range(len(records)), images.sizes, batch_size=settings.batch_size))
    batches = [batch for batch in own if not all(there[index] for index in batch)]
    total, left = sum(map(len, own)), sum(map(len, batches))

    def computed() -> Iterator[tuple[int, ImageResponse]]:
        for batch, pixels in inference_batches(
            records, batches, workers=machine.workers, decoded=decoded_images(machine)
        ):
            responses = respond(
                network,
                fabric.to_device(pixels),
                labels[list(batch)],
                scales=settings.scales,
                flip=settings.flip,
                subcategories=settings.subcategory_maps,
                attention_layers=settings.attention_layers,
                attention_steps=settings.attention_steps,
            )
            yield from zip(batch, responses, strict=True)

    def write(computed_one: tuple[int, ImageResponse]) -> None:
        index, response = computed_one
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
