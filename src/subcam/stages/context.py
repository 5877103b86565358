"""The steps of a run up to scored maps, each with its folder: what a step is given decides where its files lie."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_fabric import Fabric

import subcam.stages.cam as cam
import subcam.stages.classify as classify
import subcam.stages.discover as discover
import subcam.stages.evaluate as evaluate
import subcam.stages.position_labels as local_label_stage
import subcam.stages.prototypes as prototype_stage
from subcam.cam.multiscale import ImageResponse, multiscale_response
from subcam.clustering.clusters_csv import clusters_digest
from subcam.clustering.subcategories import Subcategories
from subcam.comparisons.equivariance import EquivarianceSettings
from subcam.comparisons.erasing import ErasingSettings
from subcam.comparisons.methods import RESPONSES, Comparison
from subcam.data.check import CheckedImages
from subcam.data.dataset import Dataset, union
from subcam.networks.backbones.build import NetworkSettings
from subcam.networks.model_folder import WEIGHTS_FILE
from subcam.prototypes.crop_labels import LocalTargets
from subcam.results import ComparisonResult, RoundResult
from subcam.runtime.files import file_digest
from subcam.runtime.progress import say
from subcam.runtime.run_folder import RunFolder, Stage, fingerprint
from subcam.settings import RunSettings
from subcam.stages.evaluate import MapScores


@dataclass(frozen=True, kw_only=True)
class Found:
    """The sub-categories of a round and the stage that found them."""

    stage: Stage
    subcategories: Subcategories


@dataclass(frozen=True, kw_only=True)
class LocalFound:
    """What the positions of the training images show, and the stage that found it."""

    stage: Stage
    targets: LocalTargets


@dataclass(frozen=True, kw_only=True)
class Stages:
    """Each step of a run with its folder: what it is given decides where it lies."""

    settings: RunSettings
    folder: RunFolder
    dataset: Dataset
    fabric: Fabric
    inference: Fabric

    def classify(
        self,
        index: int,
        *,
        before: Stage | None = None,
        subcategories: Found | None = None,
        local: LocalFound | None = None,
        control: bool = False,
    ) -> Stage:
        """Train the network of one round."""
        settings = self.settings.classify.of_round(
            index, with_subcategories=subcategories is not None, with_local=local is not None
        )
        start_from = before if before and settings.start == "continue" else None
        found = subcategories or local
        inputs = (
            self.dataset.train.digest,
            self.network_key(),
            f"seed {self.settings.seed}, round {index}, {self.settings.machine.precision}",
            start_from.key if start_from else "pretrained",
            found.stage.key if found else "parents only",
            file_digest(Path(settings.round0_checkpoint)) if settings.round0_checkpoint else "trained",
        )
        stage = self.stage(f"round{index}{'-control' if control else ''}-classify", settings, inputs)
        classify.run(
            settings,
            classify.ClassifyInputs(
                image_set=self.dataset.train.image_set,
                network=self.settings.network,
                round_index=index,
                seed=self.settings.seed,
                subcategory_labels=subcategories.subcategories.labels if subcategories else None,
                start_from=start_from.path if start_from else None,
                local=local.targets if local else None,
            ),
            stage=stage,
            fabric=self.fabric,
            machine=self.settings.machine,
        )
        return stage

    def discover(self, index: int, model: Stage) -> Found:
        """Cluster the training images by the features of the round before."""
        settings = self.settings.discover
        edited = (clusters_digest(Path(settings.clusters)),) if settings.clusters else ()
        inputs = (self.dataset.train.digest, model.key, f"seed {self.settings.seed}", self.precision(), *edited)
        stage = self.stage(f"round{index}-discover", replace(settings, clusters=""), inputs)
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

    def find_prototypes(self, index: int, model: Stage, maps: Stage, *, control: bool = False) -> Stage:
        """A copy of the network with prototypes of local sub-categories, found where maps are sure."""
        settings, train = self.settings.local, self.dataset.train
        inputs = (train.digest, model.key, maps.key, f"seed {self.settings.seed}", self.precision())
        stage = self.stage(f"round{index}{'-control' if control else ''}-prototypes", settings, inputs)
        prototype_stage.run(
            settings,
            prototype_stage.LocalInputs(
                image_set=train.image_set,
                sizes=train.sizes,
                model=model.path,
                maps=maps.path,
                seed=self.settings.seed,
            ),
            stage=stage,
            fabric=self.inference,
            machine=self.settings.machine,
        )
        return stage

    def label_positions(self, index: int, before: RoundResult) -> LocalFound:
        """Which local sub-category each sure position of the training images shows, by the round before."""
        settings, train = self.settings.local, self.dataset.train
        inputs = (train.digest, before.model.key, before.maps.key, self.precision())
        stage = self.stage(f"round{index}-positions", settings, inputs)
        labels = local_label_stage.run(
            settings,
            prototype_stage.LocalInputs(
                image_set=train.image_set,
                sizes=train.sizes,
                model=before.model.path,
                maps=before.maps.path,
                seed=self.settings.seed,
            ),
            stage=stage,
            fabric=self.inference,
            machine=self.settings.machine,
        )
        return LocalFound(
            stage=stage, targets=LocalTargets(grids=labels.grids, sizes=train.sizes, model=before.model.path)
        )

    def map_and_score(
        self, index: int, model: Stage, *, subcategories: Found | None = None, control: bool = False
    ) -> RoundResult:
        """Write the response maps of a round and score them by split.

        The training images get maps too in the last round, and where pseudo masks or local sub-categories need them.
        """
        name = f"round{index}{'-control' if control else ''}"
        wanted = list(self.dataset.scored.values())
        last = self.settings.rounds
        refined = not control and (index == last or self.settings.refine.refines(index, last=last))
        if not wanted or refined or self.settings.subcategories == "local":
            wanted.append(self.dataset.train)
        images = union(*wanted)
        maps = self._map(name, images, model)
        return RoundResult(
            round_index=index,
            control=control,
            model=model,
            maps=maps,
            scores=self._score(name, maps),
            clusters=subcategories.stage if subcategories else None,
        )

    def compare(self, method: Comparison, plain: RoundResult) -> ComparisonResult:
        """Response maps of another kind for the scored images, on the network of round 0 (`plain`) or their own."""
        name, training = f"compare-{method}", self.settings.compare.training(method)
        model = plain.model if training is None else self._classify_otherwise(f"{name}-classify", training)
        images = union(*(self.dataset.scored.values() or (self.dataset.train,)))
        maps = self._map(name, images, model, respond=RESPONSES[method])
        return ComparisonResult(method=method, model=model, maps=maps, scores=self._score(name, maps))

    def _classify_otherwise(self, name: str, training: ErasingSettings | EquivarianceSettings) -> Stage:
        """Train as in round 0, from the same weights on the same crops, by the losses of a comparison."""
        train, machine = self.dataset.train, self.settings.machine
        settings = replace(self.settings.classify, round0_checkpoint="").of_round(0, with_subcategories=False)
        inputs = (train.digest, self.network_key(), f"seed {self.settings.seed}, {machine.precision}")
        stage = self.stage(name, {"classify": settings, "comparison": training}, inputs)
        classify.run(
            settings,
            classify.ClassifyInputs(
                image_set=train.image_set,
                network=self.settings.network,
                round_index=0,
                seed=self.settings.seed,
                subcategory_labels=train.image_set.labels if isinstance(training, ErasingSettings) else None,
                comparison=training,
            ),
            stage=stage,
            fabric=self.fabric,
            machine=machine,
        )
        return stage

    def _map(
        self,
        name: str,
        images: CheckedImages,
        model: Stage,
        *,
        respond: Callable[..., list[ImageResponse]] = multiscale_response,
    ) -> Stage:
        """Write the response maps of images, as `respond` makes them."""
        maps = self.stage(f"{name}-cam", self.settings.cam, (images.digest, model.key, self.precision()))
        cam.run(
            self.settings.cam,
            cam.CamInputs(image_set=images.image_set, sizes=images.sizes, model=model.path),
            stage=maps,
            fabric=self.inference,
            machine=self.settings.machine,
            respond=respond,
        )
        return maps

    def _score(self, name: str, maps: Stage) -> dict[str, MapScores]:
        """Score response maps by split."""
        scores = {}
        for split, images in self.dataset.scored.items():
            stage = self.stage(f"{name}-evaluate-{split}", self.settings.evaluate, (images.digest, maps.key))
            inputs = evaluate.EvaluateInputs(image_set=images.image_set, maps=maps.path)
            scores[split] = evaluate.run(self.settings.evaluate, inputs, stage=stage)
        return scores

    def precision(self) -> str:
        """Of feature extraction and response maps: a part of what decides whether two stages are equal."""
        return self.settings.machine.resolved_inference_precision

    def network_key(self, network: NetworkSettings | None = None) -> str:
        """What a pretrained network (the run's) is: its settings, and a file's bytes rather than its path."""
        network = network or self.settings.network
        weights = Path(network.weights)
        if weights.is_dir():
            weights /= WEIGHTS_FILE
        return fingerprint(replace(network, weights=file_digest(weights)) if weights.is_file() else network)

    def stage(self, name: str, settings: object, inputs: tuple[str, ...]) -> Stage:
        """The stage that `settings` and `inputs` mean; says so if it is done, or was cut off."""
        stage = self.folder.stage(name, settings=settings, inputs=inputs)
        if stage.done:
            say(f"{name}: done before, with the same settings and inputs ({stage.path.name})")
        elif stage.path.is_dir():
            say(f"{name}: taken up where it was cut off")
        return stage
