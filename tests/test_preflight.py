"""What would end a run after hours ends it at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.data.dataset import Dataset, open_dataset
from subcam.errors import SubcamError
from subcam.networks.trial_step import try_step
from subcam.pipeline import run
from subcam.preflight import check_early, check_settings, parts_of
from subcam.recipes import toy
from subcam.settings import RunSettings


def check_all(settings: RunSettings, dataset: Dataset) -> None:
    check_settings(settings)
    check_early(settings, dataset)


@pytest.fixture(autouse=True)
def nothing_tried_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subcam.preflight._trained", set())


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
            check_all(changed, dataset)
        return str(caught.value)

    yield refusal
    (folder / "labels.csv").write_text(f"image,labels\n{GOOD}")
    check_early(settings, open_dataset(settings.dataset, work_folder=Path("out")))  # the same without the mistake


GOOD = "a.png,cat\nb.png,dog\nc.png,\n"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"network.name": "resnet18", "network.weights": "package"},
            "--network.weights: weights 'package': no package",
        ),
        ({"network.weights": "timm"}, "--network.weights: timm has no weights of 'tiny'"),
        ({"network.weights": "no.pth"}, "--network.weights: there is no file no.pth"),
        ({"segment.network.name": "tiny", "segment.network.weights": "timm"}, "--segment.network.weights: timm has no"),
        ({"segment.architecture": "unet3"}, "--segment.architecture unet3: there is none of that name"),
    ],
)
def test_what_settings_alone_tell_is_said_before_images_are_read(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    settings = toy().with_({"dataset.root": "no images", "segment.train_on": ("pseudo",), **changes})
    with pytest.raises(SubcamError) as caught:
        run(settings, tmp_path)
    assert str(caught.value).startswith(said)


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


# Every network that will be trained


def test_a_network_that_cannot_be_trained_on_one_image(refusal) -> None:
    def change(settings):
        return settings.with_({"segment.architecture": "deeplabv3", "segment.network.name": "resnet18",
                               "segment.network.weights": "none", "segment.network.freeze_batch_norm": False,
                               "segment.train.batch_size": 1})  # fmt: skip

    said = refusal(GOOD, change)
    assert said.startswith(
        "--segment.architecture deeplabv3 on resnet18 cannot be trained in batches of 1 (--segment.train.batch-size 1)"
        " on crops of 64 pixels (--segment.train.augmentation.crop): Expected more than 1 value per channel"
    )
    assert said.endswith("; take larger batches or crops, or another network")


def test_batches_are_no_larger_than_there_are_images(refusal) -> None:
    def change(settings):
        return settings.with_({"network.name": "resnet18", "network.freeze_batch_norm": False,
                               "classify.augmentation.crop": 32, "classify.batch_size": 4})  # fmt: skip

    said = refusal("a.png,cat\n", lambda found: change(found).with_({"dataset.classes": ("cat", "dog")}))
    assert "--network.name resnet18 cannot be trained in batches of 1 (--classify.batch-size 4, of 1 images)" in said


def test_affinity_net_is_tried_too(refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    from subcam import preflight

    crops = []

    def counted(build, forward, *, batch_size: int, crop: int) -> str:
        crops.append((batch_size, crop))
        return "no" if crop == 80 else ""

    monkeypatch.setattr(preflight, "try_step", counted)
    said = refusal(GOOD, lambda found: found)
    monkeypatch.setattr(preflight, "try_step", try_step)
    assert said.startswith("AffinityNet on --network.name tiny cannot be trained in batches of 3 (--refine.affinity.")
    assert crops == [(3, 64), (3, 80)]


@pytest.mark.parametrize(
    ("changes", "tried"),
    [
        ({"classify.epochs": 0, "refine.rounds": "none", "segment.train_on": ()}, 0),
        ({"refine.rounds": "none", "segment.train_on": ("pseudo",)}, 1),
        ({"refine.affinity.epochs": 0, "segment.train.epochs": 0}, 1),
        ({}, 3),
    ],
)
def test_only_what_will_be_trained_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict, tried: int
) -> None:
    from subcam import preflight

    built = []
    monkeypatch.setattr(preflight, "try_step", lambda build, forward, **batch: built.append(batch) or "")
    settings = toy().with_(
        {"dataset.toy.train_images": 4, "dataset.toy.val_images": 1, "segment.train_on": ("pseudo",)}
    )
    dataset = open_dataset(settings.dataset, work_folder=tmp_path)
    preflight.check_training(settings.with_(changes), dataset.train.image_set)
    assert len(built) == tried


def test_methods_whose_maps_are_refined_need_an_affinity_net() -> None:
    own = toy().with_({"refine.rounds": "none", "compare.refine": True, "compare.methods": ["layer-cam"]})
    assert parts_of(own).affinity
    for change in ({"compare.methods": ()}, {"compare.refine": False}, {"until": "cam"}):
        assert not parts_of(own.with_(change)).affinity


def test_what_took_its_step_is_not_tried_again_and_what_did_not_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from subcam import preflight

    crops, answers = [], iter(["", "no", "", "", ""])
    monkeypatch.setattr(
        preflight, "try_step", lambda build, forward, **batch: crops.append(batch["crop"]) or next(answers)
    )
    settings = toy().with_({"dataset.toy.train_images": 4, "dataset.toy.val_images": 1, "segment.train_on": ()})
    train = open_dataset(settings.dataset, work_folder=tmp_path).train.image_set
    with pytest.raises(SubcamError, match=r"AffinityNet on .* cannot be trained .* no; take larger"):
        preflight.check_training(settings, train)
    preflight.check_training(settings, train)
    preflight.check_training(settings, train)
    assert crops == [64, 80, 80]
    for change in ({"classify.augmentation.crop": 72}, {"classify.batch_size": 2}):
        preflight.check_training(settings.with_(change), train)
    assert crops == [64, 80, 80, 72, 64]


def test_weights_of_the_last_network_are_refused_before_the_first_stage(
    tmp_path: Path,
) -> None:
    """They were read after all rounds."""
    (tmp_path / "w.pth").write_bytes(b"no weights")
    settings = toy().with_(
        {
            "dataset.toy.train_images": 8,
            "dataset.toy.val_images": 4,
            "segment.network.name": "tiny",
            "segment.network.weights": str(tmp_path / "w.pth"),
        }
    )
    with pytest.raises(SubcamError, match=r"^--segment\.network\.weights: .*w\.pth"):
        run(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "stages").exists()
