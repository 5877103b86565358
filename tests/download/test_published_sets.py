"""The whole way from a server on this machine to a folder that a run reads: once, cut off, again, without room."""

import io
import json
import shutil
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.download.local_server import Served, Server, serving
from tests.download.made_archives import LISTS, TRAIN_AUG, VOC, digest, mask_of, sbd_files, tar, tree, voc_files

from subcam.data.dataset import open_dataset
from subcam.data.settings import DatasetSettings
from subcam.download.archive_folder import RECEIPTS
from subcam.download.published_sets import FetchSettings, fetch
from subcam.download.sources import ARCHIVES, Archive
from subcam.download.transfer import DownloadError, Patience
from subcam.errors import BadInputError, RunFolderError, SettingsError
from subcam.runtime.run_folder import RunFolder


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


COCO_FILES = {
    "annotations_trainval2014.zip": {"annotations/instances_train2014.json": b"{}"},
    "val2014.zip": {"val2014/COCO_val2014_000000000042.jpg": b"one"},
    "train2014.zip": {f"train2014/COCO_train2014_{number:012}.jpg": bytes([number]) for number in (9, 25)},
}
CONTENTS = {
    "VOCtrainval_11-May-2012.tar": tar(voc_files()),
    "benchmark.tgz": tar(sbd_files(), packed=True),
    **{name: zipped(files) for name, files in COCO_FILES.items()},
}
VOC_TAR, SBD_TGZ = list(CONTENTS)[:2]
Usage = namedtuple("Usage", "total used free")


class Site:
    """A server that has every archive, and the data sets as they lie there."""

    def __init__(self, server: Server) -> None:
        self.server = server
        server.files |= {name: Served(content) for name, content in CONTENTS.items()}
        self.sources = {
            data_set: tuple(self._here(archive) for archive in archives) for data_set, archives in ARCHIVES.items()
        }

    def _here(self, archive: Archive) -> Archive:
        content = CONTENTS[archive.name]
        return replace(
            archive,
            urls=(self.server.url(archive.name),),
            size=len(content),
            md5=digest(content),
            sha256=digest(content, "sha256") if archive.sha256 else None,
            needed_bytes=4 * len(content),
        )

    def fetch(self, name: str, to: Path, **settings: object) -> Path:
        quick = Patience(attempts=2, wait=0, timeout=10)
        return fetch(
            name,
            FetchSettings(to=to, patience=quick, **settings),
            sources=self.sources,
            train_aug_names=len(TRAIN_AUG),
        )

    @property
    def asked(self) -> list[str]:
        """What was asked for since the last time."""
        names = [name for name, _, _ in self.server.asked]
        self.server.asked.clear()
        return names


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as server:
        yield Site(server)


@pytest.fixture
def to(tmp_path: Path) -> Path:
    return tmp_path / "data"


