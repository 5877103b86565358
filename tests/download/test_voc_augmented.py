"""SBD's masks and lists: against SciPy and Pillow read plainly, with what is damaged or in the way."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.io.matlab import MatlabFunction, MatlabOpaque
from tests.download.made_archives import (
    LISTS,
    SBD,
    SBD_LISTS,
    TRAIN_AUG,
    VOC,
    mask_of,
    mat,
    sbd_files,
    tar,
    tree,
    voc_files,
)

from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.voc import read_voc
from subcam.download.archives import Limits
from subcam.download.voc_augmented import LIST, MASKS, Augmented, augment_voc, made_before, read_sbd_mask
from subcam.errors import BadInputError

LIMITS = Limits(members=100, bytes=1_000_000)
MADE = Augmented(names=4, masks=6, masks_of_sbd=2)
OWN = {*LISTS["train"], *LISTS["val"]}


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for name, content in voc_files().items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / VOC


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "benchmark.tgz"
    path.write_bytes(tar(sbd_files(), packed=True))
    return path


def with_changed(archive: Path, changes: dict[str, bytes | None]) -> Path:
    """The archive with other files; None takes one out."""
    files = {**sbd_files(), **changes}
    archive.write_bytes(tar({name: content for name, content in files.items() if content is not None}, packed=True))
    return archive


def test_masks_and_list(voc: Path, archive: Path) -> None:
    told: list[int] = []
    assert augment_voc(voc, archive, limits=LIMITS, on_mask=lambda: told.append(1)) == MADE
    assert len(told) == MADE.masks
    assert (voc / "ImageSets/Segmentation/train_aug.txt").read_text().split() == sorted(TRAIN_AUG)
    names = OWN | set(SBD_LISTS["train"]) | set(SBD_LISTS["val"])
    assert {path.stem for path in (voc / MASKS).glob("*.png")} == names
    for name in names:
        with Image.open(voc / MASKS / f"{name}.png") as image:
            assert image.mode == "P"
            assert (np.asarray(image) == mask_of(name, ours=name in OWN)).all()
            assert name in OWN or image.getpalette() == voc_palette().ravel().tolist()
    for name in OWN:
        own = voc / "SegmentationClass" / f"{name}.png"
        assert (voc / MASKS / f"{name}.png").read_bytes() == own.read_bytes()


def test_the_reader_of_voc_takes_it(voc: Path, archive: Path) -> None:
    augment_voc(voc, archive, limits=LIMITS)
    image_set = read_voc(voc)
    assert {record.name for record in image_set.records} == TRAIN_AUG
    assert all(record.mask and record.mask.parent.name == MASKS for record in image_set.records)
    assert len(read_voc(voc, split="val")) == 2


def test_what_was_made_is_known_again(voc: Path, archive: Path) -> None:
    assert made_before(voc) is None
    augment_voc(voc, archive, limits=LIMITS)
    assert made_before(voc) == MADE
    (voc / "ImageSets/Segmentation/train_aug.txt").unlink()
    assert made_before(voc) is None
    before = tree(voc)
    assert augment_voc(voc, archive, limits=LIMITS) == MADE
    assert made_before(voc) == MADE
    assert tree(voc).keys() - before.keys() == {"ImageSets/Segmentation/train_aug.txt"}
    assert not list(voc.glob(".*"))


def test_cut_off_it_goes_on_and_nothing_half_is_seen(voc: Path, archive: Path) -> None:
    """Masks are read from SegmentationClassAug as soon as there is one, so it must not be there by halves."""
    left = [3]

    def dies() -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        augment_voc(voc, archive, limits=LIMITS, on_mask=dies)
    assert not (voc / MASKS).exists()
    assert not (voc / "ImageSets/Segmentation/train_aug.txt").exists()
    (staged,) = voc.glob(".*")
    times = {path.name: path.stat().st_mtime_ns for path in staged.iterdir()}
    assert len(times) == 3
    assert augment_voc(voc, archive, limits=LIMITS) == MADE
    assert {name: (voc / MASKS / name).stat().st_mtime_ns for name in times} == times
    assert not staged.exists()


def test_masks_from_elsewhere_are_left_alone(voc: Path) -> None:
    write_mask(voc / MASKS / "2007_000001.png", np.zeros((5, 7), np.uint8), palette=voc_palette())
    with pytest.raises(BadInputError, match=f"{MASKS} is there already, from elsewhere; it was left as it is; move it"):
        made_before(voc)


def test_an_empty_folder_of_masks_is_in_nobodys_way(voc: Path, archive: Path) -> None:
    (voc / MASKS).mkdir()
    assert made_before(voc) is None
    assert augment_voc(voc, archive, limits=LIMITS) == MADE


def test_a_list_that_is_there(voc: Path, archive: Path) -> None:
    """Another order, and AffinityNet's form, are the same list; other names are not."""
    path = voc / "ImageSets/Segmentation/train_aug.txt"
    others = "2007_000001\n2011_000007\n"
    path.write_text(others)
    with pytest.raises(BadInputError, match=r"train_aug\.txt is there already, with 2 images that are not the 4"):
        augment_voc(voc, archive, limits=LIMITS)
    assert path.read_text() == others
    assert not (voc / MASKS).exists()
    lines = [f"/JPEGImages/{name}.jpg /SegmentationClassAug/{name}.png\n" for name in sorted(TRAIN_AUG, reverse=True)]
    path.write_text("".join(lines))
    assert augment_voc(voc, archive, limits=LIMITS) == MADE
    assert path.read_text() == "".join(lines)


