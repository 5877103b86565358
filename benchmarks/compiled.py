"""Response maps through torch.compile beside the network as it is: what a call gains, and what compiling takes.

Off by default in the package: whether it pays depends on machine, network and number of images.
"""

import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks.measure import Options, in_turns
from benchmarks.record import Row
from benchmarks.response_maps import CLASSES, SCALES, Case, build_network
from subcam.cam.multiscale import multiscale_response
from subcam.networks.classifier import for_inference
from subcam.runtime.devices import build_fabric
from subcam.runtime.machine.malloc import keep_freed_memory
from subcam.runtime.machine.settings import MachineSettings


def rows(options: Options) -> Iterator[Row]:
    """The first call, which compiles for each scale's shape, and those after it; the tiny network with --quick."""
    case = Case(network="tiny", height=48, width=64)
    if not options.quick:
        case = Case(network="mobilenetv2_100", height=375, width=500)
    keep_freed_memory()
    plain, compiled = ways(case)
    started = time.monotonic()
    found = compiled()
    first = time.monotonic() - started
    difference = float((found - plain()).abs().max())
    times = in_turns(compiled, plain, turns=2 if options.quick else options.turns)
    row = Row(
        stage="response maps",
        case=f"{case.title}, compiled",
        **vars(times),
        other="not compiled",
        difference=difference,
    )
    yield row
    yield Row(stage="response maps", case=f"{case.network}, the first compiled call", seconds=first)


def ways(case: Case) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Calls that compute the maps of the present classes, not compiled and compiled.

    Raises:
        RuntimeError: torch.compile does not work here; says why.
    """
    image = torch.randint(
        0, 256, (1, 3, case.height, case.width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    labels = torch.zeros(1, CLASSES, dtype=torch.uint8)
    labels[0, torch.linspace(0, CLASSES - 1, case.present).long()] = 1
    fabric = build_fabric(MachineSettings(accelerator="cpu", threads=torch.get_num_threads()), precision="32-true")
    networks = [for_inference(build_network(case, None), fabric, compiled=compiled) for compiled in (False, True)]

    def call(index: int) -> Tensor:
        (found,) = multiscale_response(networks[index], image, labels, scales=SCALES)
        used = networks[index].compiled
        if used is not None and used.reason:
            raise RuntimeError(f"torch.compile does not work here: {used.reason}")
        return found.maps

    return lambda: call(0), lambda: call(1)