def test_the_whole_way_to_a_run(site: Site, to: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """VOC 2012 alone is learned from by train; with SBD by train_aug, scored on the masks of both."""
    voc = site.fetch("voc2012", to)
    assert voc == to / "VOCdevkit" / "VOC2012"
    assert {name: content for name, content in tree(to).items() if name != VOC_TAR} == voc_files()
    settings = DatasetSettings(root=str(voc))
    dataset = open_dataset(settings, work_folder=tmp_path / "work")
    assert [record.name for record in dataset.train.image_set.records] == LISTS["train"]
    assert {split: len(images.image_set) for split, images in dataset.scored.items()} == {"train": 2, "val": 2}
    assert site.fetch("sbd", to) == voc
    dataset = open_dataset(settings, work_folder=tmp_path / "work")
    assert {record.name for record in dataset.train.image_set.records} == TRAIN_AUG
    assert all(record.mask for record in dataset.train.image_set.records)
    assert {split: len(images.image_set) for split, images in dataset.scored.items()} == {"train": 2, "val": 2}
    assert dataset.train.image_set.labels.sum(1).tolist() == [1] * 4
    with Image.open(voc / "SegmentationClassAug" / "2008_000006.png") as mask:
        assert (np.asarray(mask) == mask_of("2008_000006", ours=False)).all()
    said = capsys.readouterr().out
    assert "6 masks in SegmentationClassAug, 2 of them SBD's; 4 images in train_aug" in said
    assert "NOTE" not in said
    assert site.asked == [VOC_TAR, SBD_TGZ]


@pytest.mark.parametrize("keep", [True, False])
def test_a_second_time_nothing_is_done(
    site: Site, to: Path, keep: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ARCHIVES:
        site.fetch(name, to, keep_archives=keep)
    assert {name for name in CONTENTS if (to / name).exists()} == (set(CONTENTS) if keep else set())
    before = {path: path.stat().st_mtime_ns for path in to.rglob("*") if path.name != ".lock" and path.is_file()}
    site.server.asked.clear()
    capsys.readouterr()
    monkeypatch.setattr("subcam.download.published_sets.unpack", None)
    monkeypatch.setattr("subcam.download.published_sets.augment_voc", None)
    monkeypatch.setattr("subcam.download.archive_folder.digests", None)
    for name in ARCHIVES:
        site.fetch(name, to, keep_archives=keep)
    assert site.asked == []
    assert {
        path: path.stat().st_mtime_ns for path in to.rglob("*") if path.name != ".lock" and path.is_file()
    } == before
    said = capsys.readouterr().out
    assert said.count("unpacked before") == 4
    assert said.count("made before") == 1


def test_coco_has_its_usual_layout(site: Site, to: Path) -> None:
    assert site.fetch("coco2014", to, keep_archives=False) == to
    assert tree(to) == {name: content for files in COCO_FILES.values() for name, content in files.items()}
    assert site.asked == list(COCO_FILES)


def test_archives_can_be_let_go_later(site: Site, to: Path) -> None:
    site.fetch("voc2012", to)
    assert (to / VOC_TAR).exists()
    site.fetch("voc2012", to, keep_archives=False)
    assert not (to / VOC_TAR).exists()


def test_files_that_were_lost_are_unpacked_again(site: Site, to: Path) -> None:
    site.fetch("voc2012", to)
    site.server.asked.clear()
    lost = to / VOC / "JPEGImages" / "2011_000007.jpg"
    lost.unlink()
    site.fetch("voc2012", to)
    assert lost.read_bytes() == voc_files()[f"{VOC}/JPEGImages/2011_000007.jpg"]
    assert site.asked == []


def test_archives_that_a_person_has(site: Site, to: Path, tmp_path: Path) -> None:
    """They are read where they lie, never deleted; only what is missing is downloaded."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / VOC_TAR).write_bytes(CONTENTS[VOC_TAR])
    site.fetch("voc2012", to, archives=mine, keep_archives=False)
    site.fetch("sbd", to, archives=mine, keep_archives=False)
    assert site.asked == [SBD_TGZ]
    assert tree(mine) == {VOC_TAR: CONTENTS[VOC_TAR]}
    assert {path.name for path in to.iterdir()} == {RECEIPTS, "VOCdevkit"}
    receipt = json.loads((to / RECEIPTS / f"{VOC_TAR}.json").read_text())
    assert receipt["sha256"] == digest(CONTENTS[VOC_TAR], "sha256")
    assert receipt["downloaded"] is False


def test_an_archive_in_the_folder_itself_is_used_and_kept(site: Site, to: Path) -> None:
    to.mkdir()
    (to / VOC_TAR).write_bytes(CONTENTS[VOC_TAR])
    site.fetch("voc2012", to, keep_archives=False)
    assert site.asked == []
    assert (to / VOC_TAR).exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (CONTENTS[VOC_TAR][:-512], "expected {size} bytes, got {less}"),
        (CONTENTS[VOC_TAR][:-1] + b"x", "expected MD5 {md5}, got"),
    ],
)
def test_a_wrong_archive_of_a_person_is_neither_used_nor_touched(
    site: Site, to: Path, tmp_path: Path, content: bytes, said: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / VOC_TAR).write_bytes(content)
    right = CONTENTS[VOC_TAR]
    said = said.format(size=len(right), less=len(right) - 512, md5=digest(right))
    with pytest.raises(BadInputError, match="move it away and run the same command again to download it") as caught:
        site.fetch("voc2012", to, archives=mine)
    assert str(caught.value).startswith(f"{mine / VOC_TAR}: ")
    assert said in str(caught.value)
    assert tree(mine) == {VOC_TAR: content}
    assert tree(to) == {}


def test_an_archive_that_changed_after_it_was_checked_is_checked_again(site: Site, to: Path) -> None:
    site.fetch("voc2012", to)
    (to / RECEIPTS / f"{VOC_TAR}.unpacked.json").unlink()
    content = bytearray(CONTENTS[VOC_TAR])
    content[600] ^= 1
    (to / VOC_TAR).write_bytes(content)
    with pytest.raises(BadInputError, match="expected MD5"):
        site.fetch("voc2012", to)
    site.fetch("coco2014", to)


def test_a_wrong_checksum_of_a_download_unpacks_nothing(site: Site, to: Path) -> None:
    site.server.files[VOC_TAR].content = CONTENTS[VOC_TAR][:-1] + b"x"
    with pytest.raises(DownloadError, match=r"expected MD5 .*\.wrong and not used"):
        site.fetch("voc2012", to)
    assert set(tree(to)) == {f"{VOC_TAR}.wrong"}


def test_ones_own_mirrors_come_first(site: Site, to: Path) -> None:
    site.server.files[f"mirror/{SBD_TGZ}"] = Served(CONTENTS[SBD_TGZ])
    mirrors = (site.server.url("empty/"), site.server.url("mirror"))
    site.fetch("voc2012", to, mirrors=mirrors)
    assert site.asked == [f"empty/{VOC_TAR}", f"mirror/{VOC_TAR}", VOC_TAR]
    site.fetch("sbd", to, mirrors=mirrors)
    assert site.asked == [f"empty/{SBD_TGZ}", f"mirror/{SBD_TGZ}"]


def test_a_download_that_was_cut_off_goes_on(site: Site, to: Path) -> None:
    site.server.files[VOC_TAR].cuts = [10_000, 0]
    with pytest.raises(DownloadError, match="which resumes the download"):
        site.fetch("voc2012", to)
    site.server.asked.clear()
    site.fetch("voc2012", to)
    assert site.server.asked == [(VOC_TAR, "bytes=10000-", '"first"')]
    assert {name: content for name, content in tree(to).items() if name != VOC_TAR} == voc_files()


def test_an_unpacking_that_was_cut_off_goes_on(site: Site, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from subcam.download import archives, published_sets

    def interrupted(*words: object, on_file: object, **named: object) -> None:
        left = [5]

        def dies() -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt

        archives.unpack(*words, on_file=dies, **named)

    with monkeypatch.context() as patch:
        patch.setattr(published_sets, "unpack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            site.fetch("voc2012", to)
    assert len(tree(to / "VOCdevkit")) == 5
    times = {path: path.stat().st_mtime_ns for path in (to / "VOCdevkit").rglob("*.*") if path.is_file()}
    site.server.asked.clear()
    site.fetch("voc2012", to)
    assert site.asked == []
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert {name: content for name, content in tree(to).items() if name != VOC_TAR} == voc_files()


def test_what_a_person_has_in_the_folder_stays(site: Site, to: Path) -> None:
    """Their other data sets, and VOC unpacked by hand; a file that differs stops it, with its name."""
    own = {"VOCdevkit/VOC2007/notes.txt": b"mine", f"{VOC}/mine.txt": b"mine"}
    same = f"{VOC}/JPEGImages/2007_000001.jpg"
    for name, content in {**own, same: voc_files()[same]}.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        (to / name).write_bytes(content)
    site.fetch("voc2012", to)
    assert {name: content for name, content in tree(to).items() if name != VOC_TAR} == {**voc_files(), **own}
    (to / RECEIPTS / f"{VOC_TAR}.unpacked.json").unlink()
    (to / same).write_bytes(b"touched up")
    with pytest.raises(BadInputError, match=r"2007_000001\.jpg exists already with other contents"):
        site.fetch("voc2012", to)
    assert (to / same).read_bytes() == b"touched up"


def test_no_room_is_said_before_anything_is_downloaded(
    site: Site, to: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Path] = []

    def usage(path: Path) -> Usage:
        asked.append(Path(path))
        return Usage(0, 0, 10**6)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(RunFolderError, match=rf"{VOC_TAR} needs 200 MB on the disk of {to}, which has 1 MB free; free"):
        site.fetch("voc2012", to)
    assert site.asked == []
    assert not (to / "VOCdevkit").exists()
    assert asked == [to]


def test_room_is_counted_exactly(site: Site, to: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads that are kept or not, halves that are there, and files that are unpacked already."""
    needed: list[int] = []
    monkeypatch.setattr(
        "subcam.download.published_sets.require_space", lambda folder, count, *, what: needed.append(count)
    )
    sizes = {name: len(CONTENTS[name]) for name in COCO_FILES}
    files = {name: sum(map(len, COCO_FILES[name].values())) for name in COCO_FILES}
    site.fetch("coco2014", to, keep_archives=False)
    assert needed == [max(sizes.values()) + 4 * sum(sizes.values()), *files.values()]
    needed.clear()
    shutil.rmtree(to)
    site.server.files["annotations_trainval2014.zip"].cuts = [100, 0]
    with pytest.raises(DownloadError):
        site.fetch("coco2014", to)
    assert needed == [5 * sum(sizes.values())]
    needed.clear()
    site.fetch("coco2014", to)
    assert needed == [5 * sum(sizes.values()) - 100, *files.values()]
    needed.clear()
    (to / "train2014" / "COCO_train2014_000000000009.jpg").unlink()
    site.fetch("coco2014", to)
    assert needed == [0, 1]


def test_sbd_needs_voc(site: Site, to: Path) -> None:
    with pytest.raises(BadInputError, match=rf"run 'subcam data download voc2012 sbd --to {to}'"):
        site.fetch("sbd", to)
    assert site.asked == []


def test_sbd_goes_into_a_folder_of_voc_that_lies_elsewhere(site: Site, to: Path, tmp_path: Path) -> None:
    site.fetch("voc2012", to)
    voc = tmp_path / "VOC2012"
    (to / VOC).rename(voc)
    assert site.fetch("sbd", voc, keep_archives=False) == voc
    assert len(list((voc / "SegmentationClassAug").glob("*.png"))) == 6
    with pytest.raises(SettingsError, match="is itself a folder of VOC's images"):
        site.fetch("voc2012", voc)


def test_another_count_of_names_is_said(site: Site, to: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.fetch("voc2012", to)
    fetch("sbd", FetchSettings(to=to), sources=site.sources)
    said = capsys.readouterr().out.replace("\n", " ")
    assert "NOTE: train_aug is known to have 10582 images, here it has 4: the lists in" in said


def test_two_at_once_are_refused(site: Site, to: Path) -> None:
    with RunFolder(path=to / RECEIPTS).lock(), pytest.raises(RunFolderError, match="is in use by process"):
        site.fetch("voc2012", to)


def test_a_folder_of_archives_that_is_none(site: Site, to: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no folder; --archives takes the folder"):
        site.fetch("voc2012", to, archives=tmp_path / "nowhere")
    assert not to.exists()
