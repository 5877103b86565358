"""A finished run made of numbers, for tests of what is said of a run."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from subcam.refine.variants import VARIANTS
from subcam.results import RefinedResult, RoundResult, RunResult, SegmentedResult
from subcam.runtime.run_folder import Stage
from subcam.settings import RunSettings
from subcam.stages.evaluate import MapScores, RefinedScores, ScoreValues

NOWHERE = Stage(name="any", key="key", path=Path("nowhere"))


def values(base: float, classes: int) -> ScoreValues:
    """IoU base, base + 0.01, ... of background and classes, and base + 0.2 for their mean."""
    return {
        "miou": base + 0.2,
        "f_score": base,
        "precision": base,
        "recall": base,
        "pixel_accuracy": base,
        "iou": [base + label / 100 for label in range(classes + 1)],
        "matrix": [[3] * (classes + 1)] * (classes + 1),
    }


def map_scores(base: float, classes: int, images: int) -> MapScores:
    fixed = values(base, classes)
    return MapScores(
        images=images,
        fixed_threshold=0.15,
        fixed=fixed,
        best_threshold=0.2,
        best=fixed,
        best_used_masks=True,
        mean_average_precision=base,
        class_average_precision=[base] * classes,
        thresholds=[0.15],
        miou_curve=[base],
    )


def a_run(out: Path, class_names: tuple[str, ...] = ("cat", "dog"), *, images: int = 7) -> RunResult:
    """Rounds 0 to 2 with a control, masks of round 2, a trained on them and one from ground truth; scored on val."""
    classes = len(class_names)

    def a_round(index: int, base: float, *, control: bool = False) -> RoundResult:
        scores = {"val": map_scores(base, classes, images)}
        return RoundResult(round_index=index, control=control, model=NOWHERE, maps=NOWHERE, scores=scores)

    def network(trained_on: Literal["pseudo", "truth"], base: float) -> SegmentedResult:
        scores = {"val": {"plain": values(base, classes), "crf": values(base + 0.05, classes)}}
        model = replace(NOWHERE, path=out / trained_on)
        return SegmentedResult(trained_on=trained_on, round_index=2, model=model, masks=NOWHERE, scores=scores)

    variants = {variant: values(0.25 + place / 10, classes) for place, variant in enumerate(VARIANTS)}
    masks = RefinedScores(images=images, variants=variants, alphas=[4.0], walk_curve=[0.4])
    return RunResult(
        settings=RunSettings(control=True),
        out=out,
        class_names=class_names,
        rounds=(a_round(0, 0.1), a_round(1, 0.12), a_round(2, 0.2), a_round(2, 0.15, control=True)),
        refined=(RefinedResult(round_index=2, masks=NOWHERE, variant="walk-crf", scores={"val": masks}),),
        segmented=(network("pseudo", 0.3), network("truth", 0.55)),
        seconds=1.0,
    )
