"""What the tests share: the golden data folder, where there is one, a tiny run, and small thread counts.

`subcam` is imported inside the fixtures: imported at the top, it would escape the run-time checks of shapes and types,
which are set up after this file is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from subcam.data.check import CheckedImages
    from subcam.runtime.devices import MachineSettings
    from subcam.settings import RunSettings

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

torch.set_num_threads(1)


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
    from subcam.runtime.devices import MachineSettings

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
def tiny_run(machine: MachineSettings) -> RunSettings:
    """Rounds 0 and 1 on 24 + 8 generated images of 48 pixels, with dropout: about a second."""
    from subcam.data.augmentation import AugmentationSettings
    from subcam.data.dataset import DatasetSettings
    from subcam.data.readers.toy import ToySettings
    from subcam.networks.backbones.build import NetworkSettings
    from subcam.settings import RunSettings
    from subcam.stages.cam import CamSettings
    from subcam.stages.classify import ClassifySettings
    from subcam.stages.discover import DiscoverSettings
    from subcam.training.optimiser import OptimiserSettings

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
def toy_folder(tiny_run: RunSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of `tiny_run` as a plain folder; not to be changed."""
    from subcam.data.readers.toy import write_toy

    return write_toy(tmp_path_factory.mktemp("toy"), tiny_run.dataset.toy)


@pytest.fixture(scope="session")
def toy_train(toy_folder: Path) -> CheckedImages:
    """The 24 training images of `toy_folder`."""
    from subcam.data.check import check_images
    from subcam.data.readers.folder import read_folder

    return check_images(read_folder(toy_folder, split="train"))
