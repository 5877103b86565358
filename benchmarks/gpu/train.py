"""Training steps of the two networks of the VOC recipes with random weights: images a second, share of the chip's peak.

First the step alone, on a batch that lies on the device, in each of four ways: with and without torch.compile and
channels last. Then the same training through the package's own loop, from JPEG files, with a profile.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.chips import Peak, peak_of
from benchmarks.gpu.given import Case, Given
from benchmarks.gpu.made_images import CLASSES, made_images
from benchmarks.gpu.profile import Profiler, profiled
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.segmenter import SegmentationNetwork
from subcam.networks.settings import NetworkSettings, SegmentationConfig
from subcam.recipes import DEEPLAB_V2, voc12_paper, voc12_reference
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder
from subcam.stages import classify, segment
from subcam.training import loop
from subcam.training.losses import joint_loss
from subcam.training.optimiser import build_optimiser, parameter_groups
from subcam.training.settings import OptimiserSettings

NAMES = tuple(f"class {index}" for index in range(CLASSES))
K = 10
STEPS, BLOCKS = 8, 3
TIMED, PROFILED = (4, 14), (14, 20)
"""From which step of the loop to which it is timed, and then profiled."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """A network to train. title: in words. build: the network. loss: of it, images and targets."""

    title: str
    crop: int
    batch: int
    build: Callable[[], Any]
    backbone: str
    loss: Callable[[Any, Tensor, Tensor], Tensor]
    targets: Callable[[int, int, torch.Generator], Tensor]
    optimiser: OptimiserSettings
    through_loop: Callable[[Given, int], None]


def cases(given: Given) -> Iterator[Case]:
    """Rows of both networks: eager, then through the loop; what has to be compiled last, as it may take minutes."""
    peak = peak_of(given)
    yield {"case": "peak", "tflops": peak.tflops, "source": peak.source, "measured_tflops": peak.measured}
    both, flops = trainings(given), {}
    for training in both:
        for layout in (torch.contiguous_format, torch.channels_last):
            known = flops.get(training.title)
            row = step_alone(given, training, peak, compiled=False, layout=layout, flops=known)
            flops[training.title] = row["flops"]
            yield row
        yield through_the_loop(given, training, peak, flops[training.title])
    for training in both[:1] if given.tiny else both:
        for layout in (torch.channels_last, torch.contiguous_format)[: 1 if given.tiny else 2]:
            yield step_alone(given, training, peak, compiled=True, layout=layout, flops=flops[training.title])


def trainings(given: Given) -> tuple[Training, Training]:
    """ResNet-38 as `voc12_reference` has it at AffinityNet's crop, and DeepLab-v2 on ResNet-101; or both tiny."""
    own = voc12_reference()
    network = replace(own.network, weights="none")
    deeplab = replace(DEEPLAB_V2.network, weights="none")
    crops, batches = (448, 321), (16, 10)
    if given.tiny:
        network = deeplab = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
        crops, batches = (48, 48), (2, 2)

    def classifier() -> ClassificationNetwork:
        config = ModelConfig(network=network, class_names=NAMES, num_subcategories=K, head_dropout=0.5)
        return ClassificationNetwork(config)

    config = SegmentationConfig(network=deeplab, class_names=NAMES, multi_scale_inputs=DEEPLAB_V2.multi_scale_inputs)

    def classify_through_loop(given: Given, steps: int) -> None:
        settings = replace(own.classify, epochs=1, round_epochs=(), batch_size=batches[0])
        crop = voc12_paper().classify.augmentation if not given.tiny else replace(own.classify.augmentation, crop=48)
        classify.run(
            _stage(given, f"classify-{steps}"),
            settings=replace(settings, augmentation=crop),
            images=made_images(given, steps * batches[0]),
            network=network,
            round_index=0,
            seed=0,
            device=_device(given),
        )

    def segment_through_loop(given: Given, steps: int) -> None:
        crop = DEEPLAB_V2.train.augmentation if not given.tiny else replace(DEEPLAB_V2.train.augmentation, crop=48)
        segment.run(
            _stage(given, f"segment-{steps}"),
            settings=replace(DEEPLAB_V2.train, epochs=1, batch_size=batches[1], augmentation=crop),
            config=config,
            images=made_images(given, steps * batches[1]),
            masks=None,
            variant="walk",
            validation=None,
            seed=0,
            device=_device(given),
        )

    name = network.name
    return (
        Training(
            title=f"{name}, crop {crops[0]}, batch {batches[0]}",
            crop=crops[0],
            batch=batches[0],
            build=classifier,
            backbone="backbone",
            loss=_classification_loss,
            targets=lambda batch, _, chance: (torch.rand(batch, CLASSES * (K + 1), generator=chance) < 0.1).byte(),
            optimiser=own.classify.optimiser,
            through_loop=classify_through_loop,
        ),
        Training(
            title=f"DeepLab-v2 on {deeplab.name}, crop {crops[1]}, batch {batches[1]}",
            crop=crops[1],
            batch=batches[1],
            build=lambda: SegmentationNetwork(config),
            backbone="model",
            loss=_segmentation_loss,
            targets=lambda batch, crop, chance: torch.randint(
                0, CLASSES + 1, (batch, crop, crop), generator=chance
            ).byte(),
            optimiser=DEEPLAB_V2.train.optimiser,
            through_loop=segment_through_loop,
        ),
    )


