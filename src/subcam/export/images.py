"""Which image each mask belongs to: file names and sizes as labelling tools and benchmarks want them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from subcam.data.files import advice_on_kind, files_by_name, images_below
from subcam.data.image_file import open_image, read_file
from subcam.data.images import check_mask_size, upright_size
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

    Raises:
        BadInputError: there is no such folder, a name has no image or two; says how many and the first.
    """
    if folder is None:
        return Images(root=None, files={name: name + DEFAULT_SUFFIX for name in names})
    below = images_below(folder)
    by_name = files_by_name(folder, below.images)
    wanted = list(names)
    wrong = [name for name in wanted if len(by_name.get(name, ())) != 1]
    if wrong:
        unread = f" ({advice_on_kind(below.unread[0])})" if below.unread else ""
        raise BadInputError(
            f"{folder}: expected one image for each of {len(wanted)} masks, got none or several for {len(wrong)}: "
            f"{first_of(wrong)}; give the folder below which the images are called as the masks are{unread}"
        )
    return Images(root=folder, files={name: by_name[name][0].relative_to(folder).as_posix() for name in wanted})
