"""Response maps of other methods in a run: made and scored as those of the rounds, which they do not change."""

import builtins
import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from report.legible import faults
from rich.console import Console
from safetensors.torch import load_file

from subcam import pipeline
from subcam.ablation.dry_run import finished_stages
from subcam.ablation.variants import scores_of
from subcam.cam.map_files import maps_path, read_response_maps
from subcam.cam.multiscale import multiscale_response
from subcam.comparisons.settings import EquivarianceSettings
from subcam.data.dataset import Dataset, open_dataset
from subcam.data.images import read_image
from subcam.errors import SettingsError
from subcam.methods.built_in import TITLES
from subcam.methods.compute import responses_of
from subcam.methods.registry import choose
from subcam.methods.settings import CompareSettings
from subcam.networks.classifier import ClassificationNetwork
from subcam.refine.variants import VARIANTS
from subcam.report.gather.images import gather_images
from subcam.report.page.figures import number_figures
from subcam.report.page.image_figures import image_figures
from subcam.report.tables.formats import csv_table, latex_table, markdown_table, terminal_table
from subcam.report.tables.tables import tables_of, write_tables
from subcam.results import RefinedResult, RunResult, read_run
from subcam.settings import RunSettings
from subcam.stages.evaluate import RefinedScores
from subcam.training import loop
from subcam.training.checkpoint import TrainingCheckpoint

METHODS = tuple(TITLES)
OWN_NETWORK = ("erasing", "equivariance")


@pytest.fixture(scope="module")
def settings(tiny_run: RunSettings) -> RunSettings:
    return replace(tiny_run, compare=CompareSettings(methods=METHODS))


