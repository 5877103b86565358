"""`subcam.refine`: one image's maps become what a run makes of them, and what is no map or image is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import subcam
from subcam.affinity.network import AffinityNetwork
from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.images import read_image, read_indices
from subcam.errors import CheckpointError
from subcam.refine.scores_and_masks import mask_path
from subcam.refine.variants import Variant
from subcam.results import read_run
from subcam.settings import RunSettings

NAMES = ("val-00001", "val-00004")


@pytest.mark.parametrize(
    ("variant", "given"),
    [("crf", {}), ("walk", {"affinity": True, "crf": None}), ("walk-crf", {"affinity": True})],
)
@pytest.mark.parametrize("name", NAMES)
def test_as_a_run_does(
    variant: Variant,
    given: dict[str, Any],
    name: str,
    refined_run: Path,
    refined_settings: RunSettings,
    toy_folder: Path,
) -> None:
    """Of the maps as they are stored, on their grid, with the run's own AffinityNet; labels count from the maps."""
    result = read_run(refined_run).result
    stored = read_response_maps(maps_path(result.last.responses.path, name))
    given = given | ({"affinity": refined_run} if given.get("affinity") else {})
    image = toy_folder / "images" / f"{name}.png"
    walk, masks = refined_settings.refine.walk, refined_settings.refine.masks
    exponents = {"crf_alpha": masks.crf_alpha, "walk_alpha": masks.walk_alpha, "beta": walk.beta}
    refined = subcam.refine(image, stored.maps / np.float32(255), **exponents, **given)
    expected = read_indices(mask_path(result.refined[0].masks.path, variant, name))
    labels = np.array([0, *(stored.classes + 1)], np.uint8)
    assert (labels[refined.mask] == expected).all()
    assert refined.scores.shape == (1 + len(labels) - 1, *expected.shape)


def test_an_affinity_network_is_given_in_any_way(refined_run: Path, toy_folder: Path) -> None:
    image = read_image(toy_folder / "images" / "val-00000.png")
    maps = torch.rand(2, 7, 9, generator=torch.manual_seed(0))
    network = AffinityNetwork.load(refined_run)
    (folder,) = (refined_run / "stages").glob("round0-affinity-*")
    scores = [subcam.refine(image, maps, affinity=given).scores for given in (network, folder, str(refined_run))]
    assert scores[0].shape == (3, 48, 48)
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-3)
    assert (scores[1] == scores[2]).all()


def test_no_map_is_background_and_close_scores_are_ignored() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    assert not subcam.refine(image, np.zeros((0, 5, 5), np.float32)).mask.any()
    maps = np.full((2, 20, 30), 0.5, np.float32)
    assert set(np.unique(subcam.refine(image, maps, crf=None, ignore_margin=0.1).mask)) == {255}
    assert set(np.unique(subcam.refine(image, maps, crf=None).mask)) == {1}


def test_what_is_refused(refined_run: Path, tmp_path: Path) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(ValueError, match=r"maps: expected responses in 0\.\.1, got -1\.\."):
        subcam.refine(image, -np.ones((1, 4, 4), np.float32) * np.eye(4, dtype=np.float32))
    with pytest.raises(ValueError, match=r"maps: expected an array of shape \[classes, h, w\], got \[4, 4\]"):
        subcam.refine(image, np.zeros((4, 4), np.float32))
    (classifier,) = (refined_run / "stages").glob("round0-classify-*")
    with pytest.raises(CheckpointError, match="expected an AffinityNet"):
        subcam.refine(image, np.zeros((1, 4, 4), np.float32), affinity=classifier)
