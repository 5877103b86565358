"""How response maps are computed, and the file beside a saved classifier that says so, with its threshold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from subcam.checks.fields import BatchSize, Range, Scales, Settings
from subcam.errors import CheckpointError
from subcam.runtime.documents.plain_values import as_plain, from_plain
from subcam.runtime.files import read_json, write_json

MAPS_FILE = "response_maps.json"
"""How maps are computed (`CamSettings`) and where they are cut (`background_threshold`)."""

_MOST_AREA = 400
"""Of a folder that comes from elsewhere: its usual scales ask for 7.5 times the image's pixels."""


@dataclass(frozen=True, kw_only=True)
class CamSettings(Settings):
    """Settings of response maps.

    Attributes:
        scales: factors on the image's size; each is computed with its mirror image if `flip`.
        flip: whether the mirror image counts too.
        storage_stride: pixels between two stored values, in both directions.
        subcategory_maps: whether the sub-category heads' maps are stored too.
        batch_size: images of equal size that pass the network together (twice as many with flips).
        attention_layers: last layers of a vision transformer whose attention between patches guides the maps; 0 for
            none. Not in the paper.
        attention_steps: how often that attention is applied.
    """

    scales: Scales = (1.0, 0.5, 1.5, 2.0)
    flip: bool = True
    storage_stride: Annotated[int, Range(1, 1024)] = 4
    subcategory_maps: bool = False
    batch_size: BatchSize = 4
    attention_layers: Annotated[int, Range(0, 1000)] = 0
    attention_steps: Annotated[int, Range(1, 1000)] = 1


def write_maps_file(folder: Path, settings: CamSettings, threshold: float | None) -> None:
    """Write beside a classifier how its response maps are computed, and the background threshold if one is known."""
    write_json(folder / MAPS_FILE, {**as_plain(settings), "background_threshold": threshold})


def read_maps_file(folder: Path) -> tuple[CamSettings, float | None] | None:
    """What `write_maps_file` wrote; None where there is no such file.

    Raises:
        CheckpointError: it says something else; names it.
    """
    path = folder / MAPS_FILE
    if not path.is_file():
        return None
    try:
        plain = dict(read_json(path))
        threshold = from_plain(float | None, plain.pop("background_threshold", None))
        settings = from_plain(CamSettings, plain)
        area = sum(scale * scale for scale in settings.scales)
        if area > _MOST_AREA:
            raise ValueError(f"scales: expected at most {_MOST_AREA} times an image's pixels in all, got {area:.0f}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"background_threshold: expected a number in 0..1, got {threshold}")
        return settings, threshold
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not say how response maps are computed ({error}); copy the folder again, or delete"
            " this file to take the usual settings"
        ) from error
