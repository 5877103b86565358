"""No pickle of a file is ever opened: hostile files where a run reads its own are refused.

That no line of the source could open one is held by `test_architecture`; that a whole run, killed and resumed
and again, opens none by `test_killed_run`; files of weights are in `networks`.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subcam import pipeline
from subcam.errors import CheckpointError, SubcamError
from subcam.settings import RunSettings
from subcam.training.checkpoint import TrainingCheckpoint
from subcam.training.loop import LOG_EVERY

ROOT = Path(__file__).resolve().parents[1]
CODE = [path for folder in ("src", "benchmarks", "examples") for path in sorted((ROOT / folder).rglob("*.py"))]


class Trap:
    """A pickle that makes a folder when it is opened carelessly."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.sign),)


def test_no_line_names_a_module_or_switch_that_opens_pickles() -> None:
    """A plain search, beside the look at the syntax tree in `test_architecture`."""
    words = ("import pickle", "import joblib", "import dill", "weights_only=False", "allow_pickle=True")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in CODE
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if any(word in line for word in words)
        or ("torch.load(" in line and "weights_only=True" not in line and "`" not in line)
    ]
    assert len(CODE) > 100
    assert found == []


@pytest.fixture(scope="module")
def finished(tiny_run: RunSettings, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    pipeline.run(settings_of(tiny_run, toy_folder), out)
    return out


def settings_of(tiny_run: RunSettings, toy_folder: Path) -> RunSettings:
    return replace(tiny_run, dataset=replace(tiny_run.dataset, root=str(toy_folder)))


@pytest.mark.parametrize(
    ("stage", "file", "redone"),
    [
        ("round0-classify", "model.safetensors", "round0-cam"),
        ("round0-cam", "maps/val-00000.npz", "round0-evaluate-val"),
        ("round1-discover", "part-00000.npy", ""),
        ("round1-discover", "clusters.npz", "round1-classify"),
    ],
)
def test_a_hostile_file_of_an_earlier_stage_is_refused(
    finished: Path, tiny_run: RunSettings, toy_folder: Path, tmp_path: Path, stage: str, file: str, redone: str
) -> None:
    """The stage that reads it does its work anew; whatever it says, nothing in the file is run."""
    out, sign = tmp_path / "run", tmp_path / "was-here"
    shutil.copytree(finished, out)
    (folder,) = out.glob(f"stages/{stage}-*")
    hostile = np.array([Trap(sign)], dtype=object)
    if file.endswith(".npz"):
        names = list(np.load(folder / file).files)
        np.savez(folder / file, **dict.fromkeys(names, hostile))
        opened = lambda: np.load(folder / file, allow_pickle=True)[names[0]]  # noqa: E731
    elif file.endswith(".npy"):
        np.save(folder / file, hostile)
        opened = lambda: np.load(folder / file, allow_pickle=True)  # noqa: E731
    else:
        torch.save({"weight": Trap(sign)}, tmp_path / "weights.pt")
        shutil.copy(tmp_path / "weights.pt", folder / file)
        opened = lambda: torch.load(tmp_path / "weights.pt", weights_only=False)  # noqa: E731
    for later in [folder / "stage.json"] if not redone else out.glob(f"stages/{redone}-*/stage.json"):
        later.unlink()
    with pytest.raises(SubcamError, match=file):
        pipeline.run(settings_of(tiny_run, toy_folder), out)
    assert not sign.exists()
    opened()
    assert sign.is_dir(), "the trap itself must work, or this test shows nothing"


def test_a_hostile_checkpoint_of_a_training_is_refused(
    tiny_run: RunSettings, toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Put in the place of the only one there is; with one before it, that is used (`training/test_checkpoint`)."""
    settings, sign = settings_of(tiny_run, toy_folder), tmp_path / "was-here"
    really_save = TrainingCheckpoint.save

    def save(self: TrainingCheckpoint, *, next_step: int) -> None:
        really_save(self, next_step=next_step)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCheckpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(settings, tmp_path / "run")
    (path,) = tmp_path.glob("run/stages/*/checkpoint.pt")
    whole = torch.load(path, weights_only=True)
    assert whole["next_step"] <= LOG_EVERY
    torch.save({**whole, "rows": Trap(sign)}, path)
    with pytest.raises(CheckpointError, match=rf"{path} cannot be resumed from \(UnpicklingError\); move it away"):
        pipeline.run(settings, tmp_path / "run")
    assert not sign.exists()
    torch.load(path, weights_only=False)
    assert sign.is_dir(), "the trap itself must work, or this test shows nothing"
