"""Corrected masks in a run: learned from, scored against where held out, shown and trusted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from subcam import pipeline
from subcam.data.images import read_indices, voc_palette, write_mask
from subcam.data.readers.toy import CLASSES
from subcam.errors import BadInputError
from subcam.metrics.confidence import BY_HAND
from subcam.metrics.masks_csv import read_confidences
from subcam.refine.scores_and_masks import mask_path
from subcam.refine.variants import CORRECTED
from subcam.results import RunResult, read_run
from subcam.run_record import pseudo_masks_of
from subcam.settings import RunSettings
from subcam.steps.corrections import with_kept_corrections

TRAINED, HELD_OUT = ("train-00000", "train-00003"), "val-00001"


@pytest.fixture(scope="module")
def corrections(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Path:
    """Masks of two training images and of a held-out one: the second class in the left half, in other values."""
    folder = tmp_path_factory.mktemp("corrections")
    for name in (*TRAINED, HELD_OUT):
        mask = np.zeros_like(read_indices(toy_folder / "masks" / f"{name}.png"))
        mask[:, : mask.shape[1] // 2] = 1
        mask[0] = 255
        write_mask(folder / f"{name}.png", mask, palette=voc_palette())
    (folder / "classes.txt").write_text("\n".join((CLASSES[1], CLASSES[0], *CLASSES[2:])))
    return folder


@pytest.fixture(scope="module")
def runs(
    refined_run: Path, refined_settings: RunSettings, corrections: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, RunResult]:
    """The folder of a finished run, run again with corrections."""
    folder = tmp_path_factory.mktemp("corrected") / "run"
    shutil.copytree(refined_run, folder)
    settings = refined_settings.with_({"corrections.folder": str(corrections)})
    return folder, pipeline.run(settings, folder)


def stages_of(folder: Path) -> set[str]:
    return {path.name for path in (folder / "stages").iterdir()}


def test_only_what_learns_from_them_or_is_scored_against_them_is_done_again(
    runs: tuple[Path, RunResult], refined_run: Path
) -> None:
    new = sorted(name.rpartition("-")[0] for name in stages_of(runs[0]) - stages_of(refined_run))
    assert new == [
        "corrected-truth-val",
        "round0-confidence",
        "round0-corrected",
        "round0-evaluate-masks-val",
        "round0-evaluate-val",
        "round0-segment",
        "round0-segment-evaluate-val",
        "round0-segment-predict",
        "truth-corrected",
        "truth-segment",
        "truth-segment-evaluate-val",
        "truth-segment-predict",
    ]


def test_those_in_the_runs_folder_count_whatever_command_comes(
    runs: tuple[Path, RunResult],
    refined_settings: RunSettings,
    corrections: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A correction is somebody's work: the command of before keeps it, and so does the full run after a first look."""
    folder = shutil.copytree(runs[0], tmp_path / "run")
    (kept,) = {path.parent for path in (folder / "masks").glob("*.png")}
    with_them = {path.name: path.read_bytes() for path in kept.glob("*.png")}
    nowhere = pipeline.run(refined_settings, folder)
    assert nowhere.refined[0].corrected is None
    without = {path.name: path.read_bytes() for path in kept.glob("*.png")}
    assert without != with_them
    shutil.copytree(corrections, folder / "corrections")
    capsys.readouterr()
    result = pipeline.run(refined_settings, folder)
    assert f"{folder / 'corrections'} has masks that people corrected, which count" in capsys.readouterr().out
    assert result.settings.corrections.folder == str(folder / "corrections")
    assert {path.name: path.read_bytes() for path in kept.glob("*.png")} == with_them
    left_out = pipeline.run(refined_settings.with_({"corrections.folder": "none"}), folder)
    assert left_out.refined[0].corrected is None
    assert {path.name: path.read_bytes() for path in kept.glob("*.png")} == without


def test_those_of_images_in_folders_are_found_and_a_list_of_classes_is_none(
    tiny_run: RunSettings, tmp_path: Path
) -> None:
    (tmp_path / "corrections" / "cat").mkdir(parents=True)
    (tmp_path / "corrections" / "classes.txt").write_text("cat\n")
    assert with_kept_corrections(tiny_run, tmp_path) is tiny_run
    (tmp_path / "corrections" / "cat" / "tom.png").touch()
    assert with_kept_corrections(tiny_run, tmp_path).corrections.named == str(tmp_path / "corrections")


