"""Any timm model as a feature extractor: which arguments it takes, and how its last map is read as [b, c, h, w].

Everything is read on torch's meta device, where a model has shapes but no numbers: it costs no memory and no
random numbers, and a model that cannot serve is refused before its weights are fetched.
"""

import difflib
import inspect
import itertools
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import LayerNorm2d, LayerNorm2dFp32, RmsNorm2d, RmsNorm2dFp32, SimpleNorm2d, SimpleNorm2dFp32
from torch import Tensor, nn

from subcam.errors import CheckpointError, SettingsError
from subcam.networks.published_weights import packaged_networks, retries_said_once

ANY_SIZE_ARGUMENTS = {"dynamic_img_size": True, "dynamic_img_pad": True, "strict_img_size": False}
"""What timm's families call "take images of any size"; each model gets those that it knows."""

PROBE_STEP = 448
"""Pixels by which the probe's images differ: a multiple of every common stride (7, 8, 14, 16, 32, 64)."""


CHANNELS_FIRST_NORMS = (
    LayerNorm2d,
    LayerNorm2dFp32,
    RmsNorm2d,
    RmsNorm2dFp32,
    SimpleNorm2d,
    SimpleNorm2dFp32,
    nn.GroupNorm,
    nn.BatchNorm2d,
)
"""Those of timm's norms that take maps as [b, c, h, w]; the others take channels last."""


