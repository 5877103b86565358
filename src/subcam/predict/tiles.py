"""Class probabilities of whole images of any size: scales, flips, and tiles for the large ones (Section 4.4).

In: a network whose logits stand on a coarser grid, and RGB images. Out: softmax probabilities at every pixel. What
comes out of a large image comes in bands of finished rows, so that no more than a row of tiles is held at a time.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Shaped, UInt8
from torch import Tensor

from subcam.checks.arguments import takes_arrays
from subcam.errors import SettingsError
from subcam.networks.fast.parts import in_parts
from subcam.networks.segmenter import upsample_logits
from subcam.predict.settings import InferenceSettings

TILE_GRID = 4
"""Tiles begin at multiples of this many cells, so that they begin with a cell at every scale of whole quarters too."""


@runtime_checkable
class LogitNetwork(Protocol):
    """RGB images in 0..255 to logits on a grid of cells of `stride` pixels, as `SegmentationNetwork`."""

    stride: int

    def __call__(self, images: Tensor, /) -> Tensor:
        """Logits [batch, channels, h, w] of images [batch, 3, height, width]."""


@takes_arrays()
def segment_probabilities(
    network: LogitNetwork,
    images: UInt8[Tensor, "batch 3 height width"],
    *,
    settings: InferenceSettings | None = None,
) -> Float32[Tensor, "batch channels height width"]:
    """Probabilities of background (channel 0) and classes at every pixel, averaged over scales and flips; no CRF.

    Args:
        network: in evaluation mode, on the images' device.
        images: images of one size, RGB 0..255.
        settings: the defaults if None.

    Raises:
        SettingsError: the tiles are too small for the network's cells.
    """
    height, width = images.shape[2:]
    probabilities: Tensor | None = None
    for top, band in probability_bands(network, images, settings=settings or InferenceSettings()):
        if band.shape[2] == height:
            return band
        if probabilities is None:
            probabilities = band.new_empty((*band.shape[:2], height, width))
        probabilities[:, :, top : top + band.shape[2]] = band
    assert probabilities is not None, "an image has at least one band"
    return probabilities


@takes_arrays()
def segment_labels(
    network: LogitNetwork,
    images: UInt8[Tensor, "batch 3 height width"],
    *,
    settings: InferenceSettings | None = None,
) -> UInt8[Tensor, "batch height width"]:
    """The most probable channel at every pixel: 0 background, c + 1 class c; no CRF.

    Needs one byte a pixel beside what one row of tiles takes. Arguments and errors as `segment_probabilities`.
    """
    labels = torch.empty((len(images), *images.shape[2:]), dtype=torch.uint8, device=images.device)
    for top, band in probability_bands(network, images, settings=settings or InferenceSettings()):
        # On a CPU torch's argmax takes six times as long as its max, which tells the place as well.
        labels[:, top : top + band.shape[2]] = band.max(1).indices
    return labels


def probability_bands(
    network: LogitNetwork, images: UInt8[Tensor, "batch 3 height width"], *, settings: InferenceSettings
) -> Iterator[tuple[int, Float32[Tensor, "batch channels rows width"]]]:
    """Yield (first row, probabilities of the rows from there) from top to bottom, each row once."""
    height, width = images.shape[2:]
    rows, columns = (
        tile_spans(side, settings.tile, overlap=settings.overlap, multiple=TILE_GRID * network.stride)
        for side in (height, width)
    )
    if len(rows) == len(columns) == 1:
        yield 0, _averaged(network, images, settings)
        return
    row_windows, column_windows = (tile_windows(spans, device=images.device) for spans in (rows, columns))
    unfinished: Tensor | None = None
    for index, (top, bottom) in enumerate(rows):
        band: Tensor | None = None
        for (left, right), window in zip(columns, column_windows, strict=True):
            tile = _averaged(network, images[:, :, top:bottom, left:right], settings)
            if band is None:
                band = tile.new_zeros((*tile.shape[:2], bottom - top, width))
            band[..., left:right] += tile.mul_(window).mul_(row_windows[index][:, None])
        assert band is not None, "a row has at least one tile"
        if unfinished is not None:
            band[:, :, : unfinished.shape[2]] += unfinished
        finished = (rows[index + 1][0] if index + 1 < len(rows) else height) - top
        # Copies, so that neither keeps the other's memory: the caller may hold the finished rows.
        yield top, band[:, :, :finished].clone()
        unfinished = band[:, :, finished:].clone()


def tile_spans(length: int, tile: int, *, overlap: int, multiple: int) -> list[tuple[int, int]]:
    """Where tiles begin and end along a side: each at most `tile` long, sharing at least `overlap` with the next.

    Tiles begin at multiples of `multiple`; the last ends with the side. One span where no tiles are needed.

    Raises:
        SettingsError: tile - overlap is less than `multiple`.
    """
    if not tile or length <= tile:
        return [(0, length)]
    step = (tile - overlap) // multiple * multiple
    if not step:
        raise SettingsError(
            f"expected tiles at least {multiple} pixels larger than their overlap for this network, got tile {tile} and"
            f" overlap {overlap}; enlarge tile, or give 0 to take images whole"
        )
    last = -(-(length - tile) // multiple) * multiple
    return [(start, min(start + tile, length)) for start in (*range(0, last, step), last)]


def tile_windows(spans: list[tuple[int, int]], *, device: torch.device | None = None) -> list[Float32[Tensor, " span"]]:
    """The weights of tiles along a side, 0..1; at each position they sum to 1 over the tiles.

    Between two tiles the weight passes over by a raised cosine in the middle half of what they share.
    """
    windows = [torch.ones(end - start, device=device) for start, end in spans]
    for (before, after), ((_, end), (start, _)) in zip(pairwise(windows), pairwise(spans), strict=True):
        shared = end - start
        place = (torch.arange(shared, device=device) + 0.5) / max(shared, 1)
        rise = 0.5 - 0.5 * torch.cos(math.pi * ((place - 0.25) * 2).clamp(0, 1))
        after[:shared] *= rise
        before[len(before) - shared :] *= rise.flip(0)
    # Where three tiles meet the pairs' weights sum to more than 1.
    total = torch.zeros(spans[-1][1], device=device)
    for (start, end), window in zip(spans, windows, strict=True):
        total[start:end] += window
    return [window / total[start:end] for (start, end), window in zip(spans, windows, strict=True)]


@torch.no_grad()
def _averaged(
    network: LogitNetwork, images: Shaped[Tensor, "batch 3 height width"], settings: InferenceSettings
) -> Float32[Tensor, "batch channels height width"]:
    """Probabilities of images that pass the network whole."""
    size = (images.shape[2], images.shape[3])
    total: Tensor | None = None
    for scale in settings.scales:
        scaled = _resized(images.float(), (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))))
        looks = torch.cat([scaled, scaled.flip(-1)]) if settings.flip else scaled
        logits = in_parts(network, looks.contiguous(memory_format=torch.channels_last)).float()
        logits = upsample_logits(logits, (scaled.shape[2], scaled.shape[3]), stride=network.stride)
        for part, flipped in zip(logits.split(len(images)), (False, True)[: 1 + settings.flip], strict=True):
            probabilities = _resized(part.flip(-1) if flipped else part, size).softmax(1)
            total = probabilities if total is None else total.add_(probabilities)
    assert total is not None, "there is at least one scale"
    return total.div_(len(settings.scales) * (2 if settings.flip else 1))


def _resized(maps: Float[Tensor, "batch channels h w"], size: tuple[int, int]) -> Float[Tensor, "batch channels _ _"]:
    """Bilinear, with antialiasing where it shrinks."""
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", antialias=True, align_corners=False)