def test_images_of_val_stay_out(voc: Path, archive: Path) -> None:
    """SBD's train has an image of VOC's val: it is not learned from, whatever SBD calls it."""
    assert set(SBD_LISTS["train"]) & set(LISTS["val"])
    augment_voc(voc, archive, limits=LIMITS)
    assert not {record.name for record in read_voc(voc, split=LIST).records} & set(LISTS["val"])


FAULTS = {
    "no list": ({f"{SBD}/val.txt": None}, r"expected benchmark_RELEASE/dataset/train\.txt and val\.txt, got train"),
    "no text": ({f"{SBD}/val.txt": b"\xff\xfe"}, r"val\.txt: expected names such as 2007_000032"),
    "a name that leads out": ({f"{SBD}/val.txt": b"..\\x"}, r"val\.txt: expected names such as 2007_000032"),
    "no mask": ({f"{SBD}/cls/2008_000005.mat": None}, "1 listed images have no mask in .*cls, as 2008_000005"),
    "another size": (
        {f"{SBD}/cls/2008_000005.mat": mat(np.zeros((7, 5), np.uint8))},
        r"2008_000005\.mat: expected the size of .*2008_000005\.jpg, 7 x 5, got 5 x 7",
    ),
    "no such image": (
        {f"{SBD}/cls/2008_000009.mat": mat(np.zeros((7, 5), np.uint8))},
        r"2008_000009\.jpg: no such file.*2008_000009\.mat is its mask",
    ),
    "damaged": ({f"{SBD}/cls/2008_000005.mat": b"nothing"}, r"2008_000005\.mat: holds no GTcls\.Segmentation"),
    "large": ({f"{SBD}/cls/2008_000005.mat": bytes(5 << 20)}, "expected some kilobytes, got 5242880 bytes"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_the_archive_are_named(voc: Path, archive: Path, name: str) -> None:
    changes, message = FAULTS[name]
    with pytest.raises(BadInputError, match=message) as caught:
        augment_voc(voc, with_changed(archive, changes), limits=Limits(members=100, bytes=10_000_000))
    assert "2008_0000" in str(caught.value) or str(caught.value).startswith(str(archive))
    assert not (voc / MASKS).exists()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("ImageSets/Segmentation/train.txt", r"train\.txt: expected a list of VOC 2012's images"),
        ("SegmentationClass/2007_000003.png", r"2007_000003\.png: cannot be read .*VOC 2012's own masks are needed"),
        ("JPEGImages/2007_000001.jpg", "1 of the 4 images of train_aug are not there, as 2007_000001"),
        ("Annotations/2008_000006.xml", "1 of the 4 images of train_aug are not there, as 2008_000006"),
    ],
)
def test_a_voc_folder_that_is_not_whole(voc: Path, archive: Path, missing: str, message: str) -> None:
    (voc / missing).unlink()
    with pytest.raises(BadInputError, match=message):
        augment_voc(voc, archive, limits=LIMITS)
    assert not (voc / MASKS).exists()


def test_a_mask_as_scipy_reads_it() -> None:
    mask = mask_of("2008_000005", ours=False)
    assert (read_sbd_mask(mat(mask), "here") == mask).all()


def bytes_of(**variables: object) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, variables)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no GTcls.Segmentation"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(500), "holds no GTcls.Segmentation"),
        (mat(np.zeros((5, 7), np.uint8))[:-40], "holds no GTcls.Segmentation"),
        (bytes_of(other=1), "KeyError: 'GTcls'"),
        (bytes_of(GTcls=np.zeros((5, 7), np.uint8)), "holds no GTcls.Segmentation"),
        (mat(np.zeros((5, 7), np.float64)), "an array h x w of 8 bits"),
        (mat(np.zeros((5, 7, 3), np.uint8)), "an array h x w of 8 bits"),
        (mat("text"), "an array h x w of 8 bits"),
        (mat(np.zeros((0, 7), np.uint8)), "expected classes 0..20, got none"),
        (mat(np.full((5, 7), 21, np.uint8)), "expected classes 0..20, got 21"),
        (mat(np.full((5, 7), 255, np.uint8)), "expected classes 0..20, got 255"),
    ],
)
def test_what_is_no_mask(data: bytes, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as caught:
        read_sbd_mask(data, "benchmark.tgz: cls/x.mat")
    assert str(caught.value).startswith("benchmark.tgz: cls/x.mat: ")


@pytest.mark.parametrize("kind", [MatlabFunction, MatlabOpaque])
def test_functions_and_objects_of_matlab_are_refused(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    """SciPy does not run them but gives them as arrays, which must not be taken for masks."""
    struct = np.zeros((1, 1), dtype=[("Segmentation", object)])
    struct["Segmentation"][0, 0] = np.zeros((5, 7), np.uint8).view(kind)
    monkeypatch.setattr("scipy.io.loadmat", lambda *words, **named: {"GTcls": struct})
    with pytest.raises(BadInputError, match="got something else"):
        read_sbd_mask(b"", "here")
