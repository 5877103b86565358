"""What a training can resume from after its files were damaged: the newest checkpoint that is whole, or none."""

import errno
import os
import random
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from subcam.errors import CheckpointError, RunFolderError, SubcamError
from subcam.runtime.run_folder import Stage
from subcam.training import checkpoint
from subcam.training.checkpoint import TrainingCheckpoint, TrainingLog

ROWS = [{"step": 3, "loss": 0.5}]


class Training:
    """A network and its optimiser, whose state is settled by how many steps it did."""

    def __init__(self, folder: Path, *, width: int = 64, steps: int = 0) -> None:
        torch.manual_seed(steps)
        self.network = nn.Sequential(nn.Linear(width, 2), nn.BatchNorm1d(2))
        self.optimiser = torch.optim.Adam(self.network.parameters())
        if steps:
            self.network(torch.randn(4, width)).square().sum().backward()
            self.optimiser.step()
        self.log = TrainingLog(folder)
        self.log.rows = list(ROWS[:steps])
        self.checkpoint = TrainingCheckpoint(
            folder, self.network, {"optimiser": self.optimiser}, self.log, least_seconds=0
        )

    @property
    def state(self) -> list[Tensor]:
        moments = [entry["exp_avg"] for entry in self.optimiser.state_dict()["state"].values()]
        return [*self.network.state_dict().values(), *moments]

    def equals(self, other: "Training") -> bool:
        pairs = zip(self.state, other.state, strict=True)
        return self.log.rows == other.log.rows and all(torch.equal(mine, theirs) for mine, theirs in pairs)


@pytest.fixture
def written(tmp_path: Path) -> list[Training]:
    """A folder with checkpoints after steps 1 and 2, and the trainings that wrote them."""
    trainings = [Training(tmp_path, steps=steps) for steps in (1, 2)]
    for steps, training in enumerate(trainings, start=1):
        training.checkpoint.save(next_step=steps)
    return trainings


