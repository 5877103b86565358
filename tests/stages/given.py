"""What a stage is given, made by hand: an earlier stage at any folder, images with any digest."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subcam.data.check import CheckedImages
    from subcam.data.records import ImageSet
    from subcam.runtime.run_folder import Stage


def stage_at(folder: Path, *, key: str = "") -> "Stage":
    """An earlier stage whose files lie in `folder`; its key is the folder's path unless one is given."""
    from subcam.runtime.run_folder import Stage

    return Stage(name=folder.name, key=key or folder.as_posix(), path=folder)


def images_of(image_set: "ImageSet", sizes: Sequence[tuple[int, int]] = ()) -> "CheckedImages":
    """Images as a check returns them, without looking at their files."""
    from subcam.data.check import CheckedImages

    return CheckedImages(image_set=image_set, sizes=tuple(sizes), digest="made by hand")
