"""Pseudo masks from end to end on generated images, and their scores against confusion matrices counted plainly."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.refine.made_maps import first_images
from tests.stages.given import images_of, stage_at

from subcam import pipeline
from subcam.affinity.network import AffinityNetwork
from subcam.crf.settings import CRFSettings
from subcam.data.check import CheckedImages
from subcam.data.images import read_mask, voc_palette, write_mask
from subcam.data.records import IGNORE_INDEX, ImageSet
from subcam.data.settings import AugmentationSettings, DatasetSettings
from subcam.errors import BadInputError
from subcam.refine.scores_and_masks import label_map, mask_path
from subcam.refine.variants import VARIANTS
from subcam.refine.walked_maps import WalkedMaps, read_walked, walked_path, write_walked
from subcam.results import RunResult
from subcam.runtime.run_folder import RunFolder
from subcam.settings import RefineSettings, RunSettings
from subcam.stages import evaluate
from subcam.stages.evaluate import RefinedScores
from subcam.stages.settings.affinity import AffinitySettings
from subcam.stages.settings.pseudo_masks import MaskSettings
from subcam.stages.settings.random_walk import WalkSettings
from subcam.stages.settings.sure_regions import SureRegionSettings
from subcam.training.settings import OptimiserSettings

REFINE = RefineSettings(
    rounds="first-and-last",
    sure_regions=SureRegionSettings(low_alpha=2.0, high_alpha=8.0, crf=CRFSettings(iterations=2)),
    affinity=AffinitySettings(
        epochs=1,
        batch_size=8,
        augmentation=AugmentationSettings(crop=72, scale_long_side=(72, 80)),
        optimiser=OptimiserSettings(learning_rate=1e-3),
    ),
    walk=WalkSettings(radius=3, alphas=(1.0, 2.0, 4.0)),
    masks=MaskSettings(crf_alpha=2.0, walk_alpha=2.0, crf=CRFSettings(iterations=2)),
)


@pytest.fixture(scope="module")
def settings(tiny_run: RunSettings) -> RunSettings:
    return replace(tiny_run, refine=REFINE)


@pytest.fixture(scope="module")
def result(settings: RunSettings, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Rounds 0 and 1, both refined, in about three seconds."""
    return pipeline.run(settings, tmp_path_factory.mktemp("run"))


def stage_folder(result: RunResult, name: str) -> Path:
    (path,) = result.out.glob(f"stages/{name}-*")
    return path


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in (folder / "stages").rglob("*") if path.is_file()}


# From end to end


def test_the_first_and_the_last_round_are_refined(result: RunResult) -> None:
    assert [refined.round_index for refined in result.refined] == [0, 1]
    record = json.loads((result.out / "run.json").read_text())
    assert [entry["round"] for entry in record["refined"]] == [0, 1]
    for entry in record["refined"]:
        assert (result.out / entry["masks"]).is_dir()
        assert entry["scores"]["val"]["images"] == 8
        assert set(entry["scores"]["val"]["variants"]) == set(VARIANTS)
    for index in (0, 1):
        names = ("crf", "affinity", "walk", "masks", "evaluate-masks-val")
        assert all((stage_folder(result, f"round{index}-{name}") / "stage.json").is_file() for name in names)
        masks = stage_folder(result, f"round{index}-masks")
        assert [len(list((masks / variant).rglob("*.png"))) for variant in VARIANTS] == [8, 8, 24 + 8]


def test_a_second_run_skips_everything(result: RunResult, settings: RunSettings) -> None:
    before = stamps(result.out)
    again = pipeline.run(settings, result.out)
    assert stamps(result.out) == before
    assert [refined.scores for refined in again.refined] == [refined.scores for refined in result.refined]


def test_another_alpha_makes_masks_anew_and_nothing_before_them(
    result: RunResult, settings: RunSettings, tmp_path: Path
) -> None:
    out = shutil.copytree(result.out, tmp_path / "run")
    before = set((out / "stages").iterdir())
    other = replace(settings, refine=replace(REFINE, masks=replace(REFINE.masks, walk_alpha=4.0)))
    again = pipeline.run(other, out)
    new = {path.name.rpartition("-")[0] for path in set((out / "stages").iterdir()) - before}
    of_masks = {f"round{index}-{name}" for index in (0, 1) for name in ("masks", "evaluate-masks-val")}
    assert new == of_masks | {"round1-confidence"}
    for mine, theirs in zip(again.refined, result.refined, strict=True):
        mine_val, theirs_val = mine.scores["val"], theirs.scores["val"]
        assert mine_val.variants["crf"] == theirs_val.variants["crf"]
        assert mine_val.walk_curve == theirs_val.walk_curve
        assert mine_val.variants["walk"]["miou"] == theirs_val.walk_curve[2]


