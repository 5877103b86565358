"""The variants of pseudo masks, by what made them, and the word for what is chosen without ground truth."""

from typing import Literal

Variant = Literal["crf", "walk", "walk-crf"]
VARIANTS: tuple[Variant, ...] = ("crf", "walk", "walk-crf")
Auto = Literal["auto"]
AUTO: Auto = "auto"
"""Stands for an exponent of the background score that is chosen without masks."""

GIVEN = "given"
"""Stands for a variant where the masks come from another program."""

CORRECTED = "corrected"
"""Stands for a variant where masks that people corrected are among them."""
