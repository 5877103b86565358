"""The whole way: what a run leaves behind, and what a second one does again."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from subcam import pipeline
from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.images import write_mask
from subcam.data.readers.toy import CLASSES
from subcam.errors import BadInputError, RunFolderError
from subcam.report.tables.tables import write_tables
from subcam.results import RunResult
from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.run_folder import RunFolder
from subcam.settings import RunSettings

REWRITTEN = {"run.json", "run.log", ".lock"}
"""What every command writes, also where there is nothing to do."""


@pytest.fixture(scope="module")
def finished(tiny_run: RunSettings, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Rounds 0 and 1 and the control of round 1. Its folder is not to be changed."""
    return pipeline.run(replace(tiny_run, control=True), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def copied(finished: RunResult, tmp_path: Path) -> Path:
    return shutil.copytree(finished.out, tmp_path / "run")


def stages(folder: Path) -> set[str]:
    return {path.name for path in (folder / "stages").iterdir()}


def names_of(stage_folders: set[str]) -> list[str]:
    return sorted(name.rpartition("-")[0] for name in stage_folders)


def record_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text("utf-8"))


def stamps(folder: Path) -> dict[Path, tuple[int, bytes]]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in REWRITTEN)
    return {path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def as_text(result: RunResult) -> str:
    """Scores of all rounds; as text, not-a-number equals itself."""
    return repr([(found.round_index, found.control, found.scores) for found in result.rounds])


# What a run leaves behind


def test_a_run_has_all_rounds_then_the_control(finished: RunResult) -> None:
    assert [(found.round_index, found.control) for found in finished.rounds] == [(0, False), (1, False), (1, True)]
    assert finished.last is finished.rounds[1]
    assert finished.class_names == CLASSES
    assert names_of(stages(finished.out)) == [
        "round0-cam",
        "round0-classify",
        "round0-evaluate-val",
        "round1-cam",
        "round1-classify",
        "round1-control-cam",
        "round1-control-classify",
        "round1-control-evaluate-val",
        "round1-discover",
        "round1-evaluate-val",
    ]
    for found in finished.rounds:
        assert list(found.scores) == ["val"]
        scores = found.scores["val"]
        assert scores.images == 8
        assert 0 < scores.fixed["miou"] <= scores.best["miou"] < 1
        assert 0 < scores.mean_average_precision <= 1


def test_the_control_has_no_subcategories_and_the_method_has(finished: RunResult) -> None:
    heads = [load_file(found.model.path / "model.safetensors").keys() for found in finished.rounds]
    assert ["subcategory_head.weight" in names for names in heads] == [False, True, False]
    weights = [found.model.record["inputs"]["settings"]["subcategory_weight"] for found in finished.rounds]
    assert weights == [0, 5, 0]


def test_maps_are_of_the_scored_images_and_in_the_last_round_of_all(finished: RunResult) -> None:
    counts = [len(list((found.maps.path / "maps").iterdir())) for found in finished.rounds]
    assert counts == [8, 8 + 24, 8]


def test_the_record_names_everything(finished: RunResult) -> None:
    record = record_of(finished.out)
    assert record["class_names"] == list(CLASSES)
    assert record["settings"]["classify"]["subcategory_weight"] == 5
    assert record["settings"]["dataset"]["toy"]["train_images"] == 24
    assert record["skipped"] == []
    assert record["versions"]["torch"]
    for entry, found in zip(record["rounds"], finished.rounds, strict=True):
        assert (entry["round"], entry["control"]) == (found.round_index, found.control)
        assert (finished.out / entry["model"] / "model.safetensors").is_file()
        assert (finished.out / entry["maps"] / "maps").is_dir()
        assert entry["scores"]["val"]["fixed"]["miou"] == found.scores["val"].fixed["miou"]


# What a second run does


def test_a_second_run_does_nothing_and_gives_the_same(
    finished: RunResult, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.run(finished.settings, copied)  # the generated images lie at a new place: they are checked once
    before = stamps(copied)
    capsys.readouterr()
    again = pipeline.run(finished.settings, copied)
    assert stamps(copied) == before
    assert as_text(again) == as_text(finished)
    said = capsys.readouterr().out
    assert "10 of 10 stages kept from before: round0-classify, round0-cam, round0-evaluate-val," in said
    assert "stage 1 of" not in said


def test_another_lambda_shares_round_0_and_trains_the_later_rounds(finished: RunResult, copied: Path) -> None:
    before = stages(copied)
    classify = replace(finished.settings.classify, subcategory_weight=1.0)
    again = pipeline.run(replace(finished.settings, classify=classify), copied)
    assert names_of(stages(copied) - before) == ["round1-cam", "round1-classify", "round1-evaluate-val"]
    assert again.rounds[0].model.key == finished.rounds[0].model.key
    assert again.rounds[2].model.key == finished.rounds[2].model.key
    assert record_of(copied)["rounds"][1]["model"] != record_of(finished.out)["rounds"][1]["model"]


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda s: replace(s, evaluate=replace(s.evaluate, background_threshold=0.3)), ".*-evaluate-val"),
        (lambda s: replace(s, cam=replace(s.cam, scales=(1.0,))), ".*-(cam|evaluate-val)"),
        (lambda s: replace(s, discover=replace(s.discover, num_subcategories=2)), "round1-(?!control).*"),
        (lambda s: replace(s, rounds=0, control=False), "round0-(cam|evaluate-val)"),  # now the last: maps of all
        (lambda s: replace(s, seed=1), ".*"),
        (lambda s: replace(s, machine=MachineSettings(accelerator="cpu", inference_precision="32-true")), "none"),
    ],
    ids=["threshold", "scales", "K", "rounds", "seed", "machine"],
)
def test_what_changes_is_done_again_and_nothing_else(
    finished: RunResult, copied: Path, change: Callable[[RunSettings], RunSettings], again: str
) -> None:
    before = stages(copied)
    pipeline.run(change(finished.settings), copied)
    expected = [name for name in names_of(before) if re.fullmatch(again, name)]
    assert names_of(stages(copied) - before) == expected


