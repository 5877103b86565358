"""Any architecture of segmentation-models-pytorch on any of its encoders, as a network from images to logits."""

import copy
import inspect
import logging
import math
from dataclasses import replace
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from subcam.data.records import suggest
from subcam.errors import CheckpointError, SettingsError
from subcam.networks.backbones.build import freeze_parameters, metadata_triple, set_batch_norm_eval
from subcam.networks.logit_grid import Grid
from subcam.networks.published_weights import PACKAGE, retries_said_once
from subcam.networks.settings import NO_FILE, NetworkSettings, Triple
from subcam.networks.weight_files import load_into, load_state, read_metadata

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TIMM_PREFIX = "tu-"
PROBE_SIDE = 256
"""A multiple of every common stride."""

ANY_SIZE_ARGUMENTS: tuple[dict[str, bool], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
"""What makes timm's families take images of any size; each is tried in turn."""

_log = logging.getLogger(__name__)


def smp_architectures() -> tuple[str, ...]:
    """Names of the architectures, as `architecture` takes them."""
    from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING

    return tuple(MODEL_ARCHITECTURES_MAPPING)


class SmpModel(nn.Module):
    """An architecture of segmentation-models-pytorch, whose last upsampling is left to the caller.

    grid: of its logits. settings: as given, with `mean` and `std` filled in.
    """

    def __init__(self, architecture: str, settings: NetworkSettings, channels: int) -> None:
        """Build it with the encoder's initial weights.

        `settings.name` is an encoder of segmentation-models-pytorch ("resnet34", "mit_b0") or a timm model; its
        `weights` are "none", "timm" (those that the library publishes) or a file of the encoder;
        `output_stride` and `model_args` go to the architecture.

        Raises:
            SettingsError: no such encoder, or the architecture cannot take it or one of the arguments.
            CheckpointError: weights that cannot be had, read or fitted.
        """
        super().__init__()
        encoder = _encoder_name(settings.name)
        arguments = _arguments(architecture, encoder, settings)
        self.model, self.grid, arguments = _build(architecture, encoder, arguments, channels)
        if settings.weights == "timm":
            self.model = _fetch(architecture, encoder, arguments, channels)
        if settings.weights == PACKAGE:
            raise SettingsError(
                f"weights {PACKAGE!r} are for DeepLab alone, got the architecture {architecture}; give"
                " --segment.architecture deeplabv3plus, or other weights"
            )
        if settings.weights not in NO_FILE:
            _load_encoder(self.model.encoder, settings.weights)
        mean, std = _normalisation(encoder, settings)
        self.settings = replace(settings, neck_channels=0, mean=mean, std=std)
        freeze_parameters(self.model.encoder, settings.freeze)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels h w"]:
        """Logits of normalised images."""
        return self.model(x)

    def train(self, mode: bool = True) -> "SmpModel":
        """Set the mode of training; frozen batch norm of the encoder stays in evaluation mode."""
        super().train(mode)
        if self.settings.freeze_batch_norm:
            set_batch_norm_eval(self.model.encoder)
        return self

    def body_and_heads(self) -> tuple[nn.Module, list[nn.Module]]:
        """What was pretrained, and what is new and learns at the heads' rate."""
        return self.model.encoder, [self.model.decoder, self.model.segmentation_head]


def _encoder_name(name: str) -> str:
    """The name by which the library knows the encoder; timm's models carry a prefix there."""
    from segmentation_models_pytorch.encoders import get_encoder_names

    own = get_encoder_names()
    if name in own:
        return name
    plain = name.removeprefix(TIMM_PREFIX)
    if timm.is_model(plain.partition(".")[0]):
        return TIMM_PREFIX + plain
    raise SettingsError(
        f"no encoder is called '{name}'; expected a timm model with features of several strides, or one of"
        f" segmentation-models-pytorch: {suggest(name, (*own, *timm.list_models(pretrained=True)))}"
    )


def _arguments(architecture: str, encoder: str, settings: NetworkSettings) -> dict[str, Any]:
    """What the architecture's constructor is given beside encoder and classes."""
    from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING

    accepted = inspect.signature(MODEL_ARCHITECTURES_MAPPING[architecture].__init__).parameters
    unknown = [name for name in settings.model_args if name not in accepted]
    if unknown and not encoder.startswith(TIMM_PREFIX):  # timm's constructors take more, and refuse what they do not
        raise SettingsError(f"'{architecture}' has no argument '{unknown[0]}'; it has: {', '.join(list(accepted)[1:])}")
    arguments: dict[str, Any] = dict(settings.model_args)
    if settings.output_stride is not None:
        if "encoder_output_stride" not in accepted:
            raise SettingsError(
                f"'{architecture}' uses all strides of its encoder; got output_stride={settings.output_stride}, leave"
                " it out or choose deeplabv3, deeplabv3plus or pan"
            )
        arguments["encoder_output_stride"] = settings.output_stride
    if "upsampling" in accepted:
        # Logits stay on the decoder's own grid; the caller brings them to the image's size, once.
        arguments.setdefault("upsampling", 1)
    return arguments


def _build(
    architecture: str, encoder: str, arguments: dict[str, Any], channels: int
) -> tuple[Any, Grid, dict[str, Any]]:
    """The model with random weights, its grid, and the arguments that made it take images of any size."""
    from segmentation_models_pytorch import create_model

    errors: list[Exception] = []
    for further in ANY_SIZE_ARGUMENTS if encoder.startswith(TIMM_PREFIX) else ANY_SIZE_ARGUMENTS[:1]:
        try:
            model = create_model(architecture, encoder, encoder_weights=None, classes=channels, **arguments, **further)
            grid = _grid(model)
        except Exception as error:  # Architectures refuse in their own ways, from KeyError to a bare assert.
            errors.append(error)
        else:
            return model, grid, arguments | further
    given = ", ".join(f"{key}={value}" for key, value in arguments.items() if key != "upsampling")
    raise SettingsError(
        f"'{architecture}' cannot be built on '{encoder}'{f' with {given}' if given else ''}"
        f" ({type(errors[0]).__name__}: {errors[0]}). Choose another encoder or architecture"
    ) from errors[0]


def _grid(model: Any) -> Grid:
    """The grid of a model, read on the meta device: shapes without numbers."""
    probe = copy.deepcopy(model).to("meta").eval()

    def cells(side: int) -> int:
        with torch.no_grad():
            return probe(torch.empty(1, 3, side, side, device="meta")).shape[-1]

    def works(side: int) -> bool:
        try:
            return cells(side) > 0
        except RuntimeError:
            return False

    stride = PROBE_SIDE // (cells(2 * PROBE_SIDE) - cells(PROBE_SIDE))
    multiple = math.lcm(stride, int(model.encoder.output_stride))
    while not works(PROBE_SIDE + multiple) and multiple < PROBE_SIDE:  # pyramids that halve once more than they say
        multiple *= 2
    least = multiple
    while not works(least) and least < PROBE_SIDE:  # pyramids that pool more often than so small an image allows
        least += multiple
    return Grid(stride=stride, pad_multiple=multiple, least_side=least)


def _fetch(architecture: str, encoder: str, arguments: dict[str, Any], channels: int) -> Any:
    """The model again, its encoder with the weights that the library publishes."""
    from segmentation_models_pytorch import create_model, encoders

    weights: str | bool = True
    if not encoder.startswith(TIMM_PREFIX):
        available = list(encoders.encoders[encoder]["pretrained_settings"])
        weights = "imagenet" if "imagenet" in available else available[0]
    try:
        with retries_said_once():
            return create_model(architecture, encoder, encoder_weights=weights, classes=channels, **arguments)
    except Exception as error:  # The model itself was built before, so this is about fetching the weights.
        reason = (str(error).strip() or "no message").splitlines()[0]
        raise CheckpointError(
            f"weights of the encoder '{encoder}' could not be fetched ({type(error).__name__}: {reason}). Give a local"
            " file (.safetensors, .pth) as weights, or 'none' to start from random ones"
        ) from error


def _load_encoder(encoder: nn.Module, path: str) -> None:
    """Put a file of the encoder's weights in place; what lies behind the last feature the encoder gives is left out.

    timm's feature extractors write "stages_0" for "stages.0": names are the same that differ in no more than that.
    """
    inner = getattr(encoder, "model", None)  # timm's models are wrapped
    target = inner if isinstance(inner, nn.Module) else encoder
    own = {name.replace("_", "."): name for name in target.state_dict()}
    state = load_state(path)
    kept = {own[name.replace("_", ".")]: tensor for name, tensor in state.items() if name.replace("_", ".") in own}
    left = sorted(name for name in state if name.replace("_", ".") not in own)
    load_into(target, kept, source=path)
    if left:
        _log.info("%s: the encoder has no place for %d of its tensors (%s, ...)", path, len(left), left[0])


def _normalisation(encoder: str, settings: NetworkSettings) -> tuple[Triple, Triple]:
    """Mean and deviation of RGB in 0..1: the settings', else the weights' own, else ImageNet's."""
    preprocessing: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    if encoder.startswith(TIMM_PREFIX):
        record = timm.get_pretrained_cfg(encoder.removeprefix(TIMM_PREFIX))
        preprocessing |= {"mean": record.mean, "std": record.std} if record else {}
    elif settings.weights == "timm":
        from segmentation_models_pytorch.encoders import get_preprocessing_params

        preprocessing |= get_preprocessing_params(encoder)
    file = settings.weights
    metadata = {} if file in NO_FILE else read_metadata(file)
    mean = settings.mean or metadata_triple(metadata, "mean", file) or _triple(preprocessing["mean"])
    std = settings.std or metadata_triple(metadata, "std", file) or _triple(preprocessing["std"])
    return mean, std


def _triple(values: Any) -> Triple:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
