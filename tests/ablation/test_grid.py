"""Values of settings on a grid: read by the settings' own types, and refused with what was expected."""

from typing import Any, Literal

import pytest

from subcam.ablation.grid import read_grid, read_value, shown
from subcam.errors import SettingsError
from subcam.recipes import RECIPES
from subcam.settings import RunSettings, setting_types

SETTINGS = RunSettings()


def value_of(settings: Any, name: str) -> Any:
    for part in name.split("."):
        settings = getattr(settings, part)
    return settings


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_setting_of_a_recipe_is_read_as_it_is_shown(recipe: str) -> None:
    settings = RECIPES[recipe]()
    kinds = setting_types(settings)
    assert {"rounds", "discover.num_subcategories", "refine.masks.crf.iterations", "cam.scales"} <= set(kinds)
    for name, kind in kinds.items():
        value = value_of(settings, name)
        if not isinstance(value, dict):
            read = read_value(shown(value), kind, where=name)
            assert read == value, name
            assert type(read) is type(value), name
    assert settings.with_({name: value_of(settings, name) for name in kinds}) == settings


@pytest.mark.parametrize(
    ("word", "name", "values"),
    [
        ("discover.num_subcategories=1,5,10", "discover.num_subcategories", (1, 5, 10)),
        ("discover.num-subcategories=7", "discover.num_subcategories", (7,)),
        ("--classify.subcategory-weight=0,.5, 1e1", "classify.subcategory_weight", (0.0, 0.5, 10.0)),
        ("control=true,No", "control", (True, False)),
        ("classify.start=restart,continue", "classify.start", ("restart", "continue")),
        ("cam.scales=1,1 0.5 2", "cam.scales", ((1.0,), (1.0, 0.5, 2.0))),
        ("classify.augmentation.scale-long-side=64 96", "classify.augmentation.scale_long_side", ((64, 96),)),
        ("dataset.classes='polar bear' cat,", "dataset.classes", (("polar bear", "cat"), ())),
        ('network.weights="a, b=c.pth",timm', "network.weights", ("a, b=c.pth", "timm")),
        ("network.output_stride=none,8", "network.output_stride", (None, 8)),
        ("machine.inference_precision=auto,bf16-mixed", "machine.inference_precision", ("auto", "bf16-mixed")),
        ("machine.workers=-1,0", "machine.workers", (-1, 0)),
    ],
)
def test_values_have_the_types_of_the_settings(word: str, name: str, values: tuple) -> None:
    read = read_grid([word], SETTINGS)
    assert read == {name: values}
    assert list(map(type, read[name])) == list(map(type, values))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rounds"], r"--grid takes NAME=VALUE,VALUE,... for each setting, got 'rounds'"),
        (["num_subcategories=1"], r"no setting 'num_subcategories'; did you mean .*'discover.num_subcategories'"),
        (["discover.num_subcategorys=1"], r"did you mean .*'discover.num_subcategories'"),
        (
            ["discover=1"],
            r"--grid discover=1: 'discover' is a group of settings: discover.num_sub",
        ),
        (["seed=0,1"], r"give them as --seeds 0 1 2"),
        (["rounds=1", "rounds=2"], r"--grid names rounds twice"),
        (["rounds=1,2,1"], r"--grid rounds: expected each value once, got 1 twice"),
        (["classify.subcategory_weight=5,5.0"], r"expected each value once, got 5 twice"),
        (["rounds="], r"--grid rounds: expected one value or more behind '=', got none"),
        (["rounds=1,2.5"], r"--grid rounds: expected a whole number from 0 to 1000, got '2.5'"),
        (["classify.subcategory_weight=lots"], r"expected a number from 0 to 1000000, got 'lots'"),
        (["control=maybe"], r"expected true or false, got 'maybe'"),
        (["discover.normalisation=l1"], r"expected one of none, l2, got 'l1'"),
        (
            ["cam.scales=1 x"],
            r"expected 1 to 100 entries separated by spaces, each a number from 0.01 to 100, got '1 x'",
        ),
        (["classify.augmentation.scale_long_side=1"], r"expected 2 entries separated by spaces, each a whole number"),
        (
            ["dataset.classes='cat"],
            r"expected entries separated by spaces, each text of at most 4096 printable characters, got \"'cat\"",
        ),
        (["network.output_stride=x"], r"expected a whole number from 1 to 256 or none, got 'x'"),
        (["machine.inference_precision=64"], r"one of 32-true, bf16-mixed, 16-mixed or one of auto, got '64'"),
        (["network.model_args=x"], r"expected a dict, which a grid cannot hold, got 'x'"),
        (['network.weights="timm'], r"the quotes in '\"timm' do not match"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(words: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_grid(words, SETTINGS)


def test_text_is_the_last_of_several_types() -> None:
    assert read_value("7", str | int, where="here") == 7
    assert read_value("seven", str | int, where="here") == "seven"
    assert read_value("auto", int | Literal["auto"], where="here") == "auto"


def test_numbers_are_shown_without_loss() -> None:
    assert [shown(value) for value in (5.0, 1e-4, 0.12345678, 3, True, None, (1.0, 0.5), ("a b", "c"))] == [
        "5", "0.0001", "0.12345678", "3", "true", "none", "1 0.5", "'a b' c",
    ]  # fmt: skip
