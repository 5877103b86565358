"""What goes wrong around a run, at each of its stages: one line says so, and the same command goes on to the end."""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import NoSmallDisk, at_once, mount

from subcam import cli, pipeline
from subcam.data.batches.training import TrainingImages
from subcam.errors import BadInputError, RunFolderError, SubcamError
from subcam.runtime import failures
from subcam.runtime.files import RECORD_FILE
from subcam.runtime.run_folder import Stage
from subcam.runtime.signals import Stopped, listening
from subcam.settings import RunSettings

KINDS = (".npz", ".npy", ".png", ".safetensors", ".csv")
"""Files with results in them; those of TensorBoard hold times."""


STAGES = (
    "round0-classify",
    "round0-cam",
    "round0-evaluate-val",
    "round1-discover",
    "round1-classify",
    "round1-cam",
    "round1-crf",
    "round1-affinity",
    "round1-walk",
    "round1-masks",
    "round1-evaluate-masks-val",
    "round1-segment",
    "round1-segment-predict",
    "round1-segment-evaluate-val",
)


@pytest.fixture(scope="module")
def short_run(tiny_run: RunSettings) -> RunSettings:
    """Every kind of stage once: round 1's sub-categories, refinement, a segmentation network and its masks."""
    one_epoch = replace(tiny_run.classify, epochs=1)
    crop = replace(tiny_run.classify.augmentation, crop=80, scale_long_side=(80, 96))
    return replace(
        tiny_run,
        classify=one_epoch,
        cam=replace(tiny_run.cam, scales=(1.0,)),
        refine=replace(
            tiny_run.refine,
            rounds="last",
            affinity=replace(tiny_run.refine.affinity, epochs=1, batch_size=8, augmentation=crop),
        ),
        segment=replace(
            tiny_run.segment,
            train_on=("pseudo",),
            train=replace(tiny_run.segment.train, epochs=1, batch_size=8, augmentation=tiny_run.classify.augmentation),
        ),
    )


@pytest.fixture(scope="module")
def finished(short_run: RunSettings, toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed run; not to be changed."""
    out = tmp_path_factory.mktemp("finished") / "run"
    pipeline.run(on(short_run, toy_folder), out)
    return out


@pytest.fixture(scope="module")
def whole(finished: Path) -> dict[str, bytes]:
    """The result files of an undisturbed run."""
    return results(finished)


def on(settings: RunSettings, folder: Path) -> RunSettings:
    return replace(settings, dataset=replace(settings.dataset, root=str(folder)))


def results(out: Path) -> dict[str, bytes]:
    found = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.suffix in KINDS}
    return found | {"scores": json.dumps(json.loads((out / "run.json").read_text())["refined"]).encode()}


def stages_there(out: Path) -> list[str]:
    return sorted(path.parent.name.rpartition("-")[0] for path in out.glob(f"stages/*/{RECORD_FILE}"))


def until_done(
    settings: RunSettings, out: Path, kind: type[SubcamError], *, mend: Callable[[], object] = lambda: None
) -> list[str]:
    """Run again after each error of this kind, which `mend` puts right; what the errors said."""
    said: list[str] = []
    for _ in range(40):
        try:
            pipeline.run(settings, out)
            return said
        except kind as error:
            said.append(str(error))
            mend()
    pytest.fail(f"it never ends: {said[-1]}")


# A full disk


def test_a_disk_that_is_full_again_and_again_costs_only_time(
    short_run: RunSettings,
    toy_folder: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Space runs out at the third file that each stage writes, or its last where it has fewer."""
    really_replace, settings = Path.replace, on(short_run, toy_folder)
    failed_in: list[str] = []
    written: list[str] = []

    def replace_file(self: Path, target: Path) -> Path:
        stage = next((part for part in target.parts if part.rpartition("-")[0] in STAGES), "run")
        written.append(stage)
        if stage not in failed_in and (written.count(stage) == 3 or target.name in (RECORD_FILE, "run.json")):
            failed_in.append(stage)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return really_replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_file)
    said = until_done(settings, tmp_path, RunFolderError)
    for words in said:
        assert "no space left while writing" in words
        assert "run the same command again, which resumes" in words
    assert {stage.rpartition("-")[0] for stage in failed_in} >= set(STAGES)
    assert results(tmp_path) == whole
    assert not list(tmp_path.rglob("*.partial"))


