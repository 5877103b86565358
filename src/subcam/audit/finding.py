"""One finding about a data set: what is wrong, how much it matters, which files, what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["stop", "warning", "note"]
"""stop: a run with these settings ends with an error. warning: a run ends well, but its result suffers."""

SEVERITIES: tuple[Severity, ...] = ("stop", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One file or pair that a finding is about; the images are shown side by side. mask_turn: as in a `Record`."""

    text: str
    images: tuple[Path, ...] = ()
    mask: Path | None = None
    mask_turn: int = 1


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding.

    kind: a short name that does not change, for programs.
    title: what is wrong, and how often.
    advice: what to do, or what follows.
    examples: every file or pair concerned, the worst first.
    """

    kind: str
    severity: Severity
    title: str
    advice: str
    examples: tuple[Example, ...] = ()


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun: 1 image, 2 images."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def in_order(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The gravest first, else as they were."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
