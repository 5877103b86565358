"""Response maps made from the masks of generated images, as a classifier might have left them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from subcam.cam.map_files import ResponseMaps, maps_path, write_response_maps
from subcam.cam.map_grid import coarsen
from subcam.data.check import CheckedImages
from subcam.data.images import read_mask
from subcam.data.records import ImageSet, Record


def first_images(images: CheckedImages, count: int) -> ImageSet:
    return replace(images.image_set, records=images.image_set.records[:count])


def made_maps(record: Record, image_set: ImageSet, *, stride: int = 4) -> ResponseMaps:
    """One blurred, somewhat noisy map for each class of the record, from its mask; none where it has no class."""
    assert record.mask is not None
    truth = torch.from_numpy(read_mask(record.mask, image_set.mask_values))
    noise = torch.rand(1, 6, 6, generator=torch.Generator().manual_seed(sum(record.name.encode())))
    noise = F.interpolate(noise[None], size=truth.shape, mode="bilinear")[0, 0]
    maps = torch.zeros(len(record.labels), *truth.shape)
    for found, label in zip(maps, record.labels, strict=True):
        mean = F.avg_pool2d((truth == label + 1).float()[None], 9, stride=1, padding=4)[0]
        found += 0.7 * mean + 0.3 * noise
    return ResponseMaps(
        maps=coarsen(maps, stride),
        classes=np.array(record.labels, np.int16),
        subcategory_maps=np.zeros((len(maps), 0, *coarsen(maps, stride).shape[1:]), np.uint8),
        logits=np.zeros(image_set.num_classes, np.float32),
        size=(truth.shape[0], truth.shape[1]),
    )


def write_made_maps(folder: Path, image_set: ImageSet) -> Path:
    for record in image_set.records:
        write_response_maps(maps_path(folder, record.name), made_maps(record, image_set))
    return folder
