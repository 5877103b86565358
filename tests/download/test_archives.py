"""Unpacking: what Python's own unpacks comes out the same; what would harm is refused, and nothing lies elsewhere."""

import gzip
import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.download.made_archives import tar, tree, voc_files

from subcam.download.archives import Limits, Measured, measure, members, unpack
from subcam.errors import BadInputError, RunFolderError

LIMITS = Limits(members=1000, bytes=1_000_000)
FILES = {"a/one.txt": b"one", "a/b/two.bin": bytes(range(256)) * 9, "empty": b""}

Made = Callable[..., Path]


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


KINDS = {"tar": tar, "tgz": lambda files: tar(files, packed=True), "zip": zipped}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Write an archive."""

    def made(content: bytes, name: str = "archive") -> Path:
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return made


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """A folder inside another, in which nothing may appear."""
    folder = tmp_path / "around" / "into"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_files_come_out_as_python_unpacks_them(made: Made, into: Path, tmp_path: Path, kind: str) -> None:
    archive = made(KINDS[kind](voc_files()))
    told: list[int] = []
    counts = unpack(archive, into, limits=LIMITS, on_file=lambda: told.append(1))
    if kind == "zip":
        shutil.unpack_archive(archive, tmp_path / "reference", "zip")
    else:
        shutil.unpack_archive(archive, tmp_path / "reference", "gztar" if kind == "tgz" else "tar", filter="data")
    assert tree(into) == tree(tmp_path / "reference") == voc_files()
    assert len(told) == sum(counts.values()) == len(voc_files())
    assert counts["VOCdevkit/VOC2012/JPEGImages"] == 7
    assert counts["VOCdevkit/VOC2012/SegmentationClass"] == 4


@pytest.mark.parametrize("kind", KINDS)
def test_measuring_writes_nothing(made: Made, into: Path, kind: str) -> None:
    archive = made(KINDS[kind](FILES))
    assert measure(archive, into, limits=LIMITS) == Measured(files=3, missing_bytes=3 + 256 * 9)
    assert tree(into) == {}
    (into / "a").mkdir()
    (into / "a" / "one.txt").write_bytes(b"one")
    assert measure(archive, into, limits=LIMITS) == Measured(files=3, missing_bytes=256 * 9)


def test_a_path_may_begin_with_a_dot(made: Made, into: Path) -> None:
    unpack(made(tar({f"./{name}": content for name, content in FILES.items()})), into, limits=LIMITS)
    assert tree(into) == FILES


def test_rights_and_owners_are_not_taken_over(made: Made, into: Path) -> None:
    def change(info: tarfile.TarInfo) -> None:
        info.mode, info.uid = 0o6777, 12345

    unpack(made(one_member("run.sh", b"x", change)), into, limits=LIMITS)
    status = (into / "run.sh").stat()
    assert not status.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)
    assert status.st_uid == os.getuid()


def one_member(name: str, content: bytes = b"x", change: Callable[[tarfile.TarInfo], None] | None = None) -> bytes:
    """A tar with one member, whose header is changed."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        if change:
            change(info)
        archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return buffer.getvalue()


def of_type(kind: bytes, target: str = "") -> Callable[[tarfile.TarInfo], None]:
    def change(info: tarfile.TarInfo) -> None:
        info.type, info.linkname, info.size = kind, target, 0

    return change


HOSTILE = {
    "up": one_member("../outside"),
    "up in the middle": one_member("a/../../outside"),
    "absolute": one_member("/tmp/outside"),
    "symbolic link out": one_member("link", change=of_type(tarfile.SYMTYPE, "../outside")),
    "symbolic link inside": one_member("link", change=of_type(tarfile.SYMTYPE, "a")),
    "hard link out": one_member("link", change=of_type(tarfile.LNKTYPE, "../../secret")),
    "character device": one_member("null", change=of_type(tarfile.CHRTYPE)),
    "block device": one_member("disk", change=of_type(tarfile.BLKTYPE)),
    "fifo": one_member("pipe", change=of_type(tarfile.FIFOTYPE)),
    "backslash": one_member("..\\outside"),
    "drive": one_member("C:outside"),
    "stream of Windows": one_member("a.txt:stream"),
    "device of Windows": one_member("a/NUL"),
    "device with suffix": one_member("com1.txt"),
    "dot at the end": one_member("a./b"),
    "space at the end": one_member("a "),
    "line break": one_member("a\nb"),
    "turns the direction of writing": one_member("a\u202egpj.exe"),
    "long name": one_member("a" * 250),
    "no UTF-8": one_member("a\udcff"),
    "upper and lower case": tar({"A.txt": b"1", "a.txt": b"2"}),
    "folders in two cases": tar({"A/x.txt": b"1", "a/y.txt": b"2"}),
    "one letter, two codes": tar({"\u00e9": b"1", "e\u0301": b"2"}),
    "file as folder": tar({"a": b"1", "a/b": b"2"}),
    "zip: up": zipped({"../outside": b"x"}),
    "zip: absolute": zipped({"/tmp/outside": b"x"}),
    "zip: backslash": zipped({"..\\outside": b"x"}),
    "zip: case": zipped({"A": b"x", "a": b"y"}),
}


