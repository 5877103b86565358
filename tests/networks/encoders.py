"""Small random members of the families of modern encoders: the tests' table of names, arguments, patch and prefix."""

from typing import Any, NamedTuple

from torch import nn

from subcam.networks.backbones.timm_models import TimmPlan, plan_model


class Encoder(NamedTuple):
    """model_args make a family's member small; `prefix` tokens stand before those of patches."""

    name: str
    model_args: dict[str, Any]
    patch: int
    prefix: int


TRANSFORMERS = (
    Encoder("vit_tiny_patch16_224", {"embed_dim": 48}, 16, 1),
    Encoder("deit_tiny_distilled_patch16_224", {"embed_dim": 48}, 16, 2),
    Encoder("deit3_small_patch16_224", {"embed_dim": 48, "num_heads": 3}, 16, 1),
    Encoder("vit_small_patch14_dinov2", {"embed_dim": 48, "num_heads": 3}, 14, 1),
    Encoder("vit_small_patch14_reg4_dinov2", {"embed_dim": 48, "num_heads": 3}, 14, 5),
    Encoder("vit_small_patch16_dinov3", {"embed_dim": 48, "num_heads": 3}, 16, 5),
    Encoder("vit_small_plus_patch16_dinov3_qkvb", {"embed_dim": 48, "num_heads": 3}, 16, 5),
    Encoder("vit_base_patch32_clip_quickgelu_224", {"embed_dim": 48, "num_heads": 3}, 32, 1),
    Encoder("vit_base_patch16_siglip_gap_224", {"embed_dim": 48, "num_heads": 3}, 16, 0),
    Encoder("vit_small_patch16_rope_mixed_224", {"embed_dim": 48, "num_heads": 3}, 16, 1),
    Encoder("eva02_tiny_patch14_224", {"embed_dim": 48}, 14, 1),
    Encoder("eva02_base_patch16_clip_224", {"embed_dim": 48, "num_heads": 3}, 16, 1),
)
CONVNEXTS = ("convnext_atto", "convnextv2_atto")
NAMES = [encoder.name for encoder in TRANSFORMERS]


def plan(encoder: Encoder, *, depth: int = 2) -> TimmPlan:
    """The plan of a member whose own grid of patches is 4 x 4."""
    model_args = {**encoder.model_args, "depth": depth, "img_size": 4 * encoder.patch}
    return plan_model(encoder.name, output_stride=None, model_args=model_args)


def shake(model: nn.Module) -> nn.Module:
    """The model in evaluation mode with all parameters moved at random: what starts as 0 or 1 takes part."""
    for parameter in model.parameters():
        parameter.data += 0.1 * parameter.new_empty(parameter.shape).normal_()
    return model.eval()
