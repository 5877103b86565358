"""`subcam compare`: tables, intervals and numbers of runs and folders of masks."""

import json
import shutil
from pathlib import Path

import pytest

from subcam import cli
from subcam.export.mask_folder import evaluate


@pytest.fixture
def crf_masks(refined_run: Path, tmp_path: Path) -> Path:
    """The pseudo masks of the run after the CRF alone, in a folder of their own."""
    (stage,) = refined_run.glob("stages/round0-masks-*")
    return shutil.copytree(stage / "crf", tmp_path / "crf only")


def test_a_run_beside_a_folder_against_the_run_s_own_truth(
    refined_run: Path, toy_folder: Path, crf_masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scores of `evaluate`; the same numbers whoever is asked, and the difference turns when the order does."""
    out = tmp_path / "out.json"
    assert cli.main(["compare", str(refined_run), str(crf_masks), "--out", str(out), "--resamples", "200"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(out.read_text("utf-8"))
    assert found["compared"] == [refined_run.name, "crf only"]
    assert found["images"] == len(found["by_image"]) == 8, "the images of val alone have ground truth here"
    for label, folder in ((refined_run.name, refined_run), ("crf only", crf_masks)):
        scored = evaluate(predictions=folder, truth=toy_folder, names=list(found["by_image"]))
        assert found["miou"][label] == pytest.approx(scored.scores.miou, abs=1e-12)
        assert f"{100 * scored.scores.miou:.1f}" in printed
    interval = found["difference"]["crf only"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert interval["value"] == pytest.approx(found["miou"]["crf only"] - found["miou"][refined_run.name])
    truth = ("--truth", str(toy_folder), "--images", "0", "--resamples", "200", "--out", str(out))
    assert cli.main(["compare", str(crf_masks), str(refined_run / "masks"), *truth]) == 0
    back = json.loads(out.read_text("utf-8"))
    assert back["images"] == 8, "the images that all have: only those that are scored have every kind of mask"
    turned = back["difference"]["masks"]
    assert (turned["value"], turned["low"]) == pytest.approx((-interval["value"], -interval["high"]))
    assert "differ most" not in capsys.readouterr().out


def test_without_truth_they_agree_or_not(
    crf_masks: Path, refined_run: Path, toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "out.json", tmp_path / "page.html"
    words = ["compare", str(crf_masks), str(refined_run / "masks"), "--out", str(out), "--page", str(page)]
    assert cli.main([*words, "--image-folder", str(toy_folder / "images"), "--resamples", "50"]) == 0
    printed = capsys.readouterr().out
    assert "there is no ground truth: this says how far they agree, not which is right" in printed
    assert "masks and crf only agree least on (mean IoU of the two, per cent):" in printed
    found = json.loads(out.read_text("utf-8"))
    assert found.keys() == {
        "compared",
        "images",
        "resamples",
        "seed",
        "equal_pixels",
        "agreement",
        "classes",
        "by_image",
    }
    interval = found["agreement"]["masks"]
    assert interval["low"] <= interval["value"] <= interval["high"] < 1
    assert f"{100 * interval['value']:.1f}" in printed
    text = page.read_text("utf-8")
    assert "There is no ground truth" in text
    assert "image of val-" in text, "the folder's images are shown"


def test_the_page_of_a_run_shows_its_images_and_truth(refined_run: Path, crf_masks: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ["compare", str(crf_masks), str(refined_run), "--page", str(page), "--page-images", "2"]
    assert cli.main([*words, "--resamples", "50", "--images", "0"]) == 0
    text = page.read_text("utf-8")
    assert text.count("ground truth of val-") == text.count("image of val-") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((".",), "expected two folders or more to compare, got 1"),
        (("masks", "masks", "--page", "page"), "--page page: expected the name of a page, such as compare.html"),
        (("masks", "masks", "--image-folder", "gone"), "gone: expected a folder of images, got none"),
        (("masks", "gone", "--truth", "masks"), "gone: expected a folder of masks, got none; check the path"),
        (("masks", "masks", "--resamples", "0"), "--resamples: expected a whole number from 1"),
    ],
)
def test_mistakes(
    words: tuple[str, ...],
    message: str,
    refined_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(refined_run)
    assert cli.main(["compare", *words]) == cli.EXIT_USER
    assert capsys.readouterr().err.startswith(f"error: {message}")
