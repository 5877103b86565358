"""How far the masks that a network is to learn from can be trusted: of a run, its last masks out comes `masks.csv`."""

from collections.abc import Sequence
from dataclasses import replace

from subcam.data.dataset import union
from subcam.refine.variants import GIVEN
from subcam.results import RefinedResult, RoundResult, SegmentedResult
from subcam.runtime.run_folder import Stage
from subcam.settings import RunSettings
from subcam.stages import confidence, predict
from subcam.stages.context import Context


def rate_masks(
    settings: RunSettings,
    context: Context,
    refined: RefinedResult,
    *,
    rounds: Sequence[RoundResult],
    segmented: Sequence[SegmentedResult],
) -> RefinedResult:
    """The pseudo masks with a confidence of each; given masks that no network looked at stay without.

    rounds: those of the run, one of which has the maps of the masks; none for given masks.
    segmented: networks; one that learned from these masks is asked if it segmented every image.
    """
    images = union(*context.dataset.all)
    maps = None if refined.variant == GIVEN else _maps_of(refined, rounds)
    network = next((one for one in segmented if one.trained_on != "truth" and _covers(context)), None)
    if maps is None and network is None:
        return refined
    known = predict.KNOWN_MASKS in predict.variants(settings.segment.predict)
    stage = context.run(
        f"{refined.stages_begin}-confidence",
        confidence.run,
        images=images,
        masks=refined.masks,
        variant=refined.variant,
        maps=maps,
        walked=refined.walked,
        network=network.masks if network else None,
        network_variant=(predict.KNOWN_MASKS if known else predict.MASKS) if network else "",
        corrected=refined.corrected,
        device=context.inference,
    )
    return replace(refined, confidence=stage)


def _maps_of(refined: RefinedResult, rounds: Sequence[RoundResult]) -> Stage | None:
    """The response maps that the masks were made of."""
    return next(
        (one.maps for one in rounds if not one.control and (one.given or one.round_index == refined.round_index)), None
    )


def _covers(context: Context) -> bool:
    """Whether a network of the run segments every image that has a mask: it does those that are scored, else all."""
    dataset = context.dataset
    segmented = {record.name for part in dataset.scored.values() for record in part.image_set.records}
    return not segmented or all(record.name in segmented for record in dataset.train.image_set.records)
