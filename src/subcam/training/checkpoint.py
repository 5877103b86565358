"""The state of a training that is under way: what survives a kill, and the log that grows with it."""

import csv
import io
import math
import os
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from subcam.errors import CheckpointError, SubcamError
from subcam.runtime import distributed
from subcam.runtime.files import atomic_write
from subcam.runtime.progress import warn
from subcam.runtime.run_folder import CHECKPOINT, PREVIOUS_CHECKPOINT

WRITING_SHARE = 0.05
"""Share of the time that writing checkpoints may take; large models are written less often."""


class TrainingLog:
    """Rows of losses over steps: kept in the checkpoint, written as `training.csv`, shown by TensorBoard.

    Of several processes the first writes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self._board: SummaryWriter | None = None

    def add(self, *, step: int, epoch: float, rate_factor: float, losses: Mapping[str, Tensor]) -> dict[str, float]:
        """Append a row; `losses` holds "loss" and its parts.

        Raises:
            SubcamError: the loss is not finite; says what to try.
        """
        row = {"step": step, "epoch": round(epoch, 4), "rate_factor": rate_factor}
        values = torch.stack([value.detach().float() for value in losses.values()]).tolist()  # one wait for all
        row |= dict(zip(losses, values, strict=True))
        if not math.isfinite(row["loss"]):
            raise _diverged(f"the loss is {row['loss']} at step {step}", self.folder)
        self.rows.append(row)
        if not distributed.is_first():
            return row
        self._board = self._board or SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        for name in (*losses, "rate_factor"):
            self._board.add_scalar(name, row[name], step)
        return row

    def add_scores(self, scores: Mapping[str, float]) -> None:
        """Put the scores of a validation, if one was due, into the last row, also of `training.csv`."""
        if not scores:
            return
        self.rows[-1].update(scores)
        self.write()
        for name, value in scores.items():
            if self._board:
                self._board.add_scalar(name, value, self.rows[-1]["step"])

    @property
    def last(self) -> dict[str, float]:
        """The losses of the last row, and its scores if it was validated."""
        row = self.rows[-1] if self.rows else {}
        return {name: value for name, value in row.items() if name not in ("step", "epoch", "rate_factor")}

    def close(self) -> None:
        """Write `training.csv` a last time and end TensorBoard's file."""
        self.write()
        if self._board:
            self._board.close()

    def write(self) -> None:
        """Write all rows to `training.csv`; scores are empty where there was no validation."""
        if not distributed.is_first():
            return
        text = io.StringIO()
        if self.rows:
            columns = dict.fromkeys(name for row in self.rows for name in row)
            writer = csv.DictWriter(text, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        with atomic_write(self.folder / "training.csv", "w") as file:
            file.write(text.getvalue())
        if self._board:
            self._board.flush()


@runtime_checkable
class Stateful(Protocol):
    """What a checkpoint keeps the state of: networks, optimisers, averages, Fabric's precision (its loss scale)."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Take up what `state_dict` gave."""
        ...


class TrainingCheckpoint:
    """`checkpoint.pt`: all that a training needs to go on, its log and next step; and the one before it.

    The older is there for the day on which the newer is damaged: `checkpoint-previous.pt`.

    Args:
        folder: where it lies.
        network: what learns; its weights are checked before they are written.
        others: what else has a state, by name.
        log: rows of losses.
        least_seconds: time between two checkpoints.
    """

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        others: Mapping[str, Stateful],
        log: TrainingLog,
        *,
        least_seconds: float,
    ) -> None:
        self.path = folder / CHECKPOINT
        self.previous = folder / PREVIOUS_CHECKPOINT
        self.network = network
        self.parts: dict[str, Stateful] = {"network": network, **others}
        self.log = log
        self.wait = self.least_seconds = least_seconds
        self._written = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether enough time has passed since the last one."""
        return time.monotonic() - self._written > self.wait

    def save(self, *, next_step: int) -> None:
        """Write the state after `next_step` steps, which is that of all processes; the first does.

        Raises:
            SubcamError: a weight or running statistic is not finite; the checkpoint before stays.
        """
        if not distributed.is_first():
            return
        if not torch.stack([torch.isfinite(tensor).all() for tensor in self.network.state_dict().values()]).all():
            raise _diverged(f"weights are not finite after step {next_step}", self.path.parent)
        started = time.monotonic()
        state = {name: part.state_dict() for name, part in self.parts.items()}
        with atomic_write(self.path) as file:
            torch.save(state | {"rows": self.log.rows, "next_step": next_step}, file)
            # On the disk before its place is cleared: a full one keeps both of the older.
            file.flush()
            os.fsync(file.fileno())
            if self.path.is_file():
                self.path.replace(self.previous)
        self.log.write()
        self._written = time.monotonic()
        self.wait = max(self.least_seconds, (self._written - started) / WRITING_SHARE)

    def restore(self) -> int:
        """Take up the newest state that is whole; returns the step to go on with, 0 at the start.

        Raises:
            CheckpointError: there are files and all are damaged; says that moving them away starts the training anew.
        """
        failed: dict[Path, Exception] = {}
        for path in (self.path, self.previous):
            if not path.is_file():
                continue
            try:
                step = self._take_up(path)
            except Exception as error:
                failed[path] = error
                continue
            for damaged, reason in failed.items():
                warn(f"{damaged} is damaged ({_kind(reason)}): going on from the checkpoint before it, step {step}")
            return step
        if not failed:
            return 0
        files = " and ".join(map(str, failed))
        # The errors' own words would advise to load the file unsafely.
        raise CheckpointError(
            f"{files} cannot be resumed from ({', '.join(map(_kind, failed.values()))}); "
            f"move {'it' if len(failed) == 1 else 'them'} away to train anew"
        ) from next(iter(failed.values()))

    def _take_up(self, path: Path) -> int:
        # torch itself reads a file with a flipped bit as if nothing were wrong, though the file has checksums.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        self.log.rows = list(state["rows"])
        return int(state["next_step"])


def _kind(error: Exception) -> str:
    return type(error).__name__


def _diverged(what: str, folder: Path) -> SubcamError:
    return SubcamError(
        f"{what} in {folder}; the last good checkpoint is kept. Try a lower learning rate, gradient clipping"
        " (optimiser.gradient-clip 1) or precision 32-true"
    )