def test_only_the_last_round_where_asked(settings: RunSettings, tmp_path: Path) -> None:
    last = replace(settings, rounds=0, refine=replace(REFINE, rounds="last"))
    assert [refined.round_index for refined in pipeline.run(last, tmp_path).refined] == [0]
    none = replace(settings, rounds=0, refine=replace(REFINE, rounds="none"))
    assert pipeline.run(none, tmp_path).refined == ()


def test_images_without_masks_get_pseudo_masks(settings: RunSettings, toy_folder: Path, tmp_path: Path) -> None:
    """A folder of images and a table of labels is all that there is."""
    names = [f"train-{index:05d}.png" for index in range(16)]
    rows = {line.split(",")[0]: line for line in (toy_folder / "labels.csv").read_text().splitlines()}
    (tmp_path / "mine" / "images").mkdir(parents=True)
    for name in names:
        (tmp_path / "mine" / "images" / name).write_bytes((toy_folder / "images" / name).read_bytes())
    table = [rows["image"], *(rows[f"images/{name}"] for name in names)]
    lines = [line.rpartition(",")[0] for line in table]  # without the column of splits
    (tmp_path / "mine" / "labels.csv").write_text("\n".join(lines) + "\n")
    mine = replace(settings, rounds=0, dataset=DatasetSettings(root=str(tmp_path / "mine")))
    result = pipeline.run(mine, tmp_path / "run")
    assert result.refined[0].scores == {}
    masks = result.refined[0].masks.path
    assert sorted(path.relative_to(masks).as_posix() for path in masks.rglob("*.png")) == [
        f"walk-crf/{name}" for name in names
    ]
    with Image.open(next(masks.rglob("*.png"))) as image:
        assert (image.mode, image.size) == ("P", (48, 48))


