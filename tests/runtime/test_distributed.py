"""Processes of one run: who they are by torchrun's and SLURM's environment, and how they agree; alone, nothing."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import as_ranks, by_slurm, by_torchrun
from tests.runtime.two_ranks import find_out
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from subcam.errors import SettingsError, SubcamError
from subcam.runtime import distributed, launch
from subcam.runtime.devices import join
from subcam.runtime.launch import Launched, launched, together
from subcam.runtime.machine.cores import thread_count
from subcam.runtime.machine.settings import MachineSettings
from subcam.training.sync_batch_norm import SynchronisedBatchNorm2d, synchronise_batch_norm

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
SLURM = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "8"}


@pytest.fixture(autouse=True)
def nobody_started_this(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("TORCHELASTIC", "SLURM"))]:
        monkeypatch.delenv(name)


def given(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def two_processes(out: Path, environments: list[dict[str, str]]) -> list[dict]:
    """What both found, by rank."""
    statuses, printed = as_ranks(lambda: find_out(out), environments)
    assert statuses == [0, 0], printed
    return [json.loads((out / f"found-{rank}.json").read_text("utf-8")) for rank in (0, 1)]


@pytest.mark.usefixtures("fabric")  # imports what the forks would import each
@pytest.mark.parametrize("environments", [by_torchrun, by_slurm])
def test_two_processes_agree(tmp_path: Path, environments: Callable[[], list[dict[str, str]]]) -> None:
    first, second = two_processes(tmp_path, environments())
    assert [first["rank"], second["rank"]] == [0, 1]
    assert first["fabric"] == [0, 2]
    assert second["fabric"] == [1, 2]
    assert first["device"] == second["device"] == "cpu"
    assert not first["seen"]
    assert second["seen"]
    assert first["share"] == [0, 2, 4]
    assert second["share"] == [1, 3]
    for found in (first, second):
        assert found["world_size"] == 2
        assert found["greatest"] == 10
        assert found["total"] == [[2, 1]]
        assert found["mean"] == 0.5
        assert found["of_first"] == [0.0]
        assert found["record"] == {"by": 0}
    assert first["gathered"] == {kind: [[], [[0, 1, 2]]] for kind in ("int16", "float32", "float64")}
    assert second["gathered"] == {kind: [] for kind in ("int16", "float32", "float64")}
    assert first["texts"] == ["a\nb", "ü"]
    assert second["texts"] == []
    # 0 and 3 things: their mean is 1.5, so the second's mean counts twice and the first's not at all.
    assert first["weights"] == [0.0, 0.0]
    assert second["weights"] == [2.0, 0.0]
    check_batch_norm(first["normalised"], second["normalised"])


def check_batch_norm(first: dict, second: dict) -> None:
    """Both halves together are what torch's batch norm makes of the whole batch."""
    whole = torch.arange(2 * 2 * 3 * 2 * 2, dtype=torch.float32).view(4, 3, 2, 2).sin().requires_grad_()
    layer = torch.nn.BatchNorm2d(3)
    expected = layer(whole)
    (expected * whole.detach().square()).sum().backward()
    assert whole.grad is not None
    assert layer.weight.grad is not None
    assert layer.running_mean is not None
    assert layer.running_var is not None
    for name, of_whole in (("output", expected.detach()), ("gradient", whole.grad)):
        together = torch.empty_like(whole)
        together[0::2], together[1::2] = torch.tensor(first[name]), torch.tensor(second[name])
        torch.testing.assert_close(together, of_whole, rtol=1e-4, atol=1e-5)
    weight_gradient = torch.tensor(first["weight_gradient"]) + torch.tensor(second["weight_gradient"])
    torch.testing.assert_close(weight_gradient, layer.weight.grad, rtol=1e-4, atol=1e-5)
    for found in (first, second):
        torch.testing.assert_close(torch.tensor(found["mean"]), layer.running_mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(torch.tensor(found["variance"]), layer.running_var, rtol=1e-5, atol=1e-6)


def test_alone_nothing_changes() -> None:
    assert (distributed.rank(), distributed.world_size(), distributed.is_first()) == (0, 1, True)
    assert distributed.share(range(3)) == [0, 1, 2]
    assert distributed.greatest(3) == 3
    rows = np.arange(4).reshape(2, 2)
    assert distributed.total(rows) is rows
    assert distributed.gathered(rows) == [rows]
    assert distributed.gathered_texts(["a"]) == ["a"]
    assert float(distributed.weight_of(torch.tensor(0))) == 1
    assert join(MachineSettings()) is None
    distributed.barrier()


def test_who_started_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched() is None
    given(monkeypatch, SLURM)
    assert launched() == Launched(by="slurm", devices=4, nodes=2)
    given(monkeypatch, TORCHRUN)  # torchrun within a SLURM job
    assert launched() == Launched(by="torchrun", devices=4, nodes=2)


def test_a_batch_script_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM tells it of all tasks of the job, none of which runs before srun."""
    given(monkeypatch, {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"})
    assert launched() is None
    given(monkeypatch, {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"})
    assert launched() is None


def test_unequal_machines_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, SLURM | {"SLURM_STEP_NUM_TASKS": "7"})
    with pytest.raises(SettingsError, match=r"got 7 on 2; start them with --ntasks-per-node"):
        launched()


def test_what_the_settings_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not launch.wanted(devices=1, num_nodes=1)
    assert launch.wanted(devices=2, num_nodes=1)
    with pytest.raises(SettingsError, match=r"torchrun --nnodes 2 --nproc-per-node 8"):
        launch.wanted(devices=8, num_nodes=2)
    given(monkeypatch, TORCHRUN)
    assert not launch.wanted(devices=1, num_nodes=1)
    assert not launch.wanted(devices=4, num_nodes=2)
    with pytest.raises(SettingsError, match=r"torchrun started 4 processes on each of 2 machines, .* devices 8"):
        launch.wanted(devices=8, num_nodes=1)


def test_a_program_that_starts_no_processes_is_told_how() -> None:
    with pytest.raises(SettingsError, match=r"2 devices need as many processes: .* torchrun --nproc-per-node 2"):
        join(MachineSettings(devices=2))
    with pytest.raises(SettingsError, match=r"^devices: expected a whole number from 1 to 1024, got 0"):
        MachineSettings(devices=0)


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subcam.runtime.machine.cores.available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert thread_count(0) == 8
    given(monkeypatch, TORCHRUN)
    assert thread_count(0) == 2
    assert thread_count(3) == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert thread_count(0) == 2, "torchrun sets it, not the user"


@pytest.mark.parametrize(("variable", "count"), [("1", 1), ("3,1", 3), ("20", 8), ("", 8), ("0", 8), ("many", 8)])
def test_threads_are_at_most_those_of_omp(monkeypatch: pytest.MonkeyPatch, variable: str, count: int) -> None:
    monkeypatch.setattr("subcam.runtime.machine.cores.available_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert thread_count(0) == count
    assert thread_count(5) == 5


def test_srun_gives_each_process_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subcam.runtime.machine.cores.available_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    given(monkeypatch, SLURM)
    assert thread_count(0) == 8


def test_batch_norm_that_learns_is_replaced() -> None:
    from timm.layers.norm_act import BatchNormAct2d

    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), BatchNormAct2d(4, act_layer=torch.nn.ReLU6)
    )
    before, names = list(network.parameters()), list(network.state_dict())
    network[1].eval()
    synchronise_batch_norm(network)
    assert type(network[1]) is torch.nn.BatchNorm2d  # it was frozen
    assert isinstance(network[2], SynchronisedBatchNorm2d)
    assert list(network.state_dict()) == names
    assert all(mine is theirs for mine, theirs in zip(network.parameters(), before, strict=True))
    layer = network[2]
    synchronise_batch_norm(network)
    assert network[2] is layer
    assert isinstance(layer.after[-1], torch.nn.ReLU6)
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(network.eval()(x[:, :3]), layer(network[1](network[0](x[:, :3]))))


@pytest.mark.parametrize(("ends", "status"), [({0: 2, 1: -15}, 2), ({0: 1, 1: 3, 2: -15}, 1), ({0: 1, 1: -9}, None)])
def test_the_status_is_that_of_the_process_that_failed(
    monkeypatch: pytest.MonkeyPatch, ends: dict[int, int], status: int | None
) -> None:
    """torch ends the others by SIGTERM, and they may fail for want of one that was killed."""
    failures = {rank: ProcessFailure(rank, 1, exitcode, "") for rank, exitcode in ends.items()}

    def launch_(*_config: object) -> Callable[..., None]:
        def fail(*_words: str) -> None:
            raise ChildFailedError("subcam.cli", failures)

        return fail

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", launch_)
    if status is None:
        with pytest.raises(SubcamError, match=r"^process 2 of 3 was ended by SIGKILL"):
            together(["recipes"], devices=3)
    else:
        assert together(["recipes"], devices=3) == status


def test_a_process_for_each_device_is_started_and_ends_with_its_status(capfd: pytest.CaptureFixture[str]) -> None:
    assert together(["recipes"], devices=2) == 0
    assert capfd.readouterr().out.count("\nsmall\n") == 2
    assert together(["recipes", "--none-such"], devices=2) == 2
