"""A disk that is really full, memory that really runs out, threads that really do not start: one line, nothing half."""

import ctypes
import os
import re
import resource
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tests.data.readers.made_coco import image
from tests.forked import DONE, NoSmallDisk, at_once, mount
from tests.report.made_run import a_run

from subcam import cli
from subcam.audit.dataset import audit_dataset
from subcam.data.decoded_cache import DecodedImages
from subcam.data.images import read_image
from subcam.data.settings import DatasetSettings
from subcam.errors import RunFolderError
from subcam.report.audit_page import write_audit
from subcam.report.figures.files import save_figure
from subcam.report.tables.formats import write_table
from subcam.report.tables.tables import tables_of
from subcam.runtime.machine.malloc import M_MMAP_MAX
from subcam.runtime.resources import versions

MIB = 1 << 20
M_MMAP_THRESHOLD = -3
"""glibc's number of this setting (malloc.h)."""

# A full disk


def noise(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(path)
    return path


def decoded(disk: Path, beside: Path) -> Callable[[], object]:
    return lambda: DecodedImages(folder=disk / "decoded").read(noise(beside / "a.png"))


def figure(disk: Path, beside: Path) -> Callable[[], object]:
    mpl.use("agg")
    drawn = Figure((3, 3))
    drawn.figimage(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    return lambda: save_figure(drawn, disk / "figures", "one")


def tables(disk: Path, beside: Path) -> Callable[[], object]:
    of_run = tables_of(a_run(beside, tuple(f"class {number}" for number in range(200))))
    return lambda: [write_table(table, disk / "tables" / f"{copy}") for copy in range(30) for table in of_run]


def audit(disk: Path, beside: Path) -> Callable[[], object]:
    for number in range(3):
        noise(beside / f"{number}.png")
    (beside / "labels.csv").write_text("image,labels\n" + "".join(f"{number}.png,cat\n" for number in range(3)))
    found = audit_dataset(DatasetSettings(root=str(beside)), work_folder=beside / "work", workers=1)
    return lambda: write_audit(found, disk / "audit")


@pytest.mark.parametrize("make", [decoded, figure, tables, audit], ids=lambda make: make.__name__)
def test_a_disk_that_is_full(make: Callable[[Path, Path], Callable[[], object]], tmp_path: Path) -> None:
    """Said with what to do; what stands there is whole; with room the same work ends well."""
    disk, beside = tmp_path / "disk", tmp_path / "beside"
    disk.mkdir()
    beside.mkdir()
    write = make(disk, beside)
    unable = 5

    def work() -> None:
        try:
            mount(str(disk), "32k")
        except (NoSmallDisk, OSError):
            os._exit(unable)
        with pytest.raises(RunFolderError, match=r"no space left while writing .*; free some space and run the same"):
            write()
        assert not [path for path in disk.rglob("*") if path.name.endswith(".partial")]
        mount(str(disk), "64m", again=True)
        write()
        assert not list(disk.rglob("*.partial"))

    (ended,) = at_once(work)
    if ended == unable:
        pytest.skip("needs name spaces for users and mounts")
    assert ended == DONE


def test_the_decoded_image_is_right_after_a_full_disk(tmp_path: Path) -> None:
    """A file that was cut off would be read as an image ever after."""
    path = noise(tmp_path / "a.png")
    kept = DecodedImages(folder=tmp_path / "decoded")

    def work() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        with pytest.raises(RunFolderError, match=r"cannot write .* \(File too large\)"):
            kept.read(path)
        assert not [found for found in (tmp_path / "decoded").rglob("*") if found.is_file()]
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        np.testing.assert_array_equal(kept.read(path), read_image(path))

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        assert at_once(work) == [DONE]
    finally:
        signal.signal(signal.SIGXFSZ, before)


# Memory and threads


def room(mib: float) -> None:
    """Let this process take so much more of address space, and no more; nothing large comes out of what it has kept."""
    mallopt = ctypes.CDLL(None).mallopt
    assert mallopt(M_MMAP_MAX, 65536) == mallopt(M_MMAP_THRESHOLD, MIB) == 1
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + int(mib * MIB)
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))


@pytest.fixture
def one_is_huge(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for number in range(3):
        image(root / f"{number}.png", (60, 90))
    Image.new("RGB", (6000, 4000), (200, 30, 10)).save(root / "huge.jpg")
    rows = [*(f"{number}.png,cat" for number in range(3)), "huge.jpg,dog"]
    (root / "labels.csv").write_text("\n".join(["image,labels", *rows]))
    return root


needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs /proc")


@needs_proc
def test_memory_that_runs_out_names_the_image(
    one_is_huge: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of a command, in a process with 40 MiB more than it has: the image takes 69."""
    out = tmp_path / "out"
    words = ["data", "check", str(one_is_huge), "--workers", "1", "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("subcam.cli.logging.basicConfig", lambda **_: None)

        def work() -> None:
            room(40)
            assert cli.main(words) == cli.EXIT_USER

        versions()  # and all that is imported late
        assert at_once(work) == [DONE]
    said = capfd.readouterr().err.strip().splitlines()
    name = re.escape(str(one_is_huge / "huge.jpg"))
    assert re.match(rf"error: memory ran out \(while {name} was (decoded|read)\); ask for more", said[-1])
    assert "Traceback" not in "".join(said)
    assert not out.exists()


@needs_proc
def test_threads_that_do_not_start(one_is_huge: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The stack of each takes 64 MiB of address space, and there are 4."""
    (one_is_huge / "huge.jpg").unlink()
    audit_dataset(DatasetSettings(root=str(one_is_huge)), work_folder=one_is_huge / "work", workers=1)

    def work() -> None:
        threading.stack_size(64 * MIB)  # none of the stacks that glibc keeps is so large
        room(4)
        assert cli.main(["data", "check", str(one_is_huge), "--workers", "4"]) == cli.EXIT_USER

    assert at_once(work) == [DONE]
    said = capfd.readouterr().err.strip().splitlines()
    assert said[-1].startswith("error: the system starts no further thread or process, or gives it no memory")
    assert "Traceback" not in "".join(said)
