"""All settings of segmentation, side by side."""

from dataclasses import dataclass, field, replace
from typing import Literal

from subcam.errors import SettingsError
from subcam.networks.backbones.build import NetworkSettings
from subcam.networks.segmenter import DEEPLAB, SegmentationConfig
from subcam.predict.tiles import InferenceSettings
from subcam.stages.segment import TrainSettings

MaskKind = Literal["pseudo", "truth"]
"""What a segmentation network learns from: the pseudo masks of a round, or true ones (full supervision)."""

SAME = "same"


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """Settings of segmentation (Section 4.4).

    Attributes:
        train_on: the masks to train a network on, one network each; none trains none. "truth" needs true masks of the
            training images and tells what share of full supervision the pseudo masks reach.
        architecture: "deeplabv2" (the paper's), "deeplabv3plus", or a name of segmentation-models-pytorch ("unet",
            "segformer", ...).
        network: its backbone or encoder. With the name "same" it is the run's, weights and all, and of the fields here
            only `output_stride` counts.
        train: how it is trained.
        predict: how it looks at the images that are scored.
        multi_scale_inputs: scales at which each image is looked at besides its own, in training and after;
            DeepLab-v2 has 0.5 and 0.75.
    """

    train_on: tuple[MaskKind, ...] = ("pseudo",)
    architecture: str = DEEPLAB
    network: NetworkSettings = field(default_factory=lambda: NetworkSettings(name=SAME))
    multi_scale_inputs: tuple[float, ...] = ()
    train: TrainSettings = field(default_factory=TrainSettings)
    predict: InferenceSettings = field(default_factory=InferenceSettings)

    def __post_init__(self) -> None:
        if len(set(self.train_on)) < len(self.train_on):
            raise SettingsError(f"expected each kind of mask once in train_on, got {' '.join(self.train_on)}")

    def config(self, *, run_network: NetworkSettings, class_names: tuple[str, ...]) -> SegmentationConfig:
        """The network to train; `run_network` is what the name "same" stands for."""
        network = self.network
        if network.name == SAME:
            # What is frozen and the neck are the classifier's own affair.
            network = replace(run_network, output_stride=network.output_stride, neck_channels=0, freeze=())
        return SegmentationConfig(
            network=network,
            class_names=class_names,
            architecture=self.architecture,
            multi_scale_inputs=self.multi_scale_inputs,
        )
