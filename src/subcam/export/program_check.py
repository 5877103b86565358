"""Whether an exported program computes what the network computes: both are run on images of several sizes."""

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from subcam.errors import SubcamError
from subcam.networks.segmenter import SegmentationNetwork, upsample_logits

Output = Literal["logits", "probabilities"]

SHAPES = ((1, 65, 97), (3, 64, 48), (2, 101, 160), (1, 33, 35))
"""Batch, height and width of the images: odd and even, higher and wider, multiples of the stride and none."""

TOLERANCE = 1e-4
INSTALL = "uv pip install onnx onnxruntime onnxscript"


class ExportError(SubcamError):
    """A network that cannot be written as a program, or a program that does not compute the same."""


def plain_copy(network: SegmentationNetwork) -> SegmentationNetwork:
    """A copy on the CPU that evaluates in float32, however the network itself is used at the moment."""
    plain = copy.deepcopy(network).cpu().eval()
    plain.autocast = nullcontext
    return plain


def network_output(
    network: SegmentationNetwork, images: Shaped[Tensor, "batch 3 height width"], *, output: Output
) -> Float[Tensor, "batch channels height width"]:
    """What a program of the network has to give: logits or probabilities at the size of the images."""
    with torch.no_grad():
        height, width = images.shape[2:]
        logits = upsample_logits(network(images), (height, width), stride=network.stride)
        return logits if output == "logits" else logits.softmax(1)


def check_program(
    program: Callable[[Tensor], np.ndarray],
    network: SegmentationNetwork,
    *,
    output: Output,
    dtype: torch.dtype,
    shapes: Sequence[tuple[int, int, int]] = SHAPES,
    tolerance: float = TOLERANCE,
) -> float:
    """The greatest difference between a program and its network, over images of several sizes.

    Differences are absolute for values up to 1 and relative to the greatest value of an image above that.

    Args:
        program: takes RGB 0..255 of `dtype` (batch, 3, height, width), gives (batch, channels, height, width).
        network: what the program was made from; it is left as it is.
        output: which of the two the program gives.
        dtype: uint8 or float32.
        shapes: batch, height and width of the images to compare on.
        tolerance: the greatest difference that is let through.

    Raises:
        ExportError: another shape or a greater difference; says on which size.
    """
    network = plain_copy(network)
    generator = torch.Generator().manual_seed(0)
    greatest = 0.0
    for batch, height, width in shapes:
        images = torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8).to(dtype)
        expected = network_output(network, images, output=output).numpy()
        where = f"on {batch} images of {width} x {height} pixels"
        try:
            result = program(images)
        except Exception as error:  # a runtime may raise nearly any kind
            raise ExportError(f"the exported program fails {where} ({first_line(error)}); {_ADVICE}") from error
        if result.shape != expected.shape:
            raise ExportError(
                f"the exported program gives {result.shape} {where}, expected {expected.shape}; {_ADVICE}"
            )
        difference = float(np.abs(result - expected).max() / max(1.0, np.abs(expected).max()))
        if not difference <= tolerance:
            raise ExportError(
                f"the exported program differs by {difference:.2g} {where}, expected at most {tolerance:g}; {_ADVICE}"
            )
        greatest = max(greatest, difference)
    return greatest


_ADVICE = "nothing was written. Another architecture, or another version of torch and onnxscript, may do"


def check_onnx(
    model: Path | bytes,
    network: SegmentationNetwork,
    *,
    output: Output,
    dtype: torch.dtype = torch.uint8,
    shapes: Sequence[tuple[int, int, int]] = SHAPES,
    tolerance: float = TOLERANCE,
) -> float:
    """The greatest difference between an ONNX file (or its bytes) in onnxruntime and the network in torch.

    Other arguments and errors are those of `check_program`; an `ExportError` also says that onnxruntime is missing.
    """
    runtime = import_extra("onnxruntime")
    session = runtime.InferenceSession(
        model if isinstance(model, bytes) else str(model), providers=["CPUExecutionProvider"]
    )
    (taken,) = session.get_inputs()

    def program(images: Tensor) -> np.ndarray:
        return session.run(None, {taken.name: images.numpy()})[0]

    return check_program(program, network, output=output, dtype=dtype, shapes=shapes, tolerance=tolerance)


def import_extra(name: str) -> Any:
    """A module of the packages onnx, onnxruntime and onnxscript.

    Raises:
        ExportError: it is not installed; says how.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ExportError(f"ONNX needs {name}, which is not installed ({error}); {INSTALL}") from error


def first_line(error: Exception) -> str:
    """An error's kind and the first line of what it says; what torch says fills pages."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
