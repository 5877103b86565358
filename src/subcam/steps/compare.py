"""Response maps of other methods, scored as those of the rounds. The network of round 0 in, a row of Table 1 out."""

from dataclasses import replace

from subcam.data.dataset import union
from subcam.methods.protocol import ChosenMethod
from subcam.results import ComparisonResult, RoundResult
from subcam.settings import RunSettings
from subcam.stages import cam, classify
from subcam.stages.context import Context
from subcam.steps.score import score_maps


def name_of(chosen: ChosenMethod) -> str:
    """How a method's stages begin."""
    return f"compare-{chosen.method.name}"


def compare(settings: RunSettings, context: Context, chosen: ChosenMethod, *, plain: RoundResult) -> ComparisonResult:
    """A method's response maps of the scored images, on the network of round 0 (`plain`) or one of its own."""
    name, training, train = name_of(chosen), chosen.training, context.dataset.train
    model = plain.classifier
    if training is not None:
        # As in round 0, from the same weights on the same crops, by the losses of the method.
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
    scored = tuple(context.dataset.scored.values())
    maps = context.run(
        f"{name}-cam",
        cam.run,
        settings=settings.cam,
        images=union(*scored, *((train,) if settings.refines_methods or not scored else ())),
        model=model,
        device=context.inference,
        method=chosen,
    )
    return ComparisonResult(
        method=chosen.method.name,
        title=chosen.method.title,
        model=model,
        maps=maps,
        scores=score_maps(settings, context, name, maps),
    )