def flip(path: Path, *, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << (at % 8)
    path.write_bytes(content)


def in_weights(path: Path) -> int:
    """A place inside a tensor's bytes: the first file in the archive that is large."""
    return path.read_bytes().index(b"data/0") + 400


def test_the_last_two_are_kept_and_the_newer_is_taken_up(written: list[Training], tmp_path: Path) -> None:
    found = Training(tmp_path)
    assert found.checkpoint.restore() == 2
    assert found.equals(written[1])
    found.checkpoint.save(next_step=3)
    steps = [torch.load(path, weights_only=True)["next_step"] for path in sorted(tmp_path.glob("*.pt"))]
    assert steps == [2, 3]  # checkpoint-previous.pt, checkpoint.pt
    Stage(name="trained", key="", path=tmp_path).drop_checkpoints()
    assert [path.name for path in tmp_path.iterdir()] == ["training.csv"]


def test_without_a_checkpoint_it_starts_at_the_beginning(tmp_path: Path) -> None:
    assert Training(tmp_path).checkpoint.restore() == 0


def test_a_flipped_bit_is_seen(written: list[Training], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    flip(path, at=in_weights(path))
    silent = torch.load(path, weights_only=True)
    assert silent["next_step"] == 2, "torch reads it as if nothing were wrong, or this test shows nothing"
    found = Training(tmp_path)
    assert found.checkpoint.restore() == 1
    assert found.equals(written[0])


def test_any_flipped_bit_costs_at_most_one_interval(written: list[Training], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(60):
        path.write_bytes(whole)
        flip(path, at=rng.randrange(len(whole)))
        found = Training(tmp_path)
        assert found.equals(written[found.checkpoint.restore() - 1])


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "shape", "missing", "hostile"])
def test_a_damaged_one_is_said_and_the_one_before_is_taken_up(
    written: list[Training], tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    path, sign = tmp_path / "checkpoint.pt", tmp_path / "was-here"
    whole = path.read_bytes()
    if damage == "shape":
        wide = Training(tmp_path, width=65, steps=2).checkpoint
        wide.path, wide.previous = path, tmp_path / "elsewhere"
        wide.save(next_step=9)
    elif damage == "missing":
        path.unlink()  # a kill between the two renamings of a save
    elif damage == "hostile":
        torch.save({"network": Trap(sign), "next_step": 9}, path)
    else:
        path.write_bytes({"cut": whole[:-50], "empty": b"", "other": b"no checkpoint at all"}[damage])
    found = Training(tmp_path)
    assert found.checkpoint.restore() == 1
    assert found.equals(written[0])
    said = capsys.readouterr().out.replace("\n", "")
    assert ("is damaged" in said) == (damage != "missing")
    assert damage == "missing" or f"{path} is damaged (" in said
    assert damage == "missing" or "going on from the checkpoint before it, step 1" in said
    assert not sign.exists()


class Trap:
    """A pickle that makes a folder when it is opened carelessly."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.sign),)


def test_where_both_are_damaged_both_are_named_and_kept(written: list[Training], tmp_path: Path) -> None:
    newer, older = tmp_path / "checkpoint.pt", tmp_path / "checkpoint-previous.pt"
    newer.write_bytes(b"")
    flip(older, at=in_weights(older))
    damaged = older.read_bytes()
    expected = f"{newer} and {older} cannot be resumed from (BadZipFile, BadZipFile); move them away to train anew"
    with pytest.raises(CheckpointError) as caught:
        Training(tmp_path).checkpoint.restore()
    assert str(caught.value) == expected
    assert (newer.read_bytes(), older.read_bytes()) == (b"", damaged)
    for path in (newer, older):
        path.unlink()
    assert Training(tmp_path).checkpoint.restore() == 0


@pytest.mark.parametrize("call", [1, 2])
def test_a_full_disk_costs_neither_of_the_two(
    written: list[Training], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """Call 1 is the flush before the older file makes room; call 2 the one after it, on a system that lies."""
    calls: list[int] = []

    def full(_: int) -> None:
        calls.append(1)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RunFolderError, match=r"no space left while writing .*checkpoint\.pt; free some"):
            Training(tmp_path, steps=2).checkpoint.save(next_step=3)
    found = Training(tmp_path)
    assert found.checkpoint.restore() == 2
    assert found.equals(written[1])


@pytest.mark.parametrize("where", ["weight", "running statistic"])
def test_what_is_not_finite_is_never_written(written: list[Training], tmp_path: Path, where: str) -> None:
    training = Training(tmp_path, steps=2)
    norm = training.network[1]
    with torch.no_grad():
        (norm.weight if where == "weight" else norm.running_var)[0] = torch.inf
    with pytest.raises(SubcamError, match=r"not finite after step 3 in .*; the last good checkpoint is kept\. Try"):
        training.checkpoint.save(next_step=3)
    found = Training(tmp_path)
    assert found.checkpoint.restore() == 2
    assert found.equals(written[1])


def test_writing_takes_a_small_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that takes 10 s to write is written every 200 s at most, whatever the settings ask for."""
    training = Training(tmp_path)
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    save = checkpoint.torch.save

    def slow_save(*arguments: object) -> None:
        clock[0] += 10
        save(*arguments)

    monkeypatch.setattr(checkpoint.torch, "save", slow_save)
    training.checkpoint.least_seconds = 30
    training.checkpoint.save(next_step=1)
    assert checkpoint.WRITING_SHARE == 0.05
    clock[0] = 10 + 199
    assert not training.checkpoint.due
    clock[0] = 10 + 201
    assert training.checkpoint.due
    monkeypatch.setattr(checkpoint.torch, "save", save)
    training.checkpoint.save(next_step=2)
    clock[0] += 29
    assert not training.checkpoint.due
    clock[0] += 2
    assert training.checkpoint.due
