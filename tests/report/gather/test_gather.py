"""What the report reads from a run's folder: nothing is lost, nothing is another run's, missing parts are missing."""

import csv
import json
import math
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import jaccard_score, silhouette_samples
from tests.foreign_program import POSTSCRIPT, stand_in

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.images import read_image, read_mask
from subcam.errors import BadInputError, RunFolderError
from subcam.metrics.masks_csv import read_confidences
from subcam.networks.classifier import ClassificationNetwork
from subcam.report.gather.clusters import gather_clusters, head_weights
from subcam.report.gather.disagreement import disagreement, with_disagreement
from subcam.report.gather.images import (
    ImageRecord,
    Images,
    choose,
    evenly_spaced,
    gather_images,
    image_iou,
    published,
    response_threshold,
    thresholded,
)
from subcam.results import open_images, read_run
from subcam.runtime.documents.plain_values import as_plain, from_plain
from subcam.settings import RunSettings

CLASSES = 5


@dataclass(frozen=True, kw_only=True)
class Inner:
    sides: tuple[int, ...] = (1, 2)
    where: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    rate: float
    inner: Inner
    by_split: dict[str, Inner]


def test_the_first_mask_is_the_one_that_is_shown_at_the_top_of_the_run(gathered: Images, finished_run: Path) -> None:
    image = gathered.shown[0]
    name, path = next(iter(image.masks.items()))
    assert name == published(read_run(finished_run))
    assert path == finished_run / f"masks/{image.name}.png"


def test_the_first_mask_is_that_of_the_record_not_of_another_run_in_the_folder(
    finished_run: Path, gathered: Images
) -> None:
    run = read_run(finished_run)
    other = replace(run, result=replace(run.result, refined=(replace(run.result.refined[0], variant="walk"),)))
    name = next(one.name for one in gathered.shown if len({path.read_bytes() for path in one.masks.values()}) > 1)
    images = gather_images(other, open_images(run), limit=1000).shown
    first, path = next(iter(next(one for one in images if one.name == name).masks.items()))
    assert first.endswith("random walk")
    assert path.parent.name == "walk"


def test_confidences_are_those_of_the_record_too(finished_run: Path, tmp_path: Path) -> None:
    run = read_run(finished_run)
    elsewhere = replace(run, result=replace(run.result, out=tmp_path))
    images = gather_images(elsewhere, open_images(run), limit=1000).shown
    said = {row.image: row.confidence for row in read_confidences(finished_run)}
    assert {image.name: image.confidence for image in images} == {image.name: said[image.name] for image in images}
    unrated = replace(run, result=replace(run.result, refined=(replace(run.result.refined[0], confidence=None),)))
    assert not any(image.confidence for image in gather_images(unrated, open_images(run), limit=1000).shown)


def test_a_record_becomes_what_it_was_made_of() -> None:
    value = Outer(
        name="a", rate=0.5, inner=Inner(sides=(3,), where=Path("b/c")), by_split={"val": Inner(), "train": Inner()}
    )
    assert from_plain(Outer, json.loads(json.dumps(as_plain(value)))) == value


def test_a_record_of_another_version_loses_what_is_unknown_and_misses_numbers() -> None:
    plain = {"name": "a", "inner": {"sides": [1], "removed": 3}, "by_split": {}, "added": True}
    found = from_plain(Outer, plain, lenient=True)
    assert found.inner == Inner(sides=(1,))
    assert math.isnan(found.rate)
    with pytest.raises(TypeError, match="name"):
        from_plain(Outer, {key: plain[key] for key in ("inner", "by_split")}, lenient=True)
    with pytest.raises(TypeError, match="Outer has no field 'added'"):
        from_plain(Outer, plain)


def test_settings_come_back_whole(tiny_run: RunSettings) -> None:
    assert from_plain(RunSettings, json.loads(json.dumps(as_plain(tiny_run)))) == tiny_run


