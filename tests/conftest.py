"""What the tests share: the golden data folder, where there is one, a tiny run, and small thread counts.

`subcam` is imported inside the fixtures: imported at the top, it would escape the run-time checks of shapes and types,
which are set up after this file is read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from subcam.machine import MachineSettings
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
    """One thread, no worker processes, a checkpoint whenever one may be written."""
    from subcam.machine import MachineSettings

    return MachineSettings(accelerator="cpu", workers=0, threads=1, checkpoint_seconds=0)


@pytest.fixture(scope="session")
def fabric(machine: MachineSettings) -> Fabric:
    from subcam.machine import build_fabric

    return build_fabric(machine)


@pytest.fixture(scope="session")
def tiny_run(machine: MachineSettings) -> RunSettings:
    """The recipe `toy` on 24 + 8 pictures of 48 pixels: rounds 0 and 1 in about two seconds."""
    from subcam.data.toy import ToySettings
    from subcam.recipes import toy

    recipe = toy()
    classify = replace(
        recipe.classify,
        epochs=2,
        batch_size=8,
        head_dropout=0.5,
        augmentation=replace(recipe.classify.augmentation, crop=48, scale_long_side=(40, 64)),
    )
    return replace(
        recipe,
        rounds=1,
        control=False,
        dataset=replace(recipe.dataset, toy=ToySettings(train_images=24, val_images=8, size=48)),
        classify=classify,
        discover=replace(recipe.discover, num_subcategories=3, restarts=2),
        cam=replace(recipe.cam, scales=(1.0, 0.5), batch_size=4),
        machine=machine,
    )


@pytest.fixture(scope="session")
def toy_folder(tiny_run: RunSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of `tiny_run` as a plain folder; not to be changed."""
    from subcam.data.toy import write_toy

    return write_toy(tmp_path_factory.mktemp("toy"), tiny_run.dataset.toy)
