"""The response maps of a round: of images to be scored, of those to be refined, and where prototypes are sought."""

from dataclasses import replace

from subcam.cam.settings import CamSettings
from subcam.data.dataset import union
from subcam.results import RoundResult
from subcam.runtime.run_folder import Stage
from subcam.settings import RunSettings
from subcam.stages import cam
from subcam.stages.context import Context
from subcam.stages.refine import alphas


def name_of_round(index: int, control: bool = False) -> str:
    """How the stages of a round begin."""
    return f"round{index}{'-control' if control else ''}"


def make_maps(settings: RunSettings, context: Context, index: int, model: Stage, *, control: bool) -> Stage:
    """The maps of a round: of all images to be scored, and of the training images where something needs them.

    Pseudo masks do, and prototypes, unless they have their own (`search_of`). Where nothing else is wanted, those
    are the round's.
    """
    images, own = list(context.dataset.scored.values()), settings.cam
    if _only_searched(settings, context, index, control=control):
        own = _to_search(settings)
    apart = _is_searched_apart(settings)
    if not images or _is_refined(settings, index, control=control) or (settings.route == "prototypes" and not apart):
        images.append(context.dataset.train)
    name = f"{name_of_round(index, control)}-cam"
    return context.run(name, cam.run, settings=own, images=union(*images), model=model, device=context.inference)


def search_of(settings: RunSettings, context: Context, result: RoundResult) -> tuple[Stage, Stage | None]:
    """What tells confident positions: maps of the training images, and the stage of limits that are left to it."""
    maps = _maps_to_search(settings, context, result)
    if not settings.prototypes.chooses:
        return maps, None
    name = f"{name_of_round(result.round_index, result.control)}-limits"
    return maps, context.run(name, alphas.run_limits, images=context.dataset.train, maps=maps)


def _maps_to_search(settings: RunSettings, context: Context, result: RoundResult) -> Stage:
    """The round's own maps, or maps at `prototypes.scales`."""
    index, control = result.round_index, result.control
    if not _is_searched_apart(settings) or _only_searched(settings, context, index, control=control):
        return result.responses
    return context.run(
        f"{name_of_round(index, control)}-search-cam",
        cam.run,
        settings=_to_search(settings),
        images=context.dataset.train,
        model=result.classifier,
        device=context.inference,
    )


def _is_refined(settings: RunSettings, index: int, *, control: bool) -> bool:
    """Whether pseudo masks are made of a round's maps, now or by the same command with more settings."""
    return not control and (index == settings.rounds or settings.refine.refines(index, last=settings.rounds))


def _is_searched_apart(settings: RunSettings) -> bool:
    """Whether confident positions are told by other maps than a round's own."""
    return settings.route == "prototypes" and settings.prototypes.scales not in ((), settings.cam.scales)


def _only_searched(settings: RunSettings, context: Context, index: int, *, control: bool) -> bool:
    """Whether nothing but prototypes needs a round's maps."""
    refined = _is_refined(settings, index, control=control)
    return _is_searched_apart(settings) and not refined and not context.dataset.scored


def _to_search(settings: RunSettings) -> CamSettings:
    return replace(settings.cam, scales=settings.prototypes.scales)