@dataclass(frozen=True, kw_only=True)
class SpatialMap:
    """How to read a model's last map.

    layout: what `forward_features` returns; "tokens" are put back on their grid by the model's `forward_intermediates`,
        class, distillation and register tokens left out.
    num_features: channels of the map. stride: pixels of the image to one of the map.
    pad_multiple: images are padded at the bottom and the right to multiples of it first; 1 where the model copes.
    """

    layout: Literal["nchw", "nhwc", "tokens"]
    num_features: int
    stride: int
    pad_multiple: int = 1

    def read(
        self, model: nn.Module, x: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch {self.num_features} h w"]:
        """The model's last map for normalised images, after its last norm; padding is 0, the mean colour."""
        right, bottom = -x.shape[3] % self.pad_multiple, -x.shape[2] % self.pad_multiple
        if right or bottom:
            x = F.pad(x, (0, right, 0, bottom))
        return _norm_positions(model, _read(model, x, self.layout))


@dataclass(frozen=True, kw_only=True)
class TimmPlan:
    """A model that has been looked at and can serve: its name, its arguments, its map and its input normalisation."""

    name: str
    arguments: dict[str, Any]
    spatial_map: SpatialMap
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def create(self, *, pretrained: bool) -> nn.Module:
        """The model without its classifier; random weights come from torch's current seed.

        Raises:
            CheckpointError: the pretrained weights cannot be had (no network, or there are none).
        """
        if not pretrained:
            return timm.create_model(self.name, **self.arguments)
        try:
            with retries_said_once():
                return timm.create_model(self.name, pretrained=True, **self.arguments)
        except Exception as error:  # The shapes were proved on the meta device, so this is about fetching the weights.
            reason = (str(error).strip() or "no message").splitlines()[0]
            raise CheckpointError(
                f"timm's weights of '{self.name}' could not be fetched ({type(error).__name__}: {reason}). Give a local"
                " file (.safetensors, .pth) as weights, or 'none' to start from random ones; or take a network whose"
                f" weights come in a package: {packaged_networks()}"
            ) from error


def plan_model(name: str, *, output_stride: int | None, model_args: Mapping[str, Any]) -> TimmPlan:
    """Look at a timm model without building it in memory.

    Raises:
        SettingsError: no such model (names the closest), arguments that it does not take, an output stride that it does
            not have, no spatial map, or a map only for images of one size.
    """
    _check_name(name)
    arguments = {"num_classes": 0, **model_args}
    model = _build_on_meta(name, arguments)
    accepted = _accepted_arguments(type(model))
    further: dict[str, Any] = {k: v for k, v in ANY_SIZE_ARGUMENTS.items() if k in accepted and k not in model_args}
    if output_stride is not None and "output_stride" in accepted:
        further["output_stride"] = output_stride
    if further:
        arguments |= further
        model = _build_on_meta(name, arguments)
    record: Any = model.pretrained_cfg
    spatial_map = _find_spatial_map(model, name=name, size=tuple(record["input_size"][1:]))
    if output_stride not in (None, spatial_map.stride):
        raise SettingsError(
            f"'{name}' has no output stride {output_stride}: its map has stride {spatial_map.stride}. Leave"
            " output_stride out, or choose a family that can change it (resnet, efficientnet, mobilenetv2, convnext)"
        )
    return TimmPlan(
        name=name,
        arguments=arguments,
        spatial_map=spatial_map,
        mean=_triple(record["mean"]),
        std=_triple(record["std"]),
    )


def normed_intermediates(model: Any, x: Float[Tensor, "batch 3 height width"]) -> list[Float[Tensor, "batch _ _ _"]]:
    """The intermediate features that timm gives, fine to coarse; those on which the model's last norm works, after it.

    Those are all layers' of a transformer with one width, and the last stage's of a network with several.
    """
    features = model.forward_intermediates(x, norm=True, intermediates_only=True, output_fmt="NCHW")
    last = features[-1].shape[1:]
    return [_norm_positions(model, feature) if feature.shape[1:] == last else feature for feature in features]


def convert_state(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` renamed and reshaped by the family's own converter in timm, for files in an original author's format.

    A state that the converter cannot make sense of comes back as it is.
    """
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return dict(state)
    try:
        return dict(convert(dict(state), model))
    except Exception:  # A foreign file can trip a converter anywhere; what does not fit is listed from the file itself.
        return dict(state)


def _check_name(name: str) -> None:
    architecture = name.partition(".")[0]
    if timm.is_model(architecture):
        return
    known = [*timm.list_models(), "resnet38", "tiny"]
    close = difflib.get_close_matches(architecture, known, n=5)
    hint = f"Did you mean {', '.join(close)}?" if close else "timm.list_models() lists them all."
    raise SettingsError(f"no network is called '{name}'; expected resnet38, tiny, or a timm model. {hint}")


def _build_on_meta(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    try:
        with torch.device("meta"):
            return timm.create_model(name, **arguments).eval()
    except Exception as error:  # Families check their arguments in their own ways, from TypeError to a bare assert.
        given = ", ".join(f"{key}={value}" for key, value in arguments.items() if key not in ANY_SIZE_ARGUMENTS)
        raise SettingsError(
            f"timm cannot build '{name}' with {given} ({type(error).__name__}: {error}). Check model_args and"
            " output_stride against this family"
        ) from error


def _accepted_arguments(kind: type) -> set[str]:
    """Names of the constructor's parameters, followed up through parents for as long as it passes on **kwargs."""
    names: set[str] = set()
    for parent in kind.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = inspect.signature(vars(parent)["__init__"]).parameters
        names |= parameters.keys()
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return names


def _find_spatial_map(model: nn.Module, *, name: str, size: tuple[int, int]) -> SpatialMap:
    height, width = size
    layout: Literal["nchw", "tokens"] = "nchw"
    first = _shape(model, height, width, layout=layout)
    if len(first) != 4 and hasattr(model, "forward_intermediates"):
        layout = "tokens"
        first = _shape(model, height, width, layout=layout)
    if len(first) != 4:
        raise SettingsError(
            f"'{name}' gives no spatial feature map, so it can have no response maps; choose another network"
        )
    second = _shape(model, height + PROBE_STEP, width + 2 * PROBE_STEP, layout=layout)
    if not second:
        raise _one_size_error(name, size)
    grown = [axis for axis in (1, 2, 3) if second[axis] > first[axis]]
    if grown not in ([2, 3], [1, 2]):
        raise SettingsError(
            f"'{name}' returns {list(first)} and {list(second)} for images of {height}x{width} and"
            f" {height + PROBE_STEP}x{width + 2 * PROBE_STEP}: no map that grows with them. Choose another network"
        )
    spatial_map = SpatialMap(
        layout=layout if grown == [2, 3] else "nhwc",
        num_features=first[1 if grown == [2, 3] else 3],
        stride=round(PROBE_STEP / (second[grown[0]] - first[grown[0]])),
    )
    # Token grids are counted from the padded size, and some hybrids count them wrongly for odd ones.
    for multiple in (spatial_map.stride,) if layout == "tokens" else (1, spatial_map.stride):
        odd_height, odd_width = height - 19, width + 37
        if _shape(model, odd_height + -odd_height % multiple, odd_width + -odd_width % multiple, layout=layout):
            return SpatialMap(**{**vars(spatial_map), "pad_multiple": multiple})
    raise _one_size_error(name, size)


def _shape(model: nn.Module, height: int, width: int, *, layout: Literal["nchw", "tokens"]) -> tuple[int, ...]:
    """Shape of what the model returns for an image of this size, () if it fails or returns no single tensor."""
    try:
        with torch.no_grad(), torch.device("meta"):
            out = _read(model, torch.empty(1, 3, height, width), layout)
    except Exception:  # Families refuse sizes in their own ways, from a bare assert to a failing matrix product.
        return ()
    return tuple(out.shape) if isinstance(out, Tensor) else ()


def _read(model: Any, x: Tensor, layout: Literal["nchw", "nhwc", "tokens"]) -> Tensor:
    if layout == "tokens":
        return model.forward_intermediates(x, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True)[-1]
    features = model.forward_features(x)
    return features.permute(0, 3, 1, 2) if layout == "nhwc" else features


def _norm_positions(model: Any, features: Tensor) -> Tensor:
    """Apply to each position the last norm of families that have it behind their pooling; others come back as given.

    Those are ConvNeXt and its kin, EVA-02, vision transformers that average their patches, and those that are a
    classifier around the encoder of a language model. Eq. 1 needs the pooling last; without the norm, a few channels of
    the residual stream would outweigh all others.
    """
    norm = _norm_behind_pooling(model)
    if norm is None or tuple(getattr(norm, "normalized_shape", features.shape[1:2])) != features.shape[1:2]:
        return features  # of another width: it is behind a projection
    if isinstance(norm, CHANNELS_FIRST_NORMS):
        return norm(features)
    return norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _norm_behind_pooling(model: Any) -> nn.Module | None:
    head = getattr(model, "head", None)
    candidates = [getattr(model, "fc_norm", None)]
    if isinstance(head, nn.Module) and _begins_with_norm(head):
        candidates.append(getattr(head, "norm", None))
    if hasattr(model, "encoder"):
        candidates.append(getattr(model, "norm", None))
    return next((norm for norm in candidates if norm is not None and not isinstance(norm, nn.Identity)), None)


def _begins_with_norm(head: nn.Module) -> bool:
    """Whether no layer with weights is before the head's norm; behind one it would work on something else."""
    before = itertools.takewhile(lambda child: child[0] != "norm", head.named_children())
    return not any(True for _, part in before for _ in part.parameters())


def _one_size_error(name: str, size: tuple[int, int]) -> SettingsError:
    return SettingsError(
        f"'{name}' only takes images of {size[0]}x{size[1]}; response maps need a network for any size. Choose a"
        " convolutional network, swin, or a plain vision transformer (vit_..., eva..., deit3_...)"
    )


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
