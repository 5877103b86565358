"""`dense_crf_torch` on a batch of images beside the CPU's dense CRF: on one core, and on all of them, an image each."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.crf import CLASSES, SIZES, Size, make_cases
from benchmarks.crf import Case as Image
from benchmarks.gpu.given import Case, Given
from benchmarks.gpu.profile import profiled
from subcam.crf.dense_crf import dense_crf
from subcam.crf.dense_crf_torch import dense_crf_torch
from subcam.runtime.machine.cores import available_cores

TURNS = 3
YARDSTICK = ((375, 500), 21)


def cases(given: Given) -> Iterator[Case]:
    """All sizes and numbers of classes, the target's first."""
    sizes = [(size, classes) for size in SIZES for classes in CLASSES]
    sizes.sort(key=lambda one: one != YARDSTICK)
    if given.tiny:
        sizes = [((18, 24), 2)]
    for (height, width), classes in sizes:
        yield one_size(given, Size(height=height, width=width, classes=classes))


def one_size(given: Given, size: Size) -> Case:
    """The fastest of some turns of each way."""
    scratch = given.scratch / "crf"
    scratch.mkdir(parents=True, exist_ok=True)
    images = make_cases(None, Path(scratch), size)
    tensors = [
        [torch.from_numpy(one).to(given.torch_device) for one in many]
        for many in ([image.image for image in images], [image.scores[0] for image in images])
    ]
    turns, cores = (1 if given.tiny else TURNS), available_cores()

    def on_device() -> list[torch.Tensor]:
        found = dense_crf_torch(*tensors)
        given.wait()
        return found

    expected = on_host(images[0])
    difference = float(np.abs(on_device()[0].cpu().numpy() - expected).max())
    seconds = fastest(on_device, turns) / len(images)
    one_core = fastest(lambda: on_host(images[0]), turns)
    with ThreadPoolExecutor(cores) as pool:
        many = images * -(-cores // len(images))
        all_cores = fastest(lambda: list(pool.map(on_host, many)), turns) / len(many)
    return {
        "case": size.title,
        "images_at_once": len(images),
        "seconds_an_image": seconds,
        "one_core_seconds": one_core,
        "all_cores_seconds": all_cores,
        "cores": cores,
        "ratio_one_core": one_core / seconds,
        "ratio_all_cores": all_cores / seconds,
        "difference": difference,
        "profile": profiled(given, on_device).plain,
    }


def on_host(image: Image) -> np.ndarray:
    """Marginals by one thread of the CPU."""
    return dense_crf(image.image, image.scores[0])


def fastest(call: Callable[[], object], turns: int) -> float:
    """Seconds of the fastest of some calls, after one that does not count."""
    call()
    found = []
    for _ in range(turns):
        started = time.perf_counter()
        call()
        found.append(time.perf_counter() - started)
    return min(found)
