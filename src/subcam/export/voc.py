"""The archive that PASCAL VOC's evaluation server takes, and a check of one by the rules of the VOC 2012 devkit.

Rules (development kit, section 5.3, and its VOCevalseg): an indexed PNG for each image of the set, named after it,
under results/VOC2012/Segmentation/compN_SET_cls; pixel indices 0 to 20; the colour map of the annotations; the image's
size. 255 marks what is not scored in annotations and is no result.
"""

import gzip
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from subcam.checks.arguments import takes_arrays
from subcam.data.image_file import naming, open_image
from subcam.data.images import voc_palette
from subcam.data.readers.voc import VOC_CLASSES
from subcam.data.records import BACKGROUND, IGNORE_INDEX, mask_values_of, suggest
from subcam.errors import BadInputError
from subcam.export.images import Images
from subcam.export.mask_folder import MaskFolder
from subcam.runtime.files import atomic_write

Competition = Literal["comp5", "comp6"]
"""comp5: trained on VOC's own data alone; comp6: on anything but the test set."""

SHOWN = 10


def archive_folder(competition: Competition, *, image_set: str = "test") -> str:
    """The folder of the results in the archive."""
    return f"results/VOC2012/Segmentation/{competition}_{image_set}_cls"


@takes_arrays()
def export_voc(
    masks: MaskFolder,
    path: Path,
    *,
    competition: Competition = "comp6",
    image_set: str = "test",
    images: Images | None = None,
    fill_unlabelled: bool = False,
) -> Path:
    """Write masks as a tar.gz for the evaluation server; the same masks give the same bytes. Returns `path`.

    Classes are matched to VOC's by name where the folder has names; else its values are VOC's.

    Args:
        masks: the masks of the set, all of them and no others (`MaskFolder.only`).
        path: the archive, replaced if it is there.
        competition: which of the two, names the folder in the archive.
        image_set: the set, names the folder too.
        images: where given, each mask must be as large as its image.
        fill_unlabelled: make unlabelled pixels (255) background instead of refusing them.

    Raises:
        BadInputError: a mask is damaged, not of its image's size or has a value other than 0..20; a class is none of
            VOC's; a name has a folder in it.
    """
    to_voc = _voc_values(masks.class_names, fill_unlabelled=fill_unlabelled)
    folder = archive_folder(competition, image_set=image_set)
    nested = next((name for name in masks.files if "/" in name), None)
    if nested is not None:
        raise BadInputError(f"{masks.files[nested]}: VOC's names have no folders; give the folder of the masks itself")
    # Neither file name nor time go into gzip's head, so that equal masks give equal archives.
    with (
        atomic_write(path, "wb") as file,
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, labels in masks.labels(num_classes=len(masks.class_names or VOC_CLASSES), title="VOC archive"):
            if images is not None:
                images.check_size(name, masks.files[name], labels.shape)
            values = to_voc[labels]
            if (values == IGNORE_INDEX).any():
                raise BadInputError(
                    f"{masks.files[name]}: expected a class at each pixel, got some without a label (255), which the "
                    "server refuses; predict all pixels, or make them background with --fill-unlabelled"
                )
            data = _png(values)
            member = tarfile.TarInfo(f"{folder}/{name}.png")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def check_voc_archive(
    path: Path,
    *,
    names: Sequence[str],
    sizes: Mapping[str, tuple[int, int]] | None = None,
    competition: Competition = "comp6",
    image_set: str = "test",
) -> None:
    """Hold an archive against the devkit's rules.

    Args:
        path: the archive, .tar.gz.
        names: all images of the set.
        sizes: (height, width) of the images as far as they are known.
        competition: what the folder in the archive must be named after.
        image_set: the same.

    Raises:
        BadInputError: lists what is wrong, the first ten of many.
    """
    faults = []
    try:
        with tarfile.open(path, mode="r:gz") as archive:
            faults = list(_faults(archive, names, sizes or {}, archive_folder(competition, image_set=image_set)))
    except (OSError, EOFError, tarfile.TarError) as error:
        faults = [f"not a whole tar.gz archive ({error})"]
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        listed = "\n  ".join(faults[:SHOWN])
        raise BadInputError(f"{path}: the evaluation server would refuse this archive:\n  {listed}{more}")


def _faults(
    archive: tarfile.TarFile, names: Sequence[str], sizes: Mapping[str, tuple[int, int]], folder: str
) -> Iterator[str]:
    left = dict.fromkeys(names)
    seen: set[str] = set()
    for member in archive:
        place = PurePosixPath(member.name)
        if member.isdir() and (place == PurePosixPath(folder) or place in PurePosixPath(folder).parents):
            continue
        if not member.isfile() or place.parent != PurePosixPath(folder) or place.suffix != ".png":
            yield f"{member.name}: expected only files {folder}/NAME.png"
        elif place.stem in seen:
            yield f"{member.name}: there twice"
        elif place.stem not in left:
            yield f"{member.name}: no image of the set has this name"
        else:
            seen.add(place.stem)
            content = archive.extractfile(member)
            yield from _faults_of_mask(member.name, content.read() if content else b"", sizes.get(place.stem))
    yield from (f"{folder}/{name}.png: missing" for name in left if name not in seen)


def _faults_of_mask(name: str, data: bytes, size: tuple[int, int] | None) -> Iterator[str]:
    try:
        with open_image(Path(name), data=data) as image, naming(Path(name)):
            image.load()
            kind, mode, palette, values = image.format, image.mode, image.getpalette(), np.asarray(image)
    except BadInputError as error:
        yield str(error)
        return
    if kind != "PNG" or mode != "P":
        yield f"{name}: expected an indexed PNG (mode P), got {kind} of mode {mode}"
        return
    highest = int(values.max())
    if highest > len(VOC_CLASSES):
        yield f"{name}: expected values 0..{len(VOC_CLASSES)}, got {highest}"
    colours = np.array(palette, np.uint8).reshape(-1, 3)[: len(VOC_CLASSES) + 1]
    if not np.array_equal(colours, voc_palette()[: len(colours)]) or len(colours) <= min(highest, len(VOC_CLASSES)):
        yield f"{name}: expected VOC's colour map, got another"
    if size is not None and values.shape != tuple(size):
        height, width = values.shape
        yield f"{name}: expected {size[1]} x {size[0]} pixels (width x height), got {width} x {height}"


def _voc_values(class_names: tuple[str, ...] | None, *, fill_unlabelled: bool) -> UInt8[np.ndarray, "256"]:
    """What each stored value is among VOC's."""
    names = class_names if class_names is not None else VOC_CLASSES
    for name in names:
        if name not in VOC_CLASSES:
            raise BadInputError(f"the class {name!r} is none of PASCAL VOC's: {suggest(name, VOC_CLASSES)}")
    table = np.array(mask_values_of(names, VOC_CLASSES)).astype(np.uint8)
    if fill_unlabelled:
        table[IGNORE_INDEX] = BACKGROUND
    return table


def _png(values: UInt8[np.ndarray, "h w"]) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(values))
    image.putpalette(voc_palette().tobytes())
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()
