"""Masks that people corrected, in a run: a network learns from them, and held-out images are scored against them."""

from dataclasses import replace
from pathlib import Path

from subcam.data.check import CheckedImages
from subcam.data.dataset import union
from subcam.data.records import mask_values_of
from subcam.refine.scores_and_masks import mask_path
from subcam.refine.variants import CORRECTED
from subcam.results import RefinedResult
from subcam.runtime.progress import say
from subcam.runtime.run_folder import Stage, fingerprint
from subcam.settings import RunSettings
from subcam.stages.context import Context
from subcam.stages.given import corrections
from subcam.stages.given.corrections import Corrections
from subcam.stages.settings.given import CORRECTIONS_FOLDER, NO_CORRECTIONS


def with_kept_corrections(settings: RunSettings, out: Path) -> RunSettings:
    """The settings, with the corrected masks that lie in the run's folder, unless they name others or none."""
    kept = out / CORRECTIONS_FOLDER
    if settings.corrections.folder or next(kept.rglob("*.png"), None) is None:
        return settings
    say(f"{kept} has masks that people corrected, which count; --corrections {NO_CORRECTIONS} leaves them out")
    return settings.with_({"corrections.folder": str(kept)})


def score_by_corrections(settings: RunSettings, context: Context) -> Context:
    """The run's context in which images that are not trained on are scored against their corrected masks.

    Raises:
        BadInputError: a correction is of an image that the run does not have, or has other classes.
    """
    found = _found(settings, context)
    if found is None:
        return context
    trained = {record.name for record in context.dataset.train.image_set.records}
    corrected = {}
    for split, images in context.dataset.scored.items():
        held_out = found.of(record.name for record in images.image_set.records if record.name not in trained)
        if held_out.masks.files:
            corrected[split] = _with_truth(context, f"corrected-truth-{split}", images, held_out)
            say(f"{split} is scored against {len(held_out.masks.files)} corrected masks among its ground truth")
    return replace(context, dataset=replace(context.dataset, corrected=corrected))


def learn_from_corrections(settings: RunSettings, context: Context, refined: RefinedResult) -> RefinedResult:
    """The pseudo or given masks of all images, with the corrected ones in their place."""
    found = _found(settings, context)
    if found is None:
        return refined
    stage = context.run(
        f"{refined.stages_begin}-corrected",
        corrections.run,
        corrections=found,
        images=union(*context.dataset.all),
        masks=refined.masks,
        variant=refined.variant,
    )
    trained = [record.name for record in context.dataset.train.image_set.records]
    corrected = len(found.of(trained).masks.files)
    say(f"{corrected} of the {len(trained)} masks that a network learns from are corrected ones")
    return replace(refined, corrected=stage)


def corrected_training_images(settings: RunSettings, context: Context) -> CheckedImages:
    """The training images with their ground truth, to which corrected masks count."""
    found, train = _found(settings, context), context.dataset.train
    own = found.of(record.name for record in train.image_set.records) if found else None
    return _with_truth(context, "truth-corrected", train, own) if own and own.masks.files else train


def _found(settings: RunSettings, context: Context) -> Corrections | None:
    """The corrected masks of the run's images; None where none were given."""
    folder = settings.corrections.named
    return corrections.open_corrections(Path(folder), union(*context.dataset.all)) if folder else None


def _with_truth(context: Context, name: str, images: CheckedImages, found: Corrections) -> CheckedImages:
    """Images whose ground truth has the corrected masks in it."""
    stage = context.run(name, corrections.run, corrections=found, images=images, masks=None, variant="")
    image_set = images.image_set

    def mask_of(stage: Stage, record_name: str, there: Path | None) -> Path | None:
        has_one = there is not None or record_name in found.masks.files
        return mask_path(stage.path, CORRECTED, record_name) if has_one else None

    records = tuple(
        replace(record, mask=mask_of(stage, record.name, record.mask), mask_turn=1) for record in image_set.records
    )
    values = mask_values_of(image_set.class_names, image_set.class_names)
    return replace(
        images,
        image_set=replace(image_set, records=records, mask_values=values),
        digest=fingerprint(images.digest, stage.key),
    )
