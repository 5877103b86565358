"""The stage that writes every image's response maps: one file an image; resumable."""

from collections.abc import Iterator
from contextlib import closing

import numpy as np
import torch

from subcam.cam.map_files import ResponseMaps, maps_path, write_response_maps
from subcam.cam.map_grid import coarsen_on_device
from subcam.cam.multiscale import ImageResponse
from subcam.cam.settings import CamSettings
from subcam.data.batches.inference import inference_batches, same_size_batches
from subcam.data.check import CheckedImages
from subcam.data.decoded_cache import decoded_images
from subcam.methods.compute import responses_of
from subcam.methods.protocol import ChosenMethod
from subcam.networks.classifier import ClassificationNetwork, for_inference
from subcam.runtime import distributed
from subcam.runtime.devices import Device, HostCopy
from subcam.runtime.machine.cores import thread_count
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
    method: ChosenMethod | None = None,
) -> None:
    """Write the response maps of every image.

    method: another way to make them; None for class activation maps (Eq. 1).
    """
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

    def computed() -> Iterator[tuple[int, _OnItsWay]]:
        for batch, pixels in inference_batches(
            records, batches, workers=machine.workers, decoded=decoded_images(machine)
        ):
            responses = responses_of(
                method,
                network,
                fabric.to_device(pixels),
                labels[list(batch)],
                settings=settings,
                names=[records[index].name for index in batch],
            )
            yield from zip(batch, [_OnItsWay(one, settings.storage_stride) for one in responses], strict=True)

    def write(computed_one: tuple[int, _OnItsWay]) -> None:
        index, response = computed_one
        classes = np.array(records[index].labels, np.int16)
        write_response_maps(maps_path(stage.path, records[index].name), response.stored(classes))

    # Maps are packed and written while the next are computed: by one thread, or beside a GPU by as many as it may take.
    threads = thread_count(machine.threads) if fabric.device.type == "cuda" else 1
    with (
        bar(stage.name, total, done=total - left) as progress,
        closing(threaded_map(write, computed(), threads=threads, ahead=settings.batch_size + threads)) as written,
    ):
        for _ in written:
            progress.advance()
    stage.finish({"images": len(records)})


class _OnItsWay:
    """One image's maps as they will be stored, leaving the device before the next batch is asked of it."""

    def __init__(self, response: ImageResponse, stride: int) -> None:
        height, width = response.maps.shape[1:]
        self.size = (height, width)
        self.maps = HostCopy(coarsen_on_device(response.maps, stride))
        self.logits = HostCopy(response.logits)
        parts = response.subcategory_maps
        self.parts = HostCopy(coarsen_on_device(parts, stride)) if parts is not None and len(response.maps) else None

    def stored(self, classes: np.ndarray) -> ResponseMaps:
        """All of it, once it is there."""
        maps = self.maps.numpy()
        parts = np.zeros((0, *maps.shape[1:]), np.uint8) if self.parts is None else self.parts.numpy()
        return ResponseMaps(
            maps=maps,
            classes=classes,
            subcategory_maps=parts.reshape(len(maps), len(parts) // max(len(maps), 1), *maps.shape[1:]),
            logits=self.logits.numpy(),
            size=self.size,
        )