def test_published_affinity_weights_are_known_by_their_bytes(
    settings: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file under the same name is not taken for the first."""
    asked: list[bytes] = []
    monkeypatch.setattr(AffinityNetwork, "load_reference", lambda self, path: asked.append(Path(path).read_bytes()))
    weights = tmp_path / "aff.pth"
    affinity = replace(REFINE.affinity, checkpoint=str(weights))
    published = replace(settings, rounds=0, refine=replace(REFINE, rounds="last", affinity=affinity))
    for content in (b"one", b"one", b"other"):
        weights.write_bytes(content)
        pipeline.run(published, tmp_path / "run")
    assert asked == [b"one", b"other"]


# Scores


def plain_matrix(pairs: Iterator[tuple[np.ndarray, np.ndarray]], num_classes: int) -> list[list[int]]:
    """Rows: truth. Pixels that either leaves out are not counted."""
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for truth, predicted in pairs:
        for t in range(num_classes):
            for p in range(num_classes):
                matrix[t, p] += ((truth == t) & (predicted == p)).sum()
    return matrix.tolist()


def plain_miou(matrix: list[list[int]]) -> float:
    counts = np.array(matrix)
    hits, true, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    return float(np.mean([hits[c] / (true[c] + predicted[c] - hits[c]) for c in range(len(counts)) if true[c]]))


@pytest.mark.parametrize("index", [0, 1])
def test_scores_are_those_of_plain_counting(result: RunResult, toy_folder: Path, index: int) -> None:
    refined = result.refined[index]
    walked = stage_folder(result, f"round{index}-walk")
    scores = refined.scores["val"]
    truths = {path.stem: np.asarray(Image.open(path)) for path in (toy_folder / "masks").glob("val-*.png")}
    assert len(truths) == scores.images == 8
    for variant, values in scores.variants.items():
        masks = {name: np.asarray(Image.open(mask_path(refined.masks.path, variant, name))) for name in truths}
        matrix = plain_matrix(((truths[name], masks[name]) for name in truths), 5)
        assert values["matrix"] == matrix
        assert values["miou"] == pytest.approx(plain_miou(matrix), abs=1e-12)
        assert values["ignored"] == 0
    assert scores.alphas == [1.0, 2.0, 4.0]
    for alpha, miou in zip(scores.alphas, scores.walk_curve, strict=True):
        labels = {}
        for name in truths:
            maps = read_walked(walked_path(walked, name))
            labels[name] = label_map(maps.scores(alpha), maps.classes)
        assert miou == pytest.approx(plain_miou(plain_matrix(((truths[n], labels[n]) for n in truths), 5)), abs=1e-12)
    best = int(np.argmax(scores.walk_curve))
    assert scores.best_walk == (scores.alphas[best], scores.walk_curve[best])


def test_the_curve_at_the_settings_alpha_is_the_walks_score(result: RunResult) -> None:
    for refined in result.refined:
        scores = refined.scores["val"]
        assert scores.walk_curve[scores.alphas.index(2.0)] == scores.variants["walk"]["miou"]


# Masks made by hand


@dataclass(frozen=True, kw_only=True)
class Given:
    """Images and the folders of their pseudo masks and walked maps."""

    image_set: ImageSet
    masks: Path
    walked: Path


@pytest.fixture
def by_hand(toy_train: CheckedImages, tmp_path: Path) -> Given:
    """Three images whose pseudo masks are their masks, in all variants; the last has no mask to be scored against."""
    image_set = first_images(toy_train, 3)
    first, second, third = image_set.records
    for record in image_set.records:
        assert record.mask is not None
        truth = read_mask(record.mask, image_set.mask_values)
        for variant in VARIANTS:
            write_mask(mask_path(tmp_path / "masks", variant, record.name), truth, palette=voc_palette())
        grid = np.zeros((1, 6, 6), np.float16)
        walked = WalkedMaps(
            alphas=(1.0, 2.0),
            backgrounds=np.repeat(grid + 1, 2, axis=0),
            maps=np.repeat(grid, len(record.labels), axis=0),
            classes=np.array(record.labels, np.int16),
            size=(48, 48),
        )
        write_walked(walked_path(tmp_path / "walked", record.name), walked)
    return Given(
        image_set=replace(image_set, records=(first, second, replace(third, mask=None))),
        masks=tmp_path / "masks",
        walked=tmp_path / "walked",
    )


def scored(given: Given, folder: Path) -> RefinedScores:
    stage = RunFolder(path=folder).stage("evaluate-masks")
    evaluate.run_pseudo_masks(
        stage, images=images_of(given.image_set), masks=stage_at(given.masks), walked=stage_at(given.walked)
    )
    return evaluate.read_pseudo_masks(stage)


def test_perfect_masks_score_one(by_hand: Given, tmp_path: Path) -> None:
    scores = scored(by_hand, tmp_path)
    assert scores.images == 2
    assert [scores.variants[variant]["miou"] for variant in VARIANTS] == [1, 1, 1]
    assert len(set(scores.walk_curve)) == 1
    assert scores.walk_curve[0] < 0.5, "walked maps that are background alone"


def test_pixels_without_a_label_are_counted_apart(by_hand: Given, tmp_path: Path) -> None:
    """The upper half of the first mask is left out, and so is what was wrong there."""
    record = by_hand.image_set.records[0]
    path = mask_path(by_hand.masks, "walk", record.name)
    mask = np.array(Image.open(path))
    mask[:24] = IGNORE_INDEX
    write_mask(path, mask, palette=voc_palette())
    scores = scored(by_hand, tmp_path)
    assert scores.variants["walk"]["ignored"] == 24 * 48 / (2 * 48 * 48)
    assert scores.variants["walk"]["miou"] == 1
    assert np.sum(scores.variants["walk"]["matrix"]) == 3 * 24 * 48
    assert scores.variants["crf"]["ignored"] == 0


def test_masks_that_score_nothing_give_no_number(by_hand: Given, tmp_path: Path) -> None:
    """Every pixel of the truth is 255: no best alpha can be told, and nothing breaks."""
    unscored: ImageSet = replace(by_hand.image_set, mask_values=(IGNORE_INDEX,) * 256)
    scores = scored(replace(by_hand, image_set=unscored), tmp_path)
    assert np.isnan(scores.walk_curve).all()
    alpha, miou = scores.best_walk
    assert alpha == 1.0
    assert np.isnan(miou)


def test_a_missing_or_foreign_mask_is_named(by_hand: Given, tmp_path: Path) -> None:
    record = by_hand.image_set.records[1]
    path = mask_path(by_hand.masks, "crf", record.name)
    write_mask(path, np.zeros((48, 40), np.uint8), palette=voc_palette())
    with pytest.raises(BadInputError, match=rf"{path}: expected a mask as large as its image, 48 x 48"):
        scored(by_hand, tmp_path)
    path.unlink()
    with pytest.raises(BadInputError, match=rf"{path}: no such file"):
        scored(by_hand, tmp_path)
