"""Masks of a segmentation network over scales and flips beside a loop of one image, one scale, one flip at a time."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measure import Options, in_fresh_process, in_turns, peak_growth_mib
from benchmarks.record import Bound, Row
from subcam.networks.segmenter import SegmentationNetwork, for_inference, upsample_logits
from subcam.networks.settings import NetworkSettings, SegmentationConfig
from subcam.predict.settings import InferenceSettings
from subcam.predict.tiles import segment_probabilities
from subcam.runtime.devices import build_fabric
from subcam.runtime.machine.settings import MachineSettings

CLASSES = 20
SETTINGS = InferenceSettings(scales=(0.5, 1.0, 1.5), flip=True)
IMAGES = 2

Ways = tuple[Callable[[], Tensor], Callable[[], Tensor]]


def both_ways(name: str, height: int, width: int) -> Ways:
    """Calls that give the probabilities of the same images in the two ways."""
    images = torch.randint(
        0, 256, (IMAGES, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    fabric = build_fabric(MachineSettings(accelerator="cpu", threads=torch.get_num_threads()), precision="32-true")
    plain, fast = _network(name), for_inference(_network(name), fabric)
    return (
        lambda: segment_probabilities(fast, images, settings=SETTINGS),
        lambda: torch.cat([naive_probabilities(plain, image[None]) for image in images]),
    )


@torch.inference_mode()
def naive_probabilities(network: SegmentationNetwork, image: Tensor) -> Tensor:
    """Mean probabilities of one image."""
    size = (image.shape[2], image.shape[3])
    found = []
    for scale in SETTINGS.scales:
        for mirrored in (False, True):
            scaled = (round(size[0] * scale), round(size[1] * scale))
            x = F.interpolate(image.float(), size=scaled, mode="bilinear", antialias=True) if scale != 1 else image
            logits = network(x.flip(-1) if mirrored else x).float()
            logits = upsample_logits(logits, scaled, stride=network.stride)
            logits = logits.flip(-1) if mirrored else logits
            if scaled != size:
                logits = F.interpolate(logits, size=size, mode="bilinear", antialias=True)
            found.append(logits.softmax(1))
    return torch.stack(found).mean(0)


def peak_mib(name: str, height: int, width: int, threads: int, *, naive: bool) -> float | None:
    """Peak growth of one way's first call; for a process that has done nothing else."""
    torch.set_num_threads(threads)
    both_ways("tiny", 32, 32)[int(naive)]()
    return peak_growth_mib(both_ways(name, height, width)[int(naive)])


def rows(options: Options) -> Iterator[Row]:
    """DeepLab-v2 on MobileNetV2 at stride 8; with --quick on the tiny network."""
    name, height, width = ("tiny", 40, 56) if options.quick else ("mobilenetv2_100", 240, 320)
    ours, naive = both_ways(name, height, width)
    times = in_turns(ours, naive, turns=2 if options.quick else options.turns)
    peaks = [
        in_fresh_process(peak_mib, name, height, width, torch.get_num_threads(), naive=way) for way in (False, True)
    ]
    yield Row(
        stage="segmentation",
        case=f"DeepLab-v2 on {name}, {width} x {height}, {CLASSES} classes, {len(SETTINGS.scales)} scales and flips",
        **vars(times),
        items=IMAGES,
        other="naive loop",
        peak_mib=peaks[0],
        other_peak_mib=peaks[1],
        difference=float((ours() - naive()).abs().max()),
        bounds=(Bound(of="difference", limit=1e-4),),
    )


def _network(name: str) -> SegmentationNetwork:
    """The same random weights at each call."""
    torch.manual_seed(0)
    settings = NetworkSettings(name=name, weights="none", output_stride=None if name == "tiny" else 8)
    names = tuple(f"class {index}" for index in range(CLASSES))
    return SegmentationNetwork(SegmentationConfig(network=settings, class_names=names)).eval()
