"""Makes VOC 2012's augmented training set (Section 4.1) from SBD: masks of 12,031 images and the list train_aug.

In: a VOC 2012 folder and SBD's archive, which is read without unpacking it. Out, in the VOC folder:
SegmentationClassAug (VOC's own masks for its train and val, SBD's for all others) and
ImageSets/Segmentation/train_aug.txt (VOC's train and SBD's train and val, less VOC's val). Image-level labels are VOC's
annotations, as for every image of VOC.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from subcam.data.image_file import open_image, read_file
from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.voc import VOC_CLASSES
from subcam.download.archives import Limits, Member, members
from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import read_bytes
from subcam.runtime.files import atomic_write, read_as, write_json

MASKS = "SegmentationClassAug"
LIST = "train_aug"
RECEIPT = ".subcam.json"
"""In the folder of masks: they were made here, and they are all there."""

_SBD = PurePosixPath("benchmark_RELEASE/dataset")
_LARGEST_FILE = 4 << 20
"""Bytes; SBD's masks and lists have some ten thousand."""


@dataclass(frozen=True, kw_only=True)
class Augmented:
    """How many images train_aug has, how many masks there are, and how many of them are SBD's."""

    names: int
    masks: int
    masks_of_sbd: int


def made_before(voc: Path) -> Augmented | None:
    """What was made in this VOC folder before; None if it is not all there.

    Raises:
        BadInputError: there are masks that were not made here, with which these would be mixed up.
    """
    folder = voc / MASKS
    if (folder / RECEIPT).is_file():
        mend = f"move {folder} away, and it is made again"
        made: Augmented = read_as(Augmented, folder / RECEIPT, what="the receipt of the masks", mend=mend)
        return made if _list_file(voc, LIST).is_file() else None
    if folder.is_dir() and any(folder.iterdir()):
        raise BadInputError(
            f"{folder} is there already, from elsewhere; it was left as it is; move it away and run the same command "
            "again, or use it as it is"
        )
    return None


def augment_voc(voc: Path, archive: Path, *, limits: Limits, on_mask: Callable[[], object] = lambda: None) -> Augmented:
    """Make the masks and the list; resumes with the masks that are there.

    The folder of masks appears when all of them are made, for masks are looked for in it as soon as it is there.

    Args:
        voc: the folder that holds JPEGImages, Annotations, ImageSets and SegmentationClass.
        archive: SBD's benchmark.tgz.
        limits: more than the archive may hold.
        on_mask: called after each mask.

    Raises:
        BadInputError: an image, mask or list is missing or cannot be used; or masks or a list of the name are there
            that are not the same. Names it.
        RunFolderError: the disk is full or the folder cannot be written.
    """
    train, val = (_read_list(_list_file(voc, split)) for split in ("train", "val"))
    made_here = (voc / MASKS / RECEIPT).is_file()
    staged = voc / (MASKS if made_here else f".{MASKS}.partial")
    own = train | val
    for name in sorted(own):
        _copy_mask(voc / "SegmentationClass" / f"{name}.png", staged / f"{name}.png")
        on_mask()
    listed: dict[str, set[str]] = {}
    masks: set[str] = set()
    for member in members(archive, limits=limits, wanted=_is_used):
        path = PurePosixPath(member.name)
        where = f"{archive}: {member.name}"
        if path.suffix == ".txt":
            listed[path.stem] = _names(_read(member, archive).decode("ascii", "replace"), where)
            continue
        (name,) = _names(path.stem, where)
        masks.add(name)
        if name in own:
            continue
        target = staged / f"{name}.png"
        if not target.is_file():
            mask = read_sbd_mask(_read(member, archive), where)
            _check_size(voc / "JPEGImages" / f"{name}.jpg", mask.shape, where)
            write_mask(target, mask, palette=voc_palette(), durable=False)
        on_mask()
    if set(listed) != {"train", "val"}:
        raise BadInputError(f"{archive}: expected {_SBD}/train.txt and val.txt, got {', '.join(listed) or 'neither'}")
    unmasked = (listed["train"] | listed["val"]) - masks
    if unmasked:
        raise BadInputError(f"{archive}: {len(unmasked)} listed images have no mask in {_SBD}/cls, as {min(unmasked)}")
    names = (train | listed["train"] | listed["val"]) - val
    _check_images(voc, names)
    _write_list(_list_file(voc, LIST), names)
    made = Augmented(names=len(names), masks=len(own | masks), masks_of_sbd=len(masks - own))
    if not made_here:
        write_json(staged / RECEIPT, made)
        staged.rename(voc / MASKS)
    return made


