"""`subcam data shards` and a run on what it wrote: the same as on the folder."""

import json
from pathlib import Path

import pytest

from subcam import cli
from subcam.data.dataset import open_dataset
from subcam.data.readers.folder import read_folder
from subcam.data.readers.shards import read_shards
from subcam.data.settings import DatasetSettings


def test_a_run_on_shards_has_the_images_of_the_folder(
    toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "shards"
    assert cli.main(["data", "shards", str(toy_folder), "--out", str(root), "--images-each", "10"]) == cli.EXIT_OK
    said = capsys.readouterr().out
    assert "train: 24 images in 3 shards\nval: 8 images in 1 shards\n" in said
    assert f"ready: subcam run RECIPE --data {root}" in said
    assert len(read_shards(root)) == len(read_folder(toy_folder))
    # Stages are named after this digest and the settings: equal digests, equal stages.
    datasets = [
        open_dataset(DatasetSettings(root=str(data)), work_folder=tmp_path / "work") for data in (toy_folder, root)
    ]
    for folder, shards in zip(*(dataset.all for dataset in datasets), strict=True):
        assert folder.digest == shards.digest
        assert folder.sizes == shards.sizes
    out = tmp_path / "run"
    words = ["run", "small", "--data", str(root), "--out", str(out), "--report", *SHORT]
    assert cli.main(words) == cli.EXIT_OK, capsys.readouterr().err
    assert json.loads((out / "run.json").read_text())["rounds"][0]["scores"]
    capsys.readouterr()
    assert cli.main(["data", "check", str(root)]) == cli.EXIT_OK
    assert capsys.readouterr().out.startswith(f"{root}: read as layout shards: the tar files. 24 training images")


SHORT = (
    *("--rounds", "0", "--network.name", "tiny", "--network.weights", "none"),
    *(
        "--classify.epochs",
        "1",
        "--classify.least-steps",
        "0",
        "--classify.augmentation.crop",
        "48",
        "--cam.scales",
        "1",
    ),
    *("--refine.rounds", "none", "--segment.train-on"),
    *("--machine.accelerator", "cpu", "--machine.workers", "0", "--machine.threads", "1"),
)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{folder}", "--out", "{folder}"], "expected another folder for the shards"),
        (["{folder}", "--data", "toy", "--out", "x"], "expected one folder, got"),
        (
            ["{folder}", "--out", "x", "--images-each", "0"],
            "--images-each: expected a whole number from 1 to 1000000, got 0",
        ),
        (["--out", "x"], "no images were named"),
    ],
)
def test_mistakes(toy_folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    words = [word.format(folder=toy_folder) for word in words]
    assert cli.main(["data", "shards", *words]) == cli.EXIT_USER
    assert message in capsys.readouterr().err
