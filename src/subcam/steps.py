"""The steps of a run, each with its folder: what a step is given decides where its files lie and whether it is done."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from lightning_fabric import Fabric

import subcam.cam.stage as cam
import subcam.classify.train as classify
import subcam.discover.local_label_stage as local_label_stage
import subcam.discover.prototype_stage as prototype_stage
import subcam.discover.stage as discover
import subcam.evaluate.refined_stage as refined_stage
import subcam.evaluate.segmentation_stage as segmentation_stage
import subcam.evaluate.stage as evaluate
import subcam.refine.affinity_stage as affinity_stage
import subcam.refine.crf_stage as crf_stage
import subcam.refine.mask_stage as mask_stage
import subcam.refine.walk_stage as walk_stage
import subcam.segment.predict_stage as predict_stage
import subcam.segment.train as segment_train
from subcam.cam.multiscale import ImageResponse, multiscale_response
from subcam.classify.equivariance import EquivarianceSettings
from subcam.classify.erasing import ErasingSettings
from subcam.classify.local_targets import LocalTargets
from subcam.comparisons import RESPONSES, Comparison
from subcam.data.check import CheckedImages
from subcam.data.dataset import Dataset, union
from subcam.discover.clustering import Subcategories
from subcam.discover.clusters_file import clusters_digest
from subcam.evaluate.stage import MapScores
from subcam.networks.backbones import NetworkSettings
from subcam.networks.saved_model import WEIGHTS_FILE
from subcam.progress import say
from subcam.refine.label_map import mask_path
from subcam.results import ComparisonResult, RefinedResult, RoundResult, SegmentedResult
from subcam.run_folder import RunFolder, Stage, file_digest, fingerprint
from subcam.segment.data import only_masked, with_masks
from subcam.settings import RunSettings

SCORED_AS = {predict_stage.MASKS: "plain", predict_stage.CRF_MASKS: "crf", predict_stage.KNOWN_MASKS: "known"}
"""How results name the folders of a segmentation network's masks."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """The sub-categories of a round and the stage that found them."""

    stage: Stage
    subcategories: Subcategories


