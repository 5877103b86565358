"""A run in a few numbers: its scores beside plain CAM and the control, and what was known for each of them."""

from dataclasses import dataclass

from subcam.refine.variants import GIVEN
from subcam.report.gather.names import VARIANT_NAMES, masks_name, network_name
from subcam.report.page.numbers import percent, signed
from subcam.report.tables.tables import splits_of
from subcam.results import FinishedRun, RefinedResult, RoundResult

PREFERRED_SPLIT = "val"
_GIVEN = "image-level labels given"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One main number with its unit, and a note on how it came about.

    shows_worst: whether a link below goes to the masks of least confidence.
    """

    name: str
    value: str
    unit: str
    note: str
    shows_worst: bool = False


@dataclass(frozen=True, kw_only=True)
class Headline:
    """verdict: the gain over plain CAM and over the control, in a sentence. note: what the numbers are counted over."""

    verdict: str
    note: str = ""
    tiles: tuple[Tile, ...] = ()


def headline(run: FinishedRun) -> Headline:
    """The main numbers on the split `val`, or else on the last split that was scored."""
    split = headline_split(run)
    if not split:
        return Headline(verdict=_nothing_scored(run))
    verdict, tiles = _of_maps(run, split) if run.mapped else ("Masks were given, in the place of pseudo masks.", [])
    for refined in run.result.refined:
        last_round = run.mapped[-1].round_index if run.mapped else 0
        if split in refined.scores and refined.round_index == last_round:
            tiles.append(
                Tile(
                    name=_tile_name(refined),
                    value=percent(refined.scores[split].variants[refined.variant]["miou"]),
                    unit="% mIoU",
                    note=VARIANT_NAMES[refined.variant] + ("" if refined.variant == GIVEN else f"; {_GIVEN}"),
                )
            )
    for network in run.result.segmented:
        for kind, scores in network.scores.get(split, {}).items():
            tiles.append(
                Tile(
                    name=f"Segmentation, {network_name(network, kind)}",
                    value=percent(scores["miou"]),
                    unit="% mIoU",
                    note=_knowledge(network.trained_on, kind),
                )
            )
    images = f"the {_images(run, split)}images of {split}"
    note = f"mIoU over {images}: pixels are counted over all images, background included."
    return Headline(verdict=verdict, note=note, tiles=tuple(tiles))


def _nothing_scored(run: FinishedRun) -> str:
    if not run.mapped and not run.result.refined:
        return "The run ended before any response maps: this page shows its training and its cost."
    return "There are no true masks to compare with, so nothing is scored."


def _images(run: FinishedRun, split: str) -> str:
    """How many images were scored, where the scores say it."""
    scored = [entry.scores[split].images for entry in run.mapped if split in entry.scores]
    scored += [entry.scores[split].images for entry in run.result.refined if split in entry.scores]
    return f"{scored[0]} " if scored else ""


def _tile_name(refined: RefinedResult) -> str:
    if refined.variant == GIVEN or refined.of_given:
        return masks_name(refined).capitalize()
    return f"Pseudo masks, round {refined.round_index}"


def _of_maps(run: FinishedRun, split: str) -> tuple[str, list[Tile]]:
    """The verdict on the response maps, and their tiles."""
    plain, last = run.mapped[0], run.mapped[-1]
    tiles = [
        Tile(
            name="Given maps" if plain.given else "Plain CAM (round 0)",
            value=percent(_miou(plain, split)),
            unit="% mIoU",
            note=plain.scores[split].threshold_text,
        )
    ]
    verdict = "Plain CAM only: no further round was trained."
    if plain.given:
        verdict = "Response maps were given, in the place of a run's own."
    if last is not plain:
        gain = _miou(last, split) - _miou(plain, split)
        tiles.append(
            Tile(
                name=f"Round {last.round_index}, response maps",
                value=percent(_miou(last, split)),
                unit="% mIoU",
                note=f"{signed(gain)} points compared with plain CAM; {last.scores[split].threshold_text}",
            )
        )
        verdict = (
            f"On {split} ({_images(run, split)}images, one seed), the response maps of round {last.round_index} are"
            f" {_above(gain)} plain CAM" + _against_control(run, last, split)
        )
    return verdict, tiles


def _knowledge(trained_on: str, kind: str) -> str:
    """What was known to a segmentation network, in training and of the images that it segments."""
    of_images = _GIVEN if kind == "known" else "predicts the classes without image-level labels"
    return f"trained on ground truth, an upper bound; {of_images}" if trained_on == "truth" else of_images


def headline_split(run: FinishedRun) -> str:
    """`val` where it was scored, else the last scored split, "" if there is none."""
    splits = list(run.mapped[0].scores) if run.mapped else splits_of(run.result)
    return PREFERRED_SPLIT if PREFERRED_SPLIT in splits else (splits or [""])[-1]


def _against_control(run: FinishedRun, last: RoundResult, split: str) -> str:
    for entry in run.result.rounds:
        if entry.control and entry.round_index == last.round_index and split in entry.scores:
            gain = _miou(last, split) - _miou(entry, split)
            return f" and {_above(gain)} the control, which was trained equally long on the classes alone."
    return "; no control was trained, so this difference may come from longer training alone."


def _miou(entry: RoundResult, split: str) -> float:
    return float(entry.scores[split].fixed["miou"])


def _above(share: float) -> str:
    points = percent(abs(share))
    if points == "0.0":
        return "level with"
    return f"{points} points {'above' if share > 0 else 'below'}"
