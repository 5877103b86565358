"""The stage between two rounds: features of whole images, clusters, and what is left after a kill."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from tests.stages.given import images_of, stage_at

from subcam.clustering import feature_files, features
from subcam.clustering.choose_k import discover_adaptive_subcategories
from subcam.clustering.subcategories import Subcategories, discover_subcategories, read_subcategories
from subcam.data.check import CheckedImages
from subcam.data.images import read_image
from subcam.data.records import ImageSet
from subcam.errors import BadInputError, SettingsError
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.runtime.devices import Device
from subcam.runtime.documents.plain_values import as_plain
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages import discover
from subcam.stages.context import compute
from subcam.stages.settings.discover import DiscoverSettings

SETTINGS = DiscoverSettings(num_subcategories=3, restarts=2, batch_size=5)


@pytest.fixture(scope="module")
def model(tiny_run: RunSettings, toy_train: CheckedImages, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    ClassificationNetwork(ModelConfig(network=tiny_run.network, class_names=toy_train.image_set.class_names)).save(
        folder
    )
    return stage_at(folder)


@pytest.fixture
def run(model: Stage, toy_train: CheckedImages, device: Device) -> Callable[..., tuple[Subcategories, Stage]]:
    """Find sub-categories in a folder unless that is done, with changes of what the stage is given, and read them."""

    def run(folder: Path, settings: DiscoverSettings = SETTINGS, **changes: Any) -> tuple[Subcategories, Stage]:
        given = {"images": toy_train, "model": model, "seed": 0, "device": device} | changes
        run_folder = RunFolder(path=folder)
        stage = run_folder.stage("discover", inputs={"settings": settings})
        compute(run_folder, stage, partial(discover.run, stage, settings=settings, **given))
        return read_subcategories(stage.path), stage

    return run


def plain_features(model: Stage, image_set: ImageSet) -> np.ndarray:
    """One image at a time: the mean of its feature map."""
    network = ClassificationNetwork.load(model.path).eval()
    rows = []
    with torch.no_grad():
        for record in image_set.records:
            image = torch.from_numpy(read_image(record.image)).permute(2, 0, 1)[None]
            rows.append(network.feature_map(image)[0].mean((1, 2)).numpy())
    return np.stack(rows)


def read_parts(stage: Stage) -> np.ndarray:
    return np.concatenate([np.load(path) for path in sorted(stage.path.glob("part-*.npy"))])


def assert_same(first: Subcategories, second: Subcategories) -> None:
    for name, value in vars(first).items():
        np.testing.assert_array_equal(value, getattr(second, name))


def test_features_are_pooled_maps_and_clusters_are_theirs(
    run: Callable, model: Stage, toy_train: CheckedImages, tmp_path: Path
) -> None:
    subcategories, stage = run(tmp_path)
    features = read_parts(stage)
    np.testing.assert_allclose(features, plain_features(model, toy_train.image_set), rtol=1e-4, atol=1e-5)
    expected = discover_subcategories(
        features, toy_train.image_set.labels, num_subcategories=3, seed=0, restarts=2, max_iterations=300
    )
    assert_same(subcategories, expected)
    assert subcategories.labels.shape == (24, 4 * 3)


def test_the_table_names_every_image_and_parent(run: Callable, toy_train: CheckedImages, tmp_path: Path) -> None:
    subcategories, stage = run(tmp_path)
    with (stage.path / "clusters.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    image_set = toy_train.image_set
    expected = {
        (record.name, image_set.class_names[c], str(subcategories.assignments[index, c]))
        for index, record in enumerate(image_set.records)
        for c in record.labels
    }
    assert {(row["image"], row["parent"], row["cluster"]) for row in rows} == expected
    assert len(rows) == image_set.labels.sum()


@pytest.mark.parametrize(("method", "candidates"), [("finch", {"finch"}), ("auto", {"finch", "kmeans"})])
def test_a_chosen_k_is_written_down_with_what_it_was_chosen_from(
    run: Callable,
    toy_train: CheckedImages,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    method: Literal["finch", "auto"],
    candidates: set[str],
) -> None:
    settings = replace(SETTINGS, method=method, max_subcategories=4, min_cluster_size=2)
    subcategories, stage = run(tmp_path, settings)
    image_set = toy_train.image_set
    expected, choices = discover_adaptive_subcategories(
        read_parts(stage),
        image_set.labels,
        candidates="finch" if method == "finch" else "both",
        max_subcategories=4,
        min_cluster_size=2,
        restarts=2,
    )
    assert_same(subcategories, expected)
    assert subcategories.labels.shape == (24, 4 * subcategories.num_clusters.max())
    assert all(sizes[sizes > 0].min() >= 2 for sizes in subcategories.sizes)
    outputs = stage.record["outputs"]
    assert outputs["k"] == dict(zip(image_set.class_names, subcategories.num_clusters.tolist(), strict=True))
    for name, choice in zip(image_set.class_names, choices, strict=True):
        assert choice is not None
        expected_record = as_plain({"chosen": choice.chosen, "candidates": choice.candidates})
        assert str(outputs["choices"][name]) == str(expected_record)  # a score that is not a number equals itself so
    assert {c["method"] for choice in outputs["choices"].values() for c in choice["candidates"]} == candidates
    listed = ", ".join(f"{name} {k}" for name, k in outputs["k"].items())
    assert f"sub-categories by class, chosen by silhouette: {listed}" in capsys.readouterr().out
    again, _ = run(tmp_path, settings)
    assert_same(subcategories, again)


def test_edited_clusters_are_taken_as_they_are(
    run: Callable, toy_train: CheckedImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two clusters of the first class are merged and one is given a name."""
    first, stage = run(tmp_path / "first")
    names = stage.path / "clusters-names.csv"
    lines = names.read_text("utf-8").splitlines()
    assert lines[1].startswith("ringtail,0,ringtail 0,")
    assert lines[2].startswith("ringtail,1,ringtail 1,")
    lines[1] = lines[1].replace("ringtail 0", "on grass")
    lines[2] += "0"
    names.write_text("\n".join(lines), "utf-8")
    settings = replace(SETTINGS, clusters=str(stage.path / "clusters.csv"))
    edited, after = run(tmp_path / "edited", settings)
    own = first.assignments[:, 0]
    np.testing.assert_array_equal(edited.assignments[:, 0], np.where(own == 1, 0, np.where(own == 2, 1, own)))
    np.testing.assert_array_equal(edited.assignments[:, 1:], first.assignments[:, 1:])
    assert edited.num_clusters.tolist() == [2, 3, 3, 3]
    assert after.record["outputs"]["k"]["ringtail"] == 2
    written = (after.path / "clusters-names.csv").read_text("utf-8").splitlines()
    assert written[1].startswith("ringtail,0,on grass,")
    assert written[2].startswith("ringtail,1,ringtail 2,")

    monkeypatch.delattr(discover, "extract_features")
    names.write_text("parent,cluster\nno such class,0\n", "utf-8")
    with pytest.raises(BadInputError, match=r"clusters-names\.csv:2: unknown parent 'no such class'"):
        run(tmp_path / "mistaken", settings)


