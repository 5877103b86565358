"""What would end a run after hours ends it at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.data.dataset import open_dataset
from subcam.errors import SubcamError
from subcam.preflight import check_early
from subcam.recipes import toy


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error of a run on images with these rows in their table, and settings changed by a function."""
    monkeypatch.chdir(tmp_path)
    folder = Path("images")
    folder.mkdir()
    for name in "abc":
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"{name}.png")
    own = toy()
    settings = replace(
        own, dataset=replace(own.dataset, root="images"), segment=replace(own.segment, train_on=("pseudo",))
    )

    def refusal(rows: str, change=lambda settings: settings) -> str:
        (folder / "labels.csv").write_text(f"image,labels\n{rows}")
        changed = change(settings)
        dataset = open_dataset(changed.dataset, work_folder=Path("out"))
        with pytest.raises(SubcamError) as caught:
            check_early(changed, dataset)
        return str(caught.value)

    yield refusal
    (folder / "labels.csv").write_text(f"image,labels\n{GOOD}")
    check_early(settings, open_dataset(settings.dataset, work_folder=Path("out")))  # the same without the mistake


GOOD = "a.png,cat\nb.png,dog\nc.png,\n"


def test_a_class_without_images_is_said(refusal, capsys: pytest.CaptureFixture) -> None:
    """It ends no run: a list of classes may be that of a larger set."""
    said = refusal(
        "a.png,cat\nb.png,\n",
        lambda found: replace(
            found,
            dataset=replace(found.dataset, classes=("cat", "owl", "eel")),
            segment=replace(found.segment, train_on=("truth",)),
        ),
    )
    assert said.startswith("expected ground-truth masks")
    assert "no training image shows owl, eel: nothing will be learned of that" in capsys.readouterr().out


def test_one_class_in_every_image(refusal) -> None:
    assert refusal("a.png,cat\nb.png,cat\n").startswith("expected images without 'cat' as well, got 'cat' in all 2")


def test_one_class_and_images_without_it_are_enough(refusal) -> None:
    said = refusal(
        "a.png,cat\nb.png,\n", lambda found: replace(found, segment=replace(found.segment, train_on=("truth",)))
    )
    assert said.startswith("expected ground-truth masks of the training images, got none of 2; train on pseudo masks,")


def test_pseudo_masks_that_no_round_makes_are_said(refusal, capsys: pytest.CaptureFixture) -> None:
    """It ends no run: the network on pseudo masks is left out."""

    def change(settings):
        return replace(
            settings,
            refine=replace(settings.refine, rounds="none"),
            segment=replace(settings.segment, train_on=("pseudo", "truth")),
        )

    assert refusal(GOOD, change).startswith("expected ground-truth masks")
    assert "no segmentation network on pseudo masks: --refine.rounds none" in capsys.readouterr().out


@pytest.mark.parametrize("stage", ["classify", "refine", "segment"])
def test_weights_that_are_read_late(refusal, stage: str) -> None:
    def change(found):
        match stage:
            case "classify":
                return replace(found, classify=replace(found.classify, round0_checkpoint="gone.pth"))
            case "refine":
                affinity = replace(found.refine.affinity, checkpoint="gone.pth")
                return replace(found, refine=replace(found.refine, affinity=affinity))
        return replace(found, segment=replace(found.segment, network=replace(found.network, weights="gone.pth")))

    said = refusal(GOOD, change)
    assert said.startswith(f"--{stage}.")
    assert said.endswith(" gone.pth: there is no such file to read weights from; check the path")


def test_a_table_of_clusters(refusal) -> None:
    def change(found):
        return replace(found, discover=replace(found.discover, clusters="clusters.csv"))

    assert "clusters.csv: expected a text file, got none" in refusal(GOOD, change)
    Path("clusters.csv").write_text("image;cluster\n")
    assert refusal(GOOD, change).startswith("clusters.csv:1: expected a header with the columns image, parent, cluster")


def test_an_architecture(refusal) -> None:
    said = refusal(GOOD, lambda found: replace(found, segment=replace(found.segment, architecture="unett")))
    assert said.startswith("--segment.architecture unett: there is none of that name; did you mean 'unet'")