@dataclass(frozen=True, kw_only=True)
class LocalFound:
    """What the positions of the training pictures show, and the stage that found it."""

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
            self._network_key(),
            f"seed {self.settings.seed}, round {index}, {self.settings.machine.precision}",
            start_from.key if start_from else "pretrained",
            found.stage.key if found else "parents only",
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
                local=local.targets if local else None,
            ),
            stage=stage,
            fabric=self.fabric,
            machine=self.settings.machine,
        )
        return stage

    def discover(self, index: int, model: Stage) -> Found:
        """Cluster the training pictures by the features of the round before."""
        settings = self.settings.discover
        edited = (clusters_digest(Path(settings.clusters)),) if settings.clusters else ()
        inputs = (self.dataset.train.digest, model.key, f"seed {self.settings.seed}", self._precision(), *edited)
        stage = self._stage(f"round{index}-discover", replace(settings, clusters=""), inputs)
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
        inputs = (train.digest, model.key, maps.key, f"seed {self.settings.seed}", self._precision())
        stage = self._stage(f"round{index}{'-control' if control else ''}-prototypes", settings, inputs)
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
        """Which local sub-category each sure position of the training pictures shows, by the round before."""
        settings, train = self.settings.local, self.dataset.train
        inputs = (train.digest, before.model.key, before.maps.key, self._precision())
        stage = self._stage(f"round{index}-positions", settings, inputs)
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

        The training pictures get maps too in the last round, and where pseudo masks or local sub-categories need them.
        """
        name = f"round{index}{'-control' if control else ''}"
        wanted = list(self.dataset.scored.values())
        last = self.settings.rounds
        refined = not control and (index == last or self.settings.refine.refines(index, last=last))
        if not wanted or refined or self.settings.subcategories == "local":
            wanted.append(self.dataset.train)
        pictures = union(*wanted)
        maps = self._map(name, pictures, model)
        return RoundResult(
            round_index=index,
            control=control,
            model=model,
            maps=maps,
            scores=self._score(name, maps),
            clusters=subcategories.stage if subcategories else None,
        )

    def compare(self, method: Comparison, plain: RoundResult) -> ComparisonResult:
        """Response maps of another kind for the scored pictures, on the network of round 0 (`plain`) or their own."""
        name, training = f"compare-{method}", self.settings.compare.training(method)
        model = plain.model if training is None else self._classify_otherwise(f"{name}-classify", training)
        pictures = union(*(self.dataset.scored.values() or (self.dataset.train,)))
        maps = self._map(name, pictures, model, respond=RESPONSES[method])
        return ComparisonResult(method=method, model=model, maps=maps, scores=self._score(name, maps))

    def _classify_otherwise(self, name: str, training: ErasingSettings | EquivarianceSettings) -> Stage:
        """Train as in round 0, from the same weights on the same crops, by the losses of a comparison."""
        train, machine = self.dataset.train, self.settings.machine
        settings = replace(self.settings.classify, round0_checkpoint="").of_round(0, with_subcategories=False)
        inputs = (train.digest, self._network_key(), f"seed {self.settings.seed}, {machine.precision}")
        stage = self._stage(name, {"classify": settings, "comparison": training}, inputs)
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
        pictures: CheckedImages,
        model: Stage,
        *,
        respond: Callable[..., list[ImageResponse]] = multiscale_response,
    ) -> Stage:
        """Write the response maps of pictures, as `respond` makes them."""
        maps = self._stage(f"{name}-cam", self.settings.cam, (pictures.digest, model.key, self._precision()))
        cam.run(
            self.settings.cam,
            cam.CamInputs(image_set=pictures.image_set, sizes=pictures.sizes, model=model.path),
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
            stage = self._stage(f"{name}-evaluate-{split}", self.settings.evaluate, (images.digest, maps.key))
            inputs = evaluate.EvaluateInputs(image_set=images.image_set, maps=maps.path)
            scores[split] = evaluate.run(self.settings.evaluate, inputs, stage=stage)
        return scores

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

    def segment(self, refined: RefinedResult | None) -> SegmentedResult:
        """Train a segmentation network on a round's pseudo masks, or on true ones (None), and score what it predicts.

        Pictures on which it is scored have no labels then: every class is open.
        """
        settings, machine, train = self.settings.segment, self.settings.machine, self.dataset.train
        if refined:
            variant, index = str(self.settings.refine.masks.pseudo_mask), refined.round_index
            masks = refined.masks
            image_set = with_masks(train.image_set, lambda record: mask_path(masks.path, variant, record.name))
            name, source = f"round{index}-segment", (masks.key, variant)
        else:
            image_set, index = only_masked(train.image_set), 0
            name, source = "truth-segment", (train.digest, "truth")
        config = settings.config(run_network=self.settings.network, class_names=train.image_set.class_names)
        known = fingerprint(replace(config, network=NetworkSettings()), self._network_key(config.network))
        apart = [images for images in self.dataset.scored.values() if images.digest != train.digest]
        validation = apart[-1] if apart and settings.train.validate_every else None
        inputs = (*source, known, f"seed {self.settings.seed}, {machine.precision}")
        model = self._stage(name, settings.train, (*inputs, validation.digest if validation else "not validated"))
        segment_train.run(
            settings.train,
            segment_train.TrainInputs(
                image_set=image_set, config=config, seed=self.settings.seed, validation=validation
            ),
            stage=model,
            fabric=self.fabric,
            machine=machine,
        )
        pictures = union(*(self.dataset.scored.values() or (train,)))
        predicted = self._stage(f"{name}-predict", settings.predict, (pictures.digest, model.key, self._precision()))
        predict_stage.run(
            settings.predict,
            predict_stage.PredictInputs(image_set=pictures.image_set, sizes=pictures.sizes, model=model.path),
            stage=predicted,
            fabric=self.inference,
            machine=machine,
        )
        scores = {}
        for split, images in self.dataset.scored.items():
            found = segmentation_stage.run(
                segmentation_stage.SegmentationInputs(
                    image_set=images.image_set, masks=predicted.path, variants=predict_stage.variants(settings.predict)
                ),
                stage=self._stage(f"{name}-evaluate-{split}", None, (images.digest, predicted.key)),
            )
            scores[split] = {SCORED_AS[variant]: values for variant, values in found.variants.items()}
        return SegmentedResult(
            trained_on="pseudo" if refined else "truth",
            round_index=index,
            model=model,
            masks=predicted,
            scores=scores,
        )

    def _precision(self) -> str:
        return self.settings.machine.resolved_inference_precision

    def _network_key(self, network: NetworkSettings | None = None) -> str:
        """What a pretrained network (the run's) is: its settings, and a file's bytes rather than its path."""
        network = network or self.settings.network
        weights = Path(network.weights)
        if weights.is_dir():
            weights /= WEIGHTS_FILE
        return fingerprint(replace(network, weights=file_digest(weights)) if weights.is_file() else network)

    def _stage(self, name: str, settings: object, inputs: tuple[str, ...]) -> Stage:
        stage = self.folder.stage(name, settings=settings, inputs=inputs)
        if stage.done:
            say(f"{name}: done before, with the same settings and inputs ({stage.path.name})")
        elif stage.path.is_dir():
            say(f"{name}: taken up where it was cut off")
        return stage
