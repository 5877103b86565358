"""Which image each mask belongs to: file names and sizes as labelling tools and benchmarks want them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os.path import commonpath
from pathlib import Path, PurePosixPath

from subcam.data.files import advice_on_kind, files_by_name, images_below
from subcam.data.image_file import open_image, read_file
from subcam.data.images import check_mask_size, upright_size
from subcam.data.readers.folder import MASK_FOLDER
from subcam.data.records import first_of
from subcam.errors import BadInputError

DEFAULT_SUFFIX = ".jpg"


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images of masks by name; where no folder was given, they are called NAME.jpg and cannot be looked at."""

    root: Path | None
    files: dict[str, str]

    def file_name(self, name: str) -> str:
        """The image's path below the folder of images, POSIX."""
        return self.files[name]

    def check_size(self, name: str, mask: Path, size: tuple[int, int]) -> None:
        """Raise `BadInputError` unless a mask of (height, width) `size` is as large as its image."""
        if self.root is not None:
            path = self.root / self.files[name]
            with open_image(path, data=read_file(path)) as image:
                check_mask_size(mask, size, upright_size(image))


def find_images(names: Iterable[str], folder: Path | None) -> Images:
    """The image of each name in a folder and its sub-folders; where `folder` is None, NAME.jpg.

    An image is called as its path below the folder, or else below one of its sub-folders; then what lies in a folder
    `masks` is no image.

    Raises:
        BadInputError: there is no such folder, or a name has no image or several; says of how many, and the first.
    """
    if folder is None:
        return Images(root=None, files={name: name + DEFAULT_SUFFIX for name in names})
    below = images_below(folder)
    by_name = files_by_name(folder, below.images)
    ends: dict[str, list[str]] = {}
    for known in by_name:
        if MASK_FOLDER not in PurePosixPath(known).parts[:-1]:
            ends.setdefault(PurePosixPath(known).name, []).append(known)

    def candidates(name: str) -> list[Path]:
        deeper = (known for known in ends.get(PurePosixPath(name).name, ()) if known.endswith(f"/{name}"))
        return by_name.get(name) or [path for known in deeper for path in by_name[known]]

    found = {name: candidates(name) for name in names}
    missing = [name for name, paths in found.items() if not paths]
    doubled = [name for name, paths in found.items() if len(paths) > 1]
    if missing or doubled:
        unread = f" ({advice_on_kind(below.unread[0])})" if below.unread else ""
        faults = [f"none for {len(missing)}, such as {missing[0]}{unread}"] if missing else []
        if doubled:
            several = [path.relative_to(folder).as_posix() for path in found[doubled[0]]]
            faults.append(f"several for {len(doubled)}, such as {first_of(several)}")
        raise BadInputError(
            f"{folder}: expected one image for each of {len(found)} masks, got {' and '.join(faults)}; give the folder"
            f" in which the images are, each once, called as the masks are"
        )
    return Images(root=folder, files={name: paths[0].relative_to(folder).as_posix() for name, paths in found.items()})


def images_at(files: Mapping[str, Path], root: Path) -> Images:
    """Images whose files are known by name, called by their paths below `root`, or below what holds all of them."""
    if not all(path.is_relative_to(root) for path in files.values()):
        root = Path(commonpath([path.parent for path in files.values()]))
    return Images(root=root, files={name: path.relative_to(root).as_posix() for name, path in files.items()})
