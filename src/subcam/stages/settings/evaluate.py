"""Settings of the stages that score."""

from dataclasses import dataclass
from typing import Literal, get_args

from subcam.checks.fields import Settings, Share

Choice = Literal["auto", "by-class"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(Settings):
    """Settings of scoring.

    Attributes:
        background_threshold: a pixel whose strongest response is not above it is background. A number, fixed before
            any mask is looked at (0.15 in SC-CAM's code, 0.2 in AffinityNet's); or chosen for the scored images from
            their response maps and colours, without masks: one for all classes ("auto"), or one for each ("by-class").
    """

    background_threshold: Share | Choice = 0.15
