"""Settings of optimisers and learning-rate schedules."""

from dataclasses import dataclass
from typing import Annotated, Literal

from subcam.checks.fields import Exponent, Range, Settings, Steps, Weight


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings(Settings):
    """How weights are updated.

    Attributes:
        name: the rule by which weights are updated.
        learning_rate: how fast the backbone's weights learn, at the first step after warm-up.
        momentum: share of the last update that is kept: SGD's momentum, and Adam's first beta (1 would never forget).
            The published SC-CAM code runs SGD at 5e-4 by accident.
        head_multiplier: learning rate of the heads (and the neck) over the backbone's; the published code uses 10.
        bias_multiplier: learning rate of biases over that of weights; the published code uses 2.
        weight_decay: how strongly weights are drawn towards 0.
        decay_biases: whether weight decay applies to biases and to norms' scales too.
        schedule: "poly" falls as (1 - step / steps)^poly_power, "cosine" along half a cosine, "constant" not at all.
        poly_power: the exponent of the schedule "poly".
        warmup_steps: the rate rises linearly from 0 over this many steps first.
        gradient_clip: largest norm of the whole gradient; 0 leaves it as it is.
    """

    name: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: Annotated[float, Range(0.0, 1000.0)] = 1e-4
    momentum: Annotated[float, Range(0.0, 0.999999)] = 0.9
    weight_decay: Annotated[float, Range(0.0, 1000.0)] = 5e-4
    decay_biases: bool = True
    head_multiplier: Weight = 10.0
    bias_multiplier: Weight = 1.0
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    poly_power: Exponent = 0.9
    warmup_steps: Steps = 0
    gradient_clip: Annotated[float, Range(0.0, 1e9)] = 0.0
