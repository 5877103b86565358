"""One rule for all: what counts as an image, which file a name or a list means, and that none lies outside."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.audit.dataset import audit_dataset
from subcam.commands.data.labels import labels
from subcam.data.check import check_images
from subcam.data.files import (
    files_by_name,
    find_file,
    image_named,
    images_below,
    looks_like_image,
    mask_named,
)
from subcam.data.images import read_image
from subcam.data.readers.folder import read_folder
from subcam.data.records import IMAGE_SUFFIXES, SUFFIXES_BY_KIND, UNREAD_SUFFIXES, mask_values_of, suggest
from subcam.data.settings import DatasetSettings
from subcam.errors import BadInputError
from subcam.export.mask_folder import open_masks
from subcam.predict.find_images import find_images

FORMATS = {
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".pbm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
    ".j2k": "JPEG2000",
    ".hif": "HEIF",
}
"""Of suffixes that Pillow cannot save by."""


def write(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in SUFFIXES_BY_KIND["HEIF"]:
        pytest.importorskip("pillow_heif").register_heif_opener()
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format=FORMATS.get(path.suffix.lower()))
    return path


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_each_kind_that_counts_as_an_image_is_read(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}")
    assert read_image(path).shape == (20, 24, 3)
    assert looks_like_image(path)
    assert suffix not in UNREAD_SUFFIXES


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Eight images of eight kinds in folders of classes, one of a kind that is not read, and no image."""
    root = tmp_path / "mine"
    kinds = (".jpg", ".JPG", ".jp2", ".ppm", ".jfif", ".webp", ".tiff", ".bmp")
    for seed, suffix in enumerate(kinds):
        write(root / ("cat", "dog")[seed % 2] / f"{seed}{suffix}", seed)
    (root / "cat" / "phone.PSD").write_bytes(b"8BPS")
    (root / "cat" / "notes.txt").write_text("none")
    return root


