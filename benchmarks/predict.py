"""`subcam predict` as a person meets it: a fresh process for one image, and throughput and memory for many.

Networks have random weights and six classes: DeepLab-v2 on MobileNetV2 at stride 8, and, beside a plain loop
(`plain_predict.py`), DeepLab-v3+ at stride 16, as recipe `small` trains it. Images are made. Time is that of the whole
process, interpreter and imports included, or the difference of two with few and many images; memory is its highest
resident.
"""

import functools
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Options, Process, Time, compared, run_process, time_of
from benchmarks.record import Growth, Row

CLASSES = ("cat", "cow", "dog", "horse", "person", "sheep")
LONG_SIDE, SHORT_SIDE = 320, 240
SMALL = (96, 128)
FEW, MANY, MOST_TURNS = 5, 45, 3


def predict(model: Path, images: Path, out: Path, *, precision: str = "32-true", overlays: bool = True) -> Process:
    """One `subcam predict`; in float32 unless told otherwise, as bf16 is not on every machine."""
    words = ["-m", "subcam.cli", "predict", str(model), str(images), "--out", str(out), "--precision", precision]
    return run_process((sys.executable, *words, *([] if overlays else ["--no-overlays"])))


def save_model(folder: Path, *, architecture: str = "deeplabv2", stride: int = 8) -> Path:
    """DeepLab on MobileNetV2 with random weights; made in a process of its own, so that this one stays small."""
    code = (
        "import sys, torch; from pathlib import Path;"
        "from subcam.networks.settings import NetworkSettings, SegmentationConfig;"
        "from subcam.networks.segmenter import SegmentationNetwork; torch.manual_seed(0);"
        f"network = NetworkSettings(name='mobilenetv2_100', weights='none', output_stride={stride});"
        f"config = SegmentationConfig(network=network, class_names={CLASSES!r}, architecture={architecture!r});"
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
    """A fresh process for one image, beside one that does no more than import torch; and DeepLab-v3+ beside a loop."""
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
        **vars(compared(*([time_of(one) for one in way] for way in zip(*pairs, strict=True)))),
        other="a process that imports torch",
        peak_mib=statistics.median(ours.peak_mib for ours, _ in pairs),
        other_peak_mib=statistics.median(torch.peak_mib for _, torch in pairs),
    )
    yield from beside_a_loop(options)


def beside_a_loop(options: Options) -> Iterator[Row]:
    """Whole processes with many images, and what an image takes, in float32 and in this machine's default."""
    few, many = (1, 3) if options.quick else (FEW, MANY)
    size = SMALL if options.quick else (SHORT_SIDE, LONG_SIDE)
    outs = iter(range(10**6))
    with tempfile.TemporaryDirectory() as work:
        model = save_model(Path(work) / "model", architecture="deeplabv3plus", stride=16)
        folders = {count: write_images(Path(work) / f"{count}", count=count, size=size) for count in (few, many)}

        def plain(images: Path) -> Process:
            words = ("-m", "benchmarks.plain_predict", str(model), str(images), str(Path(work) / f"out{next(outs)}"))
            return run_process((sys.executable, *words))

        def ours(images: Path, precision: str) -> Process:
            return predict(model, images, Path(work) / f"out{next(outs)}", precision=precision, overlays=False)

        ways = {
            "plain loop, float32": plain,
            "float32": functools.partial(ours, precision="32-true"),
            "the default precision": functools.partial(ours, precision="auto"),
        }
        found = [
            {name: {count: way(folder) for count, folder in folders.items()} for name, way in ways.items()}
            for _ in range(1 if options.quick else min(options.turns, MOST_TURNS))
        ]
    other, *own = ways
    case = f"DeepLab-v3+ on mobilenetv2_100, {size[1]} x {size[0]}"
    for name in own:
        whole = [[time_of(one[way][many]) for one in found] for way in (name, other)]
        image = [[_image(one[way][few], one[way][many], many - few) for one in found] for way in (name, other)]
        yield Row(
            stage="prediction",
            case=f"{case}, {name}, whole process of {many} images",
            items=many,
            **vars(compared(*whole)),
            other=other,
            peak_mib=max(one[name][many].peak_mib for one in found),
            other_peak_mib=max(one[other][many].peak_mib for one in found),
        )
        yield Row(stage="prediction", case=f"{case}, {name}, each image more", **vars(compared(*image)), other=other)


def _image(few: Process, many: Process, more: int) -> Time:
    """What an image took; noise where --quick, and never nothing."""
    return Time(
        seconds=max(1e-6, (many.seconds - few.seconds) / more),
        cpu_seconds=max(1e-6, (many.cpu_seconds - few.cpu_seconds) / more),
    )


def growth(options: Options) -> Iterator[Growth]:
    """One process for each number of small images."""
    with tempfile.TemporaryDirectory() as work:
        model = save_model(Path(work) / "model")
        for count in (2, 4) if options.quick else options.counts:
            folder = write_images(Path(work) / f"{count}", count=count, size=SMALL)
            found = predict(model, folder, Path(work) / f"out{count}")
            yield Growth(stage="subcam predict", count=count, seconds=found.seconds, peak_mib=found.peak_mib)
