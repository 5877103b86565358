"""The segmentation network (Section 4.4): images in, logits of background and classes on a coarser grid out."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from subcam.data.records import require_room, suggest
from subcam.errors import SettingsError
from subcam.networks.decoders.deeplab import DeepLabV2
from subcam.networks.decoders.deeplab_v3plus import DeepLabV3Plus
from subcam.networks.fast.compiled import Compiled
from subcam.networks.fast.copies import fused_for_inference
from subcam.networks.model_folder import SEGMENTATION, load_network, save_network
from subcam.networks.normalise import Normalise
from subcam.networks.settings import DEEPLAB, DEEPLAB_PLUS, NetworkSettings, SegmentationConfig
from subcam.runtime.devices import Fabric
from subcam.runtime.documents.plain_values import from_plain

if TYPE_CHECKING:
    from subcam.networks.decoders.smp_models import SmpModel
else:  # its import takes seconds, and prediction with a DeepLab does without it
    SmpModel = Any


class SegmentationNetwork(nn.Module):
    """Logits of every class on a grid of cells, for RGB images in 0..255 of any dtype and any size.

    The grid has ceil(height / stride) x ceil(width / stride) cells. Cell (i, j) stands for the pixels stride * i ..
    stride * (i + 1) - 1 and likewise across: its centre is at stride * i + (stride - 1) / 2, and the last cells may
    reach over the image's edge. `upsample_logits` reads it so, in training and after.

    Attributes: config; stride (pixels to one cell); fill_colour (RGB 0..255 that normalises to nearly zero).
    """

    def __init__(self, config: SegmentationConfig, *, weights: str | None = None) -> None:
        """Build the network; `weights` overrides where the backbone's come from ("none" before loading a saved one).

        Raises:
            SettingsError: no such architecture or backbone; says what there is.
            CheckpointError: weights that cannot be had, read or fitted.
            BadInputError: more classes than a mask has values.
        """
        super().__init__()
        self.autocast: Callable[[], AbstractContextManager] = nullcontext
        self.compiled: Compiled | None = None
        network = config.network.started_from(weights)
        require_room(config.class_names, where="the segmentation network")
        channels = len(config.class_names) + 1
        self.model = _build(config, network, channels)
        # Normalisation and layout come with the weights; they must stay with the saved network.
        self.config = replace(
            config,
            network=replace(self.model.settings, weights=config.network.weights),
            caffe_layout=isinstance(self.model, DeepLabV2) and self.model.caffe_layout,
            caffe_sizes=isinstance(self.model, DeepLabV2) and self.model.caffe_sizes,
        )
        assert self.model.settings.mean is not None
        assert self.model.settings.std is not None
        self.normalise = Normalise(self.model.settings.mean, self.model.settings.std)
        self.stride = self.model.grid.stride

    @property
    def fill_colour(self) -> tuple[int, int, int]:
        """The RGB colour (0..255) that normalises to nearly zero: it fills crops that reach over an image's edge."""
        red, green, blue = (round(255 * channel) for channel in self.config.network.mean or (0.5, 0.5, 0.5))
        return red, green, blue

    def body_and_heads(self) -> tuple[nn.Module, list[nn.Module]]:
        """What was pretrained, and what is new and learns at the heads' rate."""
        return self.model.body_and_heads()

    def forward(self, images: Shaped[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels h w"]:
        """Logits; with multi-scale inputs the greatest over the scales at each cell."""
        by_scale = self.logits_by_scale(images)
        return torch.stack(by_scale).amax(0) if len(by_scale) > 1 else by_scale[0]

    def logits_by_scale(
        self, images: Shaped[Tensor, "batch 3 height width"]
    ) -> list[Float[Tensor, "batch channels h w"]]:
        """Logits at the image's own scale, then at each of the multi-scale inputs, all on the grid of the first."""
        normalised = self.model.grid.pad(self.normalise(images))
        model = self.compiled or self.model
        with self.autocast():
            by_scale = [model(normalised).float()]
            for scale in self.config.multi_scale_inputs:
                small = F.interpolate(normalised, scale_factor=scale, mode="bilinear", align_corners=False)
                logits = model(self.model.grid.pad(small)).float()
                # Two more cells, so that none of the first grid is missing where the scaled image's size was cut.
                logits = F.pad(logits, (0, 2, 0, 2), mode="replicate")
                by_scale.append(F.interpolate(logits, scale_factor=1 / scale, mode="bilinear", align_corners=False))
        return [self.model.grid.crop(logits, (images.shape[2], images.shape[3])) for logits in by_scale]

    def save(self, folder: Path | str) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, each atomically."""
        save_network(folder, self, self.config, SEGMENTATION)

    @classmethod
    def load(cls, folder: Path | str) -> "SegmentationNetwork":
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing or does not fit, or the folder holds another kind of network; names it.
        """
        return load_network(
            folder, SEGMENTATION, lambda config: cls(from_plain(SegmentationConfig, config), weights="none")
        )


def upsample_logits(
    logits: Float[Tensor, "batch channels h w"], size: tuple[int, int], *, stride: int
) -> Float[Tensor, "batch channels height width"]:
    """Logits (or probabilities) of cells at each pixel of an image of (height, width) `size`, bilinear.

    Cell (i, j) stands for the pixels stride * i .. stride * (i + 1) - 1 and likewise across, whatever the image's
    size: the grid is enlarged by exactly `stride` (align_corners False), and what reaches over the image is cut off.
    """
    if stride > 1:
        logits = F.interpolate(logits, scale_factor=float(stride), mode="bilinear", align_corners=False)
    return logits[:, :, : size[0], : size[1]]


def for_inference(network: SegmentationNetwork, fabric: Fabric, *, compiled: bool = False) -> SegmentationNetwork:
    """A copy in evaluation mode on the device, computing in the device's precision, its convolutions fused.

    compiled: whether it goes through torch.compile where that works (`MachineSettings.compile`).
    """
    fast = fused_for_inference(network).to(memory_format=torch.channels_last)
    fast.autocast = fabric.autocast
    fabric.to_device(fast)
    fast.compiled = Compiled(fast.model, what=f"the network {network.config.architecture}") if compiled else None
    return fast


def _build(config: SegmentationConfig, network: NetworkSettings, channels: int) -> DeepLabV2 | DeepLabV3Plus | SmpModel:
    if config.architecture == DEEPLAB:
        return DeepLabV2(network, channels, caffe_layout=config.caffe_layout, caffe_sizes=config.caffe_sizes)
    if config.architecture == DEEPLAB_PLUS:
        return DeepLabV3Plus(network, channels)
    from subcam.networks.decoders.smp_models import SmpModel, smp_architectures

    known = tuple(dict.fromkeys((DEEPLAB, DEEPLAB_PLUS, *smp_architectures())))
    if config.architecture not in known:
        raise SettingsError(
            f"no segmentation architecture is called '{config.architecture}':"
            f" {suggest(config.architecture, known)} There are: {', '.join(known)}"
        )
    return SmpModel(config.architecture, network, channels)
