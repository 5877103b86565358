"""A run in a few numbers: what it reached, against plain CAM and the control, and which numbers needed masks."""

from dataclasses import dataclass

from subcam.report.gather.images import VARIANT_NAMES
from subcam.report.gather.run import FinishedRun
from subcam.report.tables.segmentation import network_name
from subcam.results import RoundResult

PREFERRED_SPLIT = "val"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One main number with its unit and what has to be known about it."""

    name: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Headline:
    """verdict: what the sub-categories brought, in one sentence. note: what the numbers were counted over."""

    verdict: str
    note: str = ""
    tiles: tuple[Tile, ...] = ()


def headline(run: FinishedRun) -> Headline:
    """The main numbers on the split `val`, or on the last one that was scored."""
    split = headline_split(run)
    if not split:
        return Headline(verdict="No image had a mask to score against: this page shows images, no scores.")
    plain, last = run.rounds[0], run.rounds[-1]
    tiles = [
        Tile(
            name="Plain CAM (round 0)",
            value=_percent(_miou(plain, split)),
            unit="% mIoU",
            note=plain.scores[split].threshold_text,
        )
    ]
    verdict = "Plain CAM alone: no round with sub-categories was trained."
    if last is not plain:
        gain = _miou(last, split) - _miou(plain, split)
        tiles.append(
            Tile(
                name=f"Round {last.round_index}, response maps",
                value=_percent(_miou(last, split)),
                unit="% mIoU",
                note=f"{_signed(gain)} against plain CAM; {last.scores[split].threshold_text}",
            )
        )
        verdict = (
            f"On {split}, the response maps of round {last.round_index} stand {_above(gain)} plain CAM"
            + _against_control(run, last, split)
        )
    for refined in run.result.refined:
        if split in refined.scores and refined.round_index == last.round_index:
            variant = run.result.settings.refine.masks.pseudo_mask
            tiles.append(
                Tile(
                    name=f"Pseudo masks, round {refined.round_index}",
                    value=_percent(refined.scores[split].variants[variant]["miou"]),
                    unit="% mIoU",
                    note=f"{VARIANT_NAMES[variant]}, image-level labels known",
                )
            )
    for network in run.result.segmented:
        for kind, scores in network.scores.get(split, {}).items():
            tiles.append(
                Tile(
                    name=f"Segmentation, {network_name(network, kind)}",
                    value=_percent(scores["miou"]),
                    unit="% mIoU",
                    note=_knowledge(network.trained_on, kind),
                )
            )
    images = plain.scores[split].images
    note = f"These numbers: {images} images of {split}, all pixels counted together, background included."
    return Headline(verdict=verdict, note=note, tiles=tuple(tiles))


def _knowledge(trained_on: str, kind: str) -> str:
    """What a segmentation network was told, of the images that it learned from and of those that it masks."""
    of_images = "image-level labels known" if kind == "known" else "classes predicted, no image-level labels used"
    return f"learnt from masks: an upper bound; {of_images}" if trained_on == "truth" else of_images


def headline_split(run: FinishedRun) -> str:
    """`val` where it was scored, else the last scored split, "" if there is none."""
    splits = [split for found in run.rounds[:1] for split in found.scores]
    return PREFERRED_SPLIT if PREFERRED_SPLIT in splits else (splits or [""])[-1]


def _against_control(run: FinishedRun, last: RoundResult, split: str) -> str:
    for found in run.result.rounds:
        if found.control and found.round_index == last.round_index and split in found.scores:
            gain = _miou(last, split) - _miou(found, split)
            return f", and {_above(gain)} the control that was trained as long without sub-categories."
    return "; no control without sub-categories was trained, so what they did cannot be told from longer training."


def _miou(found: RoundResult, split: str) -> float:
    return float(found.scores[split].fixed["miou"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−") + " points"


def _above(share: float) -> str:
    points = f"{abs(100 * share):.1f}"
    if points == "0.0":
        return "level with"
    return f"{points} points {'above' if share > 0 else 'below'}"
