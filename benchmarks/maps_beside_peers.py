"""Response maps beside onnxruntime, grad-cam and a loop that is as fast as plain PyTorch makes it.

All make the maps of the same classes of the same images with the same weights, over four scales and flips. The loop is
what somebody writes who knows PyTorch and not this package: channels last, an image and its mirror image in one batch,
the rows of present classes only, and for half precision autocast. For onnxruntime the network is exported for each
size, so that it may plan for it, and the rest is that loop. grad-cam's GradCAM, which gives the same maps of this
network but for its normalisation, is called for each image, class and scale: its gradients take 2 GB.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measure import Options, all_in_turns, compared, timed
from benchmarks.peers import absent, here
from benchmarks.record import Bound, Row
from benchmarks.response_maps import LARGEST_DIFFERENCE, SCALES
from subcam.cam.multiscale import multiscale_response
from subcam.data.augmentation import scaled_size
from subcam.networks.classifier import ClassificationNetwork, ModelConfig, for_inference
from subcam.networks.settings import NetworkSettings
from subcam.runtime.devices import build_fabric
from subcam.runtime.machine.malloc import keep_freed_memory
from subcam.runtime.machine.settings import MachineSettings, Precision

NETWORK = "mobilenetv2_100"
CLASSES, PRESENT = 20, (3, 11)
MOST_TURNS = 3
PLAIN, ONNX = "plain loop", "onnxruntime, float32"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Images, and the network's parts as plain modules: from normalised images to features, and the classes' rows."""

    images: Tensor
    network: ClassificationNetwork
    body: nn.Module
    rows: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[2], self.images.shape[3]

    @property
    def title(self) -> str:
        """The case in words."""
        height, width = self.size
        return f"{NETWORK}, {len(self.images)} images of {width} x {height}, {len(SCALES)} scales and flips"


def make_case(*, height: int, width: int, count: int = 2) -> Case:
    """Random images and weights; the plain network is timm's."""
    import timm

    torch.manual_seed(0)
    body = timm.create_model(NETWORK, num_classes=0, global_pool="").eval()
    names = tuple(f"class {index}" for index in range(CLASSES))
    settings = NetworkSettings(name=NETWORK, weights="none")
    network = ClassificationNetwork(ModelConfig(network=settings, class_names=names)).eval()
    network.backbone.body.load_state_dict(body.state_dict())
    return Case(
        images=torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8),
        network=network,
        body=body.to(memory_format=torch.channels_last),
        rows=network.parent_head.weight.detach()[list(PRESENT), :, None, None],
    )


def ours(case: Case, precision: Precision) -> Callable[[], Tensor]:
    """Maps [images, present, height, width] as a run makes them."""
    machine = MachineSettings(accelerator="cpu", threads=torch.get_num_threads())
    fast = for_inference(case.network, build_fabric(machine, precision=precision))
    labels = torch.zeros(len(case.images), CLASSES, dtype=torch.uint8)
    labels[:, list(PRESENT)] = 1
    return lambda: torch.stack([one.maps for one in multiscale_response(fast, case.images, labels, scales=SCALES)])


@torch.inference_mode()
def plain_maps(
    case: Case,
    features: Callable[[Tensor], Tensor],
    autocast: Callable[[], AbstractContextManager] = nullcontext,
) -> Tensor:
    """The loop; `features` are those of normalised images [batch, 3, h, w]."""
    total: Tensor | float = 0.0
    for scale in SCALES:
        x = scaled(case, scale)
        with autocast():
            found = features(torch.cat([x, x.flip(-1)]).contiguous(memory_format=torch.channels_last))
        maps = F.interpolate(F.relu(F.conv2d(found.float(), case.rows)), size=case.size, mode="bilinear")
        straight, mirrored = maps.chunk(2)
        total = total + straight + mirrored.flip(-1)
    assert isinstance(total, Tensor)
    return total / (total.amax((2, 3), keepdim=True) + 1e-5)


def scaled(case: Case, scale: float) -> Tensor:
    """The images at one scale, normalised."""
    x = case.images.float()
    if scale != 1:
        x = F.interpolate(x, size=scaled_size(*case.size, scale), mode="bicubic", antialias=True).round().clamp(0, 255)
    backbone = case.network.backbone
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (backbone.mean, backbone.std))
    return (x / 255 - mean) / std