def test_restart_begins_anew_and_continue_goes_on(finished: RunResult, copied: Path) -> None:
    """Shown by a round 1 that learns nothing: it is the round before, or it is not."""
    before, bodies = stages(copied), []
    for start in ("restart", "continue"):
        classify = replace(finished.settings.classify, start=start, round_epochs=(0,))
        result = pipeline.run(replace(finished.settings, control=False, classify=classify), copied)
        bodies.append(load_file(result.last.model.path / "model.safetensors")["backbone.body.convs.0.weight"])
    assert not any(name.startswith("round0-") for name in stages(copied) - before)
    round_0 = load_file(finished.rounds[0].model.path / "model.safetensors")["backbone.body.convs.0.weight"]
    assert (bodies[0] != round_0).any()
    assert (bodies[1] == round_0).all()


@pytest.mark.parametrize("start", ["restart", "continue"])
def test_a_control_depends_on_round_0_only_where_it_goes_on_from_it(
    tiny_run: RunSettings, tmp_path: Path, start: Literal["restart", "continue"]
) -> None:
    found = []
    for epochs in (0, 1):
        classify = replace(tiny_run.classify, epochs=epochs, round_epochs=(0,), start=start)
        found.append(pipeline.run(replace(tiny_run, control=True, classify=classify), tmp_path))
    first, second = (result.rounds for result in found)
    assert first[0].model.key != second[0].model.key
    assert first[1].model.key != second[1].model.key  # its clusters are of round 0's features
    assert (first[2].model.key == second[2].model.key) == (start == "restart")


def test_a_folder_that_is_in_use_is_refused(tiny_run: RunSettings, tmp_path: Path) -> None:
    with RunFolder(path=tmp_path).lock(), pytest.raises(RunFolderError, match="is in use by process"):
        pipeline.run(tiny_run, tmp_path)


# Images that are not as one would like


@pytest.fixture
def images(toy_folder: Path, tmp_path: Path) -> Path:
    """The generated images as somebody's own folder, without masks, sub-types and the record of how they arose."""
    folder = tmp_path / "images"
    shutil.copytree(toy_folder / "images", folder / "images")
    shutil.copy(toy_folder / "labels.csv", folder)
    return folder


def table(folder: Path) -> list[list[str]]:
    return list(csv.reader((folder / "labels.csv").open(encoding="utf-8")))


