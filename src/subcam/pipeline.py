"""READ FIRST. The whole way from labelled images to scored masks: the paper's route and that of the recipe `small`.

    labelled images
      -> classify     {E, H_p} with the parent loss                                round 0, plain CAM
      -> cam, evaluate  response maps over scales and flips; mIoU, F-score         Eq. 1, Table 2

    --route subcategories (the paper), each round:
      -> discover     K-means on E's features inside each parent class             Eq. 2
      -> classify     {E, H_p, H_s} jointly                                        Eq. 3
      -> cam, evaluate                                                             Eq. 1, Table 2

    --route prototypes (the recipe `small`; not in the paper), each round:
      -> label positions  the nearest prototype of each confident position, by the maps of the round before
      -> classify     {E, H_p} and the prototypes jointly; round 1 trains nothing
      -> prototypes   K-means on features of confident positions, of each class and of its context
      -> cam, evaluate  response maps from the prototypes

    of the rounds that --refine.rounds names:
      -> alphas       exponents of the background score, where they are "auto"     not in the paper
      -> sure regions -> affinity -> random walk -> pseudo masks -> evaluate       Section 3.3, Table 1
      -> segment -> predict -> evaluate   a network that learned from them,        Section 4.4,
                                          beside one from ground truth             Tables 3, 4
      -> confidence   how far each pseudo mask can be trusted, without ground truth

A run may begin later, with response maps (`--maps`) or masks (`--masks`) of another program in the place of all rounds
or of the pseudo masks, and end earlier (`--until`). Everything between is the same.

And, where asked for, response maps of other methods (`--compare.methods`), scored as those of the rounds, and their
pseudo masks (`--compare.refine`).

Stages know nothing of each other's order; they meet here, through files in the run folder. `context.run(name, stage,
...)` derives a stage's folder from all that it is given: one that is done is skipped, an interrupted one resumed.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from subcam.checks.arguments import takes_arrays
from subcam.data.dataset import Dataset, open_dataset, union
from subcam.methods.protocol import ChosenMethod
from subcam.methods.registry import choose
from subcam.preflight import check_early, check_settings, check_weights, say_images
from subcam.refine.variants import AUTO, GIVEN
from subcam.results import ComparisonResult, RefinedResult, RoundResult, RunResult
from subcam.run_files.write import LOG_FILE, called, write_configuration, write_run_files
from subcam.runtime import distributed
from subcam.runtime.devices import join
from subcam.runtime.progress import log_to
from subcam.runtime.run_folder import RECORD, RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages import classify, discover, evaluate, prototypes
from subcam.stages.context import Context
from subcam.stages.refine import affinity, pseudo_masks, random_walk, sure_regions
from subcam.stages.refine import alphas as choose_alphas
from subcam.steps.compare import compare, name_of
from subcam.steps.confidence import rate_masks
from subcam.steps.corrections import learn_from_corrections, score_by_corrections, with_kept_corrections
from subcam.steps.course import follow
from subcam.steps.given import discover_in_features, take_maps, take_masks
from subcam.steps.response_maps import make_maps, name_of_round, search_of
from subcam.steps.score import score_maps
from subcam.steps.segment import train_segmentation


@takes_arrays()
def run(
    settings: RunSettings, out: Path, *, dataset: Dataset | None = None, recipe: str = "", record: str = RECORD
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
    check_settings(settings)
    join(settings.machine)
    folder = RunFolder(path=out)
    with folder.lock(), log_to(out / LOG_FILE, title=called()):
        started = time.monotonic()
        settings = with_kept_corrections(settings, out)
        with distributed.first_goes_ahead():
            dataset = dataset or open_dataset(settings.dataset, work_folder=out)
        check_early(settings, dataset)
        say_images(dataset)
        if distributed.is_first():
            # Before anything is computed: a run that is cut off can be given again by its file.
            write_configuration(settings, out / record, recipe=recipe)
        context = Context.open(folder, dataset, machine=settings.machine, seed=settings.seed)
        context = score_by_corrections(settings, context)
        with distributed.first_goes_ahead():
            check_weights(settings, plan := context.planned(partial(all_stages, settings)))
        result = replace(all_stages(settings, follow(context, plan)), recipe=recipe, seconds=time.monotonic() - started)
        if distributed.is_first():
            write_run_files(result, dataset, record=record)
        distributed.barrier()
        return result


def all_stages(settings: RunSettings, context: Context) -> RunResult:
    """All rounds and the control's; comparisons; pseudo masks of the refined rounds; segmentation networks.

    Given maps stand for the rounds, given masks for all before the networks.
    """
    rounds: list[RoundResult] = []
    further: list[RoundResult] = []
    compared: list[ComparisonResult] = []
    refined: list[RefinedResult] = []
    if settings.given_masks.folder:
        refined = [take_masks(settings, context)]
    elif settings.given_maps.folder:
        rounds = [take_maps(settings, context)]
    elif settings.given_features.file and settings.until == "discover":
        clusters = discover_in_features(settings, context, settings.last_round)
        rounds = [RoundResult(round_index=settings.last_round, control=False, clusters=clusters)]
    else:
        route = {"subcategories": subcategory_rounds, "prototypes": prototype_rounds}[settings.route]
        rounds = route(settings, context)
        if settings.ends_after_the_rounds:
            further = route(settings, context, control_of=rounds) if settings.control else []
            compared = [compare_with(settings, context, method, plain=rounds[0]) for method in choose(settings.compare)]
    if settings.until in ("refine", "segment"):
        refined += [
            refine(
                settings,
                context,
                GIVEN if result.given else name_of_round(result.round_index),
                result.responses,
                round_index=result.round_index,
                of_given=result.given,
            )
            for result in rounds
            if settings.refine.refines(result.round_index, last=0 if result.given else settings.rounds)
        ]
    if refined:
        refined[-1] = learn_from_corrections(settings, context, refined[-1])
    segmented = [
        train_segmentation(settings, context, refined[-1] if masks == "pseudo" else None)
        for masks in settings.segment.train_on
        if settings.until == "segment" and (refined or masks != "pseudo")
    ]
    if refined:
        refined[-1] = rate_masks(settings, context, refined[-1], rounds=rounds, segmented=segmented)
    return RunResult(
        settings=settings,
        out=context.folder.path,
        class_names=context.dataset.train.image_set.class_names,
        rounds=(*rounds, *further),
        refined=tuple(refined),
        segmented=tuple(segmented),
        seconds=0.0,
        compared=tuple(compared),
    )


def subcategory_rounds(
    settings: RunSettings, context: Context, *, control_of: Sequence[RoundResult] = ()
) -> list[RoundResult]:
    """Algorithm 1: train, map and score round 0, then each round on newly discovered sub-categories.

    With `control_of`, the rounds of another course, the rounds after round 0 are trained without sub-categories
    (lambda = 0), and only they are returned.
    """
    control = bool(control_of)
    results = list(control_of[:1]) or [map_and_score(settings, context, 0, train_classifier(settings, context, 0))]
    for index in range(1, settings.last_round + 1):
        before = results[-1].classifier
        clusters = None
        if not control and settings.given_features.file:
            clusters = discover_in_features(settings, context, index)
        elif not control:
            clusters = context.run(
                f"round{index}-discover",
                discover.run,
                settings=settings.discover,
                images=context.dataset.train,
                model=before,
                seed=context.seed,
                device=context.inference,
            )
        if settings.ends_with("discover", index):
            return [*results, RoundResult(round_index=index, control=control, clusters=clusters)]
        model = train_classifier(settings, context, index, before=before, clusters=clusters, control=control)
        results.append(map_and_score(settings, context, index, model, clusters=clusters, control=control))
    return results[1:] if control else results


def prototype_rounds(
    settings: RunSettings, context: Context, *, control_of: Sequence[RoundResult] = ()
) -> list[RoundResult]:
    """Rounds with prototypes of positions instead of clusters of whole images; not in the paper.

    Round 0 is plain CAM. Round 1 clusters, on its network, features of positions that the maps are confident of, and
    takes its own maps from these prototypes; nothing is trained. Each later round trains a network to tell apart the
    prototypes that the round before found at each position, then finds its own and takes its maps from them.

    With `control_of`, the rounds of another course, the rounds after round 1 are trained without labels of positions,
    their maps still taken from prototypes, and only they are returned.
    """
    control, train = bool(control_of), context.dataset.train
    results = list(control_of[:2]) or [map_and_score(settings, context, 0, train_classifier(settings, context, 0))]
    model = results[0].classifier
    for index in range(len(results), settings.last_round + 1):
        last = results[-1]
        searched, limits = search_of(settings, context, last)
        if index > 1:
            labels = None
            if not control:
                labels = context.run(
                    f"round{index}-prototype-labels",
                    prototypes.run_labels,
                    settings=settings.prototypes,
                    images=train,
                    model=last.classifier,
                    maps=searched,
                    device=context.inference,
                    limits=limits,
                )
            model = train_classifier(
                settings,
                context,
                index,
                before=model,
                prototypes=None if control else last.model,
                prototype_labels=labels,
                control=control,
            )
        if settings.ends_with("classify", index):
            return [*results, RoundResult(round_index=index, control=control, model=model)]
        with_prototypes = context.run(
            f"{name_of_round(index, control)}-prototypes",
            prototypes.run,
            settings=settings.prototypes,
            images=train,
            model=model,
            maps=searched,
            seed=context.seed,
            device=context.inference,
            limits=limits,
        )
        if settings.ends_with("discover", index):
            return [*results, RoundResult(round_index=index, control=control, model=with_prototypes)]
        results.append(map_and_score(settings, context, index, with_prototypes, control=control))
    return results[2:] if control else results


def train_classifier(
    settings: RunSettings,
    context: Context,
    index: int,
    *,
    before: Stage | None = None,
    clusters: Stage | None = None,
    prototypes: Stage | None = None,
    prototype_labels: Stage | None = None,
    control: bool = False,
) -> Stage:
    """Train the network of one round; `before` is that of the round before."""
    of_round = settings.classify.of_round(
        index, with_subcategories=clusters is not None, with_prototypes=prototype_labels is not None
    )
    return context.run(
        f"{name_of_round(index, control)}-classify",
        classify.run,
        settings=of_round,
        images=context.dataset.train,
        network=settings.network,
        round_index=index,
        seed=context.seed,
        device=context.training,
        start_from=before if of_round.start == "continue" else None,
        clusters=clusters,
        prototypes=prototypes,
        prototype_labels=prototype_labels,
    )


def map_and_score(
    settings: RunSettings,
    context: Context,
    index: int,
    model: Stage,
    *,
    clusters: Stage | None = None,
    control: bool = False,
) -> RoundResult:
    """Write the response maps of a round, unless the run ends with its network, and score them by split."""
    if settings.ends_with("classify", index):
        return RoundResult(round_index=index, control=control, model=model, clusters=clusters)
    maps = make_maps(settings, context, index, model, control=control)
    return RoundResult(
        round_index=index,
        control=control,
        model=model,
        maps=maps,
        scores=score_maps(settings, context, name_of_round(index, control), maps),
        clusters=clusters,
    )


def compare_with(
    settings: RunSettings, context: Context, method: ChosenMethod, *, plain: RoundResult
) -> ComparisonResult:
    """Another method's maps and their scores, and where asked for the pseudo masks of them."""
    compared = compare(settings, context, method, plain=plain)
    if not settings.refines_methods:
        return compared
    return replace(compared, refined=refine(settings, context, name_of(method), compared.maps))


