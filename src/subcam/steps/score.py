"""The scores of response maps on every split that has ground truth: one stage a split."""

from subcam.runtime.run_folder import Stage
from subcam.settings import RunSettings
from subcam.stages import evaluate
from subcam.stages.context import Context


def score_maps(settings: RunSettings, context: Context, name: str, maps: Stage) -> dict[str, evaluate.MapScores]:
    """Score response maps by split."""
    scores = {}
    for split, images in context.dataset.truth.items():
        of_split = f"{name}-evaluate-{split}"
        stage = context.run(of_split, evaluate.run_maps, settings=settings.evaluate, images=images, maps=maps)
        if stage.done:  # not where a run is planned
            scores[split] = evaluate.read_maps(stage)
    return scores
