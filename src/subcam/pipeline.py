"""READ FIRST. The whole way from labelled images to scored response maps: Algorithm 1 of the paper as a loop.

    labelled images
      -> classify   {E, H_p} with the parent loss                                 round 0, plain CAM
      -> discover   K-means on E's features inside each parent class              Eq. 2
      -> classify   {E, H_p, H_s} jointly; discover and classify again each round  Eq. 3
      -> cam        response maps over scales and flips                           Eq. 1
      -> evaluate   mIoU, F-score, at the fixed threshold and at the best         Tables 1 and 2

Stages know nothing of each other's order; they meet here, through files in the run folder. A stage that is done is
skipped, one that was cut off is taken up.
"""

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_fabric import Fabric

import subcam.cam.stage as cam
import subcam.classify.train as classify
import subcam.discover.stage as discover
import subcam.evaluate.stage as evaluate
from subcam.data.dataset import Dataset, open_dataset, union
from subcam.discover.clustering import Subcategories
from subcam.evaluate.stage import MapScores
from subcam.machine import build_fabric
from subcam.progress import say
from subcam.run_folder import RunFolder, Stage, file_digest, fingerprint, peak_memory_mib, versions, write_json
from subcam.settings import RunSettings


@dataclass(frozen=True, kw_only=True)
class RoundResult:
    """What one round left behind: the stages of its network and of its response maps, and scores by split."""

    round_index: int
    control: bool
    model: Stage
    maps: Stage
    scores: dict[str, MapScores]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """All rounds of a run in order, then those of the lambda = 0 control if there is one."""

    settings: RunSettings
    out: Path
    class_names: tuple[str, ...]
    rounds: tuple[RoundResult, ...]
    seconds: float

    @property
    def last(self) -> RoundResult:
        """The last round of sub-category training."""
        return [found for found in self.rounds if not found.control][-1]


def run(settings: RunSettings, out: Path, *, dataset: Dataset | None = None) -> RunResult:
    """Do everything, or what is left of it, in the folder `out`.

    Args:
        settings: of all stages.
        out: the run's folder; made if it is not there, never emptied.
        dataset: pictures to use instead of those that `settings.dataset` names.

    Raises:
        SubcamError: bad input, settings or weights, a folder in use or full; says what to do.
    """
    folder = RunFolder(path=out)
    with folder.lock():
        started = time.monotonic()
        dataset = dataset or open_dataset(settings.dataset, work_folder=out)
        _say_what_is_there(dataset)
        stages = Stages(
            settings=settings,
            folder=folder,
            dataset=dataset,
            fabric=build_fabric(settings.machine, precision=settings.machine.precision),
            inference=build_fabric(settings.machine, precision=settings.machine.resolved_inference_precision),
        )
        rounds = algorithm_1(stages, rounds=settings.rounds)
        if settings.control:
            rounds += algorithm_1(stages, rounds=settings.rounds, control_of=rounds[0])
        result = RunResult(
            settings=settings,
            out=out,
            class_names=dataset.train.image_set.class_names,
            rounds=tuple(rounds),
            seconds=time.monotonic() - started,
        )
        _write_record(result, dataset)
        return result


def algorithm_1(stages: "Stages", *, rounds: int, control_of: RoundResult | None = None) -> list[RoundResult]:
    """Train, map and score round 0, then `rounds` rounds on newly discovered sub-categories (Algorithm 1).

    Args:
        stages: what each step does.
        rounds: rounds after round 0.
        control_of: round 0 of another course; the rounds after it are then trained without sub-categories (lambda = 0)
            and only they are returned.
    """
    model = control_of.model if control_of else stages.classify(0)
    results = [control_of or stages.map_and_score(0, model)]
    for index in range(1, rounds + 1):
        subcategories = None if control_of else stages.discover(index, model)
        model = stages.classify(index, before=model, subcategories=subcategories, control=control_of is not None)
        results.append(stages.map_and_score(index, model, control=control_of is not None))
    return results[1:] if control_of else results


