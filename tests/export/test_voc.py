"""The archive for VOC's server: what is in it, and that each breach of the development kit's rules is refused."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.export.made_masks import SIZES, write_made

from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.voc import VOC_CLASSES
from subcam.errors import BadInputError
from subcam.export.images import find_images
from subcam.export.mask_folder import open_masks
from subcam.export.voc import check_voc_archive, export_voc

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
VOC_NAMES = ("person", "cat", "sheep")


@pytest.fixture
def made(tmp_path: Path) -> dict[str, np.ndarray]:
    return write_made(tmp_path, names=VOC_NAMES, unlabelled=False)


@pytest.fixture
def archive(made, tmp_path: Path) -> Path:
    images = find_images(made, tmp_path / "images")
    return export_voc(open_masks(tmp_path), tmp_path / "results.tar.gz", images=images)


def content(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive, "r:gz") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def write_archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name.removesuffix(" again"))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def png(values: np.ndarray, *, mode: str = "P", palette: np.ndarray | None = None) -> bytes:
    image = Image.fromarray(values.astype(np.uint8))
    if mode == "P":
        image.putpalette((voc_palette() if palette is None else palette).tobytes())
    written = io.BytesIO()
    image.convert(mode).save(written, format="PNG")
    return written.getvalue()


def test_masks_stand_in_the_servers_tree_in_vocs_numbers(archive: Path, made) -> None:
    files = content(archive)
    assert list(files) == [f"{FOLDER}/{name}.png" for name in made]
    values = np.array([0, *(VOC_CLASSES.index(name) + 1 for name in VOC_NAMES)])
    for name, labels in made.items():
        with Image.open(io.BytesIO(files[f"{FOLDER}/{name}.png"])) as image:
            assert (image.mode, image.size) == ("P", labels.shape[::-1])
            assert (np.asarray(image) == values[labels]).all()
            assert (np.asarray(image.convert("RGB")) == voc_palette()[values[labels]]).all()
    check_voc_archive(archive, names=list(made), sizes=SIZES)


def test_equal_masks_give_equal_bytes(archive: Path, made, tmp_path: Path) -> None:
    again = export_voc(open_masks(tmp_path), tmp_path / "other name.tar.gz")
    assert again.read_bytes() == archive.read_bytes()
    with tarfile.open(archive) as tar:
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}


def test_values_without_names_are_vocs(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.array([[0, 20]], np.uint8), palette=voc_palette())
    archive = export_voc(open_masks(tmp_path), tmp_path / "r.tar.gz", competition="comp5", image_set="val")
    (name,) = content(archive)
    assert name == "results/VOC2012/Segmentation/comp5_val_cls/a.png"
    check_voc_archive(archive, names=["a"], competition="comp5", image_set="val")
    with pytest.raises(BadInputError, match=rf"expected only files {FOLDER}/NAME\.png"):
        check_voc_archive(archive, names=["a"])


def test_a_real_split(voc_animals: Path, tmp_path: Path) -> None:
    names = (voc_animals / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[:5]
    masks = open_masks(voc_animals).only(names)
    with pytest.raises(BadInputError, match=r"some without a label \(255\)"):
        export_voc(masks, tmp_path / "r.tar.gz")
    assert not (tmp_path / "r.tar.gz").exists()
    images = find_images(names, voc_animals / "JPEGImages")
    archive = export_voc(masks, tmp_path / "r.tar.gz", images=images, fill_unlabelled=True)
    sizes = {name: masks.read(name, num_classes=20).shape for name in names}
    check_voc_archive(archive, names=names, sizes=sizes)


def test_what_cannot_be_exported(made, tmp_path: Path) -> None:
    out = tmp_path / "r.tar.gz"
    with pytest.raises(BadInputError, match="the class 'kat' is none of PASCAL VOC's: did you mean 'cat'"):
        export_voc(open_masks(tmp_path, class_names=("kat", "dog", "cow")), out)
    Image.new("RGB", (3, 3)).save(tmp_path / "images" / "2008_000001.jpg")
    with pytest.raises(BadInputError, match=r"2008_000001\.png: expected a mask as large as its image, 3 x 3"):
        export_voc(open_masks(tmp_path), out, images=find_images(made, tmp_path / "images"))
    write_mask(tmp_path / "masks" / "sub" / "a.png", np.zeros((2, 2), np.uint8), palette=voc_palette())
    with pytest.raises(BadInputError, match=r"sub/a\.png: VOC's names have no folders"):
        export_voc(open_masks(tmp_path), out)
    assert not out.exists()


FIRST = f"{FOLDER}/2008_000001.png"
Change = Callable[[dict[str, bytes], np.ndarray], object]

FAULTS: dict[str, tuple[Change, str]] = {
    "missing": (lambda files, _: files.pop(FIRST), "2008_000001.png: missing"),
    "too many": (lambda files, v: files.update({f"{FOLDER}/x.png": png(v)}), "x.png: no image of the set"),
    "twice": (lambda files, v: files.update({f"{FIRST} again": png(v)}), "2008_000001.png: there twice"),
    "another place": (lambda files, _: files.update({"a.png": files.pop(FIRST)}), "a.png: expected only files"),
    "another kind": (
        lambda files, _: files.update({f"{FOLDER}/notes.txt": b"hello"}),
        "notes.txt: expected only files",
    ),
    "grey": (lambda files, v: files.update({FIRST: png(v, mode="L")}), r"indexed PNG \(mode P\), got PNG of mode L"),
    "colour": (lambda files, v: files.update({FIRST: png(v, mode="RGB")}), "got PNG of mode RGB"),
    "void": (lambda files, v: files.update({FIRST: png(np.where(v, 255, 0))}), r"expected values 0\.\.20, got 255"),
    "a class too many": (lambda files, v: files.update({FIRST: png(np.where(v, 21, 0))}), "got 21"),
    "another size": (lambda files, v: files.update({FIRST: png(v.T)}), r"expected 31 x 24 pixels .*, got 24 x 31"),
    "other colours": (
        lambda files, v: files.update({FIRST: png(v, palette=255 - voc_palette())}),
        "VOC's colour map, got another",
    ),
    "too few colours": (lambda files, v: files.update({FIRST: png(v, palette=voc_palette()[:3])}), "VOC's colour map"),
    "no image": (lambda files, _: files.update({FIRST: b"nothing"}), "expected an image"),
    "cut off": (lambda files, _: files.update({FIRST: files[FIRST][:-40]}), "expected a whole image"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_refused(fault: str, archive: Path, made, tmp_path: Path) -> None:
    files = content(archive)
    check_voc_archive(write_archive(tmp_path / "right.tar.gz", files), names=list(made), sizes=SIZES)
    change, says = FAULTS[fault]
    change(files, made["2008_000001"])
    with pytest.raises(BadInputError, match=says):
        check_voc_archive(write_archive(tmp_path / "wrong.tar.gz", files), names=list(made), sizes=SIZES)


def test_archives_that_are_none(archive: Path, made, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    for data in (b"", b"no archive", whole[: len(whole) // 2]):
        archive.write_bytes(data)
        with pytest.raises(BadInputError, match=r"not a whole tar\.gz archive"):
            check_voc_archive(archive, names=list(made))
    with pytest.raises(BadInputError, match=r"not a whole tar\.gz"):
        check_voc_archive(tmp_path / "nowhere.tar.gz", names=list(made))


def test_folders_are_allowed_and_many_faults_are_counted(archive: Path, made, tmp_path: Path) -> None:
    files = content(archive)
    with tarfile.open(tmp_path / "with folders.tar.gz", "w:gz") as tar:
        for place in ("results", "results/VOC2012", "results/VOC2012/Segmentation", FOLDER):
            member = tarfile.TarInfo(place)
            member.type = tarfile.DIRTYPE
            tar.addfile(member)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    check_voc_archive(tmp_path / "with folders.tar.gz", names=list(made))
    with pytest.raises(BadInputError, match="and 20 more"):
        check_voc_archive(archive, names=[*made, *(f"n{index}" for index in range(30))])
