"""Response maps beside the naive loop: one scale and mirror image at a time, float32, every class at full size.

The loop is what published code does: an image at a time, contiguous tensors, maps of all parents and all of their
sub-categories upsampled, absent classes thrown away at the end. For ResNet-38, whose forward pass on a CPU is slow and
the same for both, its maps are made beforehand, and what is timed is everything but it.

The loop runs in a process of its own, where memory is handled as Python does by default; a second row has it in our
process, where freed memory is kept (`subcam.runtime.machine.malloc`), which it gains from as well.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Options, fresh_process, in_fresh_process, in_turns, peak_growth_mib
from benchmarks.record import Bound, Row
from subcam.cam.multiscale import multiscale_response
from subcam.data.augmentation import scaled_size
from subcam.networks.classifier import ClassificationNetwork, ModelConfig, for_inference
from subcam.networks.settings import NetworkSettings
from subcam.runtime.devices import build_fabric
from subcam.runtime.machine.malloc import keep_freed_memory
from subcam.runtime.machine.settings import MachineSettings

SCALES = (1.0, 0.5, 1.5, 2.0)
CLASSES, K = 20, 10
RESNET38_FEATURES, RESNET38_STRIDE = 4096, 8
LARGEST_DIFFERENCE = 1e-4
MOST_TURNS = 3
"""The naive loop takes a quarter of a minute."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """network: a name of `NetworkSettings`. forward: whether it runs, or its maps are there. present: classes."""

    network: str
    height: int
    width: int
    forward: bool = True
    present: int = 2
    bounds: tuple[Bound, ...] = ()

    @property
    def title(self) -> str:
        """The case in words."""
        what = self.network if self.forward else f"{self.network} without its forward pass"
        return f"{what}, {self.width} x {self.height}, {self.present} of {CLASSES} classes, K = {K}"


class StoredMaps(nn.Module):
    """In place of a backbone's body: random feature maps for each size of image, given without any work."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.maps = {
            size: torch.rand(
                (2, *(-(-side // RESNET38_STRIDE) for side in size), RESNET38_FEATURES), generator=generator
            ).permute(0, 3, 1, 2)
            for size in sizes
        }
        self.contiguous_maps: dict[tuple[int, int], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Maps of an image and its mirror image, laid out channels last as convolutions leave them.

        An image of any other size gets zeros: with one, a copy for inference is checked.
        """
        size = (x.shape[2], x.shape[3])
        cells = (-(-side // RESNET38_STRIDE) for side in size)
        return self.maps[size] if size in self.maps else x.new_zeros(len(x), RESNET38_FEATURES, *cells)

    def one(self, x: Tensor, *, mirrored: bool) -> Tensor:
        """The map of one of the two, contiguous as in the naive loop."""
        size = (x.shape[2], x.shape[3])
        if size not in self.contiguous_maps:
            self.contiguous_maps[size] = self.maps[size].contiguous()
        return self.contiguous_maps[size][int(mirrored), None]


@torch.inference_mode()
def naive_response(
    network: ClassificationNetwork,
    image: Tensor,
    labels: Tensor,
    *,
    scales: Sequence[float] = SCALES,
    feature_map: Callable[[Tensor, bool], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Maps of all parents [classes, height, width] and of all sub-categories [classes * k, height, width].

    Args:
        network: with sub-categories, contiguous.
        image: RGB 0..255, [3, height, width].
        labels: multi-hot; maps of absent classes are zero.
        scales: factors on the image's size.
        feature_map: of a normalised image and whether it is mirrored; the network's backbone where None.
    """
    assert network.subcategory_head is not None
    size = (image.shape[1], image.shape[2])
    mean, std = (
        torch.tensor(each, device=image.device).view(1, 3, 1, 1)
        for each in (network.backbone.mean, network.backbone.std)
    )
    heads = (network.parent_head, network.subcategory_head)
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for scale in scales:
        for mirrored in (False, True):
            x = image[None].float()
            if scale != 1:
                x = F.interpolate(x, size=scaled_size(*size, scale), mode="bicubic", antialias=True)
                x = x.round().clamp(0, 255)
            x = ((x.flip(-1) if mirrored else x) / 255 - mean) / std
            features = feature_map(x, mirrored) if feature_map else network.backbone(x)
            for maps, head in zip(found, heads, strict=True):
                raw = F.relu(F.conv2d(features, head.weight[:, :, None, None]))
                full = F.interpolate(raw, size=size, mode="bilinear", align_corners=False)[0]
                maps.append(full.flip(-1) if mirrored else full)
    parents, parts = (torch.stack(maps).sum(0) for maps in found)
    parents = parents / (parents.amax((1, 2), keepdim=True) + 1e-5)
    grouped = parts.view(len(labels), -1, *size)
    grouped = grouped / (grouped.amax((1, 2, 3), keepdim=True) + 1e-5)
    shown = labels.to(image.device).float()
    return parents * shown[:, None, None], (grouped * shown[:, None, None, None]).flatten(0, 1)


def both_ways(case: Case) -> tuple[Callable[[], tuple[Tensor, Tensor]], Callable[[], tuple[Tensor, Tensor]]]:
    """Calls that compute the case in the two ways, each giving the present classes' maps and sub-category maps."""
    image = torch.randint(
        0, 256, (3, case.height, case.width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    labels = torch.zeros(CLASSES, dtype=torch.uint8)
    labels[torch.linspace(0, CLASSES - 1, case.present).long()] = 1
    fabric = build_fabric(MachineSettings(accelerator="cpu", threads=torch.get_num_threads()), precision="32-true")
    stored = None
    if not case.forward:
        stored = StoredMaps([scaled_size(case.height, case.width, scale) for scale in SCALES])
    plain = build_network(case, stored)
    fast = for_inference(build_network(case, stored), fabric)

    def ours() -> tuple[Tensor, Tensor]:
        (found,) = multiscale_response(fast, image[None], labels[None], scales=SCALES, subcategories=True)
        assert found.subcategory_maps is not None
        return found.maps, found.subcategory_maps

    def naive() -> tuple[Tensor, Tensor]:
        feature_map = (lambda x, mirrored: stored.one(x, mirrored=mirrored)) if stored is not None else None
        parents, parts = naive_response(plain, image, labels, feature_map=feature_map)
        shown = labels.bool()
        return parents[shown], parts.view(CLASSES, K, *parts.shape[1:])[shown].flatten(0, 1)

    return ours, naive


@functools.cache
def naive_call(case: Case, threads: int) -> Callable[[], tuple[Tensor, Tensor]]:
    """The loop, made once in a process."""
    torch.set_num_threads(threads)
    return both_ways(case)[1]


def run_naive(case: Case, threads: int) -> None:
    """Call the loop in a process of its own."""
    naive_call(case, threads)()


def peak_mib(case: Case, threads: int, *, naive: bool) -> float | None:
    """Peak growth of one way's first call; for a process that has done nothing else."""
    torch.set_num_threads(threads)
    both_ways(Case(network="tiny", height=32, width=32))[int(naive)]()  # what is loaded once
    call = both_ways(case)[int(naive)]
    if not case.forward:
        call()  # the stored maps are laid out by their first use
    return peak_growth_mib(call)


def measure_rows(case: Case, *, turns: int) -> Iterator[Row]:
    """Times in turns, memory of each way in a fresh process, the distance of the maps; and the loop in our process."""
    threads = torch.get_num_threads()
    peaks = [in_fresh_process(peak_mib, case, threads, naive=way) for way in (False, True)]
    keep_freed_memory()
    ours, naive = both_ways(case)
    with fresh_process() as pool:
        times = in_turns(ours, lambda: pool.submit(run_naive, case, threads).result(), turns=turns)
    row = Row(
        stage="response maps",
        case=case.title,
        seconds=times.seconds,
        other="naive loop",
        other_seconds=times.other_seconds,
        ratio=times.ratio,
        peak_mib=peaks[0],
        other_peak_mib=peaks[1],
        difference=max(float((a - b).abs().max()) for a, b in zip(ours(), naive(), strict=True)),
        bounds=(*case.bounds, Bound(of="difference", limit=LARGEST_DIFFERENCE)),
    )
    yield row
    times = in_turns(ours, naive, turns=turns)
    yield replace(
        row,
        other="naive loop that keeps freed memory",
        seconds=times.seconds,
        other_seconds=times.other_seconds,
        ratio=times.ratio,
        bounds=(),
    )


def rows(options: Options) -> Iterator[Row]:
    """MobileNetV2 whole, ResNet-38 without its forward pass; with --quick the tiny network on a small image."""
    if options.quick:
        cases = (
            Case(network="tiny", height=48, width=64),
            Case(network="resnet38", height=48, width=64, forward=False),
        )
    else:
        at_least = {times: Bound(of="ratio", limit=times) for times in (4.0, 10.0)}
        cases = (
            Case(network="mobilenetv2_100", height=375, width=500, bounds=(at_least[4.0],)),
            Case(network="resnet38", height=375, width=500, forward=False, bounds=(at_least[10.0],)),
        )
    for case in cases:
        yield from measure_rows(case, turns=2 if options.quick else min(options.turns, MOST_TURNS))


def build_network(case: Case, stored: StoredMaps | None) -> ClassificationNetwork:
    """The same random weights at each call."""
    torch.manual_seed(0)
    settings = NetworkSettings(name="tiny" if stored else case.network, weights="none")
    names = tuple(f"class {index}" for index in range(CLASSES))
    network = ClassificationNetwork(ModelConfig(network=settings, class_names=names, num_subcategories=K)).eval()
    if stored is not None:
        network.backbone.body, network.backbone.num_features = stored, RESNET38_FEATURES
        network.parent_head = nn.Linear(RESNET38_FEATURES, CLASSES, bias=False)
        network.subcategory_head = nn.Linear(RESNET38_FEATURES, CLASSES * K, bias=False)
    return network
