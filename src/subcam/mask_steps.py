"""The steps from response maps to masks, as those of `steps.Stages`: pseudo masks of a round, segmentation networks."""

from dataclasses import replace
from pathlib import Path

import subcam.stages.affinity as affinity_stage
import subcam.stages.evaluate_refined as refined_stage
import subcam.stages.evaluate_segmentation as segmentation_stage
import subcam.stages.predict as predict_stage
import subcam.stages.pseudo_masks as mask_stage
import subcam.stages.random_walk as walk_stage
import subcam.stages.segment as segment_train
import subcam.stages.sure_regions as crf_stage
from subcam.data.dataset import union
from subcam.data.mask_crops import only_masked, with_masks
from subcam.networks.backbones.build import NetworkSettings
from subcam.refine.label_map import mask_path
from subcam.results import RefinedResult, RoundResult, SegmentedResult
from subcam.runtime.files import file_digest
from subcam.runtime.run_folder import fingerprint
from subcam.stages.context import Stages

SCORED_AS = {predict_stage.MASKS: "plain", predict_stage.CRF_MASKS: "crf", predict_stage.KNOWN_MASKS: "known"}
"""How results name the folders of a segmentation network's masks."""


def refine(stages: Stages, found: RoundResult) -> RefinedResult:
    """From a round's response maps to pseudo masks of all images, scored in all variants."""
    settings, name, machine = stages.settings.refine, f"round{found.round_index}", stages.settings.machine
    train, everything = stages.dataset.train, union(*stages.dataset.all)
    sure = stages.stage(f"{name}-crf", settings.sure_regions, (train.digest, found.maps.key))
    crf_stage.run(
        settings.sure_regions,
        crf_stage.SureRegionInputs(image_set=train.image_set, maps=found.maps.path),
        stage=sure,
        machine=machine,
    )
    seed = f"seed {stages.settings.seed}, {machine.precision}"
    checkpoint = settings.affinity.checkpoint
    published = (file_digest(Path(checkpoint)),) if checkpoint else ()
    inputs: tuple[str, ...] = (sure.key, stages.network_key(), seed, *published)
    affinity = stages.stage(f"{name}-affinity", settings.affinity, inputs)
    affinity_stage.run(
        settings.affinity,
        affinity_stage.AffinityInputs(
            image_set=train.image_set,
            network=stages.settings.network,
            marginals=sure.path,
            seed=stages.settings.seed,
        ),
        stage=affinity,
        fabric=stages.fabric,
        machine=machine,
    )
    inputs = (everything.digest, found.maps.key, affinity.key, stages.precision())
    walked = stages.stage(f"{name}-walk", settings.walk, inputs)
    walk_stage.run(
        settings.walk,
        walk_stage.WalkInputs(image_set=everything.image_set, maps=found.maps.path, model=affinity.path),
        stage=walked,
        fabric=stages.inference,
        machine=machine,
    )
    masks = stages.stage(f"{name}-masks", settings.masks, (walked.key,))
    mask_stage.run(
        settings.masks,
        mask_stage.MaskInputs(
            image_set=everything.image_set,
            maps=found.maps.path,
            walked=walked.path,
            compared=frozenset(
                record.name for images in stages.dataset.scored.values() for record in images.image_set.records
            ),
        ),
        stage=masks,
        machine=machine,
    )
    scores = {
        split: refined_stage.run(
            refined_stage.RefinedInputs(image_set=images.image_set, masks=masks.path, walked=walked.path),
            stage=stages.stage(f"{name}-evaluate-masks-{split}", None, (images.digest, masks.key)),
        )
        for split, images in stages.dataset.scored.items()
    }
    return RefinedResult(round_index=found.round_index, masks=masks, scores=scores)


def segment(stages: Stages, refined: RefinedResult | None) -> SegmentedResult:
    """Train a segmentation network on a round's pseudo masks, or on true ones (None), and score what it predicts.

    Images on which it is scored have no labels then: every class is open.
    """
    settings, machine, train = stages.settings.segment, stages.settings.machine, stages.dataset.train
    if refined:
        variant, index = str(stages.settings.refine.masks.pseudo_mask), refined.round_index
        masks = refined.masks
        image_set = with_masks(train.image_set, lambda record: mask_path(masks.path, variant, record.name))
        name, source = f"round{index}-segment", (masks.key, variant)
    else:
        image_set, index = only_masked(train.image_set), 0
        name, source = "truth-segment", (train.digest, "truth")
    config = settings.config(run_network=stages.settings.network, class_names=train.image_set.class_names)
    known = fingerprint(replace(config, network=NetworkSettings()), stages.network_key(config.network))
    apart = [images for images in stages.dataset.scored.values() if images.digest != train.digest]
    validation = apart[-1] if apart and settings.train.validate_every else None
    inputs = (*source, known, f"seed {stages.settings.seed}, {machine.precision}")
    model = stages.stage(name, settings.train, (*inputs, validation.digest if validation else "not validated"))
    segment_train.run(
        settings.train,
        segment_train.TrainInputs(image_set=image_set, config=config, seed=stages.settings.seed, validation=validation),
        stage=model,
        fabric=stages.fabric,
        machine=machine,
    )
    scored = union(*(stages.dataset.scored.values() or (train,)))
    predicted = stages.stage(f"{name}-predict", settings.predict, (scored.digest, model.key, stages.precision()))
    predict_stage.run(
        settings.predict,
        predict_stage.PredictInputs(image_set=scored.image_set, sizes=scored.sizes, model=model.path),
        stage=predicted,
        fabric=stages.inference,
        machine=machine,
    )
    scores = {}
    for split, images in stages.dataset.scored.items():
        found = segmentation_stage.run(
            segmentation_stage.SegmentationInputs(
                image_set=images.image_set, masks=predicted.path, variants=predict_stage.variants(settings.predict)
            ),
            stage=stages.stage(f"{name}-evaluate-{split}", None, (images.digest, predicted.key)),
        )
        scores[split] = {SCORED_AS[variant]: values for variant, values in found.variants.items()}
    return SegmentedResult(
        trained_on="pseudo" if refined else "truth",
        round_index=index,
        model=model,
        masks=predicted,
        scores=scores,
    )
