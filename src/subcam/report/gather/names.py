"""What rounds, other maps, pseudo masks and networks are called in the tables, in the figures and on the page."""

from subcam.results import ComparisonResult, RoundResult, SegmentedResult

PLAIN_CAM = "plain CAM"

VARIANT_NAMES = {"crf": "CRF", "walk": "random walk", "walk-crf": "random walk + CRF"}
"""Kinds of pseudo masks, by what was applied to the response maps."""

VARIANT_COLUMNS = {"crf": "+CRF", "walk": "+RW", "walk-crf": "+RW+CRF"}
"""The same, as short as in the paper's Table 1."""

ENDINGS = {"plain": "", "crf": " + CRF", "known": ", labels known"}
"""What tells a network's predictions apart: alone, after a CRF, or restricted to the image's labels."""


def round_name(entry: RoundResult) -> str:
    """A round in figures and sentences."""
    if not entry.round_index:
        return PLAIN_CAM
    return f"round {entry.round_index}" + (" control" if entry.control else "")


def row_name(entry: RoundResult | ComparisonResult) -> str:
    """A round or another kind of response maps in a column headed "round"."""
    if isinstance(entry, ComparisonResult):
        return entry.title
    return f"{entry.round_index}" + (" (CAM)" if not entry.round_index else " control" if entry.control else "")


def network_name(network: SegmentedResult, kind: str = "plain") -> str:
    """What a segmentation network was trained on, and what was done with its predictions."""
    truth = network.trained_on == "truth"
    return ("ground truth" if truth else f"pseudo masks of round {network.round_index}") + ENDINGS[kind]
