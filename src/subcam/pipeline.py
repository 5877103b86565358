"""READ FIRST. The whole way from labelled images to scored response maps: Algorithm 1 of the paper as a loop.

    labelled images
      -> classify   {E, H_p} with the parent loss                                 round 0, plain CAM
      -> discover   K-means on E's features inside each parent class              Eq. 2
      -> classify   {E, H_p, H_s} jointly; discover and classify again each round  Eq. 3
      -> cam        response maps over scales and flips                           Eq. 1
      -> evaluate   mIoU, F-score, at the fixed threshold and at the best         Table 2
      -> refine     dense CRF -> AffinityNet -> random walk -> pseudo masks       Section 3.3
      -> evaluate   maps, maps + CRF, maps + random walk, and both                Table 1

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
import subcam.evaluate.refined_stage as refined_stage
import subcam.evaluate.stage as evaluate
import subcam.refine.affinity_stage as affinity_stage
import subcam.refine.crf_stage as crf_stage
import subcam.refine.mask_stage as mask_stage
import subcam.refine.walk_stage as walk_stage
from subcam.data.dataset import Dataset, open_dataset, union
from subcam.discover.clustering import Subcategories
from subcam.evaluate.refined_stage import RefinedScores
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
class RefinedResult:
    """The pseudo masks of one round's maps: the stage that wrote them, and scores of each variant by split."""

    round_index: int
    masks: Stage
    scores: dict[str, RefinedScores]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """All rounds of a run in order, then those of the lambda = 0 control if there is one; refined rounds."""

    settings: RunSettings
    out: Path
    class_names: tuple[str, ...]
    rounds: tuple[RoundResult, ...]
    refined: tuple[RefinedResult, ...]
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
        refined = [
            stages.refine(found)
            for found in rounds
            if not found.control and settings.refine.refines(found.round_index, last=settings.rounds)
        ]
        result = RunResult(
            settings=settings,
            out=out,
            class_names=dataset.train.image_set.class_names,
            rounds=tuple(rounds),
            refined=tuple(refined),
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
        """Write the response maps of a round and score them by split.

        The training pictures get maps too in the last round, and where their pseudo masks are wanted.
        """
        name = f"round{index}{'-control' if control else ''}"
        wanted = list(self.dataset.scored.values())
        last = self.settings.rounds
        if not wanted or (not control and (index == last or self.settings.refine.refines(index, last=last))):
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

    def refine(self, found: RoundResult) -> RefinedResult:
        """From a round's response maps to pseudo masks of all pictures, scored in all variants."""
        settings, name, machine = self.settings.refine, f"round{found.round_index}", self.settings.machine
        train, everything = self.dataset.train, union(*self.dataset.all)
        sure = self._stage(f"{name}-crf", settings.sure_regions, (train.digest, found.maps.key))
        crf_stage.run(
            settings.sure_regions,
            crf_stage.SureRegionInputs(image_set=train.image_set, maps=found.maps.path),
            stage=sure,
            machine=machine,
        )
        seed = f"seed {self.settings.seed}, {machine.precision}"
        checkpoint = settings.affinity.checkpoint
        published = (file_digest(Path(checkpoint)),) if checkpoint else ()
        inputs: tuple[str, ...] = (sure.key, self._network_key(), seed, *published)
        affinity = self._stage(f"{name}-affinity", settings.affinity, inputs)
        affinity_stage.run(
            settings.affinity,
            affinity_stage.AffinityInputs(
                image_set=train.image_set,
                network=self.settings.network,
                marginals=sure.path,
                seed=self.settings.seed,
            ),
            stage=affinity,
            fabric=self.fabric,
            machine=machine,
        )
        inputs = (everything.digest, found.maps.key, affinity.key, self._precision())
        walked = self._stage(f"{name}-walk", settings.walk, inputs)
        walk_stage.run(
            settings.walk,
            walk_stage.WalkInputs(image_set=everything.image_set, maps=found.maps.path, model=affinity.path),
            stage=walked,
            fabric=self.inference,
            machine=machine,
        )
        masks = self._stage(f"{name}-masks", settings.masks, (walked.key,))
        mask_stage.run(
            settings.masks,
            mask_stage.MaskInputs(
                image_set=everything.image_set,
                maps=found.maps.path,
                walked=walked.path,
                compared=frozenset(
                    record.name for images in self.dataset.scored.values() for record in images.image_set.records
                ),
            ),
            stage=masks,
            machine=machine,
        )
        scores = {
            split: refined_stage.run(
                refined_stage.RefinedInputs(image_set=images.image_set, masks=masks.path, walked=walked.path),
                stage=self._stage(f"{name}-evaluate-masks-{split}", None, (images.digest, masks.key)),
            )
            for split, images in self.dataset.scored.items()
        }
        return RefinedResult(round_index=found.round_index, masks=masks, scores=scores)

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
            "refined": [
                {
                    "round": found.round_index,
                    "masks": found.masks.path.relative_to(result.out),
                    "scores": found.scores,
                }
                for found in result.refined
            ],
        },
    )
