"""Everything a run can be told, in one frozen dataclass: each stage's own settings side by side."""

from dataclasses import dataclass, field
from typing import Literal

from subcam.comparisons.methods import CompareSettings
from subcam.data.dataset import DatasetSettings
from subcam.errors import SettingsError
from subcam.networks.backbones.build import NetworkSettings
from subcam.refine.settings import RefineSettings
from subcam.runtime.devices import MachineSettings
from subcam.stages.cam import CamSettings
from subcam.stages.classify import ClassifySettings
from subcam.stages.discover import DiscoverSettings
from subcam.stages.evaluate import EvaluateSettings
from subcam.stages.prototypes import LocalSettings
from subcam.stages.segment_settings import SegmentSettings


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a run.

    Attributes:
        rounds: rounds of discovery and joint training after round 0 (plain CAM). The paper uses 3.
        control: whether as many rounds are trained with lambda = 0 as well, to tell what the sub-categories did.
        subcategories: whether images are clustered ("image", the paper's Eq. 2) or positions in them ("local", not in
            the paper; see `pipeline.local_rounds`).
        seed: settles the whole run on one machine.
    """

    rounds: int = 3
    control: bool = False
    subcategories: Literal["image", "local"] = "image"
    seed: int = 0
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    classify: ClassifySettings = field(default_factory=ClassifySettings)
    discover: DiscoverSettings = field(default_factory=DiscoverSettings)
    local: LocalSettings = field(default_factory=LocalSettings)
    cam: CamSettings = field(default_factory=CamSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    refine: RefineSettings = field(default_factory=RefineSettings)
    segment: SegmentSettings = field(default_factory=lambda: SegmentSettings(train_on=()))
    compare: CompareSettings = field(default_factory=CompareSettings)
    machine: MachineSettings = field(default_factory=MachineSettings)

    def __post_init__(self) -> None:
        if self.rounds < 0 or self.seed < 0:
            raise SettingsError(f"expected rounds and seed of 0 or more, got {self.rounds} and {self.seed}")
