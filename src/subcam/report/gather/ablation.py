"""The summary of an ablation as `ablate.json` holds it: which keys there are, and the one reader of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subcam.runtime.files import read_as

ABLATION = "ablate.json"
"""The file in a run's folder that `subcam ablate` writes."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One score of one grid point over its seeds, as shares in 0..1.

    what: the table it belongs in, ": ", and its column. A star says that it was chosen by ground-truth masks.
    std: with n - 1 in the denominator; None for a single seed.
    """

    grid: dict[str, Any]
    split: str
    what: str
    mean: float
    std: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class _Ablation:
    """Of the file what is read back."""

    summary: tuple[Summary, ...]


def read_summary(folder: Path) -> tuple[Summary, ...]:
    """The scores of the ablation in a run's folder; none where there was none.

    Raises:
        RunFolderError: the file is another than was written there; names it and the key.
    """
    path = folder / ABLATION
    if not path.is_file():
        return ()
    mend = "move it away, and `subcam ablate` writes it anew"
    content: _Ablation = read_as(_Ablation, path, what="the file of an ablation", mend=mend)
    return content.summary
