"""What rounds, other maps, pseudo masks and networks are called in the tables, in the figures and on the page."""

from subcam.refine.variants import CORRECTED, GIVEN
from subcam.results import ComparisonResult, RefinedResult, RoundResult, SegmentedResult

PLAIN_CAM = "plain CAM"
GIVEN_MAPS, GIVEN_MASKS = "given maps", "given masks"
"""What another program made, in the place of a run's own."""

VARIANT_NAMES = {
    "crf": "CRF",
    "walk": "random walk",
    "walk-crf": "random walk + CRF",
    GIVEN: "as given",
    CORRECTED: "some corrected by people",
}
"""Kinds of pseudo masks, by what was applied to the response maps."""

VARIANT_COLUMNS = {"crf": "+CRF", "walk": "+RW", "walk-crf": "+RW+CRF"}
"""The same, as short as in the paper's Table 1."""

ENDINGS = {"plain": "", "crf": " + CRF", "known": ", labels known"}
"""What tells a network's predictions apart: alone, after a CRF, or restricted to the image's labels."""


def round_name(entry: RoundResult) -> str:
    """A round in figures and sentences."""
    if entry.given:
        return GIVEN_MAPS
    if not entry.round_index:
        return PLAIN_CAM
    return f"round {entry.round_index}" + (" control" if entry.control else "")


def row_name(entry: RoundResult | ComparisonResult) -> str:
    """A round or another kind of response maps in a column headed "round"."""
    if isinstance(entry, ComparisonResult):
        return entry.title
    if entry.given:
        return GIVEN_MAPS
    return f"{entry.round_index}" + (" (CAM)" if not entry.round_index else " control" if entry.control else "")


def network_name(network: SegmentedResult, kind: str = "plain") -> str:
    """What a segmentation network was trained on, and what was done with its predictions."""
    other = {"truth": "ground truth", "given": GIVEN_MASKS}
    return (other.get(network.trained_on) or f"pseudo masks of {_origin(network)}") + ENDINGS[kind]


def masks_name(refined: RefinedResult) -> str:
    """Pseudo masks and where they come from."""
    return GIVEN_MASKS if refined.variant == GIVEN else f"pseudo masks of {_origin(refined)}"


def _origin(masks: RefinedResult | SegmentedResult) -> str:
    return GIVEN_MAPS if masks.of_given else f"round {masks.round_index}"
