"""A segmentation network small enough to predict in a blink, with weights that make images of several classes."""

from pathlib import Path

import torch

from subcam.networks.segmenter import SegmentationNetwork
from subcam.networks.settings import NetworkSettings, SegmentationConfig

CLASSES = ("cat", "dog", "owl")


def save_tiny_network(folder: Path, *, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Path:
    """DeepLab-v2 on the tiny backbone with random weights that are not near zero, saved in `folder`."""
    torch.manual_seed(seed)
    network = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
    found = SegmentationNetwork(SegmentationConfig(network=network, class_names=classes)).eval()
    _, (classifier,) = found.body_and_heads()
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.mul_(30)
    folder.mkdir(parents=True, exist_ok=True)
    found.save(folder)
    return folder