def step_alone(
    given: Given,
    training: Training,
    peak: Peak,
    *,
    compiled: bool,
    layout: torch.memory_format,
    flops: float | None,
) -> Case:
    """One way of the step, on a batch that lies on the device, in bf16."""
    way = "compiled" if compiled else "eager"
    title = f"{training.title}, {way}, {'channels last' if layout == torch.channels_last else 'contiguous'}"
    step, network = _step(given, training, compiled=compiled, layout=layout)
    if flops is None:
        with FlopCounterMode(display=False) as counter:
            step()
        flops = float(counter.get_total_flops())
    started = time.perf_counter()
    try:
        step()
        given.wait()
    except Exception as error:  # the compiler and what it calls raise every kind; what it cannot do is a finding
        if not compiled:
            raise
        return {"case": title, "flops": flops, "failed": f"{type(error).__name__}: {str(error).strip()[:300]}"}
    first = time.perf_counter() - started
    if given.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    steps = 1 if given.tiny else STEPS
    for _ in range(steps if not given.tiny else 0):
        step()
    blocks = []
    for _ in range(BLOCKS):
        given.wait()
        started = time.perf_counter()
        for _ in range(steps):
            step()
        given.wait()
        blocks.append((time.perf_counter() - started) / steps)
    seconds = statistics.median(blocks)
    row: Case = {
        "case": title,
        "network": training.title,
        "way": "step alone",
        "seconds_a_step": seconds,
        "images_a_second": training.batch / seconds,
        "flops": flops,
        "tflops": flops / seconds / 1e12,
        "share_of_peak": flops / seconds / 1e12 / peak.tflops,
        "first_call_seconds": first,
    }
    if given.on_gpu:
        row["peak_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    row["profile"] = profiled(given, step).plain
    del step, network
    return row


def _step(
    given: Given, training: Training, *, compiled: bool, layout: torch.memory_format
) -> tuple[Callable[[], None], nn.Module]:
    torch.manual_seed(0)
    network = training.build().train().to(device=given.torch_device, memory_format=layout)
    if compiled:
        part = getattr(network, training.backbone)
        # Tiny, only that it can be traced is tried: a compiler takes a minute.
        network.compiled = torch.compile(lambda x: part(x), backend="eager" if given.tiny else "inductor")
    body, heads = network.body_and_heads()
    optimiser = build_optimiser(parameter_groups(body, heads, training.optimiser), training.optimiser)
    chance = torch.Generator().manual_seed(0)
    shape = (training.batch, 3, training.crop, training.crop)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=chance).to(given.torch_device)
    images = images.contiguous(memory_format=layout)
    targets = training.targets(training.batch, training.crop, chance).to(given.torch_device)

    def step() -> None:
        with torch.autocast(given.device, dtype=torch.bfloat16):
            loss = training.loss(network, images, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step, network


def _classification_loss(network: Any, images: Tensor, targets: Tensor) -> Tensor:
    logits = network(images)
    parents, parts = targets[:, :CLASSES], targets[:, CLASSES:]
    return joint_loss(logits.parent, parents, logits.subcategory, parts, subcategory_weight=5.0).total


def _segmentation_loss(network: Any, images: Tensor, targets: Tensor) -> Tensor:
    return segment.segmentation_loss(network.logits_by_scale(images), targets, stride=network.stride)


def through_the_loop(given: Given, training: Training, peak: Peak, flops: float) -> Case:
    """The training by its stage, from JPEG files: steps of it timed, further ones profiled."""
    times: dict[int, float] = {}
    profiler = Profiler(given)
    timed, traced = ((1, 2), (2, 3)) if given.tiny else (TIMED, PROFILED)

    def at(step: int) -> None:
        if step in timed:
            given.wait()
            times[step] = time.perf_counter()
        if step == traced[0]:
            profiler.start()
        if step == traced[1]:
            profiler.stop()

    with _watched(at):
        training.through_loop(given, traced[1] + 1)
    seconds = (times[timed[1]] - times[timed[0]]) / (timed[1] - timed[0])
    return {
        "case": f"{training.title}, through the loop, from JPEG files",
        "network": training.title,
        "way": "loop",
        "seconds_a_step": seconds,
        "images_a_second": training.batch / seconds,
        "share_of_peak": flops / seconds / 1e12 / peak.tflops,
        "profile": profiler.result().plain,
    }


@contextlib.contextmanager
def _watched(at: Callable[[int], None]) -> Iterator[None]:
    """Call `at` with the number of steps that the training loop has done, after each."""
    real = loop.bar

    @contextlib.contextmanager
    def bar(title: str, total: int, *, done: int = 0) -> Iterator[Any]:
        with real(title, total, done=done) as progress:
            advance = progress.advance

            def advanced(count: int = 1, note: str = "") -> None:
                advance(count, note)
                at(progress.done)

            progress.advance = advanced  # type: ignore[method-assign]
            yield progress

    loop.bar = bar  # type: ignore[assignment]
    try:
        yield
    finally:
        loop.bar = real


def _device(given: Given) -> Device:
    precision = "32-true" if given.tiny else "bf16-mixed"
    return Device.open(replace(given.machine, checkpoint_seconds=1e6), precision=precision)  # type: ignore[arg-type]


def _stage(given: Given, name: str) -> Any:
    return RunFolder(path=given.scratch / "train").stage(f"{name}-{time.monotonic_ns()}")
