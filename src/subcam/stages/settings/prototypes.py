"""Settings of the stages of prototypes."""

from dataclasses import dataclass
from typing import Annotated

from subcam.checks.fields import BatchSize, Count, Range, ScalesOrNone, Settings, Share
from subcam.errors import SettingsError
from subcam.refine.variants import AUTO, Auto


@dataclass(frozen=True, kw_only=True)
class PrototypeSettings(Settings):
    """Settings of prototypes of positions.

    Attributes:
        num_objects: prototypes of each class's objects.
        num_context: prototypes of what surrounds them, for each class.
        object_above: a position whose strongest response is greater shows that class. "auto" for what is a sure object
            by AffinityNet's rule, in proportion to a threshold that is chosen without masks.
        context_below: one whose strongest response is less shows none of the image's classes. "auto" for what is sure
            background by that rule.
        scales: factors on the image's size of the response maps that say so, which are made of the training images
            alone; none takes the round's own maps, at all of cam.scales.
        most_positions: positions that are clustered at most in a group; of more a random sample is.
        restarts: K-means runs from different seeds; the one of least inertia counts.
        max_iterations: the limit of one K-means run.
        batch_size: images of equal size that pass the network together.
    """

    num_objects: Annotated[int, Range(1, 10_000)] = 5
    num_context: Annotated[int, Range(1, 10_000)] = 5
    object_above: Share | Auto = 0.4
    context_below: Share | Auto = 0.2
    scales: ScalesOrNone = ()
    most_positions: Annotated[int, Range(1, 1_000_000_000)] = 4000
    restarts: Annotated[int, Range(1, 10_000)] = 2
    max_iterations: Count = 100
    batch_size: BatchSize = 8

    @property
    def chooses(self) -> bool:
        """Whether the limits are chosen without masks."""
        return AUTO in (self.object_above, self.context_below)

    def check_together(self) -> None:
        """A position cannot be of an object and of its context."""
        limits = f"{self.context_below} and {self.object_above}"
        if isinstance(self.object_above, str) or isinstance(self.context_below, str):
            if self.object_above != self.context_below:
                raise SettingsError(
                    f'expected context_below and object_above as numbers or both as "auto", got {limits}'
                )
        elif self.context_below > self.object_above:
            raise SettingsError(f"expected context_below of at most object_above, got {limits}")
