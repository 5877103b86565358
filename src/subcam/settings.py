"""All settings of a run in one frozen dataclass: each stage's own settings side by side, and how to change some.

`settings.with_({"classify.epochs": 3})` returns a changed copy. A setting's name is the path of its fields, with dots.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from subcam.cam.settings import CamSettings
from subcam.checks.fields import Range, Seed, Settings, checked, leaves, shortly
from subcam.data.records import suggest
from subcam.data.settings import DatasetSettings
from subcam.errors import BadInputError, SettingsError
from subcam.methods.settings import CompareSettings
from subcam.networks.settings import DEEPLAB, FurtherScales, NetworkSettings, SegmentationConfig
from subcam.predict.settings import InferenceSettings
from subcam.refine.variants import AUTO
from subcam.runtime.machine.settings import MachineSettings
from subcam.stages.settings.affinity import AffinitySettings
from subcam.stages.settings.classify import ClassifySettings
from subcam.stages.settings.discover import DiscoverSettings, GivenFeaturesSettings
from subcam.stages.settings.evaluate import EvaluateSettings
from subcam.stages.settings.given import CorrectionSettings, GivenMapsSettings, GivenMasksSettings
from subcam.stages.settings.prototypes import PrototypeSettings
from subcam.stages.settings.pseudo_masks import MaskSettings
from subcam.stages.settings.random_walk import WalkSettings
from subcam.stages.settings.segment import TrainSettings
from subcam.stages.settings.sure_regions import SureRegionSettings

Group = TypeVar("Group")

RENAMED: dict[str, str] = {
    "subcategories": "route",
    "local": "prototypes",
    "local.num_subcategories": "prototypes.num_objects",
    "classify.local_weight": "classify.prototype_weight",
}
"""Settings and groups of settings by their old names, and what they are called now."""

RENAMED_VALUES: dict[str, dict[str, str]] = {"route": {"image": "subcategories", "local": "prototypes"}}
"""For settings under their new names: their old values, and what these are called now."""


@dataclass(frozen=True, kw_only=True)
class RefineSettings(Settings):
    """Settings of refinement: from response maps to pseudo masks (Section 3.3).

    Attributes:
        rounds: which rounds' maps are refined; Table 1 compares the first (plain CAM) with the last.
        random_walk: whether an AffinityNet is trained and maps walk by it. Without, the dense CRF alone makes the
            masks, and masks.pseudo_mask has to be "crf".
    """

    rounds: Literal["none", "last", "first-and-last"] = "none"
    random_walk: bool = True
    sure_regions: SureRegionSettings = field(default_factory=SureRegionSettings)
    affinity: AffinitySettings = field(default_factory=AffinitySettings)
    walk: WalkSettings = field(default_factory=WalkSettings)
    masks: MaskSettings = field(default_factory=MaskSettings)

    def check_together(self) -> None:
        """The background score that masks come from has to have walked along, if anything walks."""
        if not self.random_walk and self.masks.pseudo_mask != "crf":
            raise SettingsError(
                f"without a random walk the masks are those of the CRF, got masks.pseudo_mask {self.masks.pseudo_mask};"
                " give crf there"
            )
        if self.masks.walk_alpha not in (AUTO, *self.walk.alphas):
            raise SettingsError(
                f"expected masks.walk_alpha to be one of walk.alphas {list(self.walk.alphas)}, "
                f"got {self.masks.walk_alpha}; add it there or choose another"
            )

    @property
    def alphas_to_choose(self) -> bool:
        """Whether an exponent of the background score is chosen without masks."""
        of_walk = self.random_walk and (self.sure_regions.chooses or self.masks.walk_alpha == AUTO)
        return of_walk or self.masks.crf_alpha == AUTO

    def refines(self, round_index: int, *, last: int) -> bool:
        """Whether the maps of a round are refined."""
        return (self.rounds != "none" and round_index == last) or (self.rounds == "first-and-last" and not round_index)


MaskKind = Literal["pseudo", "truth"]
"""What a segmentation network learns from: the pseudo masks of a round, or ground truth (full supervision)."""

SAME = "same"


@dataclass(frozen=True, kw_only=True)
class SegmentSettings(Settings):
    """Settings of segmentation (Section 4.4).

    Attributes:
        train_on: the masks to train a network on, one network each; none trains none. "truth" needs ground truth of
            the training images and shows what share of full supervision the pseudo masks reach.
        architecture: "deeplabv2" (the paper's), "deeplabv3plus", or a name of segmentation-models-pytorch ("unet",
            "segformer", ...).
        network: its backbone or encoder. With the name "same" it is the run's, weights and all, and of the fields here
            only `output_stride`, `frozen_below_stride` and `frozen_in_bf16` count.
        train: how it is trained.
        predict: how it is applied to the images that are scored.
        multi_scale_inputs: further scales at which the network sees each image, in training and after; DeepLab-v2 has
            0.5 and 0.75.
    """

    train_on: tuple[MaskKind, ...] = ("pseudo",)
    architecture: str = DEEPLAB
    network: NetworkSettings = field(default_factory=lambda: NetworkSettings(name=SAME))
    multi_scale_inputs: FurtherScales = ()
    train: TrainSettings = field(default_factory=TrainSettings)
    predict: InferenceSettings = field(default_factory=InferenceSettings)

    def check_together(self) -> None:
        """Each kind of mask comes once."""
        if len(set(self.train_on)) < len(self.train_on):
            raise SettingsError(f"expected each kind of mask once in train_on, got {' '.join(self.train_on)}")

    def config(self, *, run_network: NetworkSettings, class_names: tuple[str, ...]) -> SegmentationConfig:
        """The network to train; `run_network` is what the name "same" stands for."""
        network = self.network
        if network.name == SAME:
            # The neck and the frozen parts concern the classifier alone, unless this network has its own.
            network = replace(
                run_network,
                output_stride=network.output_stride,
                neck_channels=0,
                freeze=(),
                frozen_below_stride=network.frozen_below_stride,
                frozen_in_bf16=network.frozen_in_bf16,
            )
        return SegmentationConfig(
            network=network,
            class_names=class_names,
            architecture=self.architecture,
            multi_scale_inputs=self.multi_scale_inputs,
        )


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """Settings of a run.

    Attributes:
        rounds: rounds of discovery and joint training after round 0 (plain CAM). The paper uses 3.
        control: whether as many rounds are trained with lambda = 0 as well, to measure what the sub-categories add.
        route: what each round finds: sub-categories of whole images ("subcategories", the paper's Eq. 2), or prototypes
            of single positions ("prototypes", not in the paper; see `pipeline.prototype_rounds`).
        seed: what all random numbers come from; on one machine the same seed gives the same run.
        until: the last stage of the run. "classify", "discover" (of sub-categories or prototypes) and "cam" are stages
            of a round; "refine" leaves out the segmentation network.
        until_round: the round that ends with the stage `until`; None for the last.
        quick: a first look, in about a tenth of the time, with rougher masks.
    """

    rounds: Annotated[int, Range(0, 1000)] = 3
    control: bool = False
    route: Literal["subcategories", "prototypes"] = "subcategories"
    seed: Seed = 0
    until: Literal["classify", "discover", "cam", "refine", "segment"] = "segment"
    until_round: Annotated[int, Range(0, 1000)] | None = None
    quick: bool = False
    given_features: GivenFeaturesSettings = field(default_factory=GivenFeaturesSettings)
    given_maps: GivenMapsSettings = field(default_factory=GivenMapsSettings)
    given_masks: GivenMasksSettings = field(default_factory=GivenMasksSettings)
    corrections: CorrectionSettings = field(default_factory=CorrectionSettings)
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    classify: ClassifySettings = field(default_factory=ClassifySettings)
    discover: DiscoverSettings = field(default_factory=DiscoverSettings)
    prototypes: PrototypeSettings = field(default_factory=PrototypeSettings)
    cam: CamSettings = field(default_factory=CamSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    refine: RefineSettings = field(default_factory=RefineSettings)
    segment: SegmentSettings = field(default_factory=lambda: SegmentSettings(train_on=()))
    compare: CompareSettings = field(default_factory=CompareSettings)
    machine: MachineSettings = field(default_factory=MachineSettings)

    def check_together(self) -> None:
        """A run begins with images, maps or masks, and ends after it began."""
        given = self.given_maps.folder or self.given_masks.folder
        if self.given_features.file and self.route != "subcategories":
            raise SettingsError(
                "sub-categories are found in given features, and prototypes are not; leave --features out"
            )
        of_rounds = self.until in ("classify", "discover", "cam")
        if self.given_maps.folder and self.given_masks.folder:
            raise SettingsError("a run begins with given maps or with given masks; leave --maps or --masks out")
        if self.given_masks.folder and self.until != "segment":
            raise SettingsError(f"from given masks a network is trained, and until {self.until!r} none; give 'segment'")
        if given and (self.until in ("classify", "discover") or self.until_round is not None):
            raise SettingsError("given maps and masks come after all rounds; leave until and until_round out")
        if self.until_round is not None and (not of_rounds or self.until_round > self.rounds):
            raise SettingsError(
                f"until_round {self.until_round}: expected a round of 0..{self.rounds}, and until classify, discover or"
                f" cam, got until {self.until}"
            )
        if self.until == "discover" and not self.last_round:
            raise SettingsError("until 'discover': nothing is discovered before round 1; give more rounds")

    def require_given(self) -> None:
        """Raise `BadInputError` unless what the run begins with of other programs is there."""
        for folder, what in (
            (self.given_maps.folder, "response maps"),
            (self.given_masks.folder, "masks"),
            (self.corrections.named, "masks"),
        ):
            if folder and not Path(folder).is_dir():
                raise BadInputError(f"{folder}: expected a folder of {what}, got none; check the path")
        file = self.given_features.file
        if file and not Path(file).is_file():
            raise BadInputError(f"{file}: expected an .npy of features, got none; check the path")

    @property
    def last_round(self) -> int:
        """The round after which no other comes."""
        return self.rounds if self.until_round is None else self.until_round

    @property
    def ends_after_the_rounds(self) -> bool:
        """Whether the run comes to the response maps of its last round; only then is there something to compare."""
        return self.until not in ("classify", "discover") and self.last_round == self.rounds

    @property
    def refines_methods(self) -> bool:
        """Whether the maps of other methods become pseudo masks too."""
        asked = self.compare.refine and bool(self.compare.methods)
        begins_with_images = not (self.given_masks.folder or self.given_maps.folder)
        return asked and begins_with_images and self.until in ("refine", "segment")

    def ends_with(self, stage: str, round_index: int) -> bool:
        """Whether the run ends with this stage of this round."""
        return self.until == stage and round_index == self.last_round

    def with_(self, values: Mapping[str, Any]) -> "RunSettings":
        """A copy in which the settings of these names have these values, all changed at once.

        Args:
            values: by dotted name, such as `{"classify.epochs": 3}`. A whole group may be given too; single settings of
                that group then count on top. Whole numbers do where a number is expected, lists where a tuple is,
                paths where text is.

        Raises:
            SettingsError: there is no such setting (says which may be meant), a value is of another type, or the values
                contradict each other.
        """
        return with_values(self, values)

    def quick_look(self) -> "RunSettings":
        """A copy for a first look: `QUICK_LOOK` says what is shortened. The same again changes nothing.

        The setting `quick` alone shortens nothing: it says that this was done.
        """
        if self.quick:
            return self
        classify, train, rounds = self.classify, self.segment.train, min(self.rounds, 1)
        return self.with_(
            {
                "quick": True,
                "rounds": rounds,
                "until_round": None if self.until_round is None else min(self.until_round, rounds),
                "control": False,
                "compare.methods": (),
                "classify.epochs": _tenth(classify.epochs),
                "classify.round_epochs": tuple(map(_tenth, classify.round_epochs)),
                "classify.schedule_epochs": _tenth(classify.schedule_epochs),
                "classify.least_steps": classify.least_steps // 10,
                "classify.optimiser.warmup_steps": classify.optimiser.warmup_steps // 10,
                "cam.scales": (1.0,),
                "cam.flip": False,
                "refine.rounds": "none" if self.refine.rounds == "none" else "last",
                "refine.random_walk": False,
                "refine.masks.pseudo_mask": "crf",
                "segment.train_on": self.segment.train_on[:1],
                "segment.train.epochs": _tenth(train.epochs),
                "segment.train.least_steps": train.least_steps // 20,
                "segment.train.optimiser.warmup_steps": train.optimiser.warmup_steps // 10,
                "segment.predict.scales": (1.0,),
                "segment.predict.flip": False,
            }
        )


QUICK_LOOK = (
    "quick look: one round at most, a tenth of each training or less, maps at one scale, masks by the CRF alone;"
    " without --quick everything is done"
)
"""What `RunSettings.quick_look` makes of a run, for people."""


def _tenth(epochs: int) -> int:
    return max(1, epochs // 10) if epochs else 0


def with_values(settings: Group, values: Mapping[str, Any]) -> Group:
    """`RunSettings.with_`, for any group of settings.

    Raises:
        SettingsError: as there.
    """
    if not isinstance(values, Mapping):
        raise SettingsError(f"expected settings by their names, as in {{'seed': 1}}, got {shortly(values)}")
    kinds, groups = setting_types(settings), group_types(settings)
    known: dict[str, Any] = {}
    for name, value in values.items():
        if name in groups:
            if not isinstance(value, groups[name]):
                raise SettingsError(f"{name}: expected {groups[name].__name__}, got {shortly(value)}")
            known[name] = value
        elif name in kinds:
            known[name] = checked(value, kinds[name], called=name)
        else:
            raise SettingsError(unknown_setting(name, settings))
    return _replaced(settings, known)


def _replaced(settings: Group, values: Mapping[str, Any], path: str = "") -> Group:
    changes = {name: value for name, value in values.items() if "." not in name}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        group, dot, rest = name.partition(".")
        if dot:
            inner.setdefault(group, {})[rest] = value
    for group, own in inner.items():
        changes[group] = _replaced(changes.get(group, getattr(settings, group)), own, f"{path}.{group}".lstrip("."))
    try:
        return replace(settings, **changes)  # type: ignore[type-var]
    except SettingsError as error:
        raise (SettingsError(f"{path}: {error}") if path else error) from None


def setting_types(settings: Any) -> dict[str, Any]:
    """The type of every single setting by its dotted name, through all groups, with its range."""
    return dict(leaves(type(settings)))


def group_types(settings: Any) -> dict[str, type]:
    """The class of every group of settings by its dotted name."""
    groups: dict[str, type] = {}
    for entry in dataclasses.fields(settings):
        value = getattr(settings, entry.name)
        if dataclasses.is_dataclass(value):
            groups[entry.name] = type(value)
            groups |= {f"{entry.name}.{name}": kind for name, kind in group_types(value).items()}
    return groups


def unknown_setting(name: str, settings: Any) -> str:
    """What to say about an unknown name of a setting: its new name, or which settings may be meant."""
    new = new_name(name)
    if new is not None:
        return f"the setting {name!r} has been renamed to {new!r}{_values_in_words(new)}"
    names = setting_types(settings)
    same_ending = [known for known in names if known.rpartition(".")[2] == name.rpartition(".")[2]]
    closest = difflib.get_close_matches(name, same_ending, n=3, cutoff=0.0)
    meant = f"did you mean {' or '.join(map(repr, closest))}?" if closest else suggest(name, names)
    return f"there is no setting {name!r}; {meant}"


def new_name(name: str) -> str | None:
    """What the setting or group of this old name is called now; None where it was not renamed."""
    head, rest = name, ""
    while head:
        if head in RENAMED:
            return RENAMED[head] + rest
        head, dot, last = head.rpartition(".")
        rest = f"{dot}{last}{rest}"
    return None


def _values_in_words(name: str) -> str:
    values = RENAMED_VALUES.get(name, {})
    return f" ({', '.join(f'{old!r} is now {new!r}' for old, new in values.items())})" if values else ""


def refuse_old_flags(words: Iterable[str]) -> None:
    """Look through a command line for flags of settings that were renamed.

    Raises:
        SettingsError: there is one; names the new flag, with the value's new name where it has one.
    """
    words = list(words)
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        new = new_name(flag[2:].replace("-", "_")) if flag.startswith("--") else None
        if new is None:
            continue
        following = words[place + 1] if place + 1 < len(words) else ""
        old_value = value if equals else following
        new_value = RENAMED_VALUES.get(new, {}).get(old_value)
        new_flag = f"--{new.replace('_', '-')}"
        if new_value is None:
            raise SettingsError(f"{flag} has been renamed to {new_flag}")
        raise SettingsError(f"{flag} {old_value} has been renamed to {new_flag} {new_value}")
