"""The packages that ours is held against, and whether they are here.

`uv pip install --group peers` brings them all into the environment of the benchmarks. Where one is missing its rows
say so and have no other time.
"""

import functools
import importlib.util
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PEERS = {
    "pydensecrf2": "pydensecrf",
    "faiss-cpu": "faiss",
    "onnxruntime": "onnxruntime",
    "grad-cam": "pytorch_grad_cam",
}
"""Names of packages, and of what is imported; `peers` in pyproject.toml lists them and what they need."""
ABSENT = "absent"


def here(package: str) -> bool:
    """Whether one of `PEERS` can be imported in this process."""
    return importlib.util.find_spec(PEERS[package]) is not None


def absent(package: str) -> str:
    """What a row says in place of a peer that is not here."""
    return f"{package} ({ABSENT})"


def own_interpreter() -> Path | None:
    """This interpreter if it has pydensecrf."""
    return Path(sys.executable) if here("pydensecrf2") else None


@functools.cache
def versions(peers_python: Path | None) -> dict[str, str]:
    """The version of each of `PEERS`, pydensecrf2's in the environment of `peers_python`."""
    found = {name: _version(name) for name in PEERS}
    if peers_python and found["pydensecrf2"] == ABSENT:
        code = "from importlib.metadata import version; print(version('pydensecrf2'))"
        asked = subprocess.run([str(peers_python), "-c", code], capture_output=True, text=True, check=False)
        found["pydensecrf2"] = asked.stdout.strip() or ABSENT
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ABSENT
