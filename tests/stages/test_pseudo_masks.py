"""The stage of pseudo masks: each variant from its own scores, as palette PNGs, for the images that want it."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.refine.made_maps import first_images, made_maps, write_made_maps
from tests.stages.given import images_of, stage_at

from subcam.affinity.pairs import pool_to_grid
from subcam.cam.response import background_score
from subcam.crf.dense_crf import SPATIAL, dense_crf
from subcam.crf.settings import CRFSettings
from subcam.data.check import CheckedImages
from subcam.data.images import read_image, voc_palette
from subcam.data.records import IGNORE_INDEX, Record
from subcam.errors import BadInputError, SettingsError
from subcam.refine.scores_and_masks import crf_of, mask_path
from subcam.refine.variants import VARIANTS, Variant
from subcam.refine.walked_maps import WalkedMaps, read_walked, walked_path, write_walked
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RefineSettings
from subcam.stages.context import compute
from subcam.stages.refine import pseudo_masks
from subcam.stages.settings.pseudo_masks import MaskSettings
from subcam.stages.settings.random_walk import WalkSettings

SETTINGS = MaskSettings(crf_alpha=2.0, walk_alpha=3.0, crf=CRFSettings(iterations=3))


@pytest.fixture(scope="module")
def given(toy_train: CheckedImages, device: Device, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Four images, the second without a label; their walked maps are merely pooled. The first is scored."""
    folder = tmp_path_factory.mktemp("inputs")
    first_four = first_images(toy_train, 4)
    first, second, *others = first_four.records
    image_set = replace(first_four, records=(first, replace(second, labels=()), *others))
    write_made_maps(folder / "maps", image_set)
    for record in image_set.records:
        maps = made_maps(record, image_set)
        full = torch.from_numpy(maps.full_size())
        pooled = pool_to_grid(torch.cat([torch.stack([background_score(full, alpha) for alpha in (1.0, 3.0)]), full]))
        walked = WalkedMaps(
            alphas=(1.0, 3.0),
            backgrounds=pooled[:2].half().numpy(),
            maps=pooled[2:].half().numpy(),
            classes=maps.classes,
            size=maps.size,
        )
        write_walked(walked_path(folder / "walked", record.name), walked)
    return {
        "images": images_of(image_set),
        "maps": stage_at(folder / "maps"),
        "walked": stage_at(folder / "walked"),
        "scored": (images_of(replace(image_set, records=(first,))),),
        "device": device,
    }


@pytest.fixture
def run(given: dict[str, Any]) -> Callable[..., Stage]:
    """Run the stage in a folder unless it is done, with changes of what it is given."""

    def run(folder: Path, settings: MaskSettings = SETTINGS, **changes: Any) -> Stage:
        run_folder = RunFolder(path=folder)
        stage = run_folder.stage("masks", inputs={"settings": settings})
        compute(run_folder, stage, partial(pseudo_masks.run, stage, settings=settings, **(given | changes)))
        return stage

    return run


def stored(stage: Stage, variant: str, record: Record) -> np.ndarray:
    with Image.open(mask_path(stage.path, variant, record.name)) as image:
        return np.asarray(image)


def scores_by_hand(variant: str, record: Record, given: dict[str, Any]) -> np.ndarray:
    if variant == "crf":
        maps = made_maps(record, given["images"].image_set).full_size()
        strongest = maps.max(0) if len(maps) else np.zeros((48, 48), np.float32)
        scores = np.concatenate([(1 - strongest[None]) ** 2, maps])
    else:
        scores = read_walked(walked_path(given["walked"].path, record.name)).scores(3.0)
    return scores if variant == "walk" else dense_crf(read_image(record.image), scores, iterations=3)


def test_each_variant_is_the_best_of_its_scores(run: Callable, given: dict[str, Any], tmp_path: Path) -> None:
    stage = run(tmp_path, scored=(given["images"],))
    assert len(SPATIAL) == 0  # kept from image to image, and no longer
    made = {"images": 4, "pseudo_mask": "walk-crf", "crf_alpha": 2.0, "walk_alpha": 3.0}
    assert stage.record["outputs"] == made
    differing = dict.fromkeys(itertools.combinations(VARIANTS, 2), 0)
    for record in given["images"].image_set.records:
        values = np.array([0, *(label + 1 for label in record.labels)])
        masks = {variant: stored(stage, variant, record) for variant in VARIANTS}
        for variant, mask in masks.items():
            assert (mask == values[scores_by_hand(variant, record, given).argmax(0)]).all()
        for one, other in differing:
            differing[one, other] += (masks[one] != masks[other]).sum()
        assert bool(record.labels) == any(mask.any() for mask in masks.values())
    assert min(differing.values()) > 0, "variants that are the same tell nothing"


