"""Where a run begins with another program's work: features, response maps, masks."""

from subcam.data.check import CheckedImages
from subcam.data.dataset import union
from subcam.refine.scores_and_masks import mask_path
from subcam.refine.variants import GIVEN
from subcam.results import RefinedResult, RoundResult
from subcam.runtime.progress import warn
from subcam.runtime.run_folder import Stage
from subcam.settings import RunSettings
from subcam.stages import discover, evaluate
from subcam.stages.context import Context
from subcam.stages.given import maps as given_maps
from subcam.stages.given import masks as given_masks
from subcam.steps.score import score_maps


def discover_in_features(settings: RunSettings, context: Context, index: int) -> Stage:
    """The sub-categories of a round in given features, which are the same in every round."""
    return context.run(
        f"round{index}-discover",
        discover.run_on_features,
        settings=settings.discover,
        features=settings.given_features,
        images=context.dataset.train,
        seed=context.seed,
    )


def take_maps(settings: RunSettings, context: Context) -> RoundResult:
    """The given response maps of all images, scored by split."""
    images = union(*context.dataset.all)
    maps = context.run(f"{GIVEN}-maps", given_maps.run, settings=settings.given_maps, images=images)
    return RoundResult(
        round_index=0, control=False, given=True, maps=maps, scores=score_maps(settings, context, GIVEN, maps)
    )


def take_masks(settings: RunSettings, context: Context) -> RefinedResult:
    """The given masks, scored on each split all of whose ground truth has one beside it."""
    dataset = context.dataset
    masks = context.run(
        f"{GIVEN}-masks",
        given_masks.run,
        settings=settings.given_masks,
        images=union(*dataset.all),
        needed=dataset.train,
    )
    scores = {}
    for split, images in dataset.truth.items():
        if masks.done and not _has_all(masks, images):
            warn(f"the given masks are not scored on {split}: there is not one for each of its images")
            continue
        stage = context.run(
            f"{GIVEN}-evaluate-masks-{split}", evaluate.run_pseudo_masks, images=images, masks=masks, walked=None
        )
        if stage.done:  # not where a run is planned
            scores[split] = evaluate.read_pseudo_masks(stage)
    return RefinedResult(round_index=0, masks=masks, scores=scores, variant=GIVEN)


def _has_all(masks: Stage, images: CheckedImages) -> bool:
    masked = (record.name for record in images.image_set.records if record.mask is not None)
    return all(mask_path(masks.path, GIVEN, name).is_file() for name in masked)