@dataclass(frozen=True, kw_only=True)
class Found:
    """The sub-categories of a round and the stage that found them."""

    stage: Stage
    subcategories: Subcategories


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Each step of a run with its folder: what it is given decides where it lies."""

    settings: RunSettings
    folder: RunFolder
    dataset: Dataset
    fabric: Fabric
    inference: Fabric

    def classify(
        self, index: int, *, before: Stage | None = None, subcategories: Found | None = None, control: bool = False
    ) -> Stage:
        """Train the network of one round."""
        settings = self.settings.classify.of_round(index, with_subcategories=subcategories is not None)
        start_from = before if before and settings.start == "continue" else None
        inputs = (
            self.dataset.train.digest,
            self._network_key(),
            f"seed {self.settings.seed}, round {index}, {self.settings.machine.precision}",
            start_from.key if start_from else "pretrained",
            subcategories.stage.key if subcategories else "parents only",
            file_digest(Path(settings.round0_checkpoint)) if settings.round0_checkpoint else "trained",
        )
        stage = self._stage(f"round{index}{'-control' if control else ''}-classify", settings, inputs)
        classify.run(
            settings,
            classify.ClassifyInputs(
                image_set=self.dataset.train.image_set,
                network=self.settings.network,
                round_index=index,
                seed=self.settings.seed,
                subcategory_labels=subcategories.subcategories.labels if subcategories else None,
                start_from=start_from.path if start_from else None,
            ),
            stage=stage,
            fabric=self.fabric,
            machine=self.settings.machine,
        )
        return stage

    def discover(self, index: int, model: Stage) -> Found:
        """Cluster the training pictures by the features of the round before."""
        settings = self.settings.discover
        inputs = (self.dataset.train.digest, model.key, f"seed {self.settings.seed}", self._precision())
        stage = self._stage(f"round{index}-discover", settings, inputs)
        subcategories = discover.run(
            settings,
            discover.DiscoverInputs(
                image_set=self.dataset.train.image_set,
                sizes=self.dataset.train.sizes,
                model=model.path,
                seed=self.settings.seed,
            ),
            stage=stage,
            fabric=self.inference,
            machine=self.settings.machine,
        )
        return Found(stage=stage, subcategories=subcategories)

    def map_and_score(self, index: int, model: Stage, *, control: bool = False) -> RoundResult:
        """Write the response maps of a round (of the training pictures too in the last) and score them by split."""
        name = f"round{index}{'-control' if control else ''}"
        wanted = list(self.dataset.scored.values())
        if not wanted or (index == self.settings.rounds and not control):
            wanted.append(self.dataset.train)
        pictures = union(*wanted)
        maps = self._stage(f"{name}-cam", self.settings.cam, (pictures.digest, model.key, self._precision()))
        cam.run(
            self.settings.cam,
            cam.CamInputs(image_set=pictures.image_set, sizes=pictures.sizes, model=model.path),
            stage=maps,
            fabric=self.inference,
            machine=self.settings.machine,
        )
        scores = {}
        for split, images in self.dataset.scored.items():
            stage = self._stage(f"{name}-evaluate-{split}", self.settings.evaluate, (images.digest, maps.key))
            inputs = evaluate.EvaluateInputs(image_set=images.image_set, maps=maps.path)
            scores[split] = evaluate.run(self.settings.evaluate, inputs, stage=stage)
        return RoundResult(round_index=index, control=control, model=model, maps=maps, scores=scores)

    def _precision(self) -> str:
        return self.settings.machine.resolved_inference_precision

    def _network_key(self) -> str:
        """What the pretrained network is: its settings, and a file's bytes rather than its path."""
        network = self.settings.network
        weights = Path(network.weights)
        return fingerprint(replace(network, weights=file_digest(weights)) if weights.is_file() else network)

    def _stage(self, name: str, settings: object, inputs: tuple[str, ...]) -> Stage:
        stage = self.folder.stage(name, settings=settings, inputs=inputs)
        if stage.done:
            say(f"{name}: done before, with the same settings and inputs ({stage.path.name})")
        elif stage.path.is_dir():
            say(f"{name}: taken up where it was cut off")
        return stage


def _say_what_is_there(dataset: Dataset) -> None:
    train = dataset.train.image_set
    counts = ", ".join(f"{name} {n}" for name, n in zip(train.class_names, train.labels.sum(0), strict=True))
    say(f"{len(train)} training pictures ({counts})")
    for split, images in dataset.scored.items():
        say(f"{len(images.image_set)} pictures of {split} to score")
    skipped = dict.fromkeys(skip for images in dataset.all for skip in images.image_set.skipped)
    if skipped:
        say(f"left out {len(skipped)} files that cannot be used:")
        for skip in skipped:
            say(f"  {skip.reason}")


def _write_record(result: RunResult, dataset: Dataset) -> None:
    """`run.json`: what was run, where each round lies, and its scores."""
    write_json(
        result.out / "run.json",
        {
            "command": sys.argv,
            "settings": result.settings,
            "class_names": result.class_names,
            "seconds_this_time": round(result.seconds, 1),
            "peak_memory_mib": round(peak_memory_mib(), 1),
            "versions": versions(),
            "skipped": list(dict.fromkeys(skip for images in dataset.all for skip in images.image_set.skipped)),
            "rounds": [
                {
                    "round": found.round_index,
                    "control": found.control,
                    "model": found.model.path.relative_to(result.out),
                    "maps": found.maps.path.relative_to(result.out),
                    "scores": found.scores,
                }
                for found in result.rounds
            ],
        },
    )