COMMAND = """
    run toy --rounds 0 --no-control --refine.rounds none --segment.train-on --no-report
    --dataset.toy.train-images 16 --dataset.toy.val-images 4 --dataset.toy.size 48
    --classify.epochs 2 --classify.batch-size 8 --cam.scales 1
    --classify.augmentation.crop 48 --classify.augmentation.scale-long-side 40 64
    --machine.workers 0 --machine.threads 1 --machine.accelerator cpu --machine.checkpoint-seconds 0
"""


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A file system in memory that is too small three times over, in a name space of its own."""
    disk, log, unable = tmp_path / "disk", tmp_path / "log", 5
    disk.mkdir()
    words, statuses = [*COMMAND.split(), "--out", str(disk / "run")], tmp_path / "statuses"

    def work() -> None:
        with log.open("w", buffering=1, encoding="utf-8") as sys.stderr, statuses.open("w", buffering=1) as ended:
            for size in ("100k", "2m", "5m", "64m"):
                try:
                    mount(str(disk), size, again=size != "100k")
                except (NoSmallDisk, OSError):
                    os._exit(unable)
                ended.write(f"{cli.main(words)}\n")

    (status,) = at_once(work, patience=300)
    if status == unable:
        pytest.skip("needs name spaces for users and mounts")
    said = log.read_text("utf-8")
    assert statuses.read_text().split() == ["2", "2", "2", "0"], said[-3000:]
    assert said.count("error: no space left") == 3
    assert "Traceback" not in said


# A data folder that vanishes


def test_a_data_folder_that_vanishes_is_said_at_every_stage_that_reads_it(
    short_run: RunSettings,
    toy_folder: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is gone (unmounted, say) when a stage begins, and back for the next attempt."""
    data, away = tmp_path / "data", tmp_path / "away"
    shutil.copytree(toy_folder, data)
    settings, begun, said_in = on(short_run, data), [], []
    really_done = Stage.done.fget
    assert really_done is not None

    def done(stage: Stage) -> bool:
        is_done = really_done(stage)
        if not is_done and stage.name not in begun and data.exists():
            begun.append(stage.name)
            data.rename(away)
        return is_done

    monkeypatch.setattr(Stage, "done", property(done))

    def back() -> None:
        said_in.append(begun[-1])
        away.rename(data)

    said = until_done(settings, tmp_path / "run", BadInputError, mend=back)
    for words in said:
        assert words.startswith(f"{data}/")
        assert words.endswith(": no such file; restore it or take its name off the list")
    reads = {"round0-classify", "round0-cam", "round1-discover", "round1-crf", "round1-affinity", "round1-walk"}
    assert set(said_in) >= reads | {"round1-masks", "round1-segment", "round1-segment-predict"}
    assert results(tmp_path / "run") == whole


def test_a_folder_that_is_gone_at_the_start_is_said(short_run: RunSettings, tmp_path: Path) -> None:
    with pytest.raises(SubcamError, match=r"nowhere is no folder; --data takes"):
        pipeline.run(on(short_run, tmp_path / "nowhere"), tmp_path / "run")


# A file of a finished stage that was damaged


@pytest.mark.parametrize("suffix", [".npz", ".png"])
def test_a_damaged_file_of_a_finished_stage_says_what_to_take_away(
    short_run: RunSettings, toy_folder: Path, finished: Path, whole: dict[str, bytes], tmp_path: Path, suffix: str
) -> None:
    """Followed to the letter, the words lead to the same end."""
    settings, out = on(short_run, toy_folder), tmp_path / "run"
    shutil.copytree(finished, out)
    before, after = {".npz": ("round1-cam", "round1-crf"), ".png": ("round1-masks", "round1-segment")}[suffix]
    (stage,) = out.glob(f"stages/{before}-*")
    damaged = next(path for path in sorted(stage.rglob(f"*{suffix}")) if "train" in path.name)
    damaged.write_bytes(damaged.read_bytes()[:40])
    for later in out.glob(f"stages/{after}-[0-9a-f]*"):
        shutil.rmtree(later)
    with pytest.raises(BadInputError) as caught:
        pipeline.run(settings, out)
    assert str(damaged) in str(caught.value)
    if suffix == ".npz":
        assert str(caught.value).endswith(
            f"move it away and run again (with {stage / RECORD_FILE}, which says that its stage is done)"
        )
    damaged.unlink()
    (stage / RECORD_FILE).unlink()
    pipeline.run(settings, out)
    assert results(out) == whole


# A scheduler that wants its machine back


SIGNALLED = ("round0-cam", "round1-crf", "round1-walk", "round1-masks", "round1-segment-predict")


