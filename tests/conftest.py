"""What the tests share: thread counts, workers, the golden data folder where there is one, and tiny runs made once.

`subcam` is imported inside the fixtures: imported at the top, it would escape the run-time checks of shapes and types,
which are set up after this file is read.
"""

from __future__ import annotations

import functools
import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typecheck  # noqa: F401 - before subcam is imported
from filelock import FileLock

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from playwright.sync_api import Browser

    from subcam.data.check import CheckedImages
    from subcam.runtime.devices import Device
    from subcam.runtime.machine.settings import MachineSettings
    from subcam.settings import RunSettings

# Before torch and numba are imported here, in the workers, or in the commands that tests start: one thread each, so
# that workers do not fight for cores and sums are taken in one order.
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

# Where Python keeps no bytecode, each command that a test starts compiles torch and all else anew: 10 of 13 seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
MOST_WORKERS = 4
"""Each takes about 1.5 GiB."""

WORKERS_FROM = 25
"""Files of tests from which workers are worth the seconds that it takes to start them."""

FIRST = ("test_machine_limits.py", "test_two_processes.py", "test_killed_run.py", "test_site.py")
"""Files whose tests begin: that of memory which runs out, while the process has kept little; then the longest, as at
the end one worker would take over half of them, and wait for what the other makes."""

MEMORY_DISK = Path("/dev/shm")
LEAST_FREE = 2 << 30

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
)

Once = Callable[[str, Callable[[Path], object]], Path]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are cores, where many files are to be run; none for a few, which start faster so."""
    paths = [Path(argument.partition("::")[0]) for argument in config.args]
    files = sum(len(list(path.rglob("test_*.py"))) if path.is_dir() else 1 for path in paths)
    if files < WORKERS_FROM or config.option.keyword or config.option.collectonly:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, MOST_WORKERS)
    return workers if workers > 1 else 0


def pytest_configure(config: pytest.Config) -> None:
    """Put the folders of tests on a disk in memory, where there is one with room.

    Each file that subcam writes is flushed to the disk, and a disk may take seven milliseconds for each of thousands.
    """
    flushed_at_once = os.access(MEMORY_DISK, os.W_OK) and shutil.disk_usage(MEMORY_DISK).free > LEAST_FREE
    if flushed_at_once and not config.option.basetemp:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_DISK))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Some first; and leave out the thorough tests unless -m speaks of them."""
    items.sort(key=lambda item: FIRST.index(item.path.name) if item.path.name in FIRST else len(FIRST))
    if "thorough" in config.option.markexpr:
        return
    thorough = [item for item in items if item.get_closest_marker("thorough")]
    if thorough:
        config.hook.pytest_deselected(items=thorough)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]


