"""A segmentation network from masks (Section 4.4): trained, applied to the scored images, scored. Table 4's row out."""

from subcam.data.dataset import union
from subcam.refine.variants import CORRECTED, GIVEN
from subcam.results import RefinedResult, SegmentedResult
from subcam.settings import RunSettings
from subcam.stages import evaluate, predict, segment
from subcam.stages.context import Context
from subcam.steps.corrections import corrected_training_images


def train_segmentation(settings: RunSettings, context: Context, refined: RefinedResult | None) -> SegmentedResult:
    """Train a segmentation network on pseudo masks, given ones, or ground truth (None), and score what it predicts.

    Images on which it is scored have no labels then: every class is open.
    """
    dataset, train = context.dataset, context.dataset.train
    masks_of = (refined.corrected or refined.masks) if refined else None
    variant = (CORRECTED if refined.corrected else refined.variant) if refined else ""
    name = f"{refined.stages_begin if refined else 'truth'}-segment"
    apart = [images for images in dataset.truth.values() if images.digest != train.digest]
    model = context.run(
        name,
        segment.run,
        settings=settings.segment.train,
        config=settings.segment.config(run_network=settings.network, class_names=train.image_set.class_names),
        images=train if refined else corrected_training_images(settings, context),
        masks=masks_of,
        variant=variant,
        validation=apart[-1] if apart and settings.segment.train.validate_every else None,
        seed=context.seed,
        device=context.training,
    )
    masks = context.run(
        f"{name}-predict",
        predict.run,
        settings=settings.segment.predict,
        images=union(*(dataset.scored.values() or (train,))),
        model=model,
        device=context.inference,
    )
    scores, variants = {}, predict.variants(settings.segment.predict)
    for split, images in dataset.truth.items():
        stage = context.run(
            f"{name}-evaluate-{split}", evaluate.run_segmentation, images=images, masks=masks, variants=variants
        )
        if stage.done:  # not where a run is planned
            scored = evaluate.read_segmentation(stage).variants
            scores[split] = {predict.SCORED_AS[variant]: values for variant, values in scored.items()}
    return SegmentedResult(
        trained_on="truth" if refined is None else "given" if refined.variant == GIVEN else "pseudo",
        round_index=refined.round_index if refined else 0,
        model=model,
        masks=masks,
        scores=scores,
        of_given=refined is not None and refined.of_given,
    )
