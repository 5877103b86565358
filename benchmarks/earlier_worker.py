"""Computes what `earlier.py` asks for with the subcam of the interpreter that runs this file, of any version.

Reads lines of JSON {"case", "quick"}; answers each with {"seconds", "cpu_seconds"} of one call.
"""

import functools
import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

CLASSES, PRESENT = 20, (3, 11)


def of_subcam(name: str, *modules: str) -> Any:
    """Something public, from the module that has it in this version."""
    for module in modules:
        try:
            return getattr(importlib.import_module(f"subcam.{module}"), name)
        except ImportError:
            continue
    raise SystemExit(f"this version of subcam has no {name} in {', '.join(modules)}")


@functools.cache
def walk(*, quick: bool) -> Callable[[], object]:
    """Twelve maps over the cells of an image of 500 x 375 at stride 8."""
    random_walk = of_subcam("random_walk", "affinity.random_walk", "refine.random_walk")
    pixel_affinity = of_subcam("pixel_affinity", "affinity.random_walk", "refine.random_walk")
    height, width = (12, 16) if quick else (47, 63)
    generator = torch.Generator().manual_seed(0)
    affinity = pixel_affinity(torch.randn(448, height, width, generator=generator).cumsum(2) * 0.3)
    maps = torch.rand(12, height, width, generator=generator)
    return lambda: [random_walk(affinity, maps, beta=8, log_steps=8) for _ in range(20)]


@functools.cache
def response(*, quick: bool) -> Callable[[], object]:
    """Two images through MobileNetV2 at four scales and flips, in the machine's default precision."""
    module = ("networks.classifier", "classify.network")
    network_settings = of_subcam("NetworkSettings", "networks.settings", "networks.backbones")
    machine_settings = of_subcam("MachineSettings", "runtime.machine.settings", "machine")
    build_fabric = of_subcam("build_fabric", "runtime.devices", "machine")
    multiscale_response = of_subcam("multiscale_response", "cam.multiscale")
    torch.manual_seed(0)
    config = of_subcam("ModelConfig", *module)(
        network=network_settings(name="mobilenetv2_100", weights="none"),
        class_names=tuple(f"class {index}" for index in range(CLASSES)),
    )
    machine = machine_settings(accelerator="cpu", threads=torch.get_num_threads())
    fabric = build_fabric(machine, precision=machine.resolved_inference_precision)
    network = of_subcam("for_inference", *module)(of_subcam("ClassificationNetwork", *module)(config).eval(), fabric)
    height, width = (48, 64) if quick else (480, 640)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, height, width), np.uint8))
    labels = torch.zeros(2, CLASSES, dtype=torch.uint8)
    labels[:, list(PRESENT)] = 1
    return lambda: multiscale_response(network, images, labels, scales=(1.0, 0.5, 1.5, 2.0))


CASES = {"walk": walk, "response": response}


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    for line in sys.stdin:
        task = json.loads(line)
        call = CASES[task["case"]](quick=task["quick"])
        start, cpu_start = time.perf_counter(), time.process_time()
        call()
        found = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