@pytest.fixture(scope="module")
def finished(settings: RunSettings, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Rounds 0 and 1 and all comparisons, with tables."""
    pytest.importorskip("pytorch_grad_cam", reason="needs the extra 'compare'")
    result = pipeline.run(settings, tmp_path_factory.mktemp("compared"))
    write_tables(result)
    return result


@pytest.fixture(scope="module")
def dataset(finished: RunResult) -> Dataset:
    return open_dataset(finished.settings.dataset, work_folder=finished.out)


def stages(folder: Path) -> set[str]:
    return {path.name.rpartition("-")[0] for path in (folder / "stages").iterdir()}


def test_each_is_found_by_its_name() -> None:
    chosen = choose(CompareSettings(methods=METHODS))
    assert [one.method.name for one in chosen] == [one.key for one in chosen] == list(METHODS)
    assert [one.training is not None for one in chosen] == [name in OWN_NETWORK for name in METHODS]


def test_each_has_maps_and_scores_of_the_scored_images(finished: RunResult) -> None:
    assert [found.method for found in finished.compared] == list(METHODS)
    plain = finished.rounds[0]
    for found in finished.compared:
        assert len(list((found.maps.path / "maps").iterdir())) == 8
        assert found.scores.keys() == {"val"}
        assert found.scores["val"].images == 8
        assert 0 < found.scores["val"].fixed["miou"] <= found.scores["val"].best["miou"] < 1
        assert (found.model == plain.model) == (found.method not in OWN_NETWORK)
        assert found.scores["val"].miou_curve != plain.scores["val"].miou_curve
    assert {name for name in stages(finished.out) if name.startswith("compare")} == {
        *(f"compare-{method}-{step}" for method in METHODS for step in ("cam", "evaluate-val")),
        *(f"compare-{method}-classify" for method in OWN_NETWORK),
    }


def test_stored_maps_are_those_of_the_method(finished: RunResult, dataset: Dataset) -> None:
    cam, images = finished.settings.cam, dataset.scored["val"].image_set
    record, row = images.records[0], torch.from_numpy(images.labels[:1])
    pixels = torch.from_numpy(read_image(record.image)).permute(2, 0, 1)[None]
    for found in finished.compared:
        network = ClassificationNetwork.load(found.model.path).eval()
        (chosen,) = choose(CompareSettings(methods=(found.method,)))
        (response,) = responses_of(chosen, network, pixels, row, settings=cam, names=["a"])
        stored = read_response_maps(maps_path(found.maps.path, record.name))
        assert stored.classes.tolist() == list(record.labels)
        assert stored.subcategory_maps.shape[1] == 0
        np.testing.assert_allclose(stored.logits, response.logits, rtol=1e-4, atol=1e-4)
        assert np.abs(stored.full_size() - response.maps.numpy()).mean() < 0.02
        (plain,) = multiscale_response(network, pixels, row, scales=cam.scales, flip=cam.flip)
        assert (found.method == "equivariance") == torch.equal(plain.maps, response.maps)


def test_own_networks_start_as_round_0_and_learn_something_else(finished: RunResult, settings: RunSettings) -> None:
    round_0 = load_file(finished.rounds[0].model.path / "model.safetensors")
    for found in finished.compared:
        if found.method in OWN_NETWORK:
            own = load_file(found.model.path / "model.safetensors")
            assert own.keys() - round_0.keys() == ({"subcategory_head.weight"} if found.method == "erasing" else set())
            assert not torch.equal(own["parent_head.weight"], round_0["parent_head.weight"])
            steps = finished.rounds[0].model.record["outputs"]["steps"]
            assert found.model.record["outputs"]["steps"] == steps
            assert found.model.record["inputs"]["comparison"].keys()


def test_table_1_shows_them_beside_plain_cam_and_the_last_round(finished: RunResult) -> None:
    rounds, table = tables_of(finished)
    assert table.title.startswith("Table 1.")
    assert table.columns == ("split", "maps of", "CAM", "CAM *")
    assert [row[1] for row in table.rows] == ["0 (CAM)", "Grad-CAM++", "LayerCAM", "erasing", "equivariance", "1"]
    for row, found in zip(table.numbers[1:5], finished.compared, strict=True):
        scores = found.scores["val"]
        assert row[2:] == (scores.fixed["miou"], scores.best["miou"])
    assert [row[1] for row in rounds.rows] == ["0 (CAM)", "1", "Grad-CAM++", "LayerCAM", "erasing", "equivariance"]
    assert rounds.sections == (2,)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal_table(table))
    terminal = console.export_text()
    for text in (csv_table(table), markdown_table(table), latex_table(table), terminal):
        assert all(TITLES[method] in text for method in METHODS)
    assert max(map(len, terminal.splitlines())) <= 80


def test_refined_rounds_have_their_numbers_and_comparisons_have_none(finished: RunResult) -> None:
    variants: dict[str, dict[str, Any]] = {
        variant: {"miou": 0.5 + place / 100, "iou": [0.5]} for place, variant in enumerate(VARIANTS)
    }
    scores = RefinedScores(images=8, variants=variants, alphas=[4.0, 16.0], walk_curve=[0.4, 0.6])
    refined = RefinedResult(round_index=1, masks=finished.rounds[1].maps, scores={"val": scores}, variant="crf")
    table = tables_of(replace(finished, refined=(refined,)))[1]
    assert table.columns == ("split", "maps of", "CAM", "+CRF", "+RW", "+RW+CRF", "CAM *", "+RW *", "alpha *")
    assert [row[1] for row in table.rows] == ["0 (CAM)", *TITLES.values(), "1"]
    assert all(row[3:6] == (*row[7:], "–") == ("–", "–", "–") for row in table.rows[:-1])
    assert table.rows[-1][3:6] == ("50.0", "51.0", "52.0")
    assert table.rows[-1][7:] == ("60.0", "16")
    assert "were not refined" in table.note
    without = tables_of(replace(finished, refined=(refined,), compared=()))[1]
    assert [row[1] for row in without.rows] == ["1"]
    assert without.note == ""


def test_files_and_record_have_them(finished: RunResult) -> None:
    summary = (finished.out / "summary.md").read_text("utf-8")
    rows = list(csv.DictReader((finished.out / "pseudo-masks.csv").open(encoding="utf-8")))
    classes = list(csv.DictReader((finished.out / "class-iou.csv").open(encoding="utf-8")))
    record = json.loads((finished.out / "run.json").read_text("utf-8"))
    means = scores_of(read_run(finished.out).result)["val"]
    for found, entry in zip(finished.compared, record["compared"], strict=True):
        miou = found.scores["val"].fixed["miou"]
        assert found.title in summary
        assert [float(row["CAM"]) for row in rows if row["maps of"] == found.title] == [miou]
        assert [float(row["mIoU"]) for row in classes if row["round"] == found.title] == [miou]
        assert entry["method"] == found.method
        assert entry["scores"]["val"]["fixed"]["miou"] == miou
        assert (finished.out / entry["model"] / "model.safetensors").is_file()
        assert means[f"response maps of other methods: {found.title}"] == miou


def test_a_run_that_is_read_back_is_the_same(finished: RunResult) -> None:
    run = read_run(finished.out)
    assert repr(tables_of(run.result)) == repr(tables_of(finished))
    assert run.result.settings.compare == finished.settings.compare
    costs = {cost.name for cost in run.stages}
    assert {f"compare-{method}-cam" for method in METHODS} <= costs
    assert {f"compare-{method}-evaluate-val" for method in METHODS} <= costs


def test_a_record_from_before_there_were_comparisons_is_read(finished: RunResult, tmp_path: Path) -> None:
    record = json.loads((finished.out / "run.json").read_text("utf-8"))
    del record["compared"], record["settings"]["compare"]
    (tmp_path / "run.json").write_text(json.dumps(record))
    run = read_run(tmp_path)
    assert run.result.compared == ()
    assert run.result.settings.compare == CompareSettings()
    assert not any("Grad" in name for name in scores_of(run.result)["val"])


def test_the_figures_of_the_page_show_them(finished: RunResult, dataset: Dataset) -> None:
    """As curves over thresholds, and as columns of Figure 3."""
    run = read_run(finished.out)
    thresholds = next(figure.figure for figure in number_figures(run) if figure.name == "thresholds-val")
    labels = [text.get_text() for text in thresholds.legends[0].get_texts()]
    assert labels[:-1] == ["plain CAM", "round 1", *TITLES.values()]
    shown = gather_images(run, dataset, limit=2).shown
    name, figure = next(image_figures(run, shown, ()))
    assert name == "figure-3-responses"
    titles = ["image", "plain CAM", *TITLES.values(), "round 1", "ground truth"]
    texts = sorted(figure.axes[0].texts[: len(titles)], key=lambda text: text.get_position())
    assert [text.get_text() for text in texts] == titles
    assert faults(figure) == []
    maps = [np.asarray(image.get_array()) for image in figure.axes[0].images[1:7]]
    assert all((one != other).any() for place, one in enumerate(maps) for other in maps[:place])


def test_the_rest_of_the_run_is_as_without(finished: RunResult, settings: RunSettings, tmp_path: Path) -> None:
    without = pipeline.run(replace(settings, compare=CompareSettings()), tmp_path)
    assert not any(name.startswith("compare") for name in stages(tmp_path))
    assert [found.model.key for found in without.rounds] == [found.model.key for found in finished.rounds]
    assert [found.maps.key for found in without.rounds] == [found.maps.key for found in finished.rounds]
    assert repr([found.scores for found in without.rounds]) == repr([found.scores for found in finished.rounds])
    assert [table.name for table in tables_of(without)] == ["table-2"]


def test_a_second_run_does_nothing_and_a_setting_changes_its_own_stages(finished: RunResult) -> None:
    dataset = open_dataset(finished.settings.dataset, work_folder=finished.out)
    there, following = finished_stages(finished.settings, finished.out, dataset=dataset)
    assert following is None
    compare = replace(finished.settings.compare, equivariance=EquivarianceSettings(weight=0.5))
    there, following = finished_stages(replace(finished.settings, compare=compare), finished.out, dataset=dataset)
    assert following is not None
    assert following.startswith("compare-equivariance-classify")
    assert sum(name.startswith("compare-erasing") for name in there) == 3


@pytest.mark.parametrize("method", OWN_NETWORK)
def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    finished: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    undisturbed = next(found for found in finished.compared if found.method == method)
    folder = tmp_path / "run"
    shutil.copytree(finished.out, folder, ignore=lambda _, names: {undisturbed.model.path.name}.intersection(names))
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(TrainingCheckpoint, "due", True)
    with monkeypatch.context() as patch:
        saves, really_save = [], TrainingCheckpoint.save

        def save(self: TrainingCheckpoint, **where: Any) -> None:
            really_save(self, **where)
            saves.append(1)
            if len(saves) == 4:
                raise KeyboardInterrupt

        patch.setattr(TrainingCheckpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run(finished.settings, folder)
    checkpoint = folder / "stages" / undisturbed.model.path.name / "checkpoint.pt"
    assert torch.load(checkpoint, weights_only=True)["next_step"] == 4
    torch.manual_seed(12345)  # whatever chance the second process starts from
    taken_up = next(found for found in pipeline.run(finished.settings, folder).compared if found.method == method)
    mine, theirs = (load_file(found.model.path / "model.safetensors") for found in (taken_up, undisturbed))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


def test_a_missing_package_is_said_before_anything_is_done(
    settings: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_import = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "pytorch_grad_cam":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return really_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SettingsError, match=r"need the package grad-cam.*pip install grad-cam"):
        pipeline.run(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    choose(CompareSettings(methods=OWN_NETWORK))


def test_a_method_that_is_named_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"each of methods once, got erasing erasing"):
        CompareSettings(methods=("erasing", "erasing"))
