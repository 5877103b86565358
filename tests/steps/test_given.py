"""Runs that begin with what another program made: from the same maps or masks the same numbers, to the last digit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import subcam
from subcam import cli
from subcam.data.images import read_indices
from subcam.data.readers.toy import CLASSES
from subcam.errors import SettingsError
from subcam.refine.scores_and_masks import mask_path
from subcam.results import read_run
from subcam.run_files.config_file import read_config


def maps_of_a_stranger(run: Path, out: Path) -> None:
    """What ten lines of numpy write of a run's maps: an array of all classes for each image."""
    record = json.loads((run / "run.json").read_text("utf-8"))
    out.mkdir()
    for path in (run / record["rounds"][0]["maps"] / "maps").iterdir():
        stored = np.load(path)
        maps = np.zeros((len(CLASSES), *stored["maps"].shape[1:]), np.float32)
        maps[stored["classes"]] = stored["maps"] / np.float32(255)
        np.save(out / f"{path.stem}.npy", maps)


def plain(scores: object) -> str:
    """As text, not-a-number equals itself."""
    return repr(scores)


def images_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


@pytest.fixture(scope="module")
def from_maps(refined_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `subcam refine --maps`, of the maps of `refined_run` as another program would write them."""
    folder = tmp_path_factory.mktemp("from-maps")
    maps_of_a_stranger(refined_run, folder / "maps")
    words = ["--config", str(refined_run / "config.toml"), "--maps", str(folder / "maps"), "--out", str(folder / "run")]
    assert cli.main(["refine", *words, "--no-report"]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def from_masks(refined_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `subcam segment --masks`, of the pseudo masks of `refined_run`, copied as a plain folder."""
    folder = tmp_path_factory.mktemp("from-masks")
    shutil.copytree(refined_run / "masks", folder / "masks")
    words = ["--config", str(refined_run / "config.toml"), "--masks", str(folder / "masks")]
    assert cli.main(["segment", *words, "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_given_maps_give_what_a_run_makes_of_them(refined_run: Path, from_maps: Path) -> None:
    own, given = read_run(refined_run).result, read_run(from_maps).result
    (maps,) = given.rounds
    assert maps.given
    scores, expected = maps.scores["val"], own.last.scores["val"]
    assert plain((scores.fixed, scores.best, scores.miou_curve)) == plain(
        (expected.fixed, expected.best, expected.miou_curve)
    )
    assert np.isnan(scores.mean_average_precision)  # nobody said how sure the classifier was
    assert plain(given.refined[0].scores) == plain(own.refined[0].scores)
    assert images_in(given.refined[0].masks.path) == images_in(own.refined[0].masks.path)
    assert images_in(from_maps / "masks") == images_in(refined_run / "masks")
    assert len(images_in(from_maps / "masks")) == 32
    assert given.segmented == ()


def test_given_masks_train_the_network_that_a_run_trains(refined_run: Path, from_masks: Path) -> None:
    own, given = read_run(refined_run).result, read_run(from_masks).result
    (network,) = given.segmented
    assert network.trained_on == "given"
    assert plain(network.scores) == plain(own.segmented[0].scores)
    weights = [run.segmented[0].model.path / "model.safetensors" for run in (own, given)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    variant = own.refined[0].variant
    assert plain(given.refined[0].scores["val"].variants["given"]) == plain(
        own.refined[0].scores["val"].variants[variant]
    )
    assert given.rounds == ()


def test_tables_and_page_speak_of_given_masks(from_masks: Path) -> None:
    summary = (from_masks / "summary.md").read_text("utf-8")
    assert "| given masks |" in summary
    assert "| the given masks themselves |" in summary
    page = (from_masks / "report" / "index.html").read_text("utf-8")
    assert "Masks of another program: masks" in page
    assert "<figcaption>plain CAM" not in page


def test_tables_speak_of_given_maps(from_maps: Path) -> None:
    assert "| given maps |" in (from_maps / "summary.md").read_text("utf-8")


@pytest.mark.thorough
def test_the_page_speaks_of_given_maps(from_maps: Path) -> None:
    assert cli.main(["report", str(from_maps)]) == 0
    page = (from_maps / "report" / "index.html").read_text("utf-8")
    assert "Response maps of another program: maps" in page
    assert "<figcaption>given maps" in page


def test_such_runs_are_evaluated_exported_and_predict(
    from_maps: Path, from_masks: Path, toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in (from_maps, from_masks):
        assert cli.main(["evaluate", "--predictions", str(run), "--truth", str(run)]) == 0
        assert "mIoU 100.0" in capsys.readouterr().out.replace("\n", " ")
    card = (subcam.hub.write_folder(from_masks, tmp_path / "hub") / "README.md").read_text("utf-8")
    assert "It learned from masks that were given" in card
    assert "masks of another program in the place of its rounds, seed 0" in card
    assert "image-level labels alone" not in card
    assert "-supervised" not in card
    assert cli.main(["predict", str(from_masks), str(toy_folder / "images"), "--out", str(tmp_path / "p")]) == 0
    capsys.readouterr()


def test_what_was_done_is_not_done_again(from_masks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.main(["run", "--config", str(from_masks / "config.toml"), "--out", str(from_masks), "--no-report"]) == 0
    said = capsys.readouterr().out
    number = len(list((from_masks / "stages").iterdir()))
    assert f"{number} of {number} stages kept from before" in said
    assert "computed anew" not in said


def test_its_file_of_settings_does_it_again_elsewhere(from_maps: Path, tmp_path: Path) -> None:
    assert cli.main(["run", "--config", str(from_maps / "config.toml"), "--out", str(tmp_path), "--no-report"]) == 0
    stages = [sorted(path.name for path in (run / "stages").iterdir()) for run in (from_maps, tmp_path)]
    assert stages[0] == stages[1]
    first, again = read_run(from_maps).result, read_run(tmp_path).result
    assert plain(again.refined[0].scores) == plain(first.refined[0].scores)


def test_other_masks_are_other_inputs(from_masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = shutil.copytree(from_masks / "masks", tmp_path / "masks")
    path = next(iter(masks.glob("train-*.png")))
    image = Image.open(path)
    changed = Image.fromarray(255 - np.asarray(image) * 0)
    path.unlink()
    changed.save(path)
    run = shutil.copytree(from_masks, tmp_path / "run")
    words = ["--config", str(run / "config.toml"), "--masks", str(masks), "--out", str(run), "--no-report"]
    assert cli.main(["segment", *words, "--segment.train.epochs", "0"]) == 0
    assert "given-masks: computed anew, because settings.folder changed" in capsys.readouterr().out.replace("\n", " ")


def test_from_python_it_is_the_same_run(from_masks: Path, toy_folder: Path, tmp_path: Path) -> None:
    """Nothing is left to compute in a folder of the command; what it holds then predicts."""
    run = shutil.copytree(from_masks, tmp_path / "run")
    before = sorted(path.name for path in (run / "stages").iterdir())
    settings = read_config(run / "config.toml").settings().with_({"given_masks.folder": ""})
    masks = from_masks.parent / "masks"
    result = subcam.segment(masks, toy_folder, out=run, settings=settings)
    assert sorted(path.name for path in (run / "stages").iterdir()) == before
    image = toy_folder / "images" / "val-00000.png"
    (prediction,) = subcam.load(run).predict(image)
    predicted = mask_path(result.segmented[0].masks.path, "masks", "val-00000")
    assert (prediction.mask == read_indices(predicted)).all()
    with pytest.raises(SettingsError, match="there is no recipe 'smal'"):
        subcam.segment(masks, toy_folder, out=run, settings="smal")
