"""Do response maps lie where the network looks? Ways to scale images and to enlarge cells, by mIoU.

    python -m benchmarks.map_shifts RUN --data DIR [--round 0] [--images 245]

A convolution of stride 2 puts its cells off the middle of the pixels they cover: all strides together, up to half a
cell. A run enlarges maps as if a cell were in the middle of its pixels (`even`); `measured` puts it where the
network's gradient on the image has its centre of mass. `float` scales images in float and rounds once, as a run does;
`uint8` between the two passes of the bicubic filter too, as Pillow does. Nothing else differs; masks only score.
"""

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from subcam.cam import multiscale
from subcam.cam.response import NORMALISATION_EPSILON, response_maps
from subcam.cam.threshold import THRESHOLDS
from subcam.data.augmentation import scaled_size
from subcam.data.images import read_image, read_mask
from subcam.data.readers.voc import read_voc
from subcam.metrics.threshold_sweep import ThresholdSweep
from subcam.networks.classifier import ClassificationNetwork

SCALES = (1.0, 0.5, 1.5, 2.0)
VARIANTS = tuple(product(("float", "uint8"), ("even", "measured")))
FIXED = (0.3, 0.35, 0.4)
"""Thresholds near those that runs chose without masks."""


def first_centre(network: ClassificationNetwork, cells: int = 13, draws: int = 12) -> float:
    """The pixel, across, on which cell 0 looks: that of the middle cell by its gradient, less the strides before it."""
    stride, middle = network.backbone.stride, cells // 2
    places = torch.arange(cells * stride, dtype=torch.float64)
    centres = []
    for seed in range(draws):
        noise = torch.rand(1, 3, cells * stride, cells * stride, generator=torch.Generator().manual_seed(seed)) * 255
        noise.requires_grad_()
        with torch.enable_grad():
            network.feature_map(noise)[0, :, middle, middle].square().sum().backward()
        assert noise.grad is not None
        mass = noise.grad.double().square().sum((0, 1, 2))
        centres.append(float((mass * places).sum() / mass.sum()) - middle * stride)
    print(f"cell 0 looks at pixel {np.mean(centres):.1f} ± {np.std(centres):.1f}; its middle is {(stride - 1) / 2}")
    return float(np.mean(centres))


def weights(cells: int, pixels: int, scaled: int, *, stride: int, first: float) -> Tensor:
    """[pixels, cells]: linear between cells that look at the pixels first, first + stride, ... of the scaled image."""
    places = (torch.arange(pixels) + 0.5) * scaled / pixels - 0.5
    at = ((places - first) / stride).clamp(0, cells - 1)
    low = at.floor().long().clamp(max=max(cells - 2, 0))
    share = at - low
    rows = torch.zeros(pixels, cells)
    rows[torch.arange(pixels), low] = 1 - share
    rows[torch.arange(pixels), (low + 1).clamp(max=cells - 1)] += share
    return rows


def resized(images: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """uint8 or float images at another size."""
    if how == "float" or images.shape[2:] == size:
        return multiscale.resize_images(images, size)
    return F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False)


def low_maps(
    network: ClassificationNetwork, image: Tensor, present: Tensor, how: str
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """Maps of an image and its mirror image [2, present, h, w] at each scale, with the scaled size."""
    head = network.parent_head.weight.float()[present]
    for scale in SCALES:
        size = scaled_size(*image.shape[2:], scale)
        scaled = resized(image, size, how)
        both = torch.cat([scaled, scaled.flip(-1)]).contiguous(memory_format=torch.channels_last)
        features = network.feature_map(both).float()
        if network.prototype_classifier is None:
            yield response_maps(features, head), size
        else:
            yield network.prototype_classifier.probabilities(features, present).sum(2), size


def full_maps(
    low: list[tuple[Tensor, tuple[int, int]]], size: tuple[int, int], *, stride: int, first: float | None
) -> Tensor:
    """Summed at the image's size: evenly enlarged where `first` is None."""
    total = torch.zeros(low[0][0].shape[1], *size)
    for maps, (height, width) in low:
        if first is None:
            full = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        else:
            rows = weights(maps.shape[2], size[0], height, stride=stride, first=first)
            columns = weights(maps.shape[3], size[1], width, stride=stride, first=first)
            full = rows @ maps @ columns.T
        total += full[0] + full[1].flip(-1)
    return total


def main() -> None:
    """Print a table of the four variants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--round", type=int, default=0)
    parser.add_argument("--images", type=int, default=245)
    given = parser.parse_args()
    (folder,) = sorted((given.run / "stages").glob(f"round{given.round}-classify-*"))
    network = ClassificationNetwork.load(folder).eval()
    classes = network.config.class_names
    val = read_voc(given.data, split="val", classes=classes)
    first, stride = first_centre(network), network.backbone.stride
    sweeps = {variant: ThresholdSweep(len(classes) + 1) for variant in VARIANTS}
    with torch.inference_mode():
        for record in val.records[: given.images]:
            image = torch.from_numpy(read_image(record.image)).permute(2, 0, 1)[None]
            assert record.mask is not None
            truth = read_mask(record.mask, val.mask_values)
            present = torch.tensor(record.labels)
            for how in ("float", "uint8"):
                low = list(low_maps(network, image, present, how))
                for cells in ("even", "measured"):
                    maps = full_maps(low, truth.shape, stride=stride, first=None if cells == "even" else first)
                    if network.prototype_classifier is None:
                        maps /= maps.amax((1, 2), keepdim=True) + NORMALISATION_EPSILON
                    else:
                        maps = (maps / (2 * len(SCALES))).square()
                    sweeps[how, cells].add(maps.numpy(), present.numpy(), truth)
    print("| images | cells | best | at | " + " | ".join(map(str, FIXED)) + " |\n|" + "---|" * (4 + len(FIXED)))
    for (how, cells), sweep in sweeps.items():
        at = {float(t): sweep.at(float(t)).miou * 100 for t in THRESHOLDS}
        best = max(at, key=lambda threshold: at[threshold])
        near = [at[min(at, key=lambda t: abs(t - wanted))] for wanted in FIXED]
        print(f"| {how} | {cells} | {at[best]:.2f} | {best:.2f} | " + " | ".join(f"{v:.2f}" for v in near) + " |")


if __name__ == "__main__":
    main()