def zip_entry(mode: int) -> bytes:
    """A zip with a member that is no file on Unix."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, mode << 16
        archive.writestr(info, "../../secret")
    return buffer.getvalue()


HOSTILE |= {
    "zip: link": zip_entry(stat.S_IFLNK | 0o777),
    "zip: device": zip_entry(stat.S_IFCHR | 0o666),
    "zip: folder by its rights": zip_entry(stat.S_IFDIR | 0o755),
}


LEADING_OUT = {name for name in HOSTILE if name.removeprefix("zip: ") in ("up", "up in the middle", "absolute")}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_harm_is_refused(made: Made, into: Path, name: str) -> None:
    archive = made(HOSTILE[name])
    before = tree(into.parent)
    with pytest.raises(BadInputError, match=r"is not unpacked; it is not the archive that was published") as caught:
        unpack(archive, into, limits=LIMITS)
    assert str(archive) in str(caught.value)
    assert ("leads out of the folder" in str(caught.value)) == (name in LEADING_OUT)
    assert {path.relative_to(into).parts[0].casefold() for path in into.rglob("*")} <= {"a", "a.txt", "é"}
    assert tree(into.parent).keys() - before.keys() <= {f"into/{name}" for name in ("A.txt", "A/x.txt", "a", "é", "A")}
    assert not Path("/tmp/outside").exists()


def test_what_tarfile_would_refuse_is_refused_here(made: Made, tmp_path: Path) -> None:
    """Python's own filter as a second opinion: whatever it stops, `members` stops too."""
    stopped = 0
    for name, content in HOSTILE.items():
        if name.startswith("zip"):
            continue
        archive = made(content)
        try:
            shutil.unpack_archive(archive, tmp_path / f"reference-{stopped}", "tar", filter="data")
        except (tarfile.FilterError, OSError, ValueError):
            stopped += 1
            with pytest.raises(BadInputError):
                list(members(archive, limits=LIMITS))
    assert stopped >= 6


def test_what_is_not_wanted_is_not_looked_at(made: Made) -> None:
    """A link that nobody will unpack is in nobody's way; it counts for the limits all the same."""
    archive = made(HOSTILE["symbolic link out"])
    assert list(members(archive, limits=LIMITS, wanted=lambda name: name != "link")) == []
    both = made(tar({"a": b"x" * 60, "b": b"x" * 60}))
    assert [member.name for member in members(both, limits=LIMITS, wanted=lambda name: name == "b")] == ["b"]
    with pytest.raises(BadInputError, match="more than 9 members or 100 bytes"):
        list(members(both, limits=Limits(members=9, bytes=100), wanted=lambda name: name == "b"))


