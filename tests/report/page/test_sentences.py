"""The sentences of the page say what is true of the run, and no more."""

from dataclasses import replace
from pathlib import Path

import pytest
from report.made_run import a_run

from subcam.recipes import RECIPES
from subcam.report.gather.clusters import ClusterRecord, ParentClusters
from subcam.report.gather.images import ImageRecord, Images
from subcam.report.page import sentences
from subcam.results import FinishedRun
from subcam.run_record import StageCost


@pytest.fixture
def run(tmp_path: Path) -> FinishedRun:
    cost = StageCost(name="round0-cam", folder=tmp_path, seconds=3.0, peak_memory_mib=100.0, finished="2020-01-02")
    stages = (cost, replace(cost, name="round0-classify", finished="2020-01-01"))
    return FinishedRun(
        result=a_run(tmp_path),
        command=(),
        versions={"subcam": "1", "torch": "2"},
        skipped=(),
        peak_memory_mib=1.0,
        stages=stages,
        settings={},
    )


def image(gain: float | None) -> ImageRecord:
    return ImageRecord(
        name="a",
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


def test_what_was_run(run: FinishedRun) -> None:
    text = sentences.what(run)
    assert text.startswith("A run on images given from Python, trained with image-level labels. 2 classes: cat, dog. ")
    assert "Rounds 0 to 3; lambda = 5, K = 10, control: lambda = 0; network " in text
    many = replace(run, result=replace(run.result, recipe="toy", class_names=tuple(f"c{i}" for i in range(10))))
    assert sentences.what(many).startswith("Recipe toy on ")
    assert "10 classes: c0, c1, c2, c3, c4, c5, c6, c7 and 2 more." in sentences.what(many)
    plain = replace(run, result=replace(run.result, settings=replace(run.result.settings, rounds=0, control=False)))
    assert "Round 0 only; network" in sentences.what(plain)


def test_a_recipe_speaks_for_itself(run: FinishedRun) -> None:
    assert sentences.recipe_notes(run) == []
    for name in RECIPES:
        (note,) = sentences.recipe_notes(replace(run, result=replace(run.result, recipe=name)))
        assert not any(word in note for word in ("mIoU", "Score", "Time:", "Command:"))
    (note,) = sentences.recipe_notes(replace(run, result=replace(run.result, recipe="toy")))
    assert note.startswith("Recipe toy: ")
    quick = run.result.settings.quick_look()
    (note,) = sentences.recipe_notes(replace(run, result=replace(run.result, settings=quick)))
    assert note.startswith("A quick look: one round at most, a tenth of each training or less")
    assert "`" not in note


def test_the_gallery_says_how_it_was_chosen() -> None:
    scored, unscored = image(0.1), image(None)
    assert sentences.gallery_note(Images(shown=(scored,), compared=1, total=1), 1) == ""
    some = sentences.gallery_note(Images(shown=(scored,), compared=9, total=9), 1)
    assert some.startswith("This page has 1 of 9 images: a third with the greatest gain")
    assert "computed" not in some
    assert sentences.gallery_note(Images(shown=(scored,), compared=5, total=9), 1).endswith("for 5 of them.")
    spread = sentences.gallery_note(Images(shown=(unscored,), compared=9, total=9), 1)
    assert spread == "This page has 1 of 9 images: evenly spaced in the data set."


def test_the_first_images_say_which_they_are_and_whose_mask_they_have() -> None:
    name, trained = "pseudo mask of round 1, CRF", "segmentation trained on ground truth"
    note = sentences.firsts_note([image(0.1)], name, name)
    assert note.endswith(
        f"worst third by the IoU of the response maps. The pseudo mask is the file in the run's folder masks ({name})."
    )
    rated = replace(image(None), confidence=0.9)
    assert "by the confidence of their masks. The segmentation is “seg" in sentences.firsts_note([rated], trained, "")
    assert sentences.firsts_note([image(None)], "", "") == "Of the images below, evenly spaced."
    assert name in sentences.mask_note(name)
    assert sentences.mask_note("") == ""
    assert [sentences.mask_word(one) for one in (name, "given mask, as given")] == ["pseudo mask", "given mask"]


def test_ground_truth_is_mentioned_where_there_is_any() -> None:
    assert "No image has ground truth" in sentences.iou_note(has_truth=False)
    assert "plain CAM → last round" in sentences.iou_note(has_truth=True)
    assert sentences.finals_note(4, chosen_by_iou=False) == "4 of the images above."
    assert "lowest IoU" in sentences.finals_note(9, chosen_by_iou=True)


def test_purity_is_explained_where_it_is_known() -> None:
    cluster = ClusterRecord(index=0, name="cat 0", size=1, nearest=())
    unknown = ParentClusters(class_index=0, class_name="cat", clusters=(cluster,), purity=None)
    assert "there is no purity" in sentences.clusters_note([unknown])
    assert "Purity: the share" in sentences.clusters_note([unknown, replace(unknown, purity=0.5)])


def test_costs_and_origins(run: FinishedRun) -> None:
    assert "Energy was not measured" in sentences.cost_note(run)
    measured = replace(run, stages=(replace(run.stages[0], energy_joules=1.0), run.stages[1]))
    assert "Energy" not in sentences.cost_note(measured)
    facts = dict(sentences.about(run))
    assert facts["recipe"] == "not recorded"
    assert facts["last stage finished"] == "2020-01-02"
    assert facts["versions"] == "subcam 1, torch 2"
    assert facts["background threshold"] == "0.15, given before the run"
    settings = run.result.settings
    chosen = replace(settings, evaluate=replace(settings.evaluate, background_threshold="auto"))
    facts = dict(sentences.about(replace(run, result=replace(run.result, settings=chosen))))
    assert "without masks" in facts["background threshold"]


def test_between_which_predictions_the_disagreement_is() -> None:
    found = [replace(image(None), disagreement=0.5, disagreeing=("maps", name)) for name in ("a mask", "a mask", "b")]
    note = sentences.disagreement_note([image(None), *found])
    assert note.endswith("Between maps and a mask; maps and b.")
    assert sentences.disagreement_note([image(None)]) == ""