def test_all_commands_take_the_same_files_and_name_what_is_not_read(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readable = {path for path in mixed.rglob("*") if path.suffix not in (".PSD", ".txt", "")}
    assert len(readable) == 8
    phone = mixed / "cat" / "phone.PSD"

    labels([str(mixed), "--kind", "folders"])
    said = capsys.readouterr().out
    assert "8 images, 2 names" in said
    assert f"{phone}: expected an image of a kind that is read, got .psd; convert it to JPEG or PNG" in said
    assert {record.image for record in read_folder(mixed).records} == readable

    audit = audit_dataset(DatasetSettings(root=str(mixed)), work_folder=tmp_path / "work", workers=1)
    assert audit.splits[0].images == 8
    (unread,) = [finding for finding in audit.findings if finding.kind == "unread"]
    assert [example.text for example in unread.examples] == ["cat/phone.PSD"]
    assert not [finding for finding in audit.findings if finding.kind in ("unlisted", "image-bad")]

    predicted = find_images([mixed])
    assert {record.image for record in predicted.records} == readable
    assert [(skip.file, ".psd; convert it" in skip.reason) for skip in predicted.unread] == [(str(phone), True)]

    (mixed / "labels.csv").write_text("image,labels\ncat/0.jpg,cat\n")
    audit = audit_dataset(DatasetSettings(root=str(mixed)), work_folder=tmp_path / "work", workers=1)
    (unlisted,) = [finding for finding in audit.findings if finding.kind == "unlisted"]
    assert {mixed / example.text for example in unlisted.examples} == readable - {mixed / "cat" / "0.jpg"}


def test_a_listed_file_of_a_kind_that_is_not_read_is_named(mixed: Path) -> None:
    with pytest.raises(BadInputError, match=r"phone\.PSD: expected an image of a kind that is read, got \.psd"):
        read_image(mixed / "cat" / "phone.PSD")


def test_a_folder_of_nothing_that_is_read_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.psd").write_bytes(b"x")
    for take in (lambda: find_images([tmp_path]), lambda: labels([str(tmp_path)])):
        with pytest.raises(BadInputError, match=r"a\.psd: expected an image of a kind that is read"):
            take()


def test_hidden_and_excluded_folders_are_not_entered(tmp_path: Path) -> None:
    for name in ("b.png", "sub/a.png", ".c.png", ".d/e.png", "out/f.png"):
        write(tmp_path / name)
    (tmp_path / "folder.png").mkdir()
    below = images_below(tmp_path, exclude=(tmp_path / "out").resolve())
    assert below.images == (tmp_path / "b.png", tmp_path / "sub" / "a.png")
    assert below.unread == ()
    with pytest.raises(BadInputError, match=r"gone: expected a folder of images, got none"):
        images_below(tmp_path / "gone")


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(BadInputError, match=r"closed: cannot be read"):
        images_below(tmp_path)


def test_files_by_their_name(tmp_path: Path) -> None:
    first, second, other = (write(tmp_path / name) for name in ("a.jpg", "a.png", "sub/b.c.webp"))
    by_name = files_by_name(tmp_path, [first, second, other])
    assert by_name == {"a": [first, second], "sub/b.c": [other]}
    assert image_named(tmp_path, "a") == first
    assert image_named(tmp_path, "a", first=".png") == second
    assert image_named(tmp_path, "sub/b.c") == other
    assert image_named(tmp_path, "b") is None
    assert mask_named(tmp_path, "a") == second
    assert mask_named(tmp_path, "sub/b.c") is None


def test_a_written_path_is_looked_for_in_each_folder_in_turn(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    both, only_two = write(one / "x" / "a.png"), write(two / "b.png")
    write(two / "x" / "a.png")
    assert find_file("x\\a.png", (one, two), where="list:1") == both
    assert find_file("b.png", (one, two), where="list:1") == only_two
    decomposed = write(one / "cafe\u0301.png")
    assert find_file("caf\u00e9.png", (one, two), where="list:1") == decomposed
    with pytest.raises(BadInputError, match=rf"list:1: 'c.png' is no file in {one} or {two}; restore it"):
        find_file("c.png", (one, two), where="list:1")


def test_a_link_may_lead_to_another_folder_of_the_root_and_no_further(tmp_path: Path) -> None:
    root = tmp_path / "root"
    inside, outside = write(root / "disk" / "a.png"), write(tmp_path / "b.png")
    (root / "images").mkdir()
    for target in (inside, outside):
        (root / "images" / target.name).symlink_to(target)
    assert find_file("a.png", (root / "images",), where="list:1", root=root) == root / "images" / "a.png"
    with pytest.raises(BadInputError, match=rf"list:2: .*a\.png is a link to {inside}, outside {root}/images"):
        find_file("a.png", (root / "images",), where="list:2")
    with pytest.raises(BadInputError, match=rf"list:3: .*b\.png is a link to {outside}, outside {root};"):
        find_file("b.png", (root / "images",), where="list:3", root=root)


def test_an_unknown_name_is_helped_with() -> None:
    assert suggest("dgo", ["dog", "cat"]) == "did you mean 'dog'?"
    assert suggest("Persian", ["Person", "cow"]) == "did you mean 'Person'?"
    many = [f"{number:03}" for number in range(31)]
    assert suggest("x", many) == f"known are: {', '.join(many[:30])}, ..."
    assert suggest("x", many[:30]) == f"known are: {', '.join(many[:30])}"


def test_what_a_stored_value_of_a_mask_means() -> None:
    values = mask_values_of(["cat", "dog", "cow"], ["cow", "cat"])
    assert values == (0, 2, 255, 1, *[-1] * 251, 255)
    full = mask_values_of([f"class {i}" for i in range(300)], ["class 253", "class 299"])
    assert full == (0, *[255] * 253, 1, 255)


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    for name in ("disk/a.png", "mine/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "mine" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "mine" / "again").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "mine")
    (tmp_path / "mine" / "real").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "mine" / "real" / "c.png")
    (tmp_path / "mine" / "alias").symlink_to(tmp_path / "mine" / "real")
    found = images_below(tmp_path / "mine").images
    assert [path.relative_to(tmp_path / "mine").as_posix() for path in found] == ["again/a.png", "b.png", "real/c.png"]


@pytest.mark.parametrize("suffix", [".PNG", ".Png", ".JPG", ".Jpeg", ".tiff"])
def test_a_name_is_found_in_any_case_of_its_suffix(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert image_named(tmp_path, "a") == path
    assert (mask_named(tmp_path, "a") == path) == (suffix.lower() == ".png")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere.png")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("put", [pipe, link_to_nothing, link_to_itself])
def test_what_is_called_like_an_image_is_never_passed_over(
    tmp_path: Path, put: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A set of links whose disk is not mounted looked like a smaller one."""
    write(tmp_path / "mine" / "cat" / "a.png")
    put(tmp_path / "mine" / "cat" / "b.png")
    assert [path.name for path in images_below(tmp_path / "mine").images] == ["a.png", "b.png"]
    for same in ("content", "name", "never"):
        labels([str(tmp_path / "mine"), "--same", same, "--overwrite"])
        assert "b.png" in capsys.readouterr().out
    assert (tmp_path / "mine" / "labels.csv").read_text().splitlines()[1:] == ["cat/a.png,cat"]


@pytest.mark.parametrize("put", [pipe, link_to_nothing, link_to_itself, folder])
@pytest.mark.parametrize("name", ["classes.txt", "masks/a.png"])
def test_what_may_be_there_is_read_once_it_is(tmp_path: Path, put: Callable[[Path], None], name: str) -> None:
    write(tmp_path / "a.png")
    (tmp_path / "labels.csv").write_text("image,labels\na.png,cat\n")
    (tmp_path / "masks").mkdir()
    if name == "classes.txt":
        write(tmp_path / "masks" / "a.png")
    put(tmp_path / name)
    with pytest.raises(BadInputError, match=name.replace(".", r"\.")):
        check_images(read_folder(tmp_path))
    if name == "classes.txt":
        with pytest.raises(BadInputError, match=r"classes\.txt"):
            open_masks(tmp_path)
