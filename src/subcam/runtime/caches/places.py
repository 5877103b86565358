"""The caches of libraries: a place where the home folder cannot be written, as in containers run as another user.

What is only read there stays where it is: downloaded weights, for instance.
"""

import functools
import getpass
import logging
import os
import stat
import tempfile
from pathlib import Path

VARIABLES = {"MPLCONFIGDIR": "matplotlib", "TORCHINDUCTOR_CACHE_DIR": "torchinductor", "TRITON_CACHE_DIR": "triton"}
"""Where matplotlib, torch.compile and Triton look, and the folder that each is given."""

LIMITS = {"LRU_CACHE_CAPACITY": "256", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256"}
"""Kernels that torch and oneDNN keep, one for each layer and size of map; read as torch is loaded. Their own limits of
1,024 were 300 MiB after ten sizes of image in MobileNetV2, and one size needs 104 at two scales, 208 at four."""

logger = logging.getLogger(__name__)


def prepare() -> None:
    """Limit caches, and give a temporary place to those of this process and its children that have no other.

    What is set already stays.
    """
    for variable, limit in LIMITS.items():
        os.environ.setdefault(variable, limit)
    missing = [variable for variable in VARIABLES if not os.environ.get(variable)]
    if not missing or (_can_keep(_home_cache()) and _is_known()):
        return
    place = temporary_place()
    if place is not None:
        os.environ.update({variable: str(place / VARIABLES[variable]) for variable in missing})


@functools.cache
def temporary_place() -> Path | None:
    """This user's own folder for caches among the temporary files, which only they can write; None where none can be.

    What is in it may be run by who reads it (compiled kernels), so a folder that is somebody else's is not taken.
    """
    try:
        place = Path(tempfile.gettempdir()) / f"subcam-caches-{os.getuid()}"
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
            place = Path(tempfile.mkdtemp(prefix="subcam-caches-"))
    except OSError:
        logger.warning("neither %s nor temporary files can be written: nothing is kept compiled", _home_cache())
        return None
    logger.warning("%s cannot be written: what is compiled once is kept in %s", _home_cache(), place)
    return place


def _home_cache() -> Path:
    chosen = os.environ.get("XDG_CACHE_HOME")
    return Path(chosen) if chosen else Path(os.path.expanduser("~/.cache"))  # noqa: PTH111 - raises nothing


def _can_keep(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _is_known() -> bool:
    """Whether this user has a name, after which torch calls its folder."""
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError, ImportError):
        return False
