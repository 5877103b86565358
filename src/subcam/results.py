"""What a run leaves behind: its rounds, pseudo masks and segmentation networks, and `run.json`, which lists them."""

import dataclasses
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subcam.data.dataset import Dataset, open_dataset
from subcam.data.records import first_of
from subcam.errors import CheckpointError, RunFolderError
from subcam.methods.titles import title_of
from subcam.refine.alphas import MadeMasks
from subcam.refine.variants import CORRECTED, GIVEN
from subcam.run_record import (
    MEND,
    MasksOf,
    RecordedMasks,
    RunRecord,
    StageCost,
    read_record,
    record_in,
    recorded_clusters,
    recorded_stage,
    stage_costs,
)
from subcam.runtime.documents.plain_values import from_plain
from subcam.runtime.files import write_json
from subcam.runtime.resources import peak_memory_mib, versions
from subcam.runtime.run_folder import RECORD, Stage
from subcam.settings import RunSettings
from subcam.stages.evaluate import (
    MapScores,
    RefinedScores,
    ScoreValues,
    map_scores_from,
    refined_scores_from,
    segmentation_scores_from,
)


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """What one round left behind: the stages of its network, response maps and sub-categories, and scores by split.

    model, maps: None where the run ended before; given maps have no network.
    given: whether the maps are another program's, in the place of all rounds.
    """

    round_index: int
    control: bool
    model: Stage | None = None
    maps: Stage | None = None
    scores: dict[str, MapScores] = dataclasses.field(default_factory=dict)
    clusters: Stage | None = None
    given: bool = False

    @property
    def classifier(self) -> Stage:
        """The stage of its network.

        Raises:
            CheckpointError: it has none.
        """
        if self.model is None:
            raise CheckpointError(
                "the run holds no classifier, as it began with given maps or ended before it had one; train a"
                " segmentation network in it (subcam segment), or give another run"
            )
        return self.model

    @property
    def responses(self) -> Stage:
        """The stage of its response maps.

        Raises:
            RunFolderError: it has none.
        """
        if self.maps is None:
            raise RunFolderError(
                f"the run ended before the response maps of round {self.round_index}; run it to its end"
            )
        return self.maps


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """Response maps of another method: the stages of its network (perhaps round 0's) and of them, scores by split.

    title: what tables call the method. refined: the pseudo masks of its maps, where the run was to make them.
    """

    method: str
    title: str
    model: Stage
    maps: Stage
    scores: dict[str, MapScores]
    refined: "RefinedResult | None" = None


@dataclass(frozen=True, kw_only=True)
class RefinedResult:
    """The pseudo masks of one round's or method's maps: the stage that wrote them, scores of each variant by split.

    variant: those that a network learns from; `GIVEN` where they are another program's.
    of_given: whether the maps were another program's.
    walked: the stage of the maps after the random walk, while the run goes on; None where nothing walked.
    confidence: the stage that says how far each mask can be trusted; None where nothing tells.
    corrected: the stage of these masks with those in their place that people corrected; None where nobody did.
    """

    round_index: int
    masks: Stage
    scores: dict[str, RefinedScores]
    variant: str
    of_given: bool = False
    walked: Stage | None = None
    confidence: Stage | None = None
    corrected: Stage | None = None

    @property
    def made(self) -> MadeMasks | None:
        """How the masks were made; None of given ones, before they are there, and of those of an earlier version."""
        if self.variant == GIVEN or not self.masks.done or "crf_alpha" not in self.masks.record["outputs"]:
            return None
        return self.masks.outputs_as(MadeMasks)

    @property
    def stages_begin(self) -> str:
        """How stages that go on from these masks begin."""
        return GIVEN if self.of_given or self.variant == GIVEN else f"round{self.round_index}"

    @property
    def final(self) -> tuple[Path, str]:
        """The folder of the masks that a network learns from, and which of the masks in it."""
        return (self.corrected.path, CORRECTED) if self.corrected else (self.masks.path, self.variant)