def test_the_network_learns_from_them_to_the_pixel(runs: tuple[Path, RunResult], corrections: Path) -> None:
    """And from the pseudo masks of all other images."""
    (refined,) = runs[1].refined
    assert refined.corrected is not None
    for path in sorted((runs[0] / "masks").glob("*.png")):
        learned = read_indices(mask_path(refined.corrected.path, CORRECTED, path.stem))
        np.testing.assert_array_equal(read_indices(path), learned)
        expected = read_indices(mask_path(refined.masks.path, refined.variant, path.stem))
        if (corrections / path.name).is_file():
            corrected = read_indices(corrections / path.name)
            expected = np.where(corrected == 1, 2, corrected)  # the class by its name
        np.testing.assert_array_equal(learned, expected)
    pseudo, truth = runs[1].segmented
    assert pseudo.model.inputs["masks"] == refined.corrected.key
    assert truth.trained_on == "truth"


def test_held_out_images_are_scored_against_them(runs: tuple[Path, RunResult], refined_run: Path) -> None:
    """Two of three classes of pixels change their truth there; the training images' corrections are not scored."""
    before, after = (
        np.array(read_run(folder).result.segmented[0].scores["val"]["plain"]["matrix"])
        for folder in (refined_run, runs[0])
    )
    size = 48 * 48
    assert before.sum() == 8 * size
    assert after.sum() == 8 * size - 48  # the corrected mask's first row is not scored
    assert after[2].sum() - before[2].sum() in range(1, 47 * 24 + 1)
    assert set(runs[1].segmented[0].scores) == {"val"}


def test_they_are_trusted_and_shown_and_recorded(runs: tuple[Path, RunResult]) -> None:
    rows = {row.image: row for row in read_confidences(runs[0])}
    by_hand = {name for name, row in rows.items() if row.lowered_by == BY_HAND}
    assert by_hand == {*TRAINED, HELD_OUT}
    assert all(rows[name].confidence == 1 for name in by_hand)
    assert rows[HELD_OUT].regions[CLASSES[1]].area == pytest.approx(47 / 96, abs=1e-4)
    masks, record = pseudo_masks_of(runs[0])
    assert masks == f"{record.refined[0].corrected}/{CORRECTED}"
    assert read_run(runs[0]).result.refined[0].corrected is not None


def test_the_key_is_of_what_the_masks_hold(
    runs: tuple[Path, RunResult], refined_settings: RunSettings, corrections: Path, tmp_path: Path
) -> None:
    """The same masks elsewhere change nothing, of held-out images not what is trained."""
    before = stages_of(runs[0])
    shutil.copytree(corrections, tmp_path / "elsewhere")
    pipeline.run(refined_settings.with_({"corrections.folder": str(tmp_path / "elsewhere")}), runs[0])
    assert stages_of(runs[0]) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: shutil.copy(folder / "val-00001.png", folder / "stranger.png"), "got 1 of others: stranger"),
        (
            lambda folder: (folder / "classes.txt").write_text("cat\ncow"),
            "expected classes of the run, .* got cat, cow",
        ),
        (
            lambda folder: write_mask(folder / "val-00001.png", np.zeros((4, 4), np.uint8), palette=voc_palette()),
            r"val-00001\.png: expected a mask as large as its image",
        ),
        (
            lambda folder: write_mask(folder / "val-00001.png", np.full((48, 48), 77, np.uint8), palette=voc_palette()),
            r"val-00001\.png: .*77",
        ),
    ],
    ids=["image", "classes", "size", "value"],
)
def test_corrections_that_do_not_fit(
    change: Callable, said: str, corrections: Path, refined_run: Path, refined_settings: RunSettings, tmp_path: Path
) -> None:
    folder = tmp_path / "corrections"
    shutil.copytree(corrections, folder)
    change(folder)
    run = tmp_path / "run"
    shutil.copytree(refined_run, run)
    with pytest.raises(BadInputError, match=said):
        pipeline.run(refined_settings.with_({"corrections.folder": str(folder)}), run)
    assert json.loads((run / "run.json").read_text())["refined"][0]["corrected"] is None