def test_no_finished_run_is_said_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"holds no finished run: expected run\.json"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text('{"settings": {}}', "utf-8")
    with pytest.raises(RunFolderError, match="not the record of a run"):
        read_run(tmp_path)


def test_the_run_comes_back_with_its_rounds_and_stages(finished_run: Path) -> None:
    run = read_run(finished_run)
    plain = json.loads((finished_run / "run.json").read_text("utf-8"))
    assert [found.round_index for found in run.rounds] == [0, 1]
    assert [found.control for found in run.result.rounds] == [False, False, True]
    assert run.result.rounds[1].scores["val"].fixed == plain["rounds"][1]["scores"]["val"]["fixed"]
    assert run.rounds[1].clusters is not None
    assert run.result.recipe == "toy"
    names = {cost.name for cost in run.stages}
    assert {"round0-classify", "round1-discover", "round1-control-cam", "round1-evaluate-masks-val"} <= names
    stored = {path.parent: json.loads(path.read_text("utf-8")) for path in finished_run.glob("stages/*/stage.json")}
    assert {cost.folder for cost in run.stages} == set(stored)
    assert sum(cost.seconds for cost in run.stages) == pytest.approx(sum(s["seconds"] for s in stored.values()))


def test_stages_of_other_settings_in_the_folder_are_not_counted(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    before = read_run(folder).stages
    for name, threshold in (("round0-classify", None), ("round0-evaluate-val", 0.77)):
        (own,) = folder.glob(f"stages/{name}-*")
        record = json.loads((own / "stage.json").read_text("utf-8"))
        record["key"] = "0" * 64
        if threshold is not None:
            record["inputs"]["settings"]["background_threshold"] = threshold
        other = folder / "stages" / f"{name}-0000000000"
        other.mkdir()
        (other / "stage.json").write_text(json.dumps(record), "utf-8")
    assert [cost.name for cost in read_run(folder).stages] == [cost.name for cost in before]


def test_clusters_are_found_in_a_record_that_does_not_name_them(finished_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    plain = json.loads((folder / "run.json").read_text("utf-8"))
    expected = plain["rounds"][1]["clusters"]
    for entry in plain["rounds"]:
        del entry["clusters"]
    del plain["recipe"], plain["segment"]
    (folder / "run.json").write_text(json.dumps(plain), "utf-8")
    run = read_run(folder)
    assert run.rounds[0].clusters is None
    assert run.rounds[1].clusters is not None
    assert run.rounds[1].clusters.path == folder / expected
    assert run.result.segmented == ()


@pytest.mark.parametrize("edited", [(), ("ringtail",), ("ringtail", "a", "b", "c"), ("a", "b", "c", "d", "e")])
def test_classes_of_a_record_that_are_not_those_of_its_images_are_named(
    finished_run: Path, edited: tuple[str, ...]
) -> None:
    run = read_run(finished_run)
    run = replace(run, result=replace(run.result, class_names=edited))
    with pytest.raises(RunFolderError, match=r"run\.json: \.class_names: expected those of the images"):
        open_images(run)


def test_images_that_moved_are_asked_for(finished_run: Path, tmp_path: Path) -> None:
    run = read_run(finished_run)
    (images,) = finished_run.glob("toy-*")
    gone = replace(run.result.settings.dataset, root=str(tmp_path / "gone"))
    run = replace(run, result=replace(run.result, settings=replace(run.result.settings, dataset=gone)))
    with pytest.raises(RunFolderError, match="--data DIR"):
        open_images(run)
    with pytest.raises(RunFolderError, match="is no folder"):
        open_images(run, data=str(tmp_path / "nowhere"))
    assert len(open_images(run, data=str(images)).train.image_set) == 24


def test_an_image_that_became_postscript_is_not_drawn(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = stand_in(tmp_path, monkeypatch)
    (images,) = finished_run.glob("toy-*")
    shutil.copytree(images, tmp_path / "images")
    run = read_run(finished_run)
    dataset = open_images(run, data=str(tmp_path / "images"))
    for path in (tmp_path / "images").rglob("*.png"):
        path.write_bytes(POSTSCRIPT)
    with pytest.raises(BadInputError, match="expected an image"):
        gather_images(run, dataset, limit=5)
    assert not mark.exists()


def test_iou_of_an_image_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice(np.array([0, 1, 3, 255], np.uint8), (30, 40))
    prediction = rng.integers(0, CLASSES, (30, 40)).astype(np.uint8)
    scored = truth != 255
    expected = jaccard_score(truth[scored], prediction[scored], labels=[1, 3], average="macro")
    assert image_iou(prediction, truth, num_classes=CLASSES) == pytest.approx(expected)
    assert image_iou(prediction, np.zeros_like(truth), num_classes=CLASSES) is None


def test_what_is_above_the_threshold_has_the_class_of_the_strongest() -> None:
    maps = np.array([[[0.2, 0.6, 0.5]], [[0.3, 0.7, 0.5]]], np.float32)
    found = thresholded(maps, np.array([1, 3]), 0.5)
    assert found.tolist() == [[0, 4, 0]]
    assert thresholded(maps[:0], np.array([], np.int64), 0.5).tolist() == [[0, 0, 0]]
    at = np.array([[[0.2, 0.5, 0.7]]], np.float32)
    assert thresholded(at, np.array([3]), 0.5).tolist() == [[0, 0, 4]]  # what equals the threshold is background


def image(index: int, gain: float | None) -> ImageRecord:
    return ImageRecord(
        name=str(index),
        split="val",
        image=Path("a"),
        truth=None,
        mask_values=(),
        labels=(),
        maps=(),
        masks={},
        plain_iou=None if gain is None else 0.5,
        last_iou=None if gain is None else 0.5 + gain,
    )


def test_the_worst_are_chosen_as_often_as_the_best() -> None:
    rng = np.random.default_rng(0)
    images = [image(index, float(gain)) for index, gain in enumerate(rng.uniform(-0.5, 0.5, 100))]
    found = choose(images, 30)
    assert len(found) == len({one.name for one in found}) == 30
    assert [int(one.name) for one in found] == sorted(int(one.name) for one in found)
    by_gain = sorted(images, key=lambda one: one.gain or 0.0)
    assert {one.name for one in by_gain[:10] + by_gain[-10:]} <= {one.name for one in found}
    assert len(choose([image(index, None) for index in range(50)], 7)) == 7
    assert choose(images, 100) == tuple(images)


def test_the_threshold_of_maps_that_were_not_scored(finished_run: Path) -> None:
    run = read_run(finished_run)
    scored = run.rounds[1]
    assert response_threshold(run, "val", scored) == scored.scores["val"].fixed_threshold
    other = replace(scored, scores={"val": replace(scored.scores["val"], fixed_threshold=0.77)})
    assert response_threshold(run, "val", other) == 0.77
    given = run.result.settings.evaluate.background_threshold
    assert response_threshold(run, "train", other) == given != 0.77
    settings = run.result.settings
    chosen = replace(settings, evaluate=replace(settings.evaluate, background_threshold="auto"))
    unknown = replace(run, result=replace(run.result, settings=chosen))
    assert response_threshold(unknown, "train", other) == 0.3


def test_evenly_spaced_places_are_spread_and_never_twice() -> None:
    assert evenly_spaced(3, 5) == [0, 1, 2]
    assert evenly_spaced(10, 5) == [0, 2, 4, 6, 8]
    assert len(set(evenly_spaced(997, 200))) == 200


def test_gain_of_an_image_is_that_of_its_maps(finished_run: Path, gathered: Images) -> None:
    run = read_run(finished_run)
    dataset = open_images(run)
    assert gathered.total == gathered.compared == len(gathered.shown) == len(dataset.scored["val"].image_set)
    one = gathered.shown[7]
    record = dataset.scored["val"].image_set.records[7]
    maps = read_response_maps(maps_path(run.rounds[1].maps.path, record.name))
    assert record.mask is not None
    truth = read_mask(record.mask, dataset.train.image_set.mask_values)
    threshold = run.result.settings.evaluate.background_threshold
    full = maps.full_size()
    prediction = np.where(full.max(0) > threshold, maps.classes[full.argmax(0)] + 1, 0)
    objects = sorted(set(truth.ravel().tolist()) - {0, 255})
    expected = jaccard_score(truth.ravel(), prediction.ravel(), labels=objects, average="macro", zero_division=0)
    assert one.last_iou == pytest.approx(expected)
    assert set(one.masks) == {
        "pseudo mask of round 1, CRF",
        "pseudo mask of round 1, random walk",
        "pseudo mask of round 1, random walk + CRF",
        "segmentation trained on pseudo masks of round 1",
        "segmentation trained on pseudo masks of round 1 + CRF",
    }
    assert read_image(one.image).shape == (48, 48, 3)


def test_clusters_have_their_members_purity_and_neighbours(finished_run: Path) -> None:
    run = read_run(finished_run)
    dataset = open_images(run)
    records = dataset.train.image_set.records
    parents = gather_clusters(run, dataset, most_images=10_000)
    stage = run.rounds[1].clusters
    assert stage is not None
    with np.load(stage.path / "clusters.npz") as arrays:
        assignments, centroids = arrays["assignments"], arrays["centroids"]
    features = np.concatenate([np.load(path) for path in sorted(stage.path.glob("part-*.npy"))])
    (table,) = finished_run.glob("toy-*/subtypes.csv")
    with table.open(encoding="utf-8", newline="") as file:
        truth = {(row["image"], row["class"]): row["subtype"] for row in csv.DictReader(file)}
    seen = 0
    for c, parent in enumerate(parents):
        assert [cluster.size for cluster in parent.clusters] == sorted((k.size for k in parent.clusters), reverse=True)
        everyone = np.flatnonzero(assignments[:, c] >= 0)
        if len(set(assignments[everyone, c].tolist())) < len(everyone):
            silhouettes = silhouette_samples(features[everyone], assignments[everyone, c])
        for cluster in parent.clusters:
            members = [i for i in range(len(records)) if assignments[i, c] == cluster.index]
            assert cluster.size == len(members)
            assert cluster.name == f"{parent.class_name} {cluster.index}"
            centre = centroids[c * (len(centroids) // len(parents)) + cluster.index]
            near = sorted(members, key=lambda i, centre=centre: float(np.linalg.norm(features[i] - centre)))
            assert cluster.nearest == tuple(records[i].image for i in near[:9])
            kinds = Counter(truth[f"images/{records[i].image.name}", parent.class_name] for i in members)
            assert cluster.purity == pytest.approx(max(kinds.values()) / len(members))
            shares = dataset.train.image_set.labels[members].mean(0)
            excess = shares - dataset.train.image_set.labels[everyone].mean(0)
            if cluster.companion is None:
                assert np.delete(excess, c).max() <= 0
            else:
                name, inside, _ = cluster.companion
                other = dataset.train.image_set.class_names.index(name)
                assert excess[other] == pytest.approx(np.delete(excess, c).max())
                assert inside == pytest.approx(shares[other])
            if cluster.silhouette is not None:
                assert cluster.silhouette == pytest.approx(silhouettes[np.isin(everyone, members)].mean(), abs=1e-5)
                seen += 1
    assert seen
    clusters = sum(len(parent.clusters) for parent in parents)
    some = gather_clusters(run, dataset, most_images=5 * clusters)
    assert max(len(cluster.nearest) for parent in some for cluster in parent.clusters) == 3, "whole rows of three"
    few = gather_clusters(run, dataset, most_images=1)
    assert all(cluster.nearest == () for parent in few for cluster in parent.clusters)


def test_weights_are_those_of_the_saved_network(finished_run: Path) -> None:
    run = read_run(finished_run)
    found = head_weights(run)
    network = ClassificationNetwork.load(run.rounds[1].model.path)
    assert found is not None
    assert network.subcategory_head is not None
    np.testing.assert_array_equal(found.parent, network.parent_head.weight.detach().numpy())
    np.testing.assert_array_equal(found.subcategory, network.subcategory_head.weight.detach().numpy())
    assert len(found.has_images) == len(found.subcategory)


def test_parts_that_a_run_did_not_have_are_empty(finished_run: Path) -> None:
    run = read_run(finished_run)
    bare = replace(run, result=replace(run.result, rounds=run.result.rounds[:1], refined=(), segmented=()))
    dataset = open_images(run)
    assert gather_clusters(bare, dataset, most_images=100) == ()
    assert head_weights(bare) is None
    unscored = gather_images(bare, replace(dataset, scored={}), limit=5)
    assert all(one.gain is None and one.last_iou is not None and one.masks == {} for one in unscored.shown)


def test_a_stage_of_an_earlier_revision_beside_the_run_is_no_trouble(finished_run: Path, tmp_path: Path) -> None:
    """It listed its inputs without names."""
    folder = tmp_path / "run"
    shutil.copytree(finished_run, folder)
    old = folder / "stages" / "round0-evaluate-val-0123456789"
    old.mkdir()
    record = {"stage": "round0-evaluate-val", "key": "0123456789ab", "settings": {}, "inputs": ["x", "y"]}
    record |= {"finished": "2026-11-23T08:00:00+00:00", "seconds": 1.5, "peak_memory_mib": 300.0}
    (old / "stage.json").write_text(json.dumps(record), "utf-8")
    assert [cost.name for cost in read_run(folder).stages] == [cost.name for cost in read_run(finished_run).stages]


def test_disagreement_is_a_share_of_the_objects() -> None:
    first = np.array([[0, 0, 1, 1, 2, 255, 1, 0]], np.uint8)
    second = np.array([[0, 1, 1, 2, 2, 1, 255, 0]], np.uint8)
    assert disagreement(first, second) == 2 / 4  # of four pixels that either calls an object, both of them decided
    assert disagreement(first, first) == 0
    assert disagreement(np.zeros_like(first), np.zeros_like(first)) is None
    assert disagreement(np.zeros_like(first), np.ones_like(first)) == 1


def test_two_masks_of_nothing_do_not_count_as_agreement(
    finished_run: Path, gathered: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageRecord, "read_own_mask", lambda self, name: np.zeros((3, 4), np.uint8))
    image = gathered.shown[0]
    assert with_disagreement(image, read_run(finished_run)) is image


def test_the_network_is_compared_with_the_pseudo_mask_else_the_maps_are(finished_run: Path, gathered: Images) -> None:
    run, image = read_run(finished_run), gathered.shown[0]
    found = with_disagreement(image, run)
    assert found.disagreeing == ("segmentation trained on pseudo masks of round 1 + CRF", "pseudo mask of round 1, CRF")
    walked = image.read_own_mask("pseudo mask of round 1, random walk")  # what that network's masks are copies of
    assert found.disagreement == disagreement(walked, image.read_own_mask("pseudo mask of round 1, CRF")) > 0
    alone = replace(image, masks={name: path for name, path in image.masks.items() if name.startswith("pseudo")})
    found = with_disagreement(alone, run)
    assert found.disagreeing == ("response maps of round 1", "pseudo mask of round 1, CRF")
    assert found.disagreement is not None
    assert 0 < found.disagreement < 1
    assert with_disagreement(replace(image, masks={}), run).disagreement is None
    assert with_disagreement(image, replace(run, result=replace(run.result, refined=()))).disagreement is None
