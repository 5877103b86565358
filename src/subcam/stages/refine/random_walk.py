"""The stage that spreads response maps by a random walk over AffinityNet's affinities: one npz an image."""

from collections.abc import Iterator
from contextlib import closing

import torch
from torch import Tensor

from subcam.affinity.network import AffinityNetwork
from subcam.affinity.pairs import pool_to_grid
from subcam.affinity.random_walk import pixel_affinity, random_walk
from subcam.cam.map_files import ResponseMaps, maps_path, read_response_maps
from subcam.cam.map_grid import upsampled
from subcam.cam.response import likely_background
from subcam.data.batches.inference import inference_batches
from subcam.data.check import CheckedImages
from subcam.data.decoded_cache import decoded_images
from subcam.errors import BadInputError, SettingsError
from subcam.networks.fast.compiled import Compiled
from subcam.networks.fast.copies import fused_for_inference
from subcam.refine.walked_maps import WalkedMaps, walked_path, write_walked
from subcam.runtime import distributed
from subcam.runtime.devices import Device, HostCopy, to_device
from subcam.runtime.parallel import threaded_map
from subcam.runtime.progress import bar
from subcam.runtime.run_folder import Stage
from subcam.stages.settings.random_walk import WalkSettings

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


def run(
    stage: Stage,
    *,
    settings: WalkSettings,
    images: CheckedImages,
    maps: Stage,
    affinity: Stage,
    device: Device,
) -> None:
    """Walk the maps of every image."""
    records, machine, fabric = images.image_set.records, device.machine, device.fabric
    own = distributed.share(range(len(records)))
    left = [(i,) for i in own if not walked_path(stage.path, records[i].name).is_file()]
    network = fused_for_inference(AffinityNetwork.load(affinity.path)).to(memory_format=torch.channels_last)
    fabric.to_device(network)
    features_of = Compiled(network, what="AffinityNet") if machine.compile else network
    count = len(settings.alphas)

    def computed() -> Iterator[tuple[int, ResponseMaps, HostCopy]]:
        for (index,), pixels in inference_batches(
            records, left, workers=machine.workers, decoded=decoded_images(machine)
        ):
            stored = read_response_maps(maps_path(maps.path, records[index].name))
            with torch.inference_mode():
                with fabric.autocast():
                    features = features_of(fabric.to_device(pixels))[0].float()
                responses = upsampled(to_device(torch.from_numpy(stored.maps), fabric.device), stored.size)
                try:
                    copy = HostCopy(walk(features, responses, settings=settings).half())
                except (BadInputError, SettingsError) as error:
                    raise BadInputError(f"{records[index].image}: {error}") from error
            yield index, stored, copy

    def write(computed_one: tuple[int, ResponseMaps, HostCopy]) -> None:
        index, stored, copy = computed_one
        walked = copy.numpy()
        write_walked(
            walked_path(stage.path, records[index].name),
            WalkedMaps(
                alphas=settings.alphas,
                backgrounds=walked[:count],
                maps=walked[count:],
                classes=stored.classes,
                size=stored.size,
            ),
        )

    # Packed and written while the next is walked.
    with (
        bar(stage.name, len(own), done=len(own) - len(left)) as progress,
        closing(threaded_map(write, computed(), threads=1, ahead=3)) as written,
    ):
        for _ in written:
            progress.advance()
    stage.finish({"images": len(records)})


def walk(features: Tensor, maps: Tensor, *, settings: WalkSettings) -> Tensor:
    """Background scores at every alpha, then maps, pooled to the grid and walked: [alphas + present, h, w]."""
    # One background after the other: at full size they would take many times the memory of the maps.
    pooled = [pool_to_grid(likely_background(maps, alpha)[None]) for alpha in settings.alphas]
    if len(maps):
        pooled.append(pool_to_grid(maps))
    affinity = pixel_affinity(features, radius=settings.radius, all_pairs=settings.all_pairs)
    return random_walk(affinity, torch.cat(pooled), beta=settings.beta, log_steps=settings.log_steps)