@pytest.mark.parametrize("chosen", VARIANTS)
def test_all_variants_only_for_the_images_that_are_scored(
    run: Callable, given: dict[str, Any], tmp_path: Path, chosen: Variant
) -> None:
    stage = run(tmp_path, replace(SETTINGS, pseudo_mask=chosen))
    first, *others = given["images"].image_set.records
    expected = {mask_path(stage.path, variant, first.name) for variant in VARIANTS}
    expected |= {mask_path(stage.path, chosen, record.name) for record in others}
    assert set(stage.path.rglob("*.png")) == expected


def test_masks_are_palette_pngs_that_keep_their_indices(run: Callable, given: dict[str, Any], tmp_path: Path) -> None:
    stage = run(tmp_path, replace(SETTINGS, ignore_margin=0.2, pseudo_mask="walk"))
    seen = set()
    for record in given["images"].image_set.records:
        with Image.open(mask_path(stage.path, "walk", record.name)) as image:
            assert (image.mode, image.format, image.size) == ("P", "PNG", (48, 48))
            colours = np.asarray(image.convert("RGB"))
            indices = np.asarray(image)
        assert (colours == voc_palette()[indices]).all()
        scores = np.sort(scores_by_hand("walk", record, given), axis=0)
        close = scores[-1] - scores[-2] < 0.2 if len(scores) > 1 else np.zeros((48, 48), bool)
        assert ((indices == IGNORE_INDEX) == close).all()
        seen |= set(indices.ravel().tolist())
    assert seen > {0, IGNORE_INDEX}


def test_a_stage_that_was_cut_off_does_what_is_missing(
    run: Callable, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(tmp_path / "undisturbed")
    calls: list[str] = []

    def counted(record: Record, *args: object) -> list[np.ndarray]:
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        calls.append(record.name)
        return crf_of(record, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(pseudo_masks, "crf_of", counted)
    killed_at = 3  # one call an image, whatever its variants
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    done, killed_at = calls.copy(), -1
    calls.clear()
    stage = run(tmp_path / "killed")
    assert len(set(done)) == 3
    scored = {record.name for images in given["scored"] for record in images.image_set.records}
    assert set(calls) == {record.name for record in given["images"].image_set.records} - set(done)
    for record in given["images"].image_set.records:
        for variant in VARIANTS if record.name in scored else ("walk-crf",):
            paths = [mask_path(each.path, variant, record.name) for each in (stage, undisturbed)]
            assert paths[0].read_bytes() == paths[1].read_bytes()
    calls.clear()
    run(tmp_path / "killed")
    assert calls == []


def test_an_image_of_which_one_variant_is_missing_is_done_again(
    run: Callable, given: dict[str, Any], tmp_path: Path
) -> None:
    stage = run(tmp_path)
    stage.record_path.unlink()
    missing = mask_path(stage.path, "walk", given["images"].image_set.records[0].name)
    content = missing.read_bytes()
    missing.unlink()
    run(tmp_path)
    assert missing.read_bytes() == content


@pytest.mark.parametrize("value", [np.nan, -0.5])
def test_scores_that_cannot_be_name_the_image(
    run: Callable, given: dict[str, Any], tmp_path: Path, value: float
) -> None:
    record = given["images"].image_set.records[0]
    walked = read_walked(walked_path(given["walked"].path, record.name))
    walked.maps[0, 1, 2] = value
    write_walked(walked_path(tmp_path / "walked", record.name), walked)
    only = images_of(replace(given["images"].image_set, records=(record,)))
    with pytest.raises(BadInputError, match=rf"{record.name}\.npz .*expected finite maps of at least 0"):
        run(tmp_path, images=only, walked=stage_at(tmp_path / "walked"))


def test_an_alpha_that_did_not_walk_is_refused(run: Callable, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"walk_alpha 5\.0 is none of the walk's alphas \(1\.0, 3\.0\)"):
        run(tmp_path, replace(SETTINGS, walk_alpha=5.0))


def test_an_alpha_that_will_not_walk_is_refused_before_anything_runs() -> None:
    with pytest.raises(SettingsError, match=r"walk_alpha to be one of walk\.alphas \[2\.0, 4\.0\], got 3\.0; add it"):
        RefineSettings(walk=WalkSettings(alphas=(2.0, 4.0)), masks=SETTINGS)
    assert RefineSettings().masks.walk_alpha in RefineSettings().walk.alphas
