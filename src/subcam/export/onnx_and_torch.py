"""A segmentation network as a program without this package: ONNX, or a file of torch.export (.pt2).

The program takes RGB images 0..255 of any size, and gives logits or probabilities at their size: normalisation,
padding and the bilinear enlargement are inside it. It is compared with the network before it is written.
"""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from subcam._version import __version__
from subcam.checks.arguments import takes_arrays
from subcam.data.readers.class_names import BACKGROUND_NAME
from subcam.export.program_check import (
    ExportError,
    Output,
    check_onnx,
    check_program,
    first_line,
    import_extra,
    plain_copy,
)
from subcam.networks.logit_grid import Grid
from subcam.networks.segmenter import SegmentationNetwork
from subcam.runtime.files import atomic_write

InputType = Literal["uint8", "float32"]

METADATA_FILE = "subcam.json"
"""Name under which a .pt2 file holds its metadata; an ONNX file has them as its metadata properties."""

INPUT_NAME = "images"
FREE_SIDES = {0: "batch", 2: "height", 3: "width"}
TRACED_SHAPE = (2, 97, 131)
"""Sides that no stride divides, so that nothing about an image that happens to fit is taken for granted."""


@dataclass(frozen=True, kw_only=True)
class TraceableGrid(Grid):
    """The same grid, computed so that a tracer may leave the sizes open.

    `Grid` rounds up by negative numbers, and runtimes that divide integers towards zero would round those down; a
    maximum of two sizes would be decided once for all; and so would be whether a slice is all of a map.
    """

    def pad(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 padded_h padded_w"]:
        """As `Grid.pad`."""
        bottom, right = (self._padded(side) - side for side in images.shape[2:])
        return F.pad(images, (0, right, 0, bottom))

    def cells(self, size: tuple[Any, Any]) -> tuple[Any, Any]:
        """As `Grid.cells`, of sides that may be left open."""
        rows, columns = ((side + self.stride - 1) // self.stride for side in size)
        return rows, columns

    def crop(
        self, logits: Float[Tensor, "batch channels rows columns"], size: tuple[Any, Any]
    ) -> Float[Tensor, "batch channels h w"]:
        """As `Grid.crop`."""
        return _upper_left(logits, *self.cells(size))

    def _padded(self, side: Any) -> Any:
        multiple = (side + self.pad_multiple - 1) // self.pad_multiple * self.pad_multiple
        return torch.sym_max(multiple, self.least_side) if self.least_side > self.pad_multiple else multiple


class ImageProgram(nn.Module):
    """The network with what stands before and after it."""

    def __init__(self, network: SegmentationNetwork, *, output: Output) -> None:
        super().__init__()
        self.network = plain_copy(network)
        grid = network.model.grid
        self.network.model.grid = TraceableGrid(
            stride=grid.stride, pad_multiple=grid.pad_multiple, least_side=grid.least_side
        )
        self.output = output

    def forward(self, images: Shaped[Tensor, "batch 3 height width"]) -> Tensor:
        """Logits or probabilities (batch, channels, height, width) of RGB images in 0..255."""
        height, width = images.shape[2:]
        logits = self.network(images)
        if self.network.stride > 1:
            logits = F.interpolate(
                logits, scale_factor=float(self.network.stride), mode="bilinear", align_corners=False
            )
            logits = _upper_left(logits, height, width)
        return logits if self.output == "logits" else logits.softmax(1)


def _upper_left(logits: Tensor, rows: Any, columns: Any) -> Tensor:
    # By indices and not by a slice, for the reason that `TraceableGrid` gives.
    logits = logits.index_select(2, torch.arange(rows, device=logits.device))
    return logits.index_select(3, torch.arange(columns, device=logits.device))


def program_metadata(network: SegmentationNetwork, *, output: Output) -> dict[str, str]:
    """What a user of the program has to know, as text: class names by channel (JSON), input, output, version."""
    return {
        "class_names": json.dumps([BACKGROUND_NAME, *network.config.class_names], ensure_ascii=False),
        "input": "RGB images, 0..255, batch x 3 x height x width, any height and width",
        "output": f"{output}, batch x classes x height x width",
        "normalisation": "inside the graph",
        "architecture": f"{network.config.architecture} on {network.config.network.name}",
        "producer": f"subcam {__version__}",
    }


@takes_arrays()
def export_torch(
    network: SegmentationNetwork, path: Path, *, output: Output = "logits", input_type: InputType = "uint8"
) -> float:
    """Write the network as a torch.export program; `torch.export.load(path).module()` runs it without this package.

    Args:
        network: any segmentation network; it is left as it is.
        path: the .pt2 file, replaced if it is there.
        output: what the program gives.
        input_type: of the images it takes.

    Returns:
        The greatest difference to the network on images of several sizes (see `check_program`).

    Raises:
        ExportError: the network cannot be traced, or the program does not compute the same.
    """
    traced = _traced(network, output=output, input_type=input_type)
    content = io.BytesIO()
    with _quiet():
        torch.export.save(
            traced, content, extra_files={METADATA_FILE: json.dumps(program_metadata(network, output=output))}
        )
        content.seek(0)
        loaded = torch.export.load(content).module()
    with torch.no_grad():
        difference = check_program(
            lambda images: loaded(images).numpy(), network, output=output, dtype=getattr(torch, input_type)
        )
    with atomic_write(path, "wb") as file:
        file.write(content.getbuffer())
    return difference


@takes_arrays()
def export_onnx(
    network: SegmentationNetwork, path: Path, *, output: Output = "logits", input_type: InputType = "uint8"
) -> float:
    """Write the network as an ONNX file with input "images" and output "logits" or "probabilities".

    Arguments, result and errors are those of `export_torch`; the comparison is made in onnxruntime.

    Raises:
        ExportError: also where onnx, onnxruntime or onnxscript is not installed.
    """
    import_extra("onnxscript")
    import_extra("onnx")
    import_extra("onnxruntime")
    traced = _traced(network, output=output, input_type=input_type)
    try:
        with _quiet():
            program: Any = torch.onnx.export(
                traced, dynamo=True, input_names=[INPUT_NAME], output_names=[output], verbose=False
            )
    except Exception as error:  # the exporter raises nearly any kind
        raise ExportError(f"this network cannot be written as ONNX ({first_line(error)})") from error
    program.model.metadata_props.update(program_metadata(network, output=output))
    proto = program.model_proto
    _name_sides(proto.graph)
    content = proto.SerializeToString()
    difference = check_onnx(content, network, output=output, dtype=getattr(torch, input_type))
    with atomic_write(path, "wb") as file:
        file.write(content)
    return difference


def _name_sides(graph: Any) -> None:
    """Call the open sides of an ONNX graph by their names, where the tracer has numbered them."""
    (taken,) = graph.input
    names = {taken.type.tensor_type.shape.dim[side].dim_param: name for side, name in FREE_SIDES.items()}
    for value in (*graph.input, *graph.output, *graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), side.dim_param)


def _traced(network: SegmentationNetwork, *, output: Output, input_type: InputType) -> torch.export.ExportedProgram:
    batch, height, width = TRACED_SHAPE
    images = torch.zeros(batch, 3, height, width, dtype=getattr(torch, input_type))
    free = dict.fromkeys(FREE_SIDES, torch.export.Dim.DYNAMIC)
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(
                ImageProgram(network, output=output), (images,), dynamic_shapes={INPUT_NAME: free}
            )
    except Exception as error:  # the tracer raises nearly any kind
        raise ExportError(
            f"'{network.config.architecture}' on '{network.config.network.name}' cannot be traced by torch.export "
            f"({first_line(error)}); choose another architecture or backbone to export"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters warn of what is none of the user's concern, by warnings and in the log."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
