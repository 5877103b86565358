"""The feature extractor E of the paper (Sec. 3.1): settings in, a network from images to feature maps out.

E is the wide ResNet-38 of the paper, any timm model with a spatial map, or a small network of our own for the built-in
images; on top, where asked for, the 3x3 convolution that the paper's text puts before the pooling (Sec. 4.1).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from subcam.errors import CheckpointError, SettingsError
from subcam.networks.backbones import mobilenetv2, resnet38, tiny
from subcam.networks.model_folder import read_backbone
from subcam.networks.mxnet_params import read_mxnet_params, resnet38_from_mxnet
from subcam.networks.networks_of_run import WEIGHTS_FILE
from subcam.networks.published_weights import PACKAGE, packaged_state, require_packaged
from subcam.networks.settings import NO_FILE, NetworkSettings, Triple
from subcam.networks.weight_files import (
    CLASSIFIER_HEADS,
    find_misfit,
    load_into,
    load_state,
    no_file,
    read_metadata,
    split_heads,
)

SAME = {"pad_type": "same"}
"""Arguments of timm that our own MobileNetV2 knows too."""

_OWN = ("resnet38", "tiny")
"""Networks that timm does not have."""


PROBE_SIDE = 224
"""Pixels of the image that shows at which layer a map becomes how coarse."""


class Backbone(nn.Module):
    """A network from normalised RGB images to feature maps.

    body: the pretrained network, under the names of its checkpoints. neck: the 3x3 convolution, or None.
    num_features, stride: channels of the map; pixels of the image to one of the map.
    pad_multiple: images whose sides are no multiples of it are padded with zeros by `forward`; 1 if none are.
    mean, std: how images (RGB in 0..1) are to be normalised by the caller, per channel.
    settings: those it was built from with `mean` and `std` filled in, so that they stay with the weights.
    """

    def __init__(
        self,
        body: nn.Module,
        *,
        read_map: Callable[[nn.Module, Tensor], Tensor],
        num_features: int,
        stride: int,
        pad_multiple: int,
        mean: Triple,
        std: Triple,
        settings: NetworkSettings,
    ) -> None:
        super().__init__()
        self.body = body
        self.neck = nn.Conv2d(num_features, settings.neck_channels, 3, padding=1) if settings.neck_channels else None
        if self.neck is not None:
            nn.init.kaiming_normal_(self.neck.weight, nonlinearity="relu")
        self.num_features = settings.neck_channels or num_features
        self.stride = stride
        self.pad_multiple = pad_multiple
        self.mean = mean
        self.std = std
        self.settings = replace(settings, mean=mean, std=std)
        self._read_map = read_map

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch dim h w"]:
        """Feature map of normalised images of any size.

        h and w are height / stride and width / stride, rounded up by most families and down by some.
        """
        features = self._read_map(self.body, x)
        return features if self.neck is None else F.relu(self.neck(features))

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode of training; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.settings.freeze_batch_norm:
            set_batch_norm_eval(self)
        return self


def build_backbone(settings: NetworkSettings) -> Backbone:
    """The feature extractor that `settings` name, with its weights, in evaluation mode; frozen parameters are frozen.

    Raises:
        SettingsError: no such network, or settings that it does not have.
        CheckpointError: weights that cannot be had, read or fitted.
    """
    if Path(settings.weights).is_dir():
        return _build_saved(settings)
    build = {"resnet38": _build_resnet38, "tiny": _build_tiny}.get(settings.name, _build_timm)
    if settings.name == mobilenetv2.NAME and settings.weights not in ("timm", PACKAGE):
        build = _build_mobilenetv2
    backbone = build(settings)
    freeze_parameters(backbone, settings.freeze)
    backbone.eval()
    if settings.frozen_below_stride > 1:
        freeze_below_stride(backbone, settings.frozen_below_stride)
    return backbone


def set_batch_norm_eval(module: nn.Module) -> None:
    """Keep every batch norm as it is: running statistics are used and not updated, scale and shift do not learn."""
    for layer in module.modules():
        if isinstance(layer, _BatchNorm):
            layer.eval()
            layer.requires_grad_(False)


def freeze_parameters(module: nn.Module, prefixes: tuple[str, ...]) -> None:
    """Let no parameter learn whose name is one of `prefixes` or goes on after it with a dot.

    Names are the module's own; those of a `Backbone` are its body's, as its checkpoints have them.

    Raises:
        SettingsError: a prefix that no parameter has; names the module's first parts.
    """
    named = dict((module.body if isinstance(module, Backbone) else module).named_parameters())
    for prefix in prefixes:
        chosen = [p for name, p in named.items() if name == prefix or name.startswith(f"{prefix}.")]
        if not chosen:
            parts = ", ".join(dict.fromkeys(name.partition(".")[0] for name in named))
            raise SettingsError(f"nothing to freeze is called '{prefix}'; the network's parts are {parts}")
        for parameter in chosen:
            parameter.requires_grad_(False)


def freeze_below_stride(backbone: Backbone, stride: int) -> None:
    """Let no layer learn that comes before the first whose map has `stride` pixels of the image a cell, or more.

    One empty image shows the layers in the order in which they compute. A network without so coarse a map learns whole.
    """
    before: dict[nn.Module, None] = {}
    reached = False

    def note(layer: nn.Module, _: object, output: object) -> None:
        nonlocal reached
        side = _side_of_map(output)
        reached = reached or (side is not None and side * stride <= PROBE_SIDE)
        if not reached:
            before[layer] = None

    layers = [module for module in backbone.body.modules() if any(True for _ in module.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, device=next(backbone.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    for layer in before if reached else ():
        layer.requires_grad_(requires_grad=False)


def _side_of_map(output: object) -> int | None:
    """The cells along a side of a square map, [1, c, side, side] or [1, side, side, c]; None for what is no map."""
    if not isinstance(output, Tensor) or output.ndim != 4:
        return None
    if output.shape[2] == output.shape[3]:
        return output.shape[3]
    return output.shape[1] if output.shape[1] == output.shape[2] else None


def _build_saved(settings: NetworkSettings) -> Backbone:
    """The feature extractor of a saved network, with its normalisation."""
    saved = read_backbone(Path(settings.weights))
    if saved.settings.get("name") != settings.name:
        raise CheckpointError(f"{settings.weights} holds a {saved.settings.get('name')}; expected {settings.name}")
    mean, std = (settings.mean or _triple(saved.settings["mean"]), settings.std or _triple(saved.settings["std"]))
    backbone = build_backbone(replace(settings, weights="none", mean=mean, std=std))
    load_into(backbone.body, saved.state, source=str(Path(settings.weights) / WEIGHTS_FILE))
    backbone.settings = replace(backbone.settings, weights=settings.weights)
    return backbone


def _triple(values: Sequence[float]) -> Triple:
    red, green, blue = values
    return red, green, blue


def _build_timm(settings: NetworkSettings) -> Backbone:
    from subcam.networks.backbones import timm_models  # timm takes seconds to import

    plan = timm_models.plan_model(settings.name, output_stride=settings.output_stride, model_args=settings.model_args)
    body = plan.create(pretrained=settings.weights == "timm")
    if settings.weights == PACKAGE:
        load_into(body, packaged_state(settings.name, body), drop=CLASSIFIER_HEADS, source=settings.name)
    elif settings.weights not in ("timm", "none"):
        state = load_state(settings.weights)
        if find_misfit(body, split_heads(body, state, CLASSIFIER_HEADS)[0]):
            converted = timm_models.convert_state(body, state)
            # The user knows the file's own names, not the converter's: those are listed if neither fits.
            if not find_misfit(body, split_heads(body, converted, CLASSIFIER_HEADS)[0]):
                state = converted
        load_into(body, state, drop=CLASSIFIER_HEADS, source=settings.weights)
    spatial_map = plan.spatial_map
    return _assemble(
        body,
        settings,
        spatial_map.read,
        spatial_map.num_features,
        spatial_map.stride,
        plan.mean,
        plan.std,
        pad_multiple=spatial_map.pad_multiple,
    )


def _build_mobilenetv2(settings: NetworkSettings) -> Backbone:
    """Ours, which does without timm's import, unless timm has to tell what the settings or the weights' names mean."""
    stride = settings.output_stride or mobilenetv2.STRIDE
    if stride not in (8, 16, 32) or settings.model_args not in ({}, SAME):
        return _build_timm(settings)
    body = mobilenetv2.MobileNetV2(output_stride=stride, pad_same=settings.model_args == SAME)
    if settings.weights != "none":
        state = load_state(settings.weights)
        if find_misfit(body, split_heads(body, state, CLASSIFIER_HEADS)[0]):
            return _build_timm(settings)
        load_into(body, state, drop=CLASSIFIER_HEADS, source=settings.weights)
    return _assemble(body, settings, _call, mobilenetv2.NUM_FEATURES, stride, mobilenetv2.MEAN, mobilenetv2.STD)


def _build_resnet38(settings: NetworkSettings) -> Backbone:
    _check_own(settings, stride=resnet38.STRIDE)
    body = resnet38.ResNet38()
    if Path(settings.weights).suffix == ".params":
        load_into(body, resnet38_from_mxnet(read_mxnet_params(settings.weights)), source=settings.weights)
    elif settings.weights != "none":
        load_into(body, load_state(settings.weights), drop=CLASSIFIER_HEADS, source=settings.weights)
    return _assemble(body, settings, _call, resnet38.NUM_FEATURES, resnet38.STRIDE, resnet38.MEAN, resnet38.STD)


def _build_tiny(settings: NetworkSettings) -> Backbone:
    _check_own(settings, stride=tiny.STRIDE)
    body = tiny.TinyNetwork()
    if settings.weights != "none":
        load_into(body, load_state(settings.weights), source=settings.weights)
    return _assemble(body, settings, _call, tiny.NUM_FEATURES, tiny.STRIDE, tiny.MEAN, tiny.STD)


def _call(body: nn.Module, x: Tensor) -> Tensor:
    return body(x)


def _assemble(
    body: nn.Module,
    settings: NetworkSettings,
    read_map: Callable[[nn.Module, Tensor], Tensor],
    num_features: int,
    stride: int,
    mean: Triple,
    std: Triple,
    *,
    pad_multiple: int = 1,
) -> Backbone:
    """Put body and neck together; `mean` and `std` are the record's, below the weights' file and the settings."""
    metadata = {} if settings.weights in NO_FILE else read_metadata(settings.weights)
    return Backbone(
        body,
        read_map=read_map,
        num_features=num_features,
        stride=stride,
        pad_multiple=pad_multiple,
        mean=settings.mean or metadata_triple(metadata, "mean", settings.weights) or mean,
        std=settings.std or metadata_triple(metadata, "std", settings.weights) or std,
        settings=settings,
    )


def require_weights(settings: NetworkSettings) -> None:
    """What settings tell of weights before any network is built.

    Raises:
        SettingsError: neither timm nor a package has weights of this network.
        CheckpointError: there is no such file.
    """
    name = settings.name
    if settings.weights == PACKAGE:
        require_packaged(name)
    if settings.weights == "timm" and name in _OWN:
        raise SettingsError(f"timm has no weights of '{name}'; give a file as weights, or 'none' for random ones")
    if settings.weights not in NO_FILE and not Path(settings.weights).exists():
        raise no_file(Path(settings.weights))


def _check_own(settings: NetworkSettings, *, stride: int) -> None:
    """Refuse what only timm's models have."""
    name = settings.name
    require_weights(settings)
    if settings.output_stride not in (None, stride):
        raise SettingsError(f"'{name}' has output stride {stride}; got output_stride={settings.output_stride}")
    if settings.model_args:
        raise SettingsError(f"'{name}' is not a timm model and takes no model_args; got {settings.model_args}")


def metadata_triple(metadata: dict[str, str], key: str, source: str) -> Triple | None:
    """Three numbers that the head of a file of weights gives under `key`, such as its mean; None if it does not.

    Raises:
        CheckpointError: it gives something else; names the file.
    """
    if key not in metadata:
        return None
    try:
        red, green, blue = (float(value) for value in metadata[key].split(","))
    except ValueError as error:
        raise CheckpointError(
            f"{source}: the head says {key}='{metadata[key]}'; expected three numbers such as '0.5,0.5,0.5'"
        ) from error
    return red, green, blue
