"""What computed a run: versions of packages, the revision of this package's checkout, and the hardware."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from subcam.runtime.resources import hardware, versions

_PACKAGE = Path(__file__).resolve().parents[1]
_SECONDS = 20


def provenance() -> dict[str, Any]:
    """Versions by package, the hardware, and where this package is a git checkout its revision."""
    found = revision()
    return {**({"revision": found} if found else {}), "versions": versions(), "hardware": hardware()}


@cache
def revision(folder: Path = _PACKAGE) -> str:
    """The commit of the checkout that a package's folder is part of, with "-dirty" where files have changed since.

    "" where it is in none, as an installed package; one that merely lies below somebody's checkout is in none.
    """
    file = next(folder.glob("*.py"), None)
    if file is None or _git(folder, "ls-files", "--error-unmatch", file.name) is None:
        return ""
    return _git(folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or ""


def _git(folder: Path, *words: str) -> str | None:
    """What git prints; None where there is no git, or it refuses."""
    try:
        answer = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