def test_the_same_member_twice(made: Made, into: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for content in (b"first", b"second"):
            info = tarfile.TarInfo("a.txt")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    with pytest.raises(BadInputError, match=r"two members for one place \(a.txt and a.txt\)"):
        unpack(made(buffer.getvalue()), into, limits=LIMITS)


def test_an_encrypted_zip(made: Made, into: Path) -> None:
    content = bytearray(zipped({"a": b"x" * 100}))
    content[content.index(b"PK\x03\x04") + 6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadInputError, match="an encrypted file or the like"):
        unpack(made(bytes(content)), into, limits=LIMITS)


@pytest.mark.parametrize("kind", KINDS)
def test_more_than_was_announced_is_not_written(made: Made, into: Path, kind: str) -> None:
    """A bomb: a thousandth of the bytes packed. No byte above the limit is ever unpacked."""
    archive = made(KINDS[kind]({"a": b"x", "bomb": bytes(3_000_000)}))
    with pytest.raises(BadInputError, match=r"more than 1000 members or 1000000 bytes \(bomb\)"):
        unpack(archive, into, limits=LIMITS)
    assert tree(into) == {"a": b"x"}
    many = made(KINDS[kind]({f"{place}": b"" for place in range(30)}))
    with pytest.raises(BadInputError, match="more than 20 members"):
        unpack(many, into, limits=Limits(members=20, bytes=100))


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_would_fill_the_memory(made: Made, packed: bool) -> None:
    """A PAX header of 20 MB of zeros, which is next to nothing packed."""
    buffer = io.BytesIO()
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, 20_000_000
    buffer.write(header.tobuf(tarfile.USTAR_FORMAT))
    buffer.write(bytes(header.size))
    buffer.write(one_member("a"))
    content = buffer.getvalue()
    archive = made(gzip.compress(content, 1) if packed else content)
    with pytest.raises(BadInputError, match=r"is damaged .*a header of more than 16777216 bytes"):
        list(members(archive, limits=LIMITS))


def test_a_negative_size(made: Made) -> None:
    content = bytearray(one_member("a"))
    content[124:136] = b"\xff" * 12
    header = bytearray(content[:512])
    header[148:156] = b" " * 8
    content[148:156] = f"{sum(header):06o}\0 ".encode()
    with pytest.raises(BadInputError):
        list(members(made(bytes(content)), limits=LIMITS))


DAMAGED = {
    "empty": b"",
    "no archive": b"<html>please log in</html>" * 100,
    "cut tar": tar(FILES)[:2000],
    "cut gzip": tar(FILES, packed=True)[:-200],
    "cut zip": zipped(FILES)[:-30],
    "gzip of nothing": b"\x1f\x8b" + bytes(50),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_archive_is_named(made: Made, into: Path, name: str) -> None:
    archive = made(DAMAGED[name])
    with pytest.raises(BadInputError, match="is damaged") as caught:
        unpack(archive, into, limits=LIMITS)
    assert str(caught.value).startswith(str(archive))
    assert not [path for path in into.rglob("*") if "partial" in path.name]


def test_bytes_that_do_not_fit_their_checksum(made: Made, into: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a", b"the bytes")
    with pytest.raises(BadInputError, match="Bad CRC-32"):
        unpack(made(buffer.getvalue().replace(b"the bytes", b"the other")), into, limits=LIMITS)
    assert tree(into) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_there_is_never_changed(made: Made, into: Path, kind: str) -> None:
    archive = made(KINDS[kind](FILES))
    (into / "a").mkdir()
    mine = into / "a" / "one.txt"
    for content in (b"not the archive's", b"ONE"):
        mine.write_bytes(content)
        with pytest.raises(BadInputError, match=r"one\.txt exists already with other contents than in archive"):
            unpack(archive, into, limits=LIMITS)
        assert mine.read_bytes() == content
    mine.write_bytes(b"one")
    before = mine.stat()
    (into / "a" / "notes.txt").write_text("mine")
    unpack(archive, into, limits=LIMITS)
    assert (mine.stat().st_ino, mine.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert tree(into) == {**FILES, "a/notes.txt": b"mine"}


def test_links_that_are_there_are_not_written_through(made: Made, into: Path) -> None:
    archive = made(tar(FILES))
    elsewhere = into.parent / "elsewhere"
    elsewhere.mkdir()
    (into / "a").symlink_to(elsewhere)
    with pytest.raises(BadInputError, match=r"into/a is a link to outside"):
        unpack(archive, into, limits=LIMITS)
    (into / "a").unlink()
    (into / "a").mkdir()
    (into / "a" / "one.txt").symlink_to(elsewhere / "made.txt")
    with pytest.raises(BadInputError, match="exists already"):
        unpack(archive, into, limits=LIMITS)
    assert list(elsewhere.iterdir()) == []


def test_the_folder_itself_may_be_a_link(made: Made, into: Path) -> None:
    link = into.parent / "link"
    link.symlink_to(into)
    unpack(made(tar(FILES)), link, limits=LIMITS)
    assert tree(into) == FILES


def test_a_file_in_place_of_a_folder(made: Made, into: Path) -> None:
    (into / "a").write_text("mine")
    with pytest.raises(RunFolderError, match="cannot write"):
        unpack(made(tar(FILES)), into, limits=LIMITS)
    assert (into / "a").read_text() == "mine"


def test_killed_in_the_middle_and_done_again(made: Made, into: Path) -> None:
    """SIGKILL after some files: each file is whole or not there, and the same again brings the rest."""
    files = {f"a/{place:03}.bin": bytes([place]) * 50_000 for place in range(60)}
    archive = made(tar(files))
    script = f"""
        import os, signal
        from pathlib import Path
        from subcam.runtime import files
        from subcam.download.archives import Limits, unpack
        left = [20]
        def dies():
            left[0] -= 1
            if not left[0]:
                # in the middle of the next file
                open(Path({str(into)!r}) / "a" / ".020.bin.partial", "wb").write(b"half")
                os.kill(os.getpid(), signal.SIGKILL)
        unpack(Path({str(archive)!r}), Path({str(into)!r}), limits=Limits(members=99, bytes=10**8), on_file=dies)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=60)
    assert ended.returncode == -signal.SIGKILL
    there = {name: content for name, content in tree(into).items() if "partial" not in name}
    assert len(there) == 20
    assert all(files[name] == content for name, content in there.items())
    unpack(archive, into, limits=Limits(members=99, bytes=10**8))
    assert tree(into) == files
