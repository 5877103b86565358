"""Self-attention of a vision transformer's last layers: their queries and keys, heard while images pass the network.

Queries and keys grow with the number of tokens, the weights softmax(q k^T scale) with its square; so it is left to the
user of the keys whether the weights are ever written down.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from subcam.errors import SettingsError
from subcam.networks.backbones.build import Backbone, build_backbone
from subcam.networks.settings import NetworkSettings


class LayerAttention(NamedTuple):
    """What one layer's self-attention of a batch is made of; its weights are softmax(queries keys^T scale).

    Tokens of patches come last, row by row; class, distillation and register tokens before them.
    """

    queries: Float[Tensor, "batch heads tokens dim"]
    keys: Float[Tensor, "batch heads tokens dim"]
    scale: float


@contextlib.contextmanager
def heard_attention(backbone: Backbone, *, layers: int) -> Iterator[list[LayerAttention]]:
    """A list that fills, while images pass the backbone inside the block, with the attention of its last `layers`.

    Layers come in their order, once more for each further batch. With 0 layers nothing is done at all.

    Raises:
        SettingsError: the network has no self-attention between all positions, or fewer layers of it; names it.
    """
    heard: list[LayerAttention] = []
    with contextlib.ExitStack() as hooks:
        for attention in attention_layers(backbone, layers=layers):
            for hook in _Listener(attention, heard).hooks():
                hooks.callback(hook.remove)
        yield heard


def attention_layers(backbone: Backbone, *, layers: int) -> list[nn.Module]:
    """The self-attention modules of the last `layers` of the network.

    Raises:
        SettingsError: the network has no self-attention between all positions, or fewer layers of it; names it.
    """
    if not layers:
        return []
    from timm.layers import Attention, AttentionRope  # timm takes seconds to import
    from timm.models.eva import EvaAttention

    blocks: Any = getattr(backbone.body, "blocks", ())
    attentions = [attention for block in blocks if (attention := getattr(block, "attn", None)) is not None]
    # Windows, pooled keys and relative positions come under the same names; what a subclass does is not known here.
    if not attentions or any(
        type(attention) not in (Attention, AttentionRope, EvaAttention) for attention in attentions
    ):
        raise SettingsError(
            f"'{backbone.settings.name}' has no self-attention between all positions that maps could be guided by; set"
            " attention_layers to 0, or choose a plain vision transformer (vit_..., deit_..., deit3_..., eva02_...)"
        )
    if layers > len(attentions):
        raise SettingsError(
            f"'{backbone.settings.name}' has {len(attentions)} layers of attention; got attention_layers={layers}"
        )
    return attentions[-layers:]


def check_attention(settings: NetworkSettings, *, layers: int) -> None:
    """Refuse, before anything is trained, a network whose attention cannot guide maps; costs no weights.

    Raises:
        SettingsError: as `attention_layers`, or there is no such network.
    """
    if layers:
        with torch.device("meta"):
            attention_layers(build_backbone(replace(settings, weights="none")), layers=layers)


class _Listener:
    """Puts one module's queries and keys, as they go into the product, at the end of a list."""

    def __init__(self, attention: Any, heard: list[LayerAttention]) -> None:
        self.attention = attention
        self.heard = heard
        self.rope: Tensor | None = None
        self.parts: dict[str, Tensor] = {}

    def hooks(self) -> list[Any]:
        """Set the hooks. timm sends queries and keys through `q_norm` and `k_norm` even where these do nothing."""
        return [
            self.attention.register_forward_pre_hook(self._begin, with_kwargs=True),
            self.attention.q_norm.register_forward_hook(lambda _, __, out: self.parts.update(queries=out)),
            self.attention.k_norm.register_forward_hook(lambda _, __, out: self.parts.update(keys=out)),
            self.attention.register_forward_hook(self._end),
        ]

    def _begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Only x is given by position in timm; anything else would be lost here, so it must not pass for nothing.
        if len(args) > 1 or kwargs.get("attn_mask") is not None or kwargs.get("is_causal"):
            raise SettingsError("attention with a mask cannot guide maps; set attention_layers to 0 for this network")
        self.rope = kwargs.get("rope")

    def _end(self, *_: Any) -> None:
        from timm.layers import apply_rot_embed_cat

        if self.parts.keys() != {"queries", "keys"}:
            raise SettingsError("this version of timm hides queries and keys; set attention_layers to 0")
        queries, keys = (
            _rotated(self.attention, self.parts.pop(name), self.rope, apply_rot_embed_cat)
            for name in ("queries", "keys")
        )
        groups = queries.shape[1] // keys.shape[1]  # several heads may share their keys
        self.heard.append(LayerAttention(queries, keys.repeat_interleave(groups, dim=1), float(self.attention.scale)))


def _rotated(attention: Any, tokens: Tensor, rope: Tensor | None, rotate: Any) -> Tensor:
    """Tokens of patches turned by their rotary positions; prefix tokens have none."""
    if rope is None:
        return tokens
    prefix = attention.num_prefix_tokens
    turned = rotate(tokens[:, :, prefix:], rope, half=attention.rotate_half).type_as(tokens)
    out = tokens.clone()
    out[:, :, prefix:] = turned
    return out
