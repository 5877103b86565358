"""VOC 2012 and SBD in small: archives of the same layout with images, lists, annotations and masks."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

VOC = "VOCdevkit/VOC2012"
SBD = "benchmark_RELEASE/dataset"
SIZE = (5, 7)
LISTS = {"train": ["2007_000001", "2007_000002"], "val": ["2007_000003", "2007_000004"]}
SBD_LISTS = {"train": ["2007_000002", "2007_000003", "2008_000005"], "val": ["2007_000004", "2008_000006"]}
"""Two images are SBD's alone; of the others SBD has masks that VOC's own ones come before."""
TRAIN_AUG = {"2007_000001", "2007_000002", "2008_000005", "2008_000006"}
IMAGES = [*LISTS["train"], *LISTS["val"], "2008_000005", "2008_000006", "2011_000007"]
CLASS_NAMES = ("aeroplane", "cat", "dog")


def mask_of(name: str, *, ours: bool) -> np.ndarray:
    """A mask that differs by image and by who drew it."""
    rng = np.random.default_rng([int(name[-1]), ours])
    return rng.choice(np.array([0, 1, 8, 12, 20] + [255] * ours, np.uint8), SIZE)


def png(mask: np.ndarray) -> bytes:
    """As VOC's own: indexed, with a palette."""
    image = Image.fromarray(mask)
    image.putpalette(bytes(range(256)) * 3)
    return _encoded(image, "PNG")


def jpeg(name: str) -> bytes:
    """An image whose side is that of its mask."""
    return _encoded(Image.new("RGB", SIZE[::-1], (int(name[-1]) * 20, 90, 90)), "JPEG")


def _encoded(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def mat(mask: object) -> bytes:
    """One of SBD's files: class masks with the boundaries beside them."""
    boundaries = np.empty((20, 1), object)
    for place in range(20):
        boundaries[place, 0] = csc_matrix(np.eye(*SIZE))
    buffer = io.BytesIO()
    savemat(
        buffer,
        {"GTcls": {"Boundaries": boundaries, "Segmentation": mask, "CategoriesPresent": np.array([[1], [8]])}},
        do_compression=True,
    )
    return buffer.getvalue()


def voc_files() -> dict[str, bytes]:
    """The files of VOC 2012 by their paths in the archive."""
    files = {
        f"{VOC}/ImageSets/Segmentation/{split}.txt": "".join(f"{name}\n" for name in names).encode()
        for split, names in {**LISTS, "trainval": LISTS["train"] + LISTS["val"]}.items()
    }
    for name in IMAGES:
        label = CLASS_NAMES[int(name[-1]) % 3]
        files[f"{VOC}/JPEGImages/{name}.jpg"] = jpeg(name)
        files[f"{VOC}/Annotations/{name}.xml"] = (
            f"<annotation><object><name>{label}</name></object></annotation>".encode()
        )
    for name in LISTS["train"] + LISTS["val"]:
        files[f"{VOC}/SegmentationClass/{name}.png"] = png(mask_of(name, ours=True))
    return files


def sbd_files() -> dict[str, bytes]:
    """The files of SBD by their paths in the archive, with a copy of one elsewhere, as in the real one."""
    names = SBD_LISTS["train"] + SBD_LISTS["val"]
    files = {f"{SBD}/cls/{name}.mat": mat(mask_of(name, ours=False)) for name in names}
    files |= {f"{SBD}/{split}.txt": "\n".join(names).encode() for split, names in SBD_LISTS.items()}
    files |= {f"{SBD}/img/{name}.jpg": jpeg(name) for name in names}
    files["benchmark_RELEASE/benchmark_code_RELEASE/demo/datadir/cls/2008_000051.mat"] = b"not one of the set"
    return files


def tar(files: Mapping[str, bytes], *, packed: bool = False) -> bytes:
    """A tar with the folders of its files, as the real ones have them."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folders: dict[str, None] = {}
        for name in files:
            folders |= dict.fromkeys(parent.as_posix() for parent in reversed(Path(name).parents[:-1]))
        for folder in folders:
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue()) if packed else buffer.getvalue()


def digest(content: bytes, kind: str = "md5") -> str:
    return hashlib.new(kind, content).hexdigest()


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder but the receipts."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".subcam" not in path.as_posix()
    }