def onnx_features(case: Case, folder: Path) -> Callable[[Tensor], Tensor]:
    """The network as onnxruntime computes it, exported once for each size."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    sessions: dict[tuple[int, ...], Any] = {}
    for scale in SCALES:
        x = scaled(case, scale)
        example = torch.cat([x, x])
        path = folder / f"{scale}.onnx"
        torch.onnx.export(case.body, (example,), path, dynamo=True, input_names=["x"], verbose=False)
        sessions[tuple(example.shape)] = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(sessions[tuple(x.shape)].run(None, {"x": x.contiguous().numpy()})[0])


def grad_cam(case: Case) -> Callable[[], Tensor]:
    """grad-cam's maps at each scale, resized to the images and added up."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    head = nn.Conv2d(case.rows.shape[1], len(PRESENT), 1, bias=False)
    head.weight.data.copy_(case.rows)
    model = nn.Sequential(case.body, nn.AdaptiveAvgPool2d(1), head, nn.Flatten())
    cam = GradCAM(model=model, target_layers=[case.body])

    def of_one(x: Tensor, index: int) -> Tensor:
        return torch.from_numpy(np.asarray(cam(input_tensor=x, targets=[ClassifierOutputTarget(index)])))[None]

    def of_all(x: Tensor, index: int) -> Tensor:
        both = [of_one(one[None], index) + of_one(one.flip(-1)[None], index).flip(-1) for one in x]
        return F.interpolate(torch.cat(both), size=case.size, mode="bilinear")

    def call() -> Tensor:
        images = [scaled(case, scale) for scale in SCALES]
        total = sum(torch.cat([of_all(x, index) for index in range(len(PRESENT))], dim=1) for x in images)
        assert isinstance(total, Tensor)
        return total / (total.amax((2, 3), keepdim=True) + 1e-5)

    return call


def rows(options: Options) -> Iterator[Row]:
    """Ours in float32 and in what this machine takes by default, beside the others."""
    case = make_case(height=48, width=64) if options.quick else make_case(height=480, width=640)
    default = MachineSettings(accelerator="cpu").resolved_inference_precision
    by_default = f"{default} by default"
    keep_freed_memory()
    mine: dict[str, Callable[[], Tensor]] = {"float32": ours(case, "32-true"), by_default: ours(case, default)}
    others: dict[str, Callable[[], Tensor]] = {PLAIN: lambda: plain_maps(case, case.body)}
    if default != "32-true":
        others["plain loop, autocast to bfloat16"] = lambda: plain_maps(
            case, case.body, lambda: torch.autocast("cpu", torch.bfloat16)
        )
    with tempfile.TemporaryDirectory() as folder:
        if here("onnxruntime"):
            features = onnx_features(case, Path(folder))
            others[ONNX] = lambda: plain_maps(case, features)
        yield from _rows(case, mine, others, turns=2 if options.quick else min(options.turns, MOST_TURNS))
    if here("grad-cam"):
        yield from _rows(case, {by_default: mine[by_default]}, {"grad-cam's GradCAM": grad_cam(case)}, turns=1)
    for package in ("onnxruntime", "grad-cam"):
        if not here(package):
            alone = vars(timed(mine[by_default]))
            yield Row(stage="response maps", case=f"{case.title}, {by_default}", **alone, other=absent(package))


def _rows(
    case: Case, mine: Mapping[str, Callable[[], Tensor]], others: Mapping[str, Callable[[], Tensor]], *, turns: int
) -> Iterator[Row]:
    """Each of ours beside each of the others; all take turns."""
    times = all_in_turns({**mine, **others}, turns=turns)
    for own, call in mine.items():
        for other in others:
            equal = own == "float32" and other in (PLAIN, ONNX)
            yield Row(
                stage="response maps",
                case=f"{case.title}, {own}",
                items=len(case.images),
                **vars(compared(times[own], times[other])),
                other=other,
                difference=float((others[other]() - call()).abs().max()) if equal else None,
                bounds=(Bound(of="difference", limit=LARGEST_DIFFERENCE),) if equal else (),
            )
