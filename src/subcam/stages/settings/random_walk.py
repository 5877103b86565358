"""Settings of the stage of the random walk."""

from dataclasses import dataclass
from typing import Annotated

from subcam.affinity.grid import MAX_LOG_STEPS, RADIUS, Radius, WalkExponent
from subcam.checks.fields import Entries, Range, Settings


@dataclass(frozen=True, kw_only=True)
class WalkSettings(Settings):
    """Settings of the random walk.

    Attributes:
        beta: exponent of the affinities; psa: 8.
        log_steps: the walk takes 2^log_steps steps; psa: 8.
        radius: cells at stride 8 within which affinities count; psa: 5.
        all_pairs: whether border cells keep all their pairs; psa drops some.
        alphas: exponents of the background scores (1 - max)^alpha that walk along with the maps.
    """

    beta: WalkExponent = 8.0
    log_steps: Annotated[int, Range(0, MAX_LOG_STEPS)] = 8
    radius: Radius = RADIUS
    all_pairs: bool = False
    alphas: Annotated[tuple[WalkExponent, ...], Entries(least=1, most=100)] = (
        1.0,
        2.0,
        3.0,
        4.0,
        6.0,
        8.0,
        12.0,
        16.0,
        24.0,
    )