def test_a_signal_in_any_stage_ends_it_and_the_same_command_goes_on(
    short_run: RunSettings,
    toy_folder: Path,
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It comes as the second file of the stage is written, from whatever thread; trainings are in `training`."""
    settings, written, really_replace = on(short_run, toy_folder), [], Path.replace

    def replace_file(self: Path, target: Path) -> Path:
        written.extend(name for name in SIGNALLED if any(part.rpartition("-")[0] == name for part in target.parts))
        if written.count(name) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return really_replace(self, target)

    def stopped() -> None:
        with listening():
            pipeline.run(settings, tmp_path)

    monkeypatch.setattr(Path, "replace", replace_file)
    for name in SIGNALLED:
        with pytest.raises(Stopped) as caught:
            stopped()
        assert caught.value.exit_status == 143
        assert name not in stages_there(tmp_path)
        written.extend([name] * 99)
    pipeline.run(settings, tmp_path)
    assert results(tmp_path) == whole


def test_the_command_ends_with_the_signal_s_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets its background jobs ignore it
    try:
        for number, status in ((signal.SIGTERM, 143), (signal.SIGUSR1, 128 + signal.SIGUSR1), (signal.SIGINT, 130)):
            monkeypatch.setattr(pipeline, "run", lambda *_, number=number, **__: os.kill(os.getpid(), number))
            assert cli.main(["demo", "--out", str(tmp_path)]) == status
            assert capsys.readouterr().err == "\nstopped; the same command resumes\n"
    finally:
        signal.signal(signal.SIGINT, before)


# Processes and memory


@pytest.fixture
def forks():
    """Workers that begin as copies of this process, its patches included; from Python 3.14 on they do not."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("fork", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("forks")
def test_a_killed_worker_is_one_line_that_says_what_to_change(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, toy_folder: Path
) -> None:
    """As the system kills one when memory runs out."""
    monkeypatch.setattr(TrainingImages, "__getitem__", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    words = f"run small --data {toy_folder} --out {tmp_path} --rounds 0 --network.name tiny --network.weights none"
    machine = "--refine.rounds none --machine.workers 1 --machine.threads 1 --machine.accelerator cpu --no-report"
    assert cli.main([*words.split(), *machine.split()]) == cli.EXIT_USER
    said = capsys.readouterr().err
    assert "Traceback" not in said
    line = said.splitlines()[-1]
    assert line.startswith("error: a process that prepares images was ended by the system (DataLoader worker (pid")
    assert "lower --machine.workers (0 needs no such process) or the batch sizes" in line
    assert line.endswith("The same command resumes")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("Unable to allocate 9 TiB"), "memory ran out (Unable to allocate 9 TiB); ask for more, or lower"),
        (MemoryError(), "memory ran out (MemoryError); ask for more, or lower the batch size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"), "memory ran out (CUDA out of memory. Tried);"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"), "memory ran out ([enforce fail]"),
        (
            RuntimeError("can't start new thread"),
            "the system starts no further thread or process, or gives it no memory",
        ),
        (
            OSError(errno.ENOMEM, "Cannot allocate memory"),
            "gives it no memory ([Errno 12] Cannot allocate memory); raise",
        ),
        (
            BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
            "raise its limit (ulimit -u, -v), or lower",
        ),
        (
            RuntimeError("padded input size: (1 x 1). Kernel size can't be greater than actual input size"),
            "smaller than the network can take (padded input size",
        ),
        (OSError(errno.ENOSPC, "full"), "); free some space and run the same command again"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "ended by the system (DataLoader"),
    ],
)
def test_what_the_machine_ran_out_of_is_said(error: Exception, words: str) -> None:
    wrapped = RuntimeError("a library's own")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        said = failures.explain(one)
        assert said is not None
        assert words in said
        assert "\n" not in said
        assert "the same command" in said.lower()


def test_faults_of_ours_are_left_to_the_traceback() -> None:
    assert failures.explain(ZeroDivisionError("division by zero")) is None
    assert failures.explain(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert failures.explain(ValueError("out of memory is only a word here")) is None


def test_allocators_say_what_they_are_expected_to_say() -> None:
    """The words that `explain` looks for are those of this torch and this NumPy."""
    for allocate in (lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50)):
        said = failures.explain(error_of(allocate))
        assert said is not None
        assert said.startswith("memory ran out (")


def error_of(call: Callable[[], object]) -> Exception:
    with pytest.raises(Exception, match="allocate") as caught:
        call()
    return caught.value
