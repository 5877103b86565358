"""Reading and augmenting a training image beside plain torchvision, and a batch of it beside the network's step.

Images are the .jpg files of `--images`, or made. Processor time says what a batch of input costs beside the network,
whatever else runs on the machine: with one loading process it vanishes behind the network as long as it is less.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms import v2

from benchmarks.measure import Options
from benchmarks.record import Bound, Row
from benchmarks.training import MOBILENET, QUICK_CASE, our_step
from subcam.data.augmentation import long_side_size
from subcam.data.batches.training import TrainingImages, training_loader
from subcam.data.records import Record
from subcam.data.settings import AugmentationSettings

FILL = (124, 116, 104)
CLASSES = 20
IMAGES = 64


def rows(options: Options) -> Iterator[Row]:
    """One image in three ways, then a batch and the step that it is for."""
    with tempfile.TemporaryDirectory() as folder:
        images = training_images(options, Path(folder))
        yield from _images(images, options)
        yield _batch(images, options)


def training_images(options: Options, folder: Path) -> TrainingImages:
    """Images of `options.images`, or 500 x 375 of smooth noise written to `folder`."""
    count = 4 if options.quick else IMAGES
    paths = sorted(options.images.glob("*.jpg"))[:count] if options.images else []
    rng = np.random.default_rng(0)
    for index in range(count if not paths else 0):
        small = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        path = folder / f"{index:03d}.jpg"
        Image.fromarray(small).resize((500, 375), Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    records = [Record(name=path.stem, image=path, labels=(0,)) for path in paths]
    labels = (rng.random((len(records), CLASSES)) < 0.1).astype(np.uint8)
    augmentation = AugmentationSettings(crop=48 if options.quick else 224)
    return TrainingImages(records, labels, augmentation, seed=0, fill=FILL)


def plain_torchvision(images: TrainingImages, *, jitter_whole: bool) -> Callable[[int], object]:
    """The same steps from torchvision's parts; the published code jitters the whole image before it crops."""
    chosen = images.augmentation
    jitter = v2.ColorJitter(chosen.brightness, chosen.contrast, chosen.saturation, chosen.hue)
    crop = v2.RandomCrop(chosen.crop, pad_if_needed=True, fill=images.fill)
    flip_and_jitter = v2.Compose([v2.RandomHorizontalFlip(chosen.flip), jitter])
    steps = v2.Compose([*((flip_and_jitter, crop) if jitter_whole else (crop, flip_and_jitter)), v2.PILToTensor()])

    def make(index: int) -> object:
        with Image.open(images.records[index].image) as opened:
            image = opened.convert("RGB")
        size = long_side_size(image.height, image.width, random.randint(*chosen.scale_long_side))
        return steps(v2.functional.resize(image, list(size), interpolation=v2.InterpolationMode.BICUBIC))

    return make


def _images(images: TrainingImages, options: Options) -> Iterator[Row]:
    """The ways take turns over the images, so that all meet the same machine."""
    ways: dict[str, Callable[[int], object]] = {
        "": lambda index: images[0, index],
        "torchvision, jitter on the crop": plain_torchvision(images, jitter_whole=False),
        "torchvision, jitter on the whole image": plain_torchvision(images, jitter_whole=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(1 if options.quick else options.turns):
        for index in range(len(images)):
            for name, make in ways.items():
                start = time.perf_counter()
                make(index)
                seconds[name].append(time.perf_counter() - start)
    own = seconds.pop("")
    for name, times in seconds.items():
        yield Row(
            stage="input",
            case=f"decoding and augmentation, crop {images.augmentation.crop}",
            seconds=statistics.fmean(own),
            other=name,
            other_seconds=statistics.fmean(times),
            ratio=statistics.fmean(times) / statistics.fmean(own),
        )


def _batch(images: TrainingImages, options: Options) -> Row:
    case = QUICK_CASE if options.quick else MOBILENET
    batches = iter(training_loader(images, batch_size=case.batch, epochs=1000, workers=0))
    step = our_step(case)
    step(*next(batches))
    inputs, networks = [], []
    for _ in range(2 * options.turns):
        start = time.process_time()
        batch, labels = next(batches)
        made = time.process_time()
        step(batch, labels)
        inputs.append(made - start)
        networks.append(time.process_time() - made)
    seconds, other = statistics.median(inputs), statistics.median(networks)
    return Row(
        stage="input",
        case=f"processor time of a batch of {case.batch} at crop {images.augmentation.crop}",
        seconds=seconds,
        items=case.batch,
        other=f"a training step of {case.network}",
        other_seconds=other,
        ratio=other / seconds,
        bounds=() if options.quick else (Bound(of="ratio", limit=1.0),),
    )
