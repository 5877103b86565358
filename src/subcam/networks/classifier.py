"""The classification network: feature extractor E, parent classifier H_p, sub-category classifier H_s (Section 3.2)."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from subcam.checks.fields import Entries, Range, Settings, Share
from subcam.networks.backbones.build import build_backbone
from subcam.networks.fast.compiled import Compiled
from subcam.networks.fast.copies import fused_for_inference
from subcam.networks.model_folder import CLASSIFICATION, load_network, save_network
from subcam.networks.normalise import Normalise
from subcam.networks.settings import NetworkSettings
from subcam.networks.weight_files import CLASSIFIER_HEADS, load_into, load_state, reference_heads
from subcam.prototypes.classifier import PrototypeClassifier
from subcam.runtime.devices import Fabric
from subcam.runtime.documents.plain_values import from_plain

RENAMED = {"num_local": "num_objects", "local_classifier": "prototype_classifier"}
"""Names in the files of 0.1.0, and what they are called now."""


class Logits(NamedTuple):
    """Logits of the parents and sub-categories, and of the prototypes at each position; None for what is not there."""

    parent: Float[Tensor, "batch classes"]
    subcategory: Float[Tensor, "batch subcategories"] | None
    prototypes: Float[Tensor, "batch classes prototypes gh gw"] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Settings):
    """All that is needed to build a saved network again; stands beside its weights as `config.json`.

    num_subcategories: K of H_s.
    num_objects, num_context: prototypes of each class's objects and of their context; 0 for no prototype classifier.
    """

    network: NetworkSettings
    class_names: Annotated[tuple[str, ...], Entries(most=65_534)]
    num_subcategories: Annotated[int, Range(0, 10_000)] = 0
    num_objects: Annotated[int, Range(0, 10_000)] = 0
    num_context: Annotated[int, Range(0, 10_000)] = 0
    head_dropout: Share = 0.0


class ClassificationNetwork(nn.Module):
    """E, global average pooling, and linear classifiers without bias on top, so that Eq. 1 holds exactly.

    Images enter as RGB in 0..255 of any dtype; they are normalised here with what the backbone was trained with.
    """

    def __init__(self, config: ModelConfig, *, weights: str | None = None) -> None:
        """Build the network; `weights` overrides where the backbone's come from ("none" before loading a saved one)."""
        super().__init__()
        self.autocast: Callable[[], AbstractContextManager] = nullcontext
        self.compiled: Compiled | None = None
        self.backbone = build_backbone(config.network.started_from(weights))
        # The backbone knows its normalisation from its weights' record; it must stay with the saved network.
        self.config = replace(config, network=replace(self.backbone.settings, weights=config.network.weights))
        self.normalise = Normalise(self.backbone.mean, self.backbone.std)
        num_classes = len(config.class_names)
        self.dropout = nn.Dropout2d(config.head_dropout)
        self.parent_head = nn.Linear(self.backbone.num_features, num_classes, bias=False)
        self.subcategory_head = (
            nn.Linear(self.backbone.num_features, num_classes * config.num_subcategories, bias=False)
            if config.num_subcategories
            else None
        )
        for head in (self.parent_head, self.subcategory_head):
            if head is not None:
                nn.init.xavier_uniform_(head.weight)
        self.prototype_classifier = (
            PrototypeClassifier(
                num_classes=num_classes,
                num_objects=config.num_objects,
                num_context=config.num_context,
                dim=self.backbone.num_features,
            )
            if config.num_objects
            else None
        )

    @property
    def fill_colour(self) -> tuple[int, int, int]:
        """The RGB colour (0..255) that normalises to nearly zero: it fills crops that reach over an image's edge."""
        red, green, blue = (round(255 * channel) for channel in self.backbone.mean)
        return red, green, blue

    def body_and_heads(self) -> tuple[nn.Module, list[nn.Module]]:
        """What was pretrained, and what is new and learns at the heads' rate."""
        heads = [self.backbone.neck, self.parent_head, self.subcategory_head, self.prototype_classifier]
        return self.backbone.body, [head for head in heads if head is not None]

    def feature_map(self, images: Shaped[Tensor, "batch 3 h w"]) -> Float[Tensor, "batch dim gh gw"]:
        """f(x, y) = E(I) for RGB images in 0..255."""
        with self.autocast():
            return (self.compiled or self.backbone)(self.normalise(images)).float()

    def classify(self, features: Float[Tensor, "batch dim gh gw"]) -> Logits:
        """Apply H_p and H_s to the pooled feature map, and the prototype classifier to each position of it."""
        kept = self.dropout(features)
        pooled = kept.mean((2, 3))
        return Logits(
            self.parent_head(pooled),
            self.subcategory_head(pooled) if self.subcategory_head else None,
            self.prototype_classifier(kept) if self.prototype_classifier else None,
        )

    def forward(self, images: Shaped[Tensor, "batch 3 h w"]) -> Logits:
        """Logits of parents and sub-categories."""
        return self.classify(self.feature_map(images))

    def with_prototypes(
        self, prototypes: Float[Tensor, "classes prototypes dim"], *, num_objects: int
    ) -> "ClassificationNetwork":
        """A copy with a prototype classifier of these prototypes, in place of the one that it may have.

        Args:
            prototypes: of each class; the first `num_objects` are of its objects, the others of its context.
            num_objects: prototypes of each class's objects.
        """
        config = replace(self.config, num_objects=num_objects, num_context=prototypes.shape[1] - num_objects)
        copy = ClassificationNetwork(config, weights="none")
        assert copy.prototype_classifier is not None
        copy.prototype_classifier.set_prototypes(prototypes)
        state = self.state_dict() | {
            f"prototype_classifier.{name}": value for name, value in copy.prototype_classifier.state_dict().items()
        }
        copy.load_state_dict(state)
        return copy.train(self.training)

    def load_reference(self, path: str) -> None:
        """Take E, H_p and, where this network has one, H_s from a file of weights.

        It is a checkpoint of AffinityNet or SC-CAM, or the weights of a timm model of this name with its classifier,
        whose bias is left out: it is the same at each position.

        Raises:
            CheckpointError: the file, its names or its shapes do not fit; lists them.
        """
        state = load_state(path)
        load_into(self.backbone.body, state, drop=CLASSIFIER_HEADS, source=path)
        heads = reference_heads(state)
        wanted = self.parent_head.weight.shape
        fitting = [
            name
            for name, tensor in state.items()
            if any(fnmatchcase(name, pattern) for pattern in CLASSIFIER_HEADS)
            and tensor.ndim in (2, 4)
            and tensor.flatten(1).shape == wanted
        ]
        if "parent" not in heads and len(fitting) == 1:
            heads["parent"] = state[fitting[0]].flatten(1)
        for name, head in (("parent", self.parent_head), ("subcategory", self.subcategory_head)):
            if head is not None:
                weight = {"weight": heads[name]} if name in heads else {}
                load_into(head, weight, source=f"{path} ({name} classifier)")

    def save(self, folder: Path | str) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, each atomically."""
        save_network(folder, self, self.config, CLASSIFICATION)

    @classmethod
    def load(cls, folder: Path | str) -> "ClassificationNetwork":
        """Read what `save` wrote.

        Raises:
            CheckpointError: a file is missing or does not fit, or the folder holds another kind of network; names it.
        """

        def build(config: Mapping[str, Any]) -> ClassificationNetwork:
            return cls(from_plain(ModelConfig, config), weights="none")

        return load_network(folder, CLASSIFICATION, build, renamed=RENAMED)


def for_inference(network: ClassificationNetwork, fabric: Fabric, *, compiled: bool = False) -> ClassificationNetwork:
    """A copy in evaluation mode on the device, its backbone in the device's precision, its convolutions fused.

    compiled: whether its backbone goes through torch.compile where that works (`MachineSettings.compile`).
    """
    fast = fused_for_inference(network).to(memory_format=torch.channels_last)
    fast.autocast = fabric.autocast
    fabric.to_device(fast)
    fast.compiled = Compiled(fast.backbone, what=f"the network {network.config.network.name}") if compiled else None
    return fast
