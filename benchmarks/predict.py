"""`subcam predict` as a person meets it: a fresh process for one image, and throughput and memory for many.

The network is DeepLab-v2 on MobileNetV2 at stride 8 with random weights and six classes; images are made. Time is
that of the whole process, interpreter and imports included; memory is its highest resident.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Options, Process, run_process
from benchmarks.record import Growth, Row

CLASSES = ("cat", "cow", "dog", "horse", "person", "sheep")
LONG_SIDE, SHORT_SIDE = 320, 240
SMALL = (96, 128)


def predict(model: Path, images: Path, out: Path) -> Process:
    """One `subcam predict` in float32, as bf16 is not on every machine."""
    words = ("-m", "subcam.cli", "predict", str(model), str(images), "--out", str(out), "--precision", "32-true")
    return run_process((sys.executable, *words))


def save_model(folder: Path) -> Path:
    """DeepLab-v2 on MobileNetV2 with random weights; made in a process of its own, so that this one stays small."""
    code = (
        "import sys, torch; from pathlib import Path;"
        "from subcam.networks.settings import NetworkSettings, SegmentationConfig;"
        "from subcam.networks.segmenter import SegmentationNetwork; torch.manual_seed(0);"
        "network = NetworkSettings(name='mobilenetv2_100', weights='none', output_stride=8);"
        f"config = SegmentationConfig(network=network, class_names={CLASSES!r});"
        "SegmentationNetwork(config).save(Path(sys.argv[1]))"
    )
    folder.mkdir(parents=True)
    run_process((sys.executable, "-c", code, str(folder)))
    return folder


def write_images(folder: Path, *, count: int, size: tuple[int, int]) -> Path:
    """Images of smooth noise as JPEG."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(folder / f"{index:05}.jpg")
    return folder


def rows(options: Options) -> Iterator[Row]:
    """A fresh process for one image, beside one that does no more than import torch."""
    turns = 1 if options.quick else options.turns
    with tempfile.TemporaryDirectory() as work:
        model = save_model(Path(work) / "model")
        one = write_images(Path(work) / "one", count=1, size=SMALL if options.quick else (SHORT_SIDE, LONG_SIDE))
        pairs = [
            (predict(model, one, Path(work) / f"{turn}"), run_process((sys.executable, "-c", "import torch")))
            for turn in range(turns)
        ]
    yield Row(
        stage="prediction",
        case=f"a fresh process for one image of {LONG_SIDE} x {SHORT_SIDE}",
        seconds=statistics.median(ours.seconds for ours, _ in pairs),
        other="a process that imports torch",
        other_seconds=statistics.median(torch.seconds for _, torch in pairs),
        ratio=statistics.median(torch.seconds / ours.seconds for ours, torch in pairs),
        peak_mib=statistics.median(ours.peak_mib for ours, _ in pairs),
        other_peak_mib=statistics.median(torch.peak_mib for _, torch in pairs),
    )


def growth(options: Options) -> Iterator[Growth]:
    """One process for each number of small images."""
    with tempfile.TemporaryDirectory() as work:
        model = save_model(Path(work) / "model")
        for count in (2, 4) if options.quick else options.counts:
            folder = write_images(Path(work) / f"{count}", count=count, size=SMALL)
            found = predict(model, folder, Path(work) / f"out{count}")
            yield Growth(stage="subcam predict", count=count, seconds=found.seconds, peak_mib=found.peak_mib)