def test_a_stage_that_is_done_is_not_computed_again(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, stage = run(tmp_path)
    monkeypatch.delattr(discover, "extract_features")
    again, _ = run(tmp_path)
    assert_same(first, again)
    assert np.array(stage.record["outputs"]["sizes"]).sum() == first.labels.sum()


@pytest.mark.parametrize("survived", [0, 1, 2])
def test_features_that_are_there_are_not_computed_again(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    """24 images in parts of 10; killed at the part of that number."""
    monkeypatch.setattr(feature_files, "IMAGES_PER_PART", 10)
    undisturbed, _ = run(tmp_path / "undisturbed")
    computed: list[int] = []
    really_pooled = features._pooled

    def pooled(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for batch, copy in really_pooled(*args, **kwargs):
            if killing and min(batch) >= 10 * survived:
                raise KeyboardInterrupt
            computed.extend(batch)
            yield batch, copy

    monkeypatch.setattr(features, "_pooled", pooled)
    killing = True
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    killing = False
    subcategories, _ = run(tmp_path / "killed")
    assert sorted(computed) == [*range(24)]
    assert_same(subcategories, undisturbed)


def test_classes_with_few_or_no_images_are_reported(
    run: Callable, toy_train: CheckedImages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One class keeps two images, one keeps none, and one image has no label at all."""
    kept = {2: 0, 3: 0}

    def fewer(labels: tuple[int, ...]) -> tuple[int, ...]:
        kept[2] += 2 in labels
        return tuple(c for c in labels if c < 2 or (c == 2 and kept[2] <= 2))

    image_set = toy_train.image_set
    records = [replace(record, labels=fewer(record.labels)) for record in image_set.records]
    records[0] = replace(records[0], labels=())
    image_set = replace(image_set, records=tuple(records))
    settings = replace(SETTINGS, num_subcategories=4)
    images = images_of(image_set, toy_train.sizes)
    subcategories, stage = run(tmp_path, settings, images=images)
    assert subcategories.num_clusters.tolist()[2:] == [2, 0]
    assert stage.record["outputs"]["fewer_than_k"] == {"crossbill": 2, "dotfish": 0}
    said = capsys.readouterr().out.replace("\n", " ")
    assert "fewer sub-categories than K = 4, for want of images: {'crossbill': 2, 'dotfish': 0}" in said
    assert not subcategories.labels[0].any()
    again, _ = run(tmp_path, settings, images=images)
    assert_same(subcategories, again)


def test_the_seed_is_that_of_k_means(run: Callable, toy_train: CheckedImages, tmp_path: Path) -> None:
    settings = replace(SETTINGS, restarts=1, max_iterations=1)
    (first, stage), (other, _) = run(tmp_path / "0", settings, seed=0), run(tmp_path / "1", settings, seed=1)
    assert (first.assignments != other.assignments).any()
    expected = discover_subcategories(
        read_parts(stage), toy_train.image_set.labels, num_subcategories=3, seed=1, restarts=1, max_iterations=1
    )
    assert_same(other, expected)


@pytest.mark.parametrize(
    "changes", [{"num_subcategories": 0}, {"restarts": 0}, {"batch_size": 0}, {"max_subcategories": 0}]
)
def test_settings_that_cannot_be(changes: dict) -> None:
    with pytest.raises(SettingsError, match=rf"^{next(iter(changes))}: expected a whole number from 1 to \d+, got 0"):
        DiscoverSettings(**changes)
