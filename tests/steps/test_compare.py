"""Somebody's methods in a run: in Table 1 beside ours, resumed by their code, read back without it."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from methods.plugins import MINE, WriteModule
from methods.plugins import module as module

from subcam import pipeline
from subcam.ablation.variants import Variant, record_name, scores_of
from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.dataset import open_dataset
from subcam.errors import MethodError, RunFolderError, SettingsError
from subcam.refine.variants import VARIANTS
from subcam.report.tables.tables import tables_of
from subcam.results import read_run
from subcam.settings import RunSettings

SQUARED = """\
import torch.nn.functional as F

def losses(network, images, labels):
    logits = network(images)
    first = F.binary_cross_entropy_with_logits(logits.parent, labels.float())
    second = F.binary_cross_entropy_with_logits(logits.subcategory, labels.float())
    return {"loss": first + second, "second_loss": second}

def square(network, image, maps, classes):
    return maps**2

SQUARED = Method(name="squared", losses=losses, num_subcategories=1, refine=square)
"""

SAME = """\
from subcam import Method

SAME = Method(name="same", title="Same", batched=True)
"""


@pytest.fixture
def settings(tiny_run: RunSettings) -> RunSettings:
    return tiny_run.with_(
        {
            "rounds": 0,
            "classify.epochs": 1,
            "cam.scales": (1.0,),
            "cam.storage_stride": 1,
            "dataset.toy.train_images": 8,
            "dataset.toy.val_images": 3,
            "compare.methods": ["own_method:MINE", "own_method:SQUARED"],
        }
    )


def classified(folder: Path) -> dict[str, str]:
    return {path.name.rpartition("-")[0]: path.name for path in (folder / "stages").iterdir()}


def test_they_stand_in_table_1_and_are_done_once_for_their_code(
    module: WriteModule, settings: RunSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module(MINE + SQUARED)
    result = pipeline.run(settings, tmp_path / "run")
    assert [row[1] for row in tables_of(result)[1].rows] == ["0 (CAM)", "Centre", "squared"]
    centre, squared = result.compared
    assert (centre.model, squared.model) == (result.rounds[0].model, squared.model)
    assert squared.model.record["outputs"].keys() >= {"loss", "second_loss"}
    names = [path.stem for path in (centre.maps.path / "maps").iterdir()]
    assert len(names) == 3
    for name in names:
        maps = read_response_maps(maps_path(centre.maps.path, name)).full_size()
        height, width = maps.shape[1:]
        expected = np.outer(1 - np.linspace(-1, 1, height) ** 2, 1 - np.linspace(-1, 1, width) ** 2)
        np.testing.assert_allclose(maps, np.broadcast_to(expected, maps.shape), atol=0.003)
    capsys.readouterr()

    again = pipeline.run(settings, tmp_path / "run")
    assert "8 of 8 stages kept" in capsys.readouterr().out, "round 0 has 3 stages, they have 2 and 3"
    assert [one.maps.key for one in again.compared] == [one.maps.key for one in result.compared]
    module(MINE + SQUARED + "# changed\n")
    changed = pipeline.run(settings, tmp_path / "run")
    assert "compare-centre-cam: computed anew, because method.source changed" in capsys.readouterr().out
    assert [one.maps.key for one in changed.rounds] == [one.maps.key for one in result.rounds]
    assert changed.compared[1].model.key != squared.model.key


def test_their_maps_become_pseudo_masks_as_those_of_a_round_do(
    module: WriteModule, settings: RunSettings, tmp_path: Path
) -> None:
    module(SAME + SQUARED)
    changes = {"compare.methods": ["own_method:SAME", "own_method:SQUARED"], "compare.refine": True}
    refine = {"refine.rounds": "last", "refine.affinity.epochs": 0}
    result = pipeline.run(settings.with_(changes | refine), tmp_path / "run")
    (own,), (same, squared) = result.refined, result.compared
    assert same.refined is not None
    assert squared.refined is not None
    written = sorted(path.relative_to(own.masks.path) for path in own.masks.path.rglob("*.png"))
    assert len(written) == 8 + 3 * len(VARIANTS)  # of the training images only those that a network learns from
    for name in written:
        assert (same.refined.masks.path / name).read_bytes() == (own.masks.path / name).read_bytes()
    assert same.refined.scores == own.scores
    assert squared.refined.scores["val"].variants != own.scores["val"].variants

    run = read_run(tmp_path / "run").result
    assert [one.refined and (one.refined.masks.path, one.refined.scores) for one in run.compared] == [
        (one.refined.masks.path, one.refined.scores) for one in (same, squared) if one.refined
    ]
    masks = tables_of(run)[1]
    assert "were not refined" not in masks.note
    assert masks.rows[0][2:] == masks.rows[1][2:]
    assert None not in masks.rows[2]
    scores = scores_of(run)["val"]
    for variant in VARIANTS:
        assert scores[f"pseudo masks of Same: {variant}"] == scores[f"pseudo masks of round 0: {variant}"]


def test_what_reads_a_run_imports_none_of_its_methods(
    module: WriteModule, settings: RunSettings, tmp_path: Path
) -> None:
    path, out = module(MINE + SQUARED), tmp_path / "run"
    result = pipeline.run(settings, out)
    path.unlink()
    del sys.modules["own_method"]
    run = read_run(out)
    assert repr(tables_of(run.result)) == repr(tables_of(result))
    record = json.loads((out / "run.json").read_text("utf-8"))
    assert "response maps of other methods: Centre" in scores_of(run.result)["val"]
    assert "own_method" not in sys.modules
    del record["compared"][0]["title"]
    (out / "run.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(RunFolderError, match=r"run\.json is not the record of a run \(there is no comparison 'centre"):
        read_run(out)
    with pytest.raises(SettingsError, match="own_method:MINE: there is no module own_method"):
        pipeline.run(settings, out)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MINE = Method(name='a', maps=lambda *_: [])\n", "maps of an image of noise: expected a list of 1"),
        (
            MINE.replace("return [", "return None if images.shape[-1] == 48 else ["),
            "maps of val-00000: expected a list of 1, the maps of each image, got NoneType",
        ),
    ],
)
def test_a_mistake_names_method_and_image(
    module: WriteModule, settings: RunSettings, tmp_path: Path, text: str, message: str
) -> None:
    """Before anything is computed where noise shows it."""
    module(text)
    with pytest.raises(MethodError) as error:
        pipeline.run(settings.with_({"compare.methods": ["own_method:MINE"]}), tmp_path)
    assert message in str(error.value)
    assert (tmp_path / "stages").exists() == ("noise" not in message)


def test_a_variant_of_an_ablation_is_another_with_other_code(
    module: WriteModule, settings: RunSettings, tmp_path: Path
) -> None:
    dataset = open_dataset(settings.dataset, work_folder=tmp_path)

    def name(changes: dict[str, Any]) -> str:
        return record_name(Variant(grid={}, seed=0, settings=settings.with_(changes)), dataset)

    module(MINE + SQUARED)
    first, without = name({}), name({"compare.methods": ()})
    module(MINE + SQUARED + "# changed\n")
    assert name({}) != first
    assert name({"compare.methods": ()}) == without
