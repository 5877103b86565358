"""What a run leaves behind: its rounds, pseudo masks and segmentation networks, and `run.json`, which lists them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from subcam.comparisons.methods import TITLES, Comparison
from subcam.data.dataset import Dataset
from subcam.runtime.files import write_json
from subcam.runtime.resources import peak_memory_mib, versions
from subcam.runtime.run_folder import Stage
from subcam.settings import RunSettings
from subcam.stages.evaluate import MapScores, RefinedScores


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """What one round left behind: the stages of its network, response maps and sub-categories, and scores by split."""

    round_index: int
    control: bool
    model: Stage
    maps: Stage
    scores: dict[str, MapScores]
    clusters: Stage | None = None


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """Response maps of another kind: the stages of their network (perhaps round 0's) and of them, scores by split."""

    method: Comparison
    model: Stage
    maps: Stage
    scores: dict[str, MapScores]

    @property
    def title(self) -> str:
        """What tables call it."""
        return TITLES[self.method]


@dataclass(frozen=True, kw_only=True)
class RefinedResult:
    """The pseudo masks of one round's maps: the stage that wrote them, and scores of each variant by split."""

    round_index: int
    masks: Stage
    scores: dict[str, RefinedScores]


@dataclass(frozen=True, kw_only=True)
class SegmentedResult:
    """A segmentation network: the masks that it learned from, the stages of it and of its predictions, and scores.

    scores: by split, then "plain", with a dense CRF on top "crf", and "known" where only the classes of the image's
        image-level labels may occur.
    """

    trained_on: Literal["pseudo", "truth"]
    round_index: int
    model: Stage
    masks: Stage
    scores: dict[str, dict[str, dict[str, Any]]]


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
        """The last round of sub-category training."""
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
                    "model": entry.model.path.relative_to(result.out),
                    "maps": entry.maps.path.relative_to(result.out),
                    "clusters": entry.clusters.path.relative_to(result.out) if entry.clusters else None,
                    "scores": entry.scores,
                }
                for entry in result.rounds
            ],
            "compared": [
                {
                    "method": entry.method,
                    "model": entry.model.path.relative_to(result.out),
                    "maps": entry.maps.path.relative_to(result.out),
                    "scores": entry.scores,
                }
                for entry in result.compared
            ],
            "refined": [
                {
                    "round": entry.round_index,
                    "masks": entry.masks.path.relative_to(result.out),
                    "scores": entry.scores,
                }
                for entry in result.refined
            ],
            "segment": [
                {
                    "trained_on": entry.trained_on,
                    "round": entry.round_index,
                    "model": entry.model.path.relative_to(result.out),
                    "masks": entry.masks.path.relative_to(result.out),
                    "scores": entry.scores,
                }
                for entry in result.segmented
            ],
        },
    )
