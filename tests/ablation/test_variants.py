"""Ablations: which variants there are, and what the numbers say."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.report import made_run
from tests.report.made_run import NOWHERE, map_scores, values

from subcam.ablation.variants import (
    Finished,
    Variant,
    expand,
    record_name,
    scores_of,
    short_names,
    summarise,
    summary_tables,
)
from subcam.data.check import CheckedImages
from subcam.data.dataset import Dataset
from subcam.data.records import ImageSet
from subcam.errors import SettingsError
from subcam.results import RefinedResult, RoundResult, RunResult, SegmentedResult
from subcam.runtime.machine.settings import MachineSettings
from subcam.settings import RunSettings
from subcam.stages.evaluate import RefinedScores, ScoreValues

# Which variants there are


def test_every_value_meets_every_other_and_every_seed() -> None:
    grid = {"discover.num_subcategories": (1, 5), "classify.subcategory_weight": (0.0, 5.0)}
    variants = expand(RunSettings(control=True), grid, seeds=(3, 0))
    found = [(v.seed, *v.grid.values()) for v in variants]
    assert found == [(s, k, weight) for s in (3, 0) for k in (1, 5) for weight in (0.0, 5.0)]
    for variant in variants:
        settings = variant.settings
        assert (settings.seed, settings.control) == (variant.seed, True)
        assert settings.discover.num_subcategories == variant.grid["discover.num_subcategories"]
        assert settings.classify.subcategory_weight == variant.grid["classify.subcategory_weight"]
    assert variants[0].label == "num_subcategories=1 subcategory_weight=0 seed=3"


def test_seeds_alone_are_a_grid() -> None:
    assert [v.label for v in expand(RunSettings(), {}, seeds=(0, 1))] == ["seed=0", "seed=1"]
    for seeds in ((), (1, 1)):
        with pytest.raises(SettingsError, match="expected one seed or more, each once"):
            expand(RunSettings(), {}, seeds=seeds)


def test_what_cannot_be_is_said_before_anything_runs() -> None:
    with pytest.raises(SettingsError, match=r"^num_subcategories=0 seed=0: .*num_subcategories: expected"):
        expand(RunSettings(), {"discover.num_subcategories": (5, 0)}, seeds=(0,))
    with pytest.raises(SettingsError, match=r"^seed=-1: .*seed: expected a whole number from 0"):
        expand(RunSettings(), {}, seeds=(-1,))


def test_short_names_stay_different() -> None:
    assert short_names(["rounds", "a.crop", "b.crop", "c.flip"]) == ["rounds", "a.crop", "b.crop", "flip"]


def images(digest: str) -> Dataset:
    nothing = ImageSet(class_names=("cat",), records=(), mask_values=(0,) * 256)
    train, val = (CheckedImages(image_set=nothing, sizes=(), digest=own) for own in (digest, "val"))
    return Dataset(train=train, scored={"val": val})


def variant(settings: RunSettings, grid: dict[str, Any] | None = None) -> Variant:
    return Variant(grid=grid or {}, seed=settings.seed, settings=settings)


def test_a_record_is_named_after_whatever_changes_results_and_nothing_else(tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"one")
    settings = RunSettings()
    settings = replace(settings, network=replace(settings.network, weights=str(weights)))

    def name(changed: RunSettings = settings, digest: str = "train") -> str:
        return record_name(variant(changed), images(digest))

    same = [
        replace(settings, machine=MachineSettings(workers=3, threads=2)),
        replace(settings, dataset=replace(settings.dataset, root="moved")),
    ]
    assert {name(changed) for changed in same} == {name()}
    inference = [MachineSettings(inference_precision=precision) for precision in ("32-true", "16-mixed")]
    assert len({name(replace(settings, machine=machine)) for machine in inference}) == 2
    others = [
        name(),
        name(digest="others"),
        name(replace(settings, rounds=1)),
        name(replace(settings, machine=MachineSettings(precision="bf16-mixed"))),
        name(replace(settings, discover=replace(settings.discover, restarts=1))),
    ]
    weights.write_bytes(b"two")
    others.append(name())
    edited = tmp_path / "clusters.csv"
    with_clusters = replace(settings, discover=replace(settings.discover, clusters=str(edited)))
    for file in (edited, tmp_path / "clusters-names.csv"):
        file.write_text("edited")
        others.append(name(with_clusters))
    assert len(set(others)) == len(others)


@pytest.mark.parametrize("text", ["../../etc/passwd", "a b c;$(rm)", "x" * 300, "日本", "", "-", "CON", "a/b\\c:*?"])
def test_hostile_values_make_plain_file_names(text: str) -> None:
    settings = RunSettings()
    settings = replace(settings, network=replace(settings.network, weights=text))
    name = record_name(variant(settings, {"network.weights": text}), images("train"))
    assert Path(name).name == name
    assert name.isascii()
    assert len(name) < 100
    assert not set(name) & set(' \n;$()/\\:*?"<>|')
    assert not name.startswith((".", "-"))


# What the numbers say


def finished(grid: dict[str, Any], seed: int, scores: dict[str, dict[str, float]]) -> Finished:
    return Finished(name="any", settings={}, grid=grid, seed=seed, scores=scores, seconds=1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_means_and_deviations_are_those_of_numpy(values: list[float]) -> None:
    runs = [finished({"rounds": 3}, seed, {"val": {"any: round 0": score}}) for seed, score in enumerate(values)]
    (found,) = summarise(runs)
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12)
    if len(values) == 1:
        assert found.std is None
    else:
        assert found.std == pytest.approx(np.std(values, ddof=1), abs=1e-9)


def test_points_splits_and_steps_are_kept_apart() -> None:
    runs = [
        finished({"k": k}, seed, {split: {"maps: round 0": base + seed / 10} for split, base in splits.items()})
        for k, splits in ((1, {"train": 0.1, "val": 0.2}), (5, {"train": 0.3, "val": 0.4}))
        for seed in (0, 1, 2)
    ]
    runs[0].scores["val"]["maps: round 0"] = math.nan  # nothing to score there
    found = {(s.grid["k"], s.split): (round(s.mean, 9), s.std and round(s.std, 9), s.n) for s in summarise(runs)}
    assert found == {
        (1, "train"): (0.2, 0.1, 3),
        (1, "val"): (0.35, round(math.sqrt(0.005), 9), 2),
        (5, "train"): (0.4, 0.1, 3),
        (5, "val"): (0.5, 0.1, 3),
    }


def a_run() -> RunResult:
    """Scores of all steps; the rest is made up."""

    def of(miou: float) -> ScoreValues:
        return {**values(0.0, 2), "miou": miou}

    def a_round(index: int, fixed: float, best: float, *, control: bool = False) -> RoundResult:
        scores = {"val": replace(map_scores(0.0, 2, 1), fixed=of(fixed), best=of(best))}
        return RoundResult(round_index=index, control=control, model=NOWHERE, maps=NOWHERE, scores=scores)

    masks = RefinedScores(images=1, variants={"crf": of(0.7)}, alphas=[1, 2, 3], walk_curve=[0.8, math.nan, 0.75])
    networks = {"pseudo": {"plain": of(0.85), "crf": of(0.9)}, "truth": {"plain": of(0.95)}}
    return replace(
        made_run.a_run(Path("nowhere")),
        rounds=(a_round(0, 0.1, 0.2), a_round(1, 0.3, 0.4), a_round(1, 0.5, 0.6, control=True)),
        refined=(RefinedResult(round_index=1, masks=NOWHERE, scores={"val": masks}, variant="crf"),),
        segmented=tuple(
            SegmentedResult(
                trained_on=kind,  # type: ignore[arg-type]
                round_index=1,
                model=NOWHERE,
                masks=NOWHERE,
                scores={"val": outputs},
            )
            for kind, outputs in networks.items()
        ),
    )


def test_every_step_has_a_name_and_what_used_masks_a_star() -> None:
    assert scores_of(a_run()) == {
        "val": {
            "response maps: round 0": 0.1,
            "response maps, best threshold *: round 0 *": 0.2,
            "response maps: round 1": 0.3,
            "response maps, best threshold *: round 1 *": 0.4,
            "control (lambda = 0): round 1": 0.5,
            "control (lambda = 0), best threshold *: round 1 *": 0.6,
            "pseudo masks of round 1: crf": 0.7,
            "pseudo masks of round 1: walk, best alpha *": 0.8,
            "segmentation from masks of round 1: plain": 0.85,
            "segmentation from masks of round 1: crf": 0.9,
            "segmentation from ground truth: plain": 0.95,
        }
    }
    assert scores_of(replace(a_run(), rounds=(), refined=(), segmented=())) == {}


def test_tables_have_a_row_a_point_and_a_dash_where_there_is_nothing() -> None:
    runs = [
        finished({"rounds": 0, "a.b": (1.0, 2.0)}, 0, {"val": {"response maps: round 0": 0.5}}),
        finished({"rounds": 1, "a.b": (1.0, 2.0)}, 0, {"val": {"response maps: round 0": 0.2}}),
        finished({"rounds": 1, "a.b": (1.0, 2.0)}, 1, {"val": {"response maps: round 0": 0.3}}),
    ]
    runs[1].scores["val"]["response maps: round 1"] = 0.4
    runs[2].scores["val"]["response maps: round 1"] = 0.44
    (table,) = summary_tables(summarise(runs))
    assert table.title == "Response maps, val (mIoU, per cent)"
    assert table.columns == ("rounds", "b", "n", "round 0", "round 1")
    assert table.rows == (("0", "1 2", "1", "50.0", "–"), ("1", "1 2", "2", "25.0 ± 7.1", "42.0 ± 2.8"))
