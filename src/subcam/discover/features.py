"""Pooled image features f = E(I) of Eq. 2, extracted in parts that survive a kill."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from lightning_fabric import Fabric

from subcam.classify.network import ClassificationNetwork, for_inference
from subcam.data.inference import inference_batches, same_size_batches
from subcam.data.records import Record
from subcam.progress import bar
from subcam.run_folder import atomic_write

IMAGES_PER_PART = 256


def extract_features(
    network: ClassificationNetwork,
    records: Sequence[Record],
    sizes: Sequence[tuple[int, int]],
    *,
    folder: Path,
    fabric: Fabric,
    batch_size: int,
    workers: int,
) -> Float32[np.ndarray, "images dim"]:
    """Global average of the feature map of each whole image at scale 1, without flip.

    Every 256 images are written to `folder` as one part; parts that are there are read, not computed again.
    """
    model = for_inference(network, fabric)
    parts = []
    with bar("features", len(records)) as progress:
        for start in range(0, len(records), IMAGES_PER_PART):
            indices = range(start, min(start + IMAGES_PER_PART, len(records)))
            path = folder / f"part-{start // IMAGES_PER_PART:05d}.npy"
            if not path.is_file():
                part = _pooled(model, records, sizes, indices, fabric=fabric, batch_size=batch_size, workers=workers)
                with atomic_write(path) as file:
                    np.save(file, part)
            parts.append(np.load(path))
            progress.advance(len(indices))
    return np.concatenate(parts)


@torch.inference_mode()
def _pooled(
    model: ClassificationNetwork,
    records: Sequence[Record],
    sizes: Sequence[tuple[int, int]],
    indices: range,
    *,
    fabric: Fabric,
    batch_size: int,
    workers: int,
) -> Float32[np.ndarray, "images dim"]:
    rows: dict[int, np.ndarray] = {}
    batches = same_size_batches(indices, sizes, batch_size=batch_size)
    for batch, images in inference_batches(records, batches, workers=workers):
        features = model.feature_map(fabric.to_device(images).contiguous(memory_format=torch.channels_last))
        rows.update(zip(batch, features.mean((2, 3)).float().cpu().numpy(), strict=True))
    return np.stack([rows[index] for index in indices])