def write_table(folder: Path, rows: list[list[str]]) -> None:
    with (folder / "labels.csv").open("w", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def on(folder: Path, settings: RunSettings, **changes: object) -> RunSettings:
    return replace(settings, dataset=replace(settings.dataset, root=str(folder)), **changes)  # type: ignore[arg-type]


def test_images_without_masks_still_get_response_maps(images: Path, tiny_run: RunSettings, tmp_path: Path) -> None:
    write_table(images, [row[:2] for row in table(images)])
    result = pipeline.run(on(images, tiny_run), tmp_path / "run")
    assert [found.scores for found in result.rounds] == [{}, {}]
    for found in result.rounds:
        assert len(list((found.maps.path / "maps").iterdir())) == 32
    write_tables(result)
    assert (tmp_path / "run" / "summary.md").is_file()


def test_small_classes_absent_classes_and_images_of_nothing(
    images: Path, toy_folder: Path, tiny_run: RunSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """K is larger than every class; one class has no image; some images, of both splits, have no label."""
    shutil.copytree(toy_folder / "masks", images / "masks")
    (images / "classes.txt").write_text("\n".join([*CLASSES, "unicorn"]))
    rows = table(images)
    for row in (1, 2, 25, 26):
        rows[row][1] = ""
        name = Path(rows[row][0]).name
        write_mask(images / "masks" / name, np.zeros((48, 48), np.uint8), palette=np.zeros((256, 3), np.uint8))
    write_table(images, rows)
    discover = replace(tiny_run.discover, num_subcategories=50)
    result = pipeline.run(on(images, tiny_run, discover=discover), tmp_path / "run")
    said = capsys.readouterr().out.replace("\n", " ")
    assert "22 training images" not in said
    assert "unicorn 0)" in said
    assert "fewer sub-categories than K = 50" in said
    assert "'unicorn': 0}" in said
    scores = result.last.scores["val"]
    assert scores.images == 8
    assert np.isnan(scores.class_average_precision[4])
    assert np.isfinite(scores.fixed["miou"])
    for name in ("train-00000", "val-00000"):
        found = read_response_maps(maps_path(result.last.maps.path, name))
        assert found.maps.shape == (0, 12, 12)
    assert load_file(result.last.model.path / "model.safetensors")["subcategory_head.weight"].shape == (250, 128)


def test_a_bad_image_is_left_out_everywhere_and_named(
    images: Path, tiny_run: RunSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = images / "images" / "train-00003.png"
    bad.write_bytes(bad.read_bytes()[:60])
    with pytest.raises(BadInputError, match=r"train-00003\.png: expected a"):
        pipeline.run(on(images, tiny_run), tmp_path / "stopped")
    skipping = replace(tiny_run.dataset, root=str(images), on_bad_input="skip")
    result = pipeline.run(replace(tiny_run, dataset=skipping), tmp_path / "run")
    (skipped,) = record_of(tmp_path / "run")["skipped"]
    assert skipped["file"] == str(bad)
    assert skipped["reason"].startswith(f"{bad}: expected a")
    assert "left out 1 files that cannot be used" in capsys.readouterr().out
    written = {path.stem for path in (result.last.maps.path / "maps").iterdir()}
    assert "train-00003" not in written
    assert "train-00004" in written


def test_images_of_many_kinds_go_all_the_way(images: Path, tiny_run: RunSettings, tmp_path: Path) -> None:
    """Grey, palette, CMYK, 16-bit and rotated ones, of other sizes."""
    for index, mode in enumerate(("L", "P", "CMYK", "I;16")):
        path = images / "images" / f"train-{index:05d}.png"
        image = Image.open(path).convert("RGB").resize((40 + index, 56))
        path.unlink()
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        elif mode != "RGB":
            image = image.convert(mode)
        image.save(path, format="TIFF")
    rotated = images / "images" / "train-00004.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(rotated).resize((30, 60)).save(rotated, format="JPEG", exif=exif)
    result = pipeline.run(on(images, tiny_run, rounds=0), tmp_path / "run")
    sizes = [read_response_maps(maps_path(result.last.maps.path, f"train-{index:05d}")).size for index in range(5)]
    assert sizes == [(56, 40), (56, 41), (56, 42), (56, 43), (30, 60)]


# Prototypes


def test_prototype_rounds_find_prototypes_then_train_on_labels_of_positions(
    tiny_run: RunSettings, tmp_path: Path
) -> None:
    settings = replace(tiny_run, route="prototypes", rounds=2, control=True)
    result = pipeline.run(settings, tmp_path)
    assert [(found.round_index, found.control) for found in result.rounds] == [
        (0, False),
        (1, False),
        (2, False),
        (2, True),
    ]
    assert names_of(stages(tmp_path)) == [
        "round0-cam",
        "round0-classify",
        "round0-evaluate-val",
        "round1-cam",
        "round1-evaluate-val",
        "round1-prototypes",
        "round2-cam",
        "round2-classify",
        "round2-control-cam",
        "round2-control-classify",
        "round2-control-evaluate-val",
        "round2-control-prototypes",
        "round2-evaluate-val",
        "round2-prototype-labels",
        "round2-prototypes",
    ]
    before = stamps(tmp_path)
    assert as_text(pipeline.run(settings, tmp_path)) == as_text(result)
    assert stamps(tmp_path) == before
