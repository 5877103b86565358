"""The stages that choose alphas: by the maps, images and walked maps of a data set, and by no mask."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.refine.made_maps import first_images, made_maps, write_made_maps
from tests.stages.given import images_of, stage_at

from subcam import pipeline
from subcam.cam.map_files import maps_path, read_response_maps
from subcam.cam.threshold import threshold_of_maps
from subcam.data.check import CheckedImages
from subcam.data.records import ImageSet
from subcam.errors import BadInputError, RunFolderError, SettingsError
from subcam.refine.alphas import AlphaOfWalk, AlphasOfMaps
from subcam.refine.walked_maps import WalkedMaps, read_walked, walked_path, write_walked
from subcam.results import RunResult, read_run
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages.refine import alphas

ALPHAS = (0.5, 1.0, 4.0)


@pytest.fixture(scope="module")
def images(toy_train: CheckedImages) -> ImageSet:
    """Six images, the last of which shows nothing."""
    first = first_images(toy_train, 6)
    return replace(first, records=(*first.records[:-1], replace(first.records[-1], labels=())))


@pytest.fixture(scope="module")
def given(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alphas")
    write_made_maps(folder / "maps", images)
    rng = np.random.default_rng(0)
    for record in images.records:
        maps = made_maps(record, images)
        shape = (6, 6)
        walked = rng.random((len(maps.classes), *shape))
        best = walked.max(0) if len(walked) else np.zeros(shape)
        write_walked(
            walked_path(folder / "walked", record.name),
            WalkedMaps(
                alphas=ALPHAS,
                backgrounds=np.stack([(1 - best) ** alpha for alpha in ALPHAS]).astype(np.float16),
                maps=walked.astype(np.float16),
                classes=maps.classes,
                size=maps.size,
            ),
        )
    # No mask is opened.
    unseen = replace(images, records=tuple(replace(record, mask=Path("nowhere.png")) for record in images.records))
    return {"images": images_of(unseen), "maps": stage_at(folder / "maps"), "walked": stage_at(folder / "walked")}


def stage_in(folder: Path, name: str = "alphas") -> Stage:
    return RunFolder(path=folder).stage(name)


def of_maps(folder: Path, given: dict[str, Any]) -> Stage:
    stage = stage_in(folder)
    alphas.run(stage, images=given["images"], maps=given["maps"])
    return stage


def test_threshold_and_area_are_those_of_the_maps(given: dict[str, Any], images: ImageSet, tmp_path: Path) -> None:
    found = of_maps(tmp_path, given).outputs_as(AlphasOfMaps)
    folder, labelled = given["maps"].path, [record for record in images.records if record.labels]
    assert found.threshold == threshold_of_maps(images.records, folder, num_classes=images.num_classes).threshold
    above = [
        read_response_maps(maps_path(folder, record.name)).maps.max(0) / 255 > found.threshold for record in labelled
    ]
    assert found.area == pytest.approx(np.mean([mask.mean() for mask in above]))
    assert 0 < found.area < 1
    assert found.images == len(labelled) == 5


def test_the_alpha_of_the_walk_gives_the_nearest_area(given: dict[str, Any], images: ImageSet, tmp_path: Path) -> None:
    before = of_maps(tmp_path, given)
    stage = stage_in(tmp_path, "walk-alpha")
    alphas.run_of_walk(stage, images=given["images"], walked=given["walked"], alphas=before)
    found, area = stage.outputs_as(AlphaOfWalk), before.outputs_as(AlphasOfMaps).area
    areas = []
    for place in range(len(ALPHAS)):
        shares = []
        for record in images.records:
            walked = read_walked(walked_path(given["walked"].path, record.name))
            if record.labels:
                shares.append((walked.maps.max(0) > walked.backgrounds[place]).mean())
        areas.append(float(np.mean(shares)))
    assert areas == sorted(areas)
    assert found.alphas == ALPHAS
    assert found.areas == pytest.approx(areas)
    assert found.alpha == min(zip(ALPHAS, areas, strict=True), key=lambda pair: abs(np.log(pair[1] / area)))[0]


def test_damaged_files_and_records_are_named(given: dict[str, Any], tmp_path: Path) -> None:
    before = of_maps(tmp_path, given)
    missing = {"walked": stage_at(tmp_path / "nowhere")}
    with pytest.raises(BadInputError, match="nowhere"):
        alphas.run_of_walk(stage_in(tmp_path, "walk"), images=given["images"], alphas=before, **missing)
    record = json.loads(before.record_path.read_text("utf-8"))
    before.record_path.write_text(json.dumps(record | {"outputs": {"threshold": "high"}}), "utf-8")
    with pytest.raises(RunFolderError, match=r"\.outputs"):
        alphas.run_of_walk(stage_in(tmp_path, "walk"), images=given["images"], walked=given["walked"], alphas=before)


def test_without_a_label_nothing_can_be_chosen(given: dict[str, Any], images: ImageSet, tmp_path: Path) -> None:
    nothing = replace(images, records=tuple(replace(record, labels=()) for record in images.records))
    with pytest.raises(SettingsError, match="no image has a label"):
        alphas.run(stage_in(tmp_path), images=images_of(nothing), maps=given["maps"])


AUTO = {
    "refine.sure_regions.low_alpha": "auto",
    "refine.sure_regions.high_alpha": "auto",
    "refine.masks.crf_alpha": "auto",
    "refine.masks.walk_alpha": "auto",
}


def test_a_run_that_chooses_equals_one_that_is_told(refined_settings: RunSettings, tmp_path: Path) -> None:
    chosen = pipeline.run(refined_settings.with_(AUTO), tmp_path / "chosen")
    made = chosen.refined[-1].made
    assert made is not None
    assert made.walk_alpha in refined_settings.refine.walk.alphas
    sure = next((tmp_path / "chosen" / "stages").glob("*-crf-*/stage.json"))
    outputs = json.loads(sure.read_text("utf-8"))["outputs"]
    numbers = dict(
        zip(AUTO, (outputs["low_alpha"], outputs["high_alpha"], made.crf_alpha, made.walk_alpha), strict=True)
    )
    assert all(isinstance(value, float) for value in numbers.values())
    told = pipeline.run(refined_settings.with_(numbers), tmp_path / "told")
    assert files(chosen) == files(told)
    assert chosen.refined[-1].scores == told.refined[-1].scores
    assert read_run(chosen.out).result.refined[-1].made == made
    names = sorted(path.name.rpartition("-")[0] for path in (chosen.out / "stages").iterdir())
    assert {"alphas", "walk-alpha"} <= {name.partition("-")[2] for name in names}
    assert not list((told.out / "stages").glob("*alpha*"))


def files(result: RunResult) -> dict[str, bytes]:
    """All masks of the run, and the table of their confidence."""
    refined = result.refined[-1]
    assert refined.confidence is not None
    folders = (refined.masks.path, refined.confidence.path)
    found = [(folder, path) for folder in folders for path in folder.rglob("*") if path.suffix in (".png", ".csv")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for folder, path in found}


def test_only_what_is_to_be_chosen_is(refined_settings: RunSettings) -> None:
    refine = refined_settings.refine
    assert not refine.alphas_to_choose
    for name, changed in AUTO.items():
        assert refined_settings.with_({name: changed}).refine.alphas_to_choose
    without_walk = {"refine.random_walk": False, "refine.masks.pseudo_mask": "crf"}
    of_walk = {name: value for name, value in AUTO.items() if name != "refine.masks.crf_alpha"}
    assert not refined_settings.with_(without_walk | of_walk).refine.alphas_to_choose
