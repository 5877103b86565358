"""How what was left out is listed: the first of many, and how many more there are."""

from collections.abc import Sequence


def first_lines(texts: Sequence[str], *, most: int) -> list[str]:
    """A line for each of the first `most` texts, and one for the number of all others."""
    lines = [f"  - {text}" for text in texts[:most]]
    return lines + ([f"  - and {len(texts) - most:,} more"] if len(texts) > most else [])
