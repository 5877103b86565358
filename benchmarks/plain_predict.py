"""Masks of a folder of images by the loop that anybody writes: image by image, in float32, probabilities, best class.

    python -m benchmarks.plain_predict MODEL IMAGES OUT

The network is the saved one as it is; of this package nothing else is used.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from subcam.networks.segmenter import SegmentationNetwork


@torch.inference_mode()
def main(model: Path, images: Path, out: Path) -> None:
    """Write one indexed PNG for each .jpg."""
    network = SegmentationNetwork.load(model).eval()
    out.mkdir(parents=True)
    palette = np.random.default_rng(0).integers(0, 256, 768).tolist()
    for path in sorted(images.glob("*.jpg")):
        pixels = np.array(Image.open(path).convert("RGB"))
        logits = network(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        probabilities = F.interpolate(
            logits, scale_factor=float(network.stride), mode="bilinear", align_corners=False
        ).softmax(1)
        mask = Image.fromarray(probabilities.argmax(1)[0, : pixels.shape[0], : pixels.shape[1]].byte().numpy(), "P")
        mask.putpalette(palette)
        mask.save(out / f"{path.stem}.png")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