def refine(
    settings: RunSettings,
    context: Context,
    name: str,
    maps: Stage,
    *,
    round_index: int = 0,
    of_given: bool = False,
) -> RefinedResult:
    """From response maps to pseudo masks of all images, scored in all variants; the stages begin with `name`."""
    dataset, alphas, walk_alpha = context.dataset, None, None
    if settings.refine.alphas_to_choose:
        alphas = context.run(f"{name}-alphas", choose_alphas.run, images=dataset.train, maps=maps)
    walked = walk(settings, context, name, maps, alphas) if settings.refine.random_walk else None
    if alphas and walked and settings.refine.masks.walk_alpha == AUTO:
        walk_alpha = context.run(
            f"{name}-walk-alpha", choose_alphas.run_of_walk, images=dataset.train, walked=walked, alphas=alphas
        )
    masks = context.run(
        f"{name}-masks",
        pseudo_masks.run,
        settings=settings.refine.masks,
        images=union(*dataset.all),
        maps=maps,
        walked=walked,
        scored=tuple(dataset.scored.values()),
        device=context.inference,
        alphas=alphas if settings.refine.masks.crf_alpha == AUTO else None,
        walk_alpha=walk_alpha,
    )
    scores = {}
    for split, images in dataset.truth.items():
        stage = context.run(
            f"{name}-evaluate-masks-{split}", evaluate.run_pseudo_masks, images=images, masks=masks, walked=walked
        )
        if stage.done:  # not where a run is planned
            scores[split] = evaluate.read_pseudo_masks(stage)
    variant = settings.refine.masks.pseudo_mask
    return RefinedResult(
        round_index=round_index, masks=masks, scores=scores, variant=variant, of_given=of_given, walked=walked
    )


def walk(settings: RunSettings, context: Context, name: str, maps: Stage, alphas: Stage | None = None) -> Stage:
    """Train AffinityNet on what the CRF makes of response maps, and let the maps walk by its affinities."""
    dataset = context.dataset
    sure = context.run(
        f"{name}-crf",
        sure_regions.run,
        settings=settings.refine.sure_regions,
        images=dataset.train,
        maps=maps,
        device=context.inference,
        alphas=alphas if settings.refine.sure_regions.chooses else None,
    )
    affinities = context.run(
        f"{name}-affinity",
        affinity.run,
        settings=settings.refine.affinity,
        images=dataset.train,
        sure_regions=sure,
        network=settings.network,
        seed=context.seed,
        device=context.training,
    )
    return context.run(
        f"{name}-walk",
        random_walk.run,
        settings=settings.refine.walk,
        images=union(*dataset.all),
        maps=maps,
        affinity=affinities,
        device=context.inference,
    )
