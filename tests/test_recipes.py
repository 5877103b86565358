"""The recipes say the numbers of the paper and of its published code, and every one can be changed from outside."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from subcam import cli, pipeline
from subcam.networks.backbones.build import build_backbone, freeze_parameters
from subcam.networks.backbones.resnet38 import ResNet38
from subcam.recipes import RECIPES, small, toy, voc12_paper, voc12_reference
from subcam.runtime.documents.plain_values import as_plain
from subcam.runtime.run_folder import fingerprint
from subcam.settings import RunSettings


class Captured(Exception):  # noqa: N818 - no error: it carries what a run was asked to do
    pass


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[RunSettings, Path]]:
    """What `subcam` would run for these words."""

    def captured(settings: RunSettings, out: Path, **_: object) -> None:
        raise Captured(settings, out)

    def asked(*words: str) -> tuple[RunSettings, Path]:
        with pytest.raises(Captured) as caught:
            cli.main(words)
        settings, out = caught.value.args
        return settings, out

    monkeypatch.setattr(pipeline, "run", captured)
    monkeypatch.setattr("subcam.data.dataset.require_root", lambda _: None)
    return asked


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(value):
        entry = getattr(value, field.name)
        name = f"{path}.{field.name}".lstrip(".")
        if dataclasses.is_dataclass(entry):
            yield from leaves(entry, name)
        else:
            yield name, entry


SHORT = {
    "dataset.root": "--data",
    "given_features.file": "--features",
    "corrections.folder": "--corrections",
    "given_maps.folder": "--maps",
    "given_maps.classes": "--maps-classes",
    "given_masks.folder": "--masks",
    "given_masks.classes": "--masks-classes",
    "given_masks.unknown": "--masks-unknown",
}
"""Flags that do not repeat where their setting stands."""


def flag(name: str) -> str:
    return SHORT.get(name, f"--{name.replace('_', '-')}")


# The numbers


def test_the_published_code() -> None:
    recipe = voc12_reference()
    classify, optimiser = recipe.classify, recipe.classify.optimiser
    assert recipe.network.name == "resnet38"
    assert recipe.network.neck_channels == 0
    assert recipe.network.freeze == ("conv1a", "b2", "b2_1", "b2_2")
    assert recipe.network.freeze_batch_norm
    assert (optimiser.name, optimiser.learning_rate) == ("sgd", 0.01)
    assert (optimiser.momentum, optimiser.weight_decay, optimiser.decay_biases) == (5e-4, 5e-4, False)
    assert (optimiser.head_multiplier, optimiser.bias_multiplier) == (10, 2)
    assert (optimiser.schedule, optimiser.poly_power) == ("poly", 0.9)
    assert classify.start == "restart"
    assert (classify.round_epochs, classify.schedule_epochs) == ((30, 40, 50), 61)
    assert (classify.batch_size, classify.subcategory_weight, classify.head_dropout) == (16, 5, 0.5)
    augmentation = classify.augmentation
    assert (augmentation.crop, augmentation.scale_long_side, augmentation.flip) == (224, (256, 512), 0.5)
    jitter = (augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue)
    assert jitter == (0.3, 0.3, 0.3, 0.1)
    assert (recipe.rounds, recipe.discover.num_subcategories, recipe.discover.restarts) == (3, 10, 10)
    assert recipe.discover.normalisation == "none"
    assert (recipe.cam.scales, recipe.cam.flip) == ((1, 0.5, 1.5, 2), True)
    assert recipe.evaluate.background_threshold == 0.15
    assert recipe.seed == 0
    refine = recipe.refine
    assert (refine.sure_regions.low_alpha, refine.sure_regions.high_alpha) == (4, 32)
    assert (refine.walk.beta, refine.walk.log_steps, refine.walk.radius) == (8, 8, 5)


def test_the_paper_s_text() -> None:
    recipe = voc12_paper()
    optimiser = recipe.classify.optimiser
    assert (recipe.network.name, recipe.network.neck_channels) == ("resnet38", 512)
    assert (optimiser.name, optimiser.learning_rate, optimiser.weight_decay) == ("adam", 1e-3, 5e-4)
    assert (optimiser.head_multiplier, optimiser.bias_multiplier, optimiser.schedule) == (1, 1, "constant")
    assert recipe.classify.start == "continue"
    assert (recipe.rounds, recipe.classify.subcategory_weight, recipe.discover.num_subcategories) == (3, 5, 10)
    assert (recipe.refine.walk.beta, 2**recipe.refine.walk.log_steps) == (8, 256)
    assert (recipe.refine.sure_regions.low_alpha, recipe.refine.sure_regions.high_alpha) == (4, 24)


def test_the_frozen_parts_are_parts_of_the_network() -> None:
    with torch.device("meta"):
        network = ResNet38()
    freeze_parameters(network, voc12_reference().network.freeze)
    frozen = {name.partition(".")[0] for name, p in network.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1a", "b2", "b2_1", "b2_2"}


@pytest.mark.parametrize("recipe", [toy, small])
def test_networks_of_the_recipes_for_everyone(recipe: Callable[[], RunSettings]) -> None:
    settings = recipe()
    backbone = build_backbone(replace(settings.network, weights="none"))
    crop = settings.classify.augmentation.crop
    assert crop % backbone.stride == 0
    assert backbone(torch.zeros(1, 3, crop, crop)).shape[2:] == (crop // backbone.stride,) * 2


# From the command line


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_what_runs_without_further_words(asked: Callable, name: str) -> None:
    settings, out = asked("run", name)
    assert settings == RECIPES[name]()
    assert out == Path("runs") / name
    for word in ("Command:", "Hardware:", "Time:", "Score"):
        assert (RECIPES[name].__doc__ or "").count(word) == 1, word


def test_the_demo_is_the_recipe_toy(asked: Callable) -> None:
    assert asked("demo", "--out", "there") == (toy(), Path("there"))


@pytest.mark.parametrize("name", RECIPES)
def test_a_changed_number_changes_that_number_alone(asked: Callable, name: str) -> None:
    words = "--classify.subcategory-weight 0.25 --rounds 7 --data somewhere --cam.scales 1 0.25"
    settings, _ = asked("run", name, *words.split(), "--classify.optimiser.learning-rate", "1e-9")
    recipe = RECIPES[name]()
    optimiser = replace(recipe.classify.optimiser, learning_rate=1e-9)
    assert settings == replace(
        recipe,
        rounds=7,
        dataset=replace(recipe.dataset, root="somewhere"),
        classify=replace(recipe.classify, subcategory_weight=0.25, optimiser=optimiser),
        cam=replace(recipe.cam, scales=(1.0, 0.25)),
    )


def test_every_field_has_a_flag(asked: Callable) -> None:
    """Each number, name or list of each stage is given back as a word, and the whole is the other recipe."""
    goal = voc12_reference()
    words = []
    for name, value in leaves(goal):
        if isinstance(value, bool):
            head, _, last = name.rpartition(".")
            words.append(flag(name if value else f"{head}.no_{last}".lstrip(".")))
        elif isinstance(value, tuple):
            words += [flag(name), *map(str, value)]
        elif value is None or isinstance(value, dict):
            words += [flag(name), *(["None"] if value is None else [])]
        else:
            words += [flag(name), str(value)]
    settings, _ = asked("run", "small", *words)
    for (name, mine), (_, theirs) in zip(leaves(settings), leaves(goal), strict=True):
        assert mine == theirs, name


def test_recipes_differ_and_can_be_written_down() -> None:
    assert len({fingerprint(recipe()) for recipe in RECIPES.values()}) == len(RECIPES)
    for recipe in RECIPES.values():
        assert as_plain(recipe())["classify"]["augmentation"]["crop"] == recipe().classify.augmentation.crop


@pytest.mark.parametrize("changes", [{"seed": -1}, {"rounds": -1}])
def test_settings_of_a_run_that_cannot_be(changes: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    ((name, value),) = changes.items()
    assert cli.main(["run", "toy", f"--{name}", str(value)]) == cli.EXIT_USER
    assert capsys.readouterr().err.startswith(f"error: --{name}: expected a whole number from 0 to ")


# The quick look


@pytest.mark.parametrize("name", RECIPES)
def test_a_quick_look_trains_a_tenth_and_flags_count_on_top(name: str, asked: Callable, tmp_path: Path) -> None:
    recipe = RECIPES[name]()
    quick, out = asked("run", name, "--quick")
    assert (quick, out) == (recipe.quick_look(), Path(f"runs/{name}-quick"))
    assert quick.quick
    assert quick.quick_look() == quick
    assert (quick.rounds, quick.control, quick.cam.scales, quick.refine.random_walk) == (1, False, (1.0,), False)
    for before, after in ((recipe.classify, quick.classify), (recipe.segment.train, quick.segment.train)):
        assert 1 <= after.epochs <= max(1, before.epochs / 10)
        assert after.least_steps == before.least_steps // (10 if before is recipe.classify else 20)
    assert asked("run", name, "--quick", "--rounds", "2", "--out", "x")[0] == quick.with_({"rounds": 2})
    (tmp_path / "quick.toml").write_text(f'recipe = "{name}"\nquick = true\nseed = 3\n')
    (tmp_path / "long.toml").write_text(f'recipe = "{name}"\nseed = 3\n')
    for words in (("quick.toml",), ("long.toml", "--quick")):
        assert asked("run", "--config", str(tmp_path / words[0]), *words[1:])[0] == quick.with_({"seed": 3})
    assert cli.main(["run", "--config", str(tmp_path / "quick.toml"), "--no-quick"]) == 2
