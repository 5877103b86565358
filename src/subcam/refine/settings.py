"""All settings of refinement, side by side."""

from dataclasses import dataclass, field
from typing import Literal

from subcam.errors import SettingsError
from subcam.stages.affinity import AffinitySettings
from subcam.stages.pseudo_masks import MaskSettings
from subcam.stages.random_walk import WalkSettings
from subcam.stages.sure_regions import SureRegionSettings


@dataclass(frozen=True, kw_only=True)
class RefineSettings:
    """Settings of refinement: from response maps to pseudo masks (Section 3.3).

    Attributes:
        rounds: which rounds' maps are refined; Table 1 compares the first (plain CAM) with the last.
    """

    rounds: Literal["none", "last", "first-and-last"] = "none"
    sure_regions: SureRegionSettings = field(default_factory=SureRegionSettings)
    affinity: AffinitySettings = field(default_factory=AffinitySettings)
    walk: WalkSettings = field(default_factory=WalkSettings)
    masks: MaskSettings = field(default_factory=MaskSettings)

    def __post_init__(self) -> None:
        if self.masks.walk_alpha not in self.walk.alphas:
            raise SettingsError(
                f"expected masks.walk_alpha to be one of walk.alphas {list(self.walk.alphas)}, "
                f"got {self.masks.walk_alpha}; add it there or choose another"
            )

    def refines(self, round_index: int, *, last: int) -> bool:
        """Whether the maps of a round are refined."""
        return (self.rounds != "none" and round_index == last) or (self.rounds == "first-and-last" and not round_index)