@dataclass(frozen=True, kw_only=True)
class SegmentedResult:
    """A segmentation network: the masks that it learned from, the stages of it and of its predictions, and scores.

    of_given: whether the pseudo masks are of another program's maps.
    scores: by split, then "plain", with a dense CRF on top "crf", and "known" where only the classes of the image's
        image-level labels may occur.
    """

    trained_on: MasksOf
    round_index: int
    model: Stage
    masks: Stage
    scores: dict[str, dict[str, ScoreValues]]
    of_given: bool = False


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """All rounds of a run in order, then those of the control; refined rounds; segmentation networks; comparisons."""

    settings: RunSettings
    out: Path
    class_names: tuple[str, ...]
    rounds: tuple[RoundResult, ...]
    refined: tuple[RefinedResult, ...]
    segmented: tuple[SegmentedResult, ...]
    seconds: float
    recipe: str = ""
    compared: tuple[ComparisonResult, ...] = ()

    @property
    def last(self) -> RoundResult:
        """The last round of sub-category training.

        Raises:
            CheckpointError: the run has none.
        """
        if not self.rounds:
            raise CheckpointError(f"{self.out} is a run without rounds and their classifier: it began with given masks")
        return [result for result in self.rounds if not result.control][-1]


def write_record(result: RunResult, dataset: Dataset, path: Path) -> None:
    """Write what was run, where each round lies, and its scores. The paths in it are relative to the run's folder."""
    write_json(
        path,
        {
            "command": sys.argv,
            "recipe": result.recipe,
            "settings": result.settings,
            "class_names": result.class_names,
            "seconds_this_time": round(result.seconds, 1),
            "peak_memory_mib": round(peak_memory_mib(), 1),
            "versions": versions(),
            "skipped": list(dict.fromkeys(skip for images in dataset.all for skip in images.image_set.skipped)),
            "rounds": [
                {
                    "round": entry.round_index,
                    "control": entry.control,
                    "given": entry.given,
                    **_folders(result, model=entry.model, maps=entry.maps, clusters=entry.clusters),
                    "scores": entry.scores,
                }
                for entry in result.rounds
            ],
            "compared": [
                {
                    "method": entry.method,
                    "title": entry.title,
                    **_folders(result, model=entry.model, maps=entry.maps),
                    "scores": entry.scores,
                    "refined": _masks(result, entry.refined) if entry.refined else None,
                }
                for entry in result.compared
            ],
            "refined": [_masks(result, entry) for entry in result.refined],
            "segment": [
                {
                    "trained_on": entry.trained_on,
                    "round": entry.round_index,
                    "of_given": entry.of_given,
                    **_folders(result, model=entry.model, masks=entry.masks),
                    "scores": entry.scores,
                }
                for entry in result.segmented
            ],
        },
    )


def _folders(result: RunResult, **stages: Stage | None) -> dict[str, Path | None]:
    """Where stages lie in the run's folder."""
    return {name: stage.path.relative_to(result.out) if stage else None for name, stage in stages.items()}


def _masks(result: RunResult, entry: RefinedResult) -> dict[str, Any]:
    own = {"round": entry.round_index, "of_given": entry.of_given, "variant": entry.variant, "scores": entry.scores}
    return own | _folders(result, masks=entry.masks, confidence=entry.confidence, corrected=entry.corrected)


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A run as its folder records it.

    stages: those that this run's results depend on, in the order in which they ended. The folder may hold others.
    skipped: why each file that was left out could not be used.
    settings: as `run.json` has them; `result.settings` has them as dataclasses.
    """

    result: RunResult
    command: tuple[str, ...]
    versions: dict[str, str]
    skipped: tuple[str, ...]
    peak_memory_mib: float
    stages: tuple[StageCost, ...]
    settings: dict[str, Any]

    @property
    def threshold(self) -> float | None:
        """The background threshold of the last round's maps, given or chosen without masks; None if none was chosen."""
        given = self.result.settings.evaluate.background_threshold
        scored = [scores.fixed_threshold for entry in self.rounds[-1:] for scores in entry.scores.values()]
        return scored[-1] if scored else given if isinstance(given, float | int) else None

    @property
    def rounds(self) -> tuple[RoundResult, ...]:
        """Round 0 and those with sub-categories, without the control."""
        return tuple(one for one in self.result.rounds if not one.control)

    @property
    def mapped(self) -> tuple[RoundResult, ...]:
        """The rounds that have response maps: all, but for one in which the run ended before them."""
        return tuple(one for one in self.rounds if one.maps)


