"""READ FIRST. The whole way from labelled images to scored response maps: Algorithm 1 of the paper as a loop.

    labelled images
      -> classify   {E, H_p} with the parent loss                                 round 0, plain CAM
      -> discover   K-means on E's features inside each parent class              Eq. 2
      -> classify   {E, H_p, H_s} jointly; discover and classify again each round  Eq. 3
      -> cam        response maps over scales and flips                           Eq. 1
      -> evaluate   mIoU, F-score, at the fixed threshold and at the best         Table 2
      -> refine     dense CRF -> AffinityNet -> random walk -> pseudo masks       Section 3.3
      -> evaluate   maps, maps + CRF, maps + random walk, and both                Table 1
      -> segment    DeepLab-v2 on the pseudo masks; masks without any label          Section 4.4
      -> evaluate   the network's masks, beside one that learned from true masks  Tables 3, 4

and, where asked for, response maps of other kinds to compare with (`--compare.methods`), scored as those of the rounds.

Stages know nothing of each other's order; they meet here, through files in the run folder. A stage that is done is
skipped, one that was cut off is taken up.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from subcam.data.dataset import Dataset, open_dataset
from subcam.mask_steps import refine, segment
from subcam.preflight import check_early
from subcam.results import ComparisonResult, RefinedResult, RoundResult, RunResult, SegmentedResult, write_record
from subcam.runtime import distributed
from subcam.runtime.devices import build_fabric, join
from subcam.runtime.progress import say
from subcam.runtime.run_folder import RunFolder
from subcam.settings import RunSettings
from subcam.stages.context import Stages


def run(
    settings: RunSettings, out: Path, *, dataset: Dataset | None = None, recipe: str = "", record: str = "run.json"
) -> RunResult:
    """Do everything, or what is left of it, in the folder `out`.

    Args:
        settings: of all stages.
        out: the run's folder; made if it is not there, never emptied.
        dataset: images to use instead of those that `settings.dataset` names.
        recipe: name of the recipe that the settings came from, for the record.
        record: the file in `out` that lists what was run, where it lies and its scores.

    Raises:
        SubcamError: bad input, settings or weights, a folder in use or full; says what to do.
    """
    settings.compare.check_packages()
    join(settings.machine)
    folder = RunFolder(path=out)
    with folder.lock():
        started = time.monotonic()
        with distributed.first_goes_ahead():
            dataset = dataset or open_dataset(settings.dataset, work_folder=out)
        check_early(settings, dataset)
        _say_what_is_there(dataset)
        stages = Stages(
            settings=settings,
            folder=folder,
            dataset=dataset,
            fabric=build_fabric(settings.machine, precision=settings.machine.precision),
            inference=build_fabric(settings.machine, precision=settings.machine.resolved_inference_precision),
        )
        rounds, compared, refined, segmented = whole_way(stages)
        result = RunResult(
            settings=settings,
            out=out,
            class_names=dataset.train.image_set.class_names,
            rounds=tuple(rounds),
            refined=tuple(refined),
            segmented=tuple(segmented),
            seconds=time.monotonic() - started,
            recipe=recipe,
            compared=tuple(compared),
        )
        if distributed.is_first():
            write_record(result, dataset, out / record)
        distributed.barrier()
        return result


def whole_way(
    stages: Stages,
) -> tuple[list[RoundResult], list[ComparisonResult], list[RefinedResult], list[SegmentedResult]]:
    """All rounds, then the control's; comparisons; pseudo masks of rounds that are refined; segmentation networks."""
    settings = stages.settings
    course = {"image": algorithm_1, "local": local_rounds}[settings.subcategories]
    rounds = course(stages, rounds=settings.rounds)
    control = course(stages, rounds=settings.rounds, control_of=rounds) if settings.control else []
    compared = [stages.compare(method, rounds[0]) for method in settings.compare.methods]
    refined = [
        refine(stages, found) for found in rounds if settings.refine.refines(found.round_index, last=settings.rounds)
    ]
    kinds = [kind for kind in settings.segment.train_on if refined or kind != "pseudo"]
    if len(kinds) < len(settings.segment.train_on):
        say("no segmentation network on pseudo masks: --refine.rounds none leaves none to learn from")
    segmented = [segment(stages, refined[-1] if kind == "pseudo" else None) for kind in kinds]
    return rounds + control, compared, refined, segmented


def algorithm_1(stages: Stages, *, rounds: int, control_of: Sequence[RoundResult] = ()) -> list[RoundResult]:
    """Train, map and score round 0, then `rounds` rounds on newly discovered sub-categories (Algorithm 1).

    Args:
        stages: what each step does.
        rounds: rounds after round 0.
        control_of: the rounds of another course; those after round 0 are then trained without sub-categories
            (lambda = 0) and only they are returned.
    """
    control = bool(control_of)
    model = control_of[0].model if control else stages.classify(0)
    results = list(control_of[:1]) or [stages.map_and_score(0, model)]
    for index in range(1, rounds + 1):
        subcategories = None if control else stages.discover(index, model)
        model = stages.classify(index, before=model, subcategories=subcategories, control=control)
        results.append(stages.map_and_score(index, model, subcategories=subcategories, control=control))
    return results[1:] if control else results


def local_rounds(stages: Stages, *, rounds: int, control_of: Sequence[RoundResult] = ()) -> list[RoundResult]:
    """Algorithm 1 with sub-categories of positions instead of whole images; not in the paper.

    Round 0 is plain CAM. Round 1 clusters, on its network, features of positions that the maps are sure of, and takes
    its own maps from the clusters' centres; nothing is trained. Each later round trains a network to tell apart the
    sub-categories that the round before found at each position, then finds its own and takes its maps from them.

    Args:
        stages: what each step does.
        rounds: rounds after round 0.
        control_of: the rounds of another course; those after round 1 are then trained without sub-categories, their
            maps still taken from clusters' centres, and only they are returned.
    """
    control = bool(control_of)
    model = control_of[0].model if control else stages.classify(0)
    results = list(control_of[:2]) or [stages.map_and_score(0, model)]
    for index in range(len(results), rounds + 1):
        if index > 1:
            local = None if control else stages.label_positions(index, results[-1])
            model = stages.classify(index, before=model, local=local, control=control)
        prototypes = stages.find_prototypes(index, model, results[-1].maps, control=control)
        results.append(stages.map_and_score(index, prototypes, control=control))
    return results[2:] if control else results


def _say_what_is_there(dataset: Dataset) -> None:
    train = dataset.train.image_set
    counts = ", ".join(f"{name} {n}" for name, n in zip(train.class_names, train.labels.sum(0), strict=True))
    say(f"{len(train)} training images ({counts})")
    for split, images in dataset.scored.items():
        say(f"{len(images.image_set)} images of {split} to score")
    skipped = dict.fromkeys(skip for images in dataset.all for skip in images.image_set.skipped)
    if skipped:
        say(f"left out {len(skipped)} files that cannot be used:")
        for skip in skipped:
            say(f"  {skip.reason}")
