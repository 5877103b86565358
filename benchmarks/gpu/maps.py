"""Response maps of ResNet-38 over four scales and flips, batched, beside the naive loop in the same process."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.gpu.given import Case, Given
from benchmarks.gpu.profile import profiled
from benchmarks.measure import in_turns
from benchmarks.response_maps import CLASSES, SCALES, build_network, naive_response
from benchmarks.response_maps import Case as Shown
from subcam.cam.multiscale import multiscale_response
from subcam.networks.classifier import for_inference
from subcam.runtime.devices import build_fabric

BATCH, TURNS = 8, 3


def cases(given: Given) -> Iterator[Case]:
    """In bf16, as `auto` computes them on a GPU, and in float32 as the naive loop does."""
    shown = Shown(network="resnet38", height=375, width=500)
    if given.tiny:
        shown = Shown(network="tiny", height=24, width=32)
    batch, turns = (2, 1) if given.tiny else (BATCH, TURNS)
    images = torch.randint(
        0, 256, (batch, 3, shown.height, shown.width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    ).to(given.torch_device)
    labels = torch.zeros(batch, CLASSES, dtype=torch.uint8)
    labels[:, torch.linspace(0, CLASSES - 1, shown.present).long()] = 1
    plain = build_network(shown, None).to(given.torch_device)

    def naive() -> Any:
        parents, _ = naive_response(plain, images[0], labels[0])
        given.wait()
        return parents[labels[0].bool().to(parents.device)]

    for precision in ("bf16-mixed", "32-true"):
        fast = for_inference(build_network(shown, None), build_fabric(given.machine, precision=precision))  # type: ignore[arg-type]

        def ours(fast: Any = fast) -> Any:
            found = multiscale_response(fast, images, labels, scales=SCALES, subcategories=True)
            given.wait()
            return found

        difference = float((ours()[0].maps - naive()).abs().max())
        times = in_turns(ours, naive, turns=turns)
        yield _row(given, f"{shown.title}, {precision}, batch {batch}", times, batch, difference, ours)


def _row(given: Given, title: str, times: Any, batch: int, difference: float, ours: Callable[[], object]) -> Case:
    return {
        "case": title,
        "seconds_an_image": times.seconds / batch,
        "images_a_second": batch / times.seconds,
        "naive_seconds_an_image": times.other_seconds,
        "ratio": times.ratio * batch,
        "difference": difference,
        "profile": profiled(given, ours).plain,
    }
