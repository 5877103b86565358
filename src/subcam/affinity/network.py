"""AffinityNet: features of several strides joined into one map whose distances are affinities (Section 3.3, [1])."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from subcam.affinity.grid import STRIDE
from subcam.affinity.loss import AffinityHead
from subcam.checks.fields import Settings
from subcam.networks.backbones.build import build_backbone
from subcam.networks.decoders.pyramid import feature_pyramid, plan_pyramid
from subcam.networks.model_folder import AFFINITY, load_network, save_network
from subcam.networks.normalise import Normalise
from subcam.networks.settings import NetworkSettings
from subcam.networks.weight_files import load_into, load_state
from subcam.runtime.documents.plain_values import from_plain

REFERENCE_HEAD = ("f8_3", "f8_4", "f8_5", "f9")


@dataclass(frozen=True, kw_only=True)
class AffinityConfig(Settings):
    """All that is needed to build a saved AffinityNet again."""

    network: NetworkSettings


class AffinityNetwork(nn.Module):
    """Images (RGB 0..255) to a feature map at stride 8 for `pair_affinity` and `pixel_affinity`."""

    def __init__(self, config: AffinityConfig, *, weights: str | None = None) -> None:
        """Build the network; `weights` overrides where the backbone's come from."""
        super().__init__()
        self.backbone = build_backbone(config.network.started_from(weights))
        self.config = AffinityConfig(network=replace(self.backbone.settings, weights=config.network.weights))
        self.normalise = Normalise(self.backbone.mean, self.backbone.std)
        self.plan = plan_pyramid(self.backbone)
        self.head = AffinityHead(self.plan.channels, strides=self.plan.strides)

    @property
    def fill_colour(self) -> tuple[int, int, int]:
        """The RGB colour (0..255) that normalises to nearly zero."""
        red, green, blue = (round(255 * channel) for channel in self.backbone.mean)
        return red, green, blue

    def forward(self, images: Shaped[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim h w"]:
        """Features on a grid of ceil(height / 8) x ceil(width / 8).

        The image is padded with zeros at the bottom and the right, as in psa: to a multiple of every stride, so that
        the cells of all features begin and end where those of the grid do.
        """
        height, width = images.shape[2:]
        multiple = math.lcm(STRIDE, *self.plan.strides)
        padded = F.pad(self.normalise(images), (0, -width % multiple, 0, -height % multiple))
        grid = (padded.shape[2] // STRIDE, padded.shape[3] // STRIDE)
        features = self.head(feature_pyramid(self.backbone, self.plan, padded), grid=grid)
        return features[:, :, : -(-height // STRIDE), : -(-width // STRIDE)]

    def load_reference(self, path: str) -> None:
        """Take all weights from a checkpoint of AffinityNet on ResNet-38.

        Raises:
            CheckpointError: the file, its names or its shapes do not fit; lists them.
        """
        state = load_state(path)
        head = {name: value for name, value in state.items() if name.partition(".")[0] in REFERENCE_HEAD}
        body = {name: value for name, value in state.items() if name not in head}
        load_into(self.backbone.body, body, source=path)
        load_into(self.head, head, source=f"{path} (affinity head)")

    def save(self, folder: Path | str) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, each atomically."""
        save_network(folder, self, self.config, AFFINITY)

    @classmethod
    def load(cls, folder: Path | str) -> "AffinityNetwork":
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing or does not fit, or the folder holds another kind of network; names it.
        """

        def build(config: Mapping[str, Any]) -> AffinityNetwork:
            return cls(from_plain(AffinityConfig, config), weights="none")

        return load_network(folder, AFFINITY, build)
