"""What a chip can do at most: dense bf16 products, as its maker states them, or as measured where nobody is asked."""

import time
from dataclasses import dataclass

import torch

from benchmarks.gpu.given import Given

STATED = (
    ("GH200", 989.0),
    ("H200 NVL", 835.0),
    ("H200", 989.0),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.0),
    ("H800", 989.0),
    ("A100", 312.0),
    ("A800", 312.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("A40", 150.0),
    ("A30", 165.0),
)
"""TFLOP/s of dense bf16 products with sums in float32, without sparsity, from the makers' data sheets, by what is in a
device's name. The first that fits counts."""

SIDE = 8192


@dataclass(frozen=True, kw_only=True)
class Peak:
    """tflops: of bf16. source: "stated" (data sheet) or "measured". measured: of a matrix product here."""

    tflops: float
    source: str
    measured: float


def stated_tflops(name: str) -> float | None:
    """The peak of a device by its name; None for one that is not known."""
    return next((tflops for part, tflops in STATED if part in name), None)


def peak_of(given: Given) -> Peak:
    """The chip's peak; that of a large matrix product where the name is not known."""
    measured = measured_tflops(given)
    stated = stated_tflops(torch.cuda.get_device_name()) if given.on_gpu else None
    return Peak(tflops=stated or measured, source="stated" if stated else "measured", measured=measured)


def measured_tflops(given: Given, *, turns: int = 5) -> float:
    """TFLOP/s of the fastest of some bf16 products of random square matrices."""
    side = 64 if given.tiny else SIDE
    one, other = (torch.randn(side, side, device=given.torch_device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(turns):
        given.wait()
        started = time.perf_counter()
        one @ other
        given.wait()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e12
