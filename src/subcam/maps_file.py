"""What stands beside a saved classifier: how its response maps are computed, and the background threshold."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from subcam.errors import CheckpointError
from subcam.runtime.files import as_plain, from_plain, read_json, write_json

if TYPE_CHECKING:
    from subcam.stages.cam import CamSettings
else:  # its import takes seconds
    CamSettings = Any

MAPS_FILE = "response_maps.json"
"""How maps are computed (`CamSettings`) and where they are cut (`background_threshold`)."""


def write_maps_file(folder: Path, cam: CamSettings, threshold: float | None) -> None:
    """Write beside a classifier how its response maps are computed, and the background threshold if one is known."""
    write_json(folder / MAPS_FILE, {**as_plain(cam), "background_threshold": threshold})


def read_maps_file(folder: Path) -> tuple[CamSettings, float | None] | None:
    """What `write_maps_file` wrote; None where there is no such file.

    Raises:
        CheckpointError: it says something else; names it.
    """
    from subcam.stages.cam import CamSettings

    path = folder / MAPS_FILE
    if not path.is_file():
        return None
    try:
        found = dict(read_json(path))
        threshold = found.pop("background_threshold", None)
        return from_plain(CamSettings, found), threshold
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not say how response maps are computed ({error}); copy the folder again, or delete"
            " this file to take the usual settings"
        ) from error
