"""A run in a few numbers: its scores beside plain CAM and the control, and what was known for each of them."""

from dataclasses import dataclass

from subcam.report.gather.names import VARIANT_NAMES, network_name
from subcam.report.page.numbers import percent, signed
from subcam.results import FinishedRun, RoundResult

PREFERRED_SPLIT = "val"
_GIVEN = "image-level labels given"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One main number with its unit, and a note on how it came about."""

    name: str
    value: str
    unit: str
    note: str


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
        return Headline(verdict="No image has ground truth to score against: this page shows images but no scores.")
    plain, last = run.rounds[0], run.rounds[-1]
    tiles = [
        Tile(
            name="Plain CAM (round 0)",
            value=percent(_miou(plain, split)),
            unit="% mIoU",
            note=plain.scores[split].threshold_text,
        )
    ]
    verdict = "Plain CAM only: no further round was trained."
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
            f"On {split}, the response maps of round {last.round_index} are {_above(gain)} plain CAM"
            + _against_control(run, last, split)
        )
    for refined in run.result.refined:
        if split in refined.scores and refined.round_index == last.round_index:
            variant = run.result.settings.refine.masks.pseudo_mask
            tiles.append(
                Tile(
                    name=f"Pseudo masks, round {refined.round_index}",
                    value=percent(refined.scores[split].variants[variant]["miou"]),
                    unit="% mIoU",
                    note=f"{VARIANT_NAMES[variant]}; {_GIVEN}",
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
    images = plain.scores[split].images
    note = f"mIoU over the {images} images of {split}: pixels are counted over all images, background included."
    return Headline(verdict=verdict, note=note, tiles=tuple(tiles))


def _knowledge(trained_on: str, kind: str) -> str:
    """What was known to a segmentation network, in training and of the images that it segments."""
    of_images = _GIVEN if kind == "known" else "predicts the classes without image-level labels"
    return f"trained on ground truth, an upper bound; {of_images}" if trained_on == "truth" else of_images


def headline_split(run: FinishedRun) -> str:
    """`val` where it was scored, else the last scored split, "" if there is none."""
    splits = [split for entry in run.rounds[:1] for split in entry.scores]
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
