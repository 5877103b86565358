"""What tests of the training loop share: a network of one number, its training, and the loop in a stage of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lightning_fabric import Fabric
from tests.training.one_number import OneNumber, training_of

from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.training.loop import Training, train


@pytest.fixture
def network() -> OneNumber:
    return OneNumber()


@pytest.fixture
def training(network: OneNumber) -> Training:
    return training_of(network)


@pytest.fixture
def run(fabric: Fabric, machine: MachineSettings) -> Callable[..., Stage]:
    def run(training: Training, folder: Path, save: Callable[[], None] = lambda: None) -> Stage:
        stage = RunFolder(path=folder).stage("train")
        train(training, stage=stage, fabric=fabric, machine=machine, save=save)
        return stage

    return run
