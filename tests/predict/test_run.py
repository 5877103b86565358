"""`subcam predict` from words to files: resume, refusals, bad files, and the model of a run."""

import csv
import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.predict.saved_network import CLASSES, save_tiny_network
from tests.test_results import record as run_record

from subcam.cli import EXIT_OK, EXIT_USER, main
from subcam.data.images import read_image, read_indices, voc_palette, write_mask
from subcam.errors import BadInputError, CheckpointError, RunFolderError, SettingsError
from subcam.networks.segmenter import SegmentationNetwork
from subcam.predict import image_stream
from subcam.predict.find_model import find_model
from subcam.predict.folder import mask_path
from subcam.predict.run import predict
from subcam.predict.settings import InferenceSettings, PredictSettings
from subcam.predict.tiles import segment_labels
from subcam.runtime.run_folder import RunFolder

SETTINGS = PredictSettings(accelerator="cpu", precision="32-true", threads=1, inference=InferenceSettings(batch_size=2))
WORDS = ("--accelerator", "cpu", "--precision", "32-true", "--threads", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_network(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six images in two folders, one of them turned by EXIF; the current folder is above."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(1)
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    for index, name in enumerate(("a", "b", "c", "sub/a", "sub/d")):
        image = rng.integers(0, 256, (6, 8 - 2 * (index % 2), 3), dtype=np.uint8).repeat(6, 0).repeat(6, 1)
        Image.fromarray(image).save(root / f"{name}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(root / "turned.jpg", exif=exif)
    return root


def table(out: Path, name: str = "predictions.csv") -> list[dict[str, str]]:
    with (out / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def masks(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out / "masks").as_posix(): path.read_bytes() for path in (out / "masks").rglob("*.png")}


def test_in_tiles_an_image_may_be_larger_than_pillow_allows(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predict(SETTINGS, model=model, inputs=[folder / "a.png"], out=tmp_path / "one")
    assert expected.failed == ()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # a.png has 1,728, more than twice as many
    tiled = replace(SETTINGS, inference=InferenceSettings(tile=2000))
    assert predict(tiled, model=model, inputs=[folder / "a.png"], out=tmp_path / "two").failed == ()
    assert Image.MAX_IMAGE_PIXELS == 500
    whole = replace(SETTINGS, inference=InferenceSettings(tile=0))
    with pytest.raises(BadInputError, match=r"a\.png: expected at most 500 pixels"):
        predict(whole, model=model, inputs=[folder / "a.png"], out=tmp_path / "three")
    monkeypatch.undo()
    one, two = (read_indices(mask_path(tmp_path / name, "a")) for name in ("one", "two"))
    assert (one == two).all()


def test_every_image_gets_the_networks_mask(model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = predict(SETTINGS, model=model, inputs=[Path("in")], out=out)
    assert (result.predicted, result.before, result.failed) == (6, 0, ())
    network = SegmentationNetwork.load(model).eval()
    found = set()
    for name in ("a", "b", "c", "sub/a", "sub/d", "turned"):
        (path,) = folder.glob(f"{name}.*")
        image = read_image(path)
        expected = segment_labels(network, torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
        with Image.open(mask_path(out, name)) as mask:
            assert (np.asarray(mask) == expected).all()
        assert (out / "overlays" / f"{name}.jpg").is_file()
        found |= set(expected.ravel().tolist())
    assert len(found) > 1, "a network that knows one class shows nothing"
    rows = table(out)
    assert [row["mask"] for row in rows] == sorted(f"masks/{name}" for name in masks(out))
    assert {row["image"] for row in rows} == {str(path) for path in Path("in").rglob("*.*")}
    assert [row["name"] for row in table(out, "classes.csv")] == ["background", *CLASSES]
    assert not (out / "failed.csv").exists()


def test_the_command_line(model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("in/sub/a.png\nin/b.png\n")
    assert main(["predict", str(model), "--out", "listed", "--list", "list.txt", "--no-overlays", *WORDS]) == EXIT_OK
    assert set(masks(tmp_path / "listed")) == {"sub/a.png", "b.png"}
    assert not (tmp_path / "listed" / "overlays").exists()
    assert "2 images in" in capsys.readouterr().out
    words = ["predict", str(model), "in/a.png", "in/sub", "--out", "out", "--scales", "0.5", "1", "--flip", *WORDS]
    assert main(words) == EXIT_USER
    said = capsys.readouterr().err
    assert said.startswith("error: in/a.png and in/sub/a.png would both be written as a.png")
    assert not (tmp_path / "out").exists(), "said before work starts"
    assert main([*words[:2], "in/a.png", "--probabilities", *words[4:]]) == EXIT_OK
    settings = InferenceSettings(scales=(0.5, 1.0), flip=True)
    image = torch.from_numpy(read_image(folder / "a.png")).permute(2, 0, 1)[None]
    expected = segment_labels(SegmentationNetwork.load(model).eval(), image, settings=settings)[0]
    assert (np.asarray(Image.open(tmp_path / "out/masks/a.png")) == expected.numpy()).all()
    assert (tmp_path / "out/probabilities/a.npz").is_file()
    assert main(["predict", str(model), "in/a.png", "--out", "out", *WORDS]) == EXIT_USER
    assert "(scales was [0.5, 1.0] and is [1.0]; flip was True and is False)" in capsys.readouterr().err


@pytest.mark.parametrize("stopped_at", [1, 3, 5])
def test_a_prediction_that_was_cut_off_goes_on(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    predict(SETTINGS, model=model, inputs=[folder], out=whole)
    write_mask = image_stream.write_mask
    written: list[str] = []

    def cut_off(path: Path, *args: object, **kwargs: object) -> None:
        if len(written) == stopped_at:
            raise KeyboardInterrupt
        written.append(path.name)
        write_mask(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(image_stream, "write_mask", cut_off)
    with pytest.raises(KeyboardInterrupt):
        predict(SETTINGS, model=model, inputs=[folder], out=out)
    assert len(masks(out)) == stopped_at
    assert len(table(out)) <= stopped_at
    (out / "masks" / ".c.png.partial").write_bytes(b"what a kill leaves")
    with (out / "predictions.csv").open("a") as file:
        file.write('in/x.png,"masks/')
    monkeypatch.setattr(image_stream, "write_mask", write_mask)
    result = predict(SETTINGS, model=model, inputs=[folder], out=out)
    assert (result.predicted, result.before) == (6 - stopped_at, stopped_at)
    assert masks(out) == masks(whole)
    parts = ("image", "mask", "classes")
    assert [[row[part] for part in parts] for row in table(out)] == [
        [row[part] for part in parts] for row in table(whole)
    ]
    again = predict(SETTINGS, model=model, inputs=[folder], out=out)
    assert (again.predicted, again.before) == (0, 6)


def test_an_output_asked_for_later_is_made(model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    plain = PredictSettings(**{**vars(SETTINGS), "overlays": False})
    assert predict(plain, model=model, inputs=[folder / "a.png"], out=out).predicted == 1
    assert predict(SETTINGS, model=model, inputs=[folder / "a.png"], out=out).predicted == 1
    assert (out / "overlays" / "a.jpg").is_file()


def test_another_model_or_another_image_is_refused(model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(SETTINGS, model=model, inputs=[folder / "a.png"], out=out)
    before = masks(out)
    other = save_tiny_network(tmp_path / "other", seed=1)
    with pytest.raises(
        SettingsError, match=r"out holds predictions of another model or other settings \(model was \w+ and is"
    ):
        predict(SETTINGS, model=other, inputs=[folder / "b.png"], out=out)
    with pytest.raises(SettingsError, match=r"a\.png was made from .*in/a\.png, and .*sub/a\.png has the same name"):
        predict(SETTINGS, model=model, inputs=[folder / "sub" / "a.png"], out=out)
    assert masks(out) == before
    moved = shutil.copytree(model, tmp_path / "moved")
    assert predict(SETTINGS, model=moved, inputs=[folder / "a.png"], out=out).before == 1


@pytest.mark.parametrize("same_time", [True, False])
def test_the_mask_of_an_image_that_has_changed_is_made_anew(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, same_time: bool
) -> None:
    """With all that was made of it: what is not asked for this time is taken away."""
    out, image = tmp_path / "out", folder / "a.png"
    with_all = replace(SETTINGS, probabilities=True)
    predict(with_all, model=model, inputs=[folder], out=out)
    before, times = masks(out), image.stat()
    shutil.copy(folder / "sub" / "a.png", image)
    if same_time:
        os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    result = predict(replace(SETTINGS, overlays=False), model=model, inputs=[folder], out=out)
    assert (result.predicted, result.before) == (1, 5)
    assert "1 masks in" in capsys.readouterr().out
    assert masks(out)["a.png"] == before["sub/a.png"] != before["a.png"]
    assert not (out / "overlays" / "a.jpg").exists()
    assert not (out / "probabilities" / "a.npz").exists()
    classes = {row["mask"]: row["classes"] for row in table(out)}
    assert classes["masks/a.png"] == classes["masks/sub/a.png"]
    assert predict(with_all, model=model, inputs=[folder], out=out).predicted == 1
    image.unlink()
    (tmp_path / "list.txt").write_text(str(image))
    assert predict(SETTINGS, model=model, inputs=[], lists=[tmp_path / "list.txt"], out=out).before == 1
    assert masks(out)["a.png"] == before["sub/a.png"], "an image that is away takes nothing with it"


def test_masks_that_do_not_say_what_they_are_of_are_made_anew(model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    predict(SETTINGS, model=model, inputs=[folder], out=out)
    whole = masks(out)
    path = mask_path(out, "a")
    write_mask(path, read_indices(path), palette=voc_palette())
    (out / "predict.json").unlink()  # what a model's masks are of is in themselves
    assert predict(SETTINGS, model=model, inputs=[folder], out=out).predicted == 1
    assert masks(out) == whole
    (out / "predict.json").unlink()
    other = save_tiny_network(tmp_path / "other", seed=1)
    assert predict(SETTINGS, model=other, inputs=[folder], out=out).predicted == 6


def test_bad_files_are_named_in_the_end(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "b.png").write_bytes(b"no image")
    (folder / "sub/d.png").write_bytes((folder / "c.png").read_bytes()[:60])
    words = ["predict", str(model), "in", "--out", "out", *WORDS]
    assert main(words) == EXIT_OK
    said = capsys.readouterr().out
    assert "warning: 2 files could not be used, see out/failed.csv; the first:" in said
    assert set(masks(tmp_path / "out")) == {"a.png", "c.png", "sub/a.png", "turned.png"}
    failed = table(tmp_path / "out", "failed.csv")
    assert {row["image"] for row in failed} == {"in/b.png", "in/sub/d.png"}
    assert all(row["reason"].startswith(f"{row['image']}: expected a") for row in failed)
    shutil.copy(folder / "a.png", folder / "b.png")
    shutil.copy(folder / "a.png", folder / "sub/d.png")
    assert main(words) == EXIT_OK
    assert "2 images in" in capsys.readouterr().out
    assert table(tmp_path / "out", "failed.csv") == []


def test_bad_files_with_names_that_are_not_utf8(
    model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in ((b"bad\xe9.png", b""), (b"good\xe9.png", (folder / "a.png").read_bytes())):
        (folder / "sub" / os.fsdecode(name)).write_bytes(content)
    assert main(["predict", str(model), "in/sub", "--out", "out", *WORDS]) == EXIT_OK
    assert "in/sub/bad\\udce9.png: expected an image, got an empty file" in capsys.readouterr().out
    assert (tmp_path / "out" / "masks" / os.fsdecode(b"good\xe9.png")).is_file()
    assert b"in/sub/bad\xe9.png," in (tmp_path / "out" / "failed.csv").read_bytes()


def test_bad_files_may_stop_it(model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "b.png").write_bytes(b"")
    words = ["predict", str(model), "in/b.png", "--out", "out", *WORDS]
    assert main(words) == EXIT_USER
    assert "error: expected at least one usable image, got none of 1; in/b.png: expected" in capsys.readouterr().err
    assert [row["image"] for row in table(tmp_path / "out", "failed.csv")] == ["in/b.png"]
    assert main(["predict", str(model), "in", "--out", "stopped", "--on-bad-input", "stop", *WORDS]) == EXIT_USER
    assert capsys.readouterr().err.startswith("error: in/b.png: expected an image, got an empty file")
    assert not [thread.name for thread in threading.enumerate() if "ThreadPool" in thread.name]
    with pytest.raises(BadInputError, match="none of 1"):
        predict(SETTINGS, model=model, inputs=[folder / "b.png"], out=tmp_path / "out")


def test_outputs_inside_the_inputs_are_no_inputs(model: Path, folder: Path) -> None:
    for before in (0, 6):
        result = predict(SETTINGS, model=model, inputs=[folder], out=folder / "out")
        assert (result.predicted, result.before) == (6 - before, before)


def test_hostile_names_stay_inside(model: Path, folder: Path, tmp_path: Path) -> None:
    place = folder / "sub" / "deep"
    place.mkdir()
    (place / "list.txt").write_text(f"../a.png\n{folder}/b.png\n../../../in/./c.png\n/etc/hostname\n")
    os.chdir(place)
    out = place / "out"
    result = predict(SETTINGS, model=model, inputs=[], lists=[Path("list.txt")], out=out)
    assert (result.predicted, len(result.failed)) == (3, 1)
    made = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in made if path.suffix in (".png", ".jpg") and not path.is_relative_to(out)} == {
        path for path in folder.rglob("*.*") if path.suffix in (".png", ".jpg") and not path.is_relative_to(out)
    }
    for image, name in (("sub/a.png", "sub/a"), ("b.png", "b"), ("c.png", "c")):
        (mask,) = [found for found in masks(out) if found.endswith(f"{name}.png")]
        assert Image.open(out / "masks" / mask).size == Image.open(folder / image).size


def test_a_folder_in_use_is_left_alone(model: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with RunFolder(path=out).lock(), pytest.raises(RunFolderError, match="is in use by process"):
        predict(SETTINGS, model=model, inputs=[folder], out=out)
    assert not (out / "predict.json").exists()


def test_the_model_of_a_run_is_the_last_that_learned_without_true_masks(model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    entries = [
        {"trained_on": kind, "model": f"stages/{name}", "round": 0, "masks": "stages/masks", "scores": {}}
        for kind, name in (("pseudo", "first"), ("pseudo", "last"), ("truth", "full"))
    ]
    for entry in entries:
        shutil.copytree(model, run / entry["model"])
    (run / "run.json").write_text(json.dumps({**run_record(), "segment": entries}))
    assert find_model(run) == run / "stages" / "last"
    (run / "run.json").write_text(json.dumps({**run_record(), "segment": entries[2:]}))
    assert find_model(run) == run / "stages" / "full"
    assert find_model(model) == model
    assert find_model(model / "model.safetensors") == model


def test_what_is_no_model_is_said(tmp_path: Path, toy_folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: expected the folder of a saved network \(config\.json and"):
        find_model(tmp_path / "nowhere")
    (tmp_path / "run.json").write_text(json.dumps({**run_record(), "segment": []}))
    with pytest.raises(CheckpointError, match="is a run without a segmentation network; train one"):
        find_model(tmp_path)
    for record in ({}, {"segment": None}):
        (tmp_path / "run.json").write_text(json.dumps(record))
        with pytest.raises(RunFolderError, match="is not the record of a run"):
            find_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"format": "subcam-classification", "version": 1}))
    with pytest.raises(CheckpointError, match="expected a segmentation network, give its folder"):
        predict(SETTINGS, model=tmp_path, inputs=[toy_folder], out=tmp_path / "out")
