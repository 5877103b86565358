"""The variants of pseudo masks, by what made them."""

from typing import Literal

Variant = Literal["crf", "walk", "walk-crf"]
VARIANTS: tuple[Variant, ...] = ("crf", "walk", "walk-crf")
GIVEN = "given"
"""Stands for a variant where the masks come from another program."""

CORRECTED = "corrected"
"""Stands for a variant where masks that people corrected are among them."""