def read_run(folder: Path, *, record: str = RECORD) -> FinishedRun:
    """Read a finished run; the parts that it did not have are empty.

    Args:
        folder: the run's folder.
        record: the file in it that lists what was run.

    Raises:
        RunFolderError: the record is missing or damaged; says what to do.
    """
    path = record_in(folder, record)
    try:
        content = read_record(path)
        result = _result(content, folder)
        keys = [stage.key for stage in _stages(result)]
        stages = stage_costs(folder, keys, threshold=result.settings.evaluate.background_threshold)
    except TypeError as error:
        raise RunFolderError(f"{path} is not the record of a run ({error}); {MEND}") from error
    return FinishedRun(
        result=result,
        command=content.command,
        versions=content.versions,
        skipped=tuple(skip.reason for skip in content.skipped),
        peak_memory_mib=content.peak_memory_mib,
        stages=stages,
        settings=content.settings,
    )


def open_images(run: FinishedRun, *, data: str = "") -> Dataset:
    """The run's images, from where they were, or from `data` if they have moved.

    Raises:
        SubcamError: they are not there, or one of the files cannot be used.
    """
    settings = dataclasses.replace(run.result.settings.dataset, root=data or run.result.settings.dataset.root)
    if settings.root != "toy" and not Path(settings.root).is_dir():
        raise RunFolderError(
            f"the run's images are no longer at {settings.root}; say where they are with --data DIR"
            if not data
            else f"--data {data} is no folder; give the one that holds the run's images"
        )
    dataset = open_dataset(settings, work_folder=run.result.out)
    there, known = dataset.train.image_set.class_names, run.result.class_names
    if there != known:
        reason = f".class_names: expected those of the images, {first_of(there)}, got {first_of(known) or 'none'}"
        raise RunFolderError(f"{run.result.out / RECORD}: {reason}; give the run's command again")
    return dataset


def _result(content: RunRecord, folder: Path) -> RunResult:
    if (content.rounds or not content.refined) and all(entry.control for entry in content.rounds):
        raise TypeError(".rounds: expected one or more that are no control")
    classes = len(content.class_names)
    settings = from_plain(RunSettings, content.settings, lenient=True)

    def refined(entry: RecordedMasks, key: str) -> RefinedResult:
        variant = entry.variant or settings.refine.masks.pseudo_mask
        return RefinedResult(
            round_index=entry.round,
            masks=recorded_stage(folder, entry.masks),
            scores=refined_scores_from(entry.scores, key, classes, counts=variant),
            variant=variant,
            of_given=entry.of_given,
            confidence=recorded_stage(folder, entry.confidence) if entry.confidence else None,
            corrected=recorded_stage(folder, entry.corrected) if entry.corrected else None,
        )

    return RunResult(
        settings=settings,
        out=folder,
        class_names=content.class_names,
        rounds=tuple(
            RoundResult(
                round_index=entry.round,
                control=entry.control,
                model=recorded_stage(folder, entry.model) if entry.model else None,
                maps=recorded_stage(folder, entry.maps) if entry.maps else None,
                scores=map_scores_from(entry.scores, f".rounds[{place}]", classes),
                clusters=recorded_clusters(folder, entry),
                given=entry.given,
            )
            for place, entry in enumerate(content.rounds)
        ),
        refined=tuple(refined(entry, f".refined[{place}]") for place, entry in enumerate(content.refined)),
        segmented=tuple(
            SegmentedResult(
                trained_on=entry.trained_on,
                round_index=entry.round,
                model=recorded_stage(folder, entry.model),
                masks=recorded_stage(folder, entry.masks),
                scores=segmentation_scores_from(entry.scores, f".segment[{place}]", classes),
                of_given=entry.of_given,
            )
            for place, entry in enumerate(content.segment)
        ),
        compared=tuple(
            ComparisonResult(
                method=entry.method,
                title=title_of(entry.method, entry.title),
                model=recorded_stage(folder, entry.model),
                maps=recorded_stage(folder, entry.maps),
                scores=map_scores_from(entry.scores, f".compared[{place}]", classes),
                refined=refined(entry.refined, f".compared[{place}].refined") if entry.refined else None,
            )
            for place, entry in enumerate(content.compared)
        ),
        seconds=content.seconds_this_time,
        recipe=content.recipe,
    )


def _stages(result: RunResult) -> Iterator[Stage]:
    """The stages that the results name."""
    for one in result.rounds:
        yield from filter(None, (one.model, one.maps, one.clusters))
    for comparison in result.compared:
        yield from (comparison.model, comparison.maps, *([comparison.refined.masks] if comparison.refined else []))
    for refined in result.refined:
        yield from filter(None, (refined.masks, refined.confidence, refined.corrected))
    for network in result.segmented:
        yield from (network.model, network.masks)