@functools.cache
def begin_training() -> None:
    """Let torch decide for all of this process that there is no device, for which it would start threads.

    It decides at the first gradient. Where that is one of a compiled network it takes there to be a GPU, and then no
    fork of this process can train.
    """
    import torch

    torch.ones(1, requires_grad=True).sum().backward()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before the first test of a process that may train."""
    if "torch" in sys.modules:
        begin_training()


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end: the collector of garbage need not look at its million objects again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    gc.unfreeze()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, make)`: a folder that `make(folder)` fills, in the worker that needs it first; not to be changed."""
    base = tmp_path_factory.getbasetemp()
    shared_by_workers = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    shared_by_workers.mkdir(exist_ok=True)

    def once(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = shared_by_workers / name, shared_by_workers / f"{name}.made"
        with FileLock(shared_by_workers / f"{name}.lock"):
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                make(folder)
                made.touch()
        return folder

    return once


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data folder; the test is skipped where it is absent (a stranger's clone)."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the shared data folder at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    return shared / "data" / "golden"


@pytest.fixture(scope="session")
def voc_animals(shared: Path) -> Path:
    return shared / "data" / "voc-animals"


@pytest.fixture(scope="session")
def machine() -> MachineSettings:
    """One thread, no worker processes, float32, a checkpoint whenever one may be written."""
    from subcam.runtime.machine.settings import MachineSettings

    return MachineSettings(
        accelerator="cpu",
        precision="32-true",
        inference_precision="32-true",
        workers=0,
        threads=1,
        checkpoint_seconds=0,
    )


@pytest.fixture(scope="session")
def fabric(machine: MachineSettings) -> Fabric:
    from subcam.runtime.devices import build_fabric

    return build_fabric(machine, precision=machine.precision)


@pytest.fixture(scope="session")
def device(machine: MachineSettings, fabric: Fabric) -> Device:
    """The CPU, as a stage is given it."""
    from subcam.runtime.devices import Device

    return Device(precision=machine.precision, machine=machine, fabric=fabric)


@pytest.fixture(scope="session")
def tiny_run(machine: MachineSettings) -> RunSettings:
    """Rounds 0 and 1 on 24 + 8 generated images of 48 pixels, with dropout: about a second."""
    from subcam.cam.settings import CamSettings
    from subcam.data.settings import AugmentationSettings, DatasetSettings, ToySettings
    from subcam.networks.settings import NetworkSettings
    from subcam.settings import RunSettings
    from subcam.stages.settings.classify import ClassifySettings
    from subcam.stages.settings.discover import DiscoverSettings
    from subcam.training.settings import OptimiserSettings

    return RunSettings(
        rounds=1,
        dataset=DatasetSettings(root="toy", toy=ToySettings(train_images=24, val_images=8, size=48)),
        network=NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False),
        classify=ClassifySettings(
            epochs=2,
            batch_size=8,
            head_dropout=0.5,
            augmentation=AugmentationSettings(crop=48, scale_long_side=(40, 64)),
            optimiser=OptimiserSettings(learning_rate=3e-3, head_multiplier=1.0),
        ),
        discover=DiscoverSettings(num_subcategories=3, restarts=2),
        cam=CamSettings(scales=(1.0, 0.5), subcategory_maps=True, batch_size=3),
        machine=machine,
    )


@pytest.fixture(scope="session")
def toy_folder(tiny_run: RunSettings, once: Once) -> Path:
    """The images of `tiny_run` as a plain folder; not to be changed."""
    from subcam.data.readers.toy import write_toy

    return once("toy", lambda folder: write_toy(folder, tiny_run.dataset.toy))


@pytest.fixture(scope="session")
def toy_train(toy_folder: Path) -> CheckedImages:
    """The 24 training images of `toy_folder`."""
    from subcam.data.check import check_images
    from subcam.data.readers.folder import read_folder

    return check_images(read_folder(toy_folder, split="train"))


@pytest.fixture(scope="session")
def refined_settings(tiny_run: RunSettings, toy_folder: Path) -> RunSettings:
    """Round 0 on `toy_folder`, refined, and segmentation networks on its pseudo masks and on ground truth."""
    crop = replace(tiny_run.classify.augmentation, crop=80, scale_long_side=(80, 96))
    return tiny_run.with_(
        {
            "rounds": 0,
            "dataset.root": str(toy_folder),
            "classify.epochs": 1,
            "cam.scales": (1.0,),
            "cam.subcategory_maps": False,
            "refine.rounds": "last",
            "refine.affinity.epochs": 1,
            "refine.affinity.augmentation": crop,
            "segment.train_on": ("pseudo", "truth"),
            "segment.train.epochs": 1,
            "segment.train.augmentation": tiny_run.classify.augmentation,
        }
    )


@pytest.fixture(scope="session")
def refined_run(refined_settings: RunSettings, once: Once) -> Path:
    """The folder of a finished run of `refined_settings`; not to be changed."""
    from subcam import pipeline

    return once("refined-run", lambda folder: pipeline.run(refined_settings, folder))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, for every test that opens a page; these are skipped where it or playwright is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
        yield running
        running.close()
