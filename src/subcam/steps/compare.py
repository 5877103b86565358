"""Response maps of other methods, scored as those of the rounds. The network of round 0 in, a row of Table 1 out."""

from dataclasses import replace

from subcam.comparisons.methods import Comparison
from subcam.data.dataset import union
from subcam.results import ComparisonResult, RoundResult
from subcam.settings import RunSettings
from subcam.stages import cam, classify
from subcam.stages.context import Context
from subcam.steps.score import score_maps


def compare(settings: RunSettings, context: Context, method: Comparison, *, plain: RoundResult) -> ComparisonResult:
    """Response maps of another kind for the scored images, on the network of round 0 (`plain`) or one of their own."""
    name, training, train = f"compare-{method}", settings.compare.training(method), context.dataset.train
    model = plain.classifier
    if training is not None:
        # As in round 0, from the same weights on the same crops, by the losses of the comparison.
        round0 = replace(settings.classify, round0_checkpoint="").of_round(0, with_subcategories=False)
        model = context.run(
            f"{name}-classify",
            classify.run,
            settings=round0,
            images=train,
            network=settings.network,
            round_index=0,
            seed=context.seed,
            device=context.training,
            comparison=training,
        )
    maps = context.run(
        f"{name}-cam",
        cam.run,
        settings=settings.cam,
        images=union(*(context.dataset.scored.values() or (train,))),
        model=model,
        device=context.inference,
        method=method,
    )
    return ComparisonResult(method=method, model=model, maps=maps, scores=score_maps(settings, context, name, maps))
