"""Pooled image features f = E(I) of Eq. 2, extracted in parts that survive a kill."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from subcam.checks.arguments import takes_arrays
from subcam.clustering.feature_files import part_path, parts_of, read_features
from subcam.data.batches.inference import inference_batches, same_size_batches
from subcam.data.decoded_cache import decoded_images
from subcam.data.records import Record
from subcam.networks.classifier import ClassificationNetwork, for_inference
from subcam.runtime import distributed
from subcam.runtime.devices import Fabric, HostCopy, one_behind
from subcam.runtime.files import atomic_write, save_array
from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.progress import bar


@takes_arrays()
def extract_features(
    network: ClassificationNetwork,
    records: Sequence[Record],
    sizes: Sequence[tuple[int, int]],
    *,
    folder: Path,
    fabric: Fabric,
    batch_size: int,
    machine: MachineSettings,
) -> Float32[np.ndarray, "images dim"]:
    """Global average of the feature map of each whole image at scale 1, without flip.

    Every 256 images are written to `folder` as one part; parts that are there are read, not computed again. Of several
    processes each computes its share of them. What they are together is memory-mapped where it takes more than
    `feature_files.MAPPED_ABOVE_BYTES`.
    """
    model = for_inference(network, fabric, compiled=machine.compile)
    own = distributed.share(parts_of(len(records)))
    left = [indices for indices in own if not part_path(folder, indices).is_file()]
    rows: dict[int, np.ndarray] = {}
    with bar("features", sum(map(len, own)), done=sum(map(len, own)) - sum(map(len, left))) as progress:
        # One pass over all parts, so that the processes that decode start once; no batch is of two parts.
        batches = [batch for indices in left for batch in same_size_batches(indices, sizes, batch_size=batch_size)]
        pooled = _pooled(model, records, batches, fabric=fabric, machine=machine)
        for batch, copy in one_behind(pooled, device=fabric.device):
            rows.update(zip(batch, copy.numpy(), strict=True))
            progress.advance(len(batch))
            if len(rows) == len(left[0]):
                with atomic_write(part_path(folder, left[0])) as file:
                    save_array(file, np.stack([rows.pop(index) for index in left.pop(0)]))
    with distributed.first_goes_ahead():
        return read_features(folder)


def _pooled(
    model: ClassificationNetwork,
    records: Sequence[Record],
    batches: Sequence[Sequence[int]],
    *,
    fabric: Fabric,
    machine: MachineSettings,
) -> Iterator[tuple[tuple[int, ...], HostCopy]]:
    """Each batch and its features [images, dim]."""
    for batch, images in inference_batches(records, batches, workers=machine.workers, decoded=decoded_images(machine)):
        # Not as a decorator: around a generator it would hold, or not, by what else wraps the function.
        with torch.inference_mode():
            features = model.feature_map(fabric.to_device(images).contiguous(memory_format=torch.channels_last))
            copy = HostCopy(features.mean((2, 3)).float())
        yield batch, copy