def read_sbd_mask(data: bytes, where: str) -> UInt8[np.ndarray, "h w"]:
    """Read the classes of one of SBD's .mat files: 0 background, 1..20 VOC's classes; SBD has no ignored border.

    The MATLAB format can hold functions and objects; nothing but an array of numbers is taken from it.

    Args:
        data: the bytes of a MATLAB 5 file with `GTcls.Segmentation`.
        where: what errors call it.

    Raises:
        BadInputError: it is no such file.
    """
    from scipy.io import loadmat

    try:
        struct = loadmat(io.BytesIO(data), variable_names=["GTcls"])["GTcls"]
        mask = struct["Segmentation"][0, 0]
    except Exception as error:  # a damaged file makes scipy raise nearly any kind
        raise BadInputError(f"{where}: holds no GTcls.Segmentation ({type(error).__name__}: {error})") from error
    # Functions and objects of MATLAB come as subclasses of an array.
    if type(struct) is not np.ndarray or type(mask) is not np.ndarray or mask.dtype != np.uint8 or mask.ndim != 2:
        raise BadInputError(f"{where}: expected GTcls.Segmentation to be an array h x w of 8 bits, got something else")
    if mask.size == 0 or mask.max() > len(VOC_CLASSES):
        raise BadInputError(
            f"{where}: expected classes 0..{len(VOC_CLASSES)}, got {mask.max() if mask.size else 'none'}"
        )
    return mask


def _is_used(name: str) -> bool:
    """Whether a member is a list or a mask; the archive has images, code and masks of instances besides."""
    path = PurePosixPath(name)
    return path in (_SBD / "train.txt", _SBD / "val.txt") or (path.parent == _SBD / "cls" and path.suffix == ".mat")


def _read(member: Member, archive: Path) -> bytes:
    if member.size > _LARGEST_FILE:
        raise BadInputError(f"{archive}: {member.name}: expected some kilobytes, got {member.size} bytes")
    return b"".join(member.blocks())


def _list_file(voc: Path, split: str) -> Path:
    return voc / "ImageSets" / "Segmentation" / f"{split}.txt"


def _read_list(path: Path) -> set[str]:
    try:
        return _names(read_bytes(path).decode("utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path}: expected a list of VOC 2012's images, got none ({error}); restore it") from error


def _names(text: str, where: str) -> set[str]:
    """The images' names of a list with one a line; AffinityNet's form, with paths, is read too."""
    names = {PurePosixPath(line.split()[0]).stem for line in text.splitlines() if line.strip()}
    for name in names:
        if not re.fullmatch(r"\w+", name):
            raise BadInputError(f"{where}: expected names such as 2007_000032, got {name!r}")
    return names


def _copy_mask(source: Path, target: Path) -> None:
    if target.is_file():
        return
    try:
        content = read_bytes(source)
    except OSError as error:
        raise BadInputError(f"{source}: cannot be read ({error.strerror}); VOC 2012's own masks are needed") from error
    with atomic_write(target, durable=False) as file:
        file.write(content)


def _check_size(path: Path, shape: tuple[int, ...], where: str) -> None:
    try:
        with open_image(path, data=read_file(path)) as image:
            size = (image.height, image.width)
    except BadInputError as error:
        raise BadInputError(f"{error} ({where} is its mask)") from error
    if size != shape:
        raise BadInputError(f"{where}: expected the size of {path}, {size[1]} x {size[0]}, got {shape[1]} x {shape[0]}")


def _check_images(voc: Path, names: set[str]) -> None:
    for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        there = {path.stem for path in (voc / folder).glob(f"*{suffix}")}
        if names - there:
            raise BadInputError(
                f"{voc / folder}: {len(names - there)} of the {len(names)} images of {LIST} are not there, as "
                f"{min(names - there)}; unpack VOC 2012 again"
            )


def _write_list(path: Path, names: set[str]) -> None:
    if path.is_file():
        there = _read_list(path)
        if there == names:
            return
        raise BadInputError(
            f"{path} is there already, with {len(there)} images that are not the {len(names)} of VOC and SBD; it was "
            "left as it is; move it away and run the same command again"
        )
    with atomic_write(path, "w") as file:
        file.write("".join(f"{name}\n" for name in sorted(names)))
