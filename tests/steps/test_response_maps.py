"""Which response maps a round makes: of which images, and at which scales."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from subcam import pipeline
from subcam.cam.map_files import read_response_maps
from subcam.data.dataset import Dataset, open_dataset
from subcam.runtime.run_folder import RunFolder
from subcam.settings import RunSettings
from subcam.stages import cam
from subcam.stages.context import Context, PlannedStage

SOME, ALL, FEWER = (1.0, 0.5), 24 + 8, (1.0,)


@dataclass(frozen=True)
class Maps:
    """A stage of response maps: how many images, and the scales."""

    images: int
    scales: tuple[float, ...]


@pytest.fixture
def sought(tiny_run: RunSettings, toy_folder: Path) -> RunSettings:
    """Two rounds of prototypes, which are sought in maps of one scale."""
    return tiny_run.with_(
        {
            "route": "prototypes",
            "rounds": 2,
            "dataset.root": str(toy_folder),
            "cam.scales": SOME,
            "prototypes.scales": FEWER,
        }
    )


def stages_of(settings: RunSettings, folder: Path, *, dataset: Dataset | None = None) -> Sequence[PlannedStage]:
    """All stages of a run that is not carried out."""
    dataset = dataset or open_dataset(settings.dataset, work_folder=folder)
    context = Context.open(RunFolder(path=folder), dataset, machine=settings.machine, seed=settings.seed)
    return context.planned(partial(pipeline.all_stages, settings))


def maps_of(stages: Sequence[PlannedStage]) -> dict[str, Maps]:
    """The stages of response maps, by name."""
    return {
        one.stage.name: Maps(len(one.given["images"].image_set), one.given["settings"].scales)
        for one in stages
        if one.work is cam.run
    }


def test_prototypes_have_maps_of_their_own_until_the_last_round(sought: RunSettings, tmp_path: Path) -> None:
    assert maps_of(stages_of(sought, tmp_path)) == {
        "round0-cam": Maps(8, SOME),
        "round0-search-cam": Maps(24, FEWER),
        "round1-cam": Maps(8, SOME),
        "round1-search-cam": Maps(24, FEWER),
        "round2-cam": Maps(ALL, SOME),
    }
    with_control = maps_of(stages_of(replace(sought, control=True), tmp_path))
    assert with_control.pop("round2-control-cam") == Maps(8, SOME)
    assert with_control == maps_of(stages_of(sought, tmp_path))


def test_without_scales_of_their_own_they_are_sought_in_the_rounds_maps(sought: RunSettings, tmp_path: Path) -> None:
    settings = sought.with_({"prototypes.scales": ()})
    assert maps_of(stages_of(settings, tmp_path)) == {f"round{index}-cam": Maps(ALL, SOME) for index in range(3)}
    other = sought.with_({"route": "subcategories"})
    assert maps_of(stages_of(other, tmp_path)) == {
        "round0-cam": Maps(8, SOME),
        "round1-cam": Maps(8, SOME),
        "round2-cam": Maps(ALL, SOME),
    }


def test_a_round_that_is_refined_has_all_scales_for_its_masks(sought: RunSettings, tmp_path: Path) -> None:
    settings = sought.with_({"refine.rounds": "first-and-last"})
    found = maps_of(stages_of(settings, tmp_path))
    assert (found["round0-cam"], found["round0-search-cam"]) == (Maps(ALL, SOME), Maps(24, FEWER))
    dataset = replace(open_dataset(sought.dataset, work_folder=tmp_path), scored={})
    found = maps_of(stages_of(settings, tmp_path, dataset=dataset))
    assert (found["round0-cam"], found["round0-search-cam"]) == (Maps(24, SOME), Maps(24, FEWER))


def test_where_nothing_is_scored_these_are_the_rounds_maps(sought: RunSettings, tmp_path: Path) -> None:
    dataset = replace(open_dataset(sought.dataset, work_folder=tmp_path), scored={})
    assert maps_of(stages_of(sought, tmp_path, dataset=dataset)) == {
        "round0-cam": Maps(24, FEWER),
        "round1-cam": Maps(24, FEWER),
        "round2-cam": Maps(24, SOME),
    }


def test_the_rounds_own_scales_are_no_others(sought: RunSettings, tmp_path: Path) -> None:
    same, none = ({"prototypes.scales": scales} for scales in (SOME, ()))
    assert maps_of(stages_of(sought.with_(same), tmp_path)) == maps_of(stages_of(sought.with_(none), tmp_path))


def test_what_looks_for_confident_positions_is_given_them(sought: RunSettings, tmp_path: Path) -> None:
    given = {one.stage.name: one.given.get("maps") for one in stages_of(sought, tmp_path)}
    for name, maps in (
        ("round1-prototypes", "round0-search-cam"),
        ("round2-prototype-labels", "round1-search-cam"),
        ("round2-prototypes", "round1-search-cam"),
        ("round0-evaluate-val", "round0-cam"),
    ):
        assert given[name].name == maps


@pytest.mark.parametrize("scales", [(), FEWER])
def test_limits_are_chosen_from_the_maps_that_are_searched(
    sought: RunSettings, scales: tuple[float, ...], tmp_path: Path
) -> None:
    auto = {"prototypes.object_above": "auto", "prototypes.context_below": "auto"}
    settings = sought.with_({"prototypes.scales": scales, "control": True})
    assert not [one for one in stages_of(settings, tmp_path) if "limits" in one.stage.name]
    given = {one.stage.name: one.given for one in stages_of(settings.with_(auto), tmp_path)}
    assert {name for name in given if "limits" in name} == {"round0-limits", "round1-limits"}
    for name, limits in (
        ("round1-prototypes", "round0-limits"),
        ("round2-prototype-labels", "round1-limits"),
        ("round2-prototypes", "round1-limits"),
        ("round2-control-prototypes", "round1-limits"),
    ):
        assert given[name]["limits"].name == limits
        assert given[name]["maps"].key == given[limits]["maps"].key
        assert len(given[limits]["images"].image_set) == 24


def test_the_maps_are_those_at_these_scales(sought: RunSettings, tmp_path: Path) -> None:
    short = sought.with_({"rounds": 1, "until": "discover", "classify.epochs": 1})
    pipeline.run(short, tmp_path)
    (searched,) = tmp_path.glob("stages/round0-search-cam-*")
    pipeline.run(short.with_({"prototypes.scales": (), "cam.scales": FEWER}), tmp_path)
    (alike,) = (path for path in tmp_path.glob("stages/round0-cam-*") if len(list(path.glob("maps/*"))) == ALL)
    names = sorted(path.name for path in (searched / "maps").iterdir())
    assert len(names) == 24
    for name in names:
        one, other = (read_response_maps(folder / "maps" / name).maps.astype(int) for folder in (searched, alike))
        assert np.abs(one - other).max(initial=0) <= 1
