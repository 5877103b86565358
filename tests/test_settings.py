"""Changing settings by name, what their errors say, and which network those of segmentation stand for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from subcam import cli
from subcam.ablation.grid import read_grid
from subcam.errors import SettingsError
from subcam.networks.settings import NetworkSettings
from subcam.recipes import small
from subcam.settings import RENAMED, RENAMED_VALUES, RunSettings, SegmentSettings, group_types, setting_types
from subcam.stages.settings.discover import DiscoverSettings

SETTINGS = RunSettings()
RUN = NetworkSettings(
    name="mobilenetv2_100",
    weights="w.safetensors",
    neck_channels=512,
    freeze=("conv_stem",),
    frozen_below_stride=16,
    frozen_in_bf16=True,
    mean=(0.1, 0.2, 0.3),
)


def test_settings_are_changed_in_a_copy() -> None:
    recipe = small()
    changed = recipe.with_({"classify.epochs": 4, "refine.masks.crf.iterations": 4, "seed": 7})
    assert recipe == small()
    crf = replace(recipe.refine.masks.crf, iterations=4)
    assert changed == replace(
        recipe,
        seed=7,
        classify=replace(recipe.classify, epochs=4),
        refine=replace(recipe.refine, masks=replace(recipe.refine.masks, crf=crf)),
    )
    assert recipe.with_({}) == recipe


def test_a_group_is_changed_as_a_whole_and_single_settings_of_it_count_on_top() -> None:
    group = DiscoverSettings(num_subcategories=3, restarts=2)
    for values in (
        {"discover": group, "discover.restarts": 9},
        {"discover.restarts": 9, "discover": group},
    ):
        assert SETTINGS.with_(values).discover == replace(group, restarts=9)
    network = NetworkSettings(name="resnet18")
    assert SETTINGS.with_({"segment.network": network}).segment == replace(SETTINGS.segment, network=network)
    with pytest.raises(SettingsError, match=r"^discover: expected DiscoverSettings, got 3$"):
        SETTINGS.with_({"discover": 3})


def test_values_are_put_in_all_at_once() -> None:
    """Neither change alone would do: walk_alpha has to be one of alphas."""
    values = {"refine.walk.alphas": (5.0, 6.0), "refine.masks.walk_alpha": 5.0, "rounds": 1}
    changed = SETTINGS.with_(values)
    assert changed.refine.walk.alphas == (5.0, 6.0)
    assert changed.refine.masks.walk_alpha == 5.0
    assert replace(changed, refine=SETTINGS.refine, rounds=SETTINGS.rounds) == SETTINGS
    with pytest.raises(SettingsError, match=r"expected masks\.walk_alpha to be one of walk\.alphas"):
        SETTINGS.with_({"refine.masks.walk_alpha": 5.5})


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("classify.subcategory_weight", 5, 5.0),
        ("classify.subcategory_weight", np.float32(0.5), 0.5),
        ("rounds", np.int64(2), 2),
        ("cam.scales", [1, 0.5], (1.0, 0.5)),
        ("dataset.root", Path("images"), "images"),
        ("dataset.classes", ["cat"], ("cat",)),
        ("network.output_stride", None, None),
        ("network.output_stride", 8, 8),
        ("evaluate.background_threshold", 1, 1.0),
        ("evaluate.background_threshold", "auto", "auto"),
        ("network.model_args", {"drop_rate": 1.5, "pretrained": True}, {"drop_rate": 1.5, "pretrained": True}),
        ("control", True, True),
    ],
)
def test_a_value_is_kept_in_the_setting_s_own_type(name: str, value: Any, kept: Any) -> None:
    changed: Any = SETTINGS.with_({name: value})
    for part in name.split("."):
        changed = getattr(changed, part)
    assert changed == kept
    assert type(changed) is type(kept)
    if isinstance(kept, tuple):
        assert list(map(type, changed)) == list(map(type, kept))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rounds", "3", "rounds: expected a whole number from 0 to 1000, got '3'"),
        ("rounds", 3.0, "rounds: expected a whole number from 0 to 1000, got 3.0"),
        ("rounds", True, "rounds: expected a whole number from 0 to 1000, got True"),
        (
            "classify.subcategory_weight",
            False,
            "classify.subcategory_weight: expected a number from 0 to 1000000, got False",
        ),
        ("control", 1, "control: expected true or false, got 1"),
        ("dataset.root", 1, "dataset.root: expected text of at most 4096 printable characters, got 1"),
        ("cam.scales", 1.0, "cam.scales: expected 1 to 100 entries, each a number from 0.01 to 100, got 1.0"),
        (
            "cam.scales",
            (1.0, "x"),
            "cam.scales: expected 1 to 100 entries, each a number from 0.01 to 100, got (1.0, 'x')",
        ),
        (
            "classify.augmentation.scale_long_side",
            (1, 2, 3),
            "classify.augmentation.scale_long_side: expected 2 entries, each a whole number from 1 to 100000,"
            " got (1, 2, 3)",
        ),
        ("network.output_stride", 8.5, "network.output_stride: expected a whole number from 1 to 256 or none, got 8.5"),
        ("discover.normalisation", "l1", "discover.normalisation: expected one of none, l2, got 'l1'"),
        ("network.model_args", "x", "network.model_args: expected a dict, got 'x'"),
        (
            "machine.inference_precision",
            64,
            "machine.inference_precision: expected one of 32-true, bf16-mixed, 16-mixed or one of auto, got 64",
        ),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        SETTINGS.with_({name: value})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("classify.epoch", "there is no setting 'classify.epoch'; did you mean 'classify.epochs'"),
        ("num_subcategories", "no setting 'num_subcategories'; did you mean 'discover.num_subcategories'"),
        ("epochs", "did you mean 'classify.epochs' or 'segment.train.epochs' or 'refine.affinity.epochs'?"),
        ("rounds.first", "there is no setting 'rounds.first'; "),
        ("", "there is no setting ''; known are: "),
    ],
)
def test_an_unknown_name_is_answered_with_the_one_that_was_meant(name: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        SETTINGS.with_({name: 3})
    assert message in str(caught.value)


def test_what_was_renamed_has_a_new_name_that_is_there_and_no_old_one_that_is() -> None:
    names = {**setting_types(SETTINGS), **group_types(SETTINGS)}
    assert set(RENAMED.values()) <= set(names)
    assert not set(RENAMED) & set(names)
    assert set(RENAMED_VALUES) <= set(RENAMED.values())


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a setting, a group and a setting with its values had been renamed."""
    for old, new in {
        "groups": "discover",
        "discover.k": "discover.num_subcategories",
        "masks": "refine.rounds",
    }.items():
        monkeypatch.setitem(RENAMED, old, new)
    monkeypatch.setitem(RENAMED_VALUES, "refine.rounds", {"no": "none", "two": "first-and-last"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--discover.k 3", "--discover.k has been renamed to --discover.num-subcategories"),
        ("--discover.k=3", "--discover.k has been renamed to --discover.num-subcategories"),
        ("--seed 1 --groups.restarts 3", "--groups.restarts has been renamed to --discover.restarts"),
        ("--masks two", "--masks two has been renamed to --refine.rounds first-and-last"),
        ("--masks=no --seed 1", "--masks no has been renamed to --refine.rounds none"),
        ("--masks", "--masks has been renamed to --refine.rounds"),
    ],
)
@pytest.mark.parametrize("command", ["run", "ablate"])
def test_an_old_flag_is_answered_with_the_new_one(
    renamed: None, capsys: pytest.CaptureFixture[str], command: str, words: str, message: str
) -> None:
    assert cli.main([command, "toy", *words.split()]) == cli.EXIT_USER
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--subcategories local", "--subcategories local has been renamed to --route prototypes"),
        ("--subcategories image", "--subcategories image has been renamed to --route subcategories"),
        ("--local.num-subcategories 5", "--local.num-subcategories has been renamed to --prototypes.num-objects"),
        ("--local.num-context 5", "--local.num-context has been renamed to --prototypes.num-context"),
        ("--classify.local-weight 0.3", "--classify.local-weight has been renamed to --classify.prototype-weight"),
    ],
)
def test_flags_of_the_first_release(capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    assert cli.main(["demo", *words.split()]) == cli.EXIT_USER
    assert capsys.readouterr().err == f"error: {message}\n"


def test_an_old_name_is_answered_with_the_new_one(renamed: None) -> None:
    for name, message in (
        ("discover.k", "the setting 'discover.k' has been renamed to 'discover.num_subcategories'"),
        ("groups.restarts", "the setting 'groups.restarts' has been renamed to 'discover.restarts'"),
        ("groups", "the setting 'groups' has been renamed to 'discover'"),
        (
            "masks",
            "the setting 'masks' has been renamed to 'refine.rounds' "
            "('no' is now 'none', 'two' is now 'first-and-last')",
        ),
    ):
        with pytest.raises(SettingsError) as caught:
            SETTINGS.with_({name: 3})
        assert str(caught.value) == message
        with pytest.raises(SettingsError) as caught:
            read_grid([f"{name}=3"], SETTINGS)
        assert str(caught.value) == f"--grid {name}=3: {message}"


def test_same_is_the_runs_network_without_what_is_the_classifiers() -> None:
    settings = SegmentSettings(network=NetworkSettings(name="same", output_stride=16), multi_scale_inputs=(0.5, 0.75))
    config = settings.config(run_network=RUN, class_names=("cat",))
    assert config.network == NetworkSettings(
        name="mobilenetv2_100", weights="w.safetensors", output_stride=16, mean=(0.1, 0.2, 0.3)
    )
    assert (config.class_names, config.architecture, config.multi_scale_inputs) == (("cat",), "deeplabv2", (0.5, 0.75))
    assert SegmentSettings().config(run_network=RUN, class_names=("cat",)).network.output_stride is None
    own = SegmentSettings(network=NetworkSettings(name="same", frozen_below_stride=8, frozen_in_bf16=True))
    network = own.config(run_network=RUN, class_names=("cat",)).network
    assert (network.frozen_below_stride, network.frozen_in_bf16) == (8, True)


def test_a_network_of_its_own_is_taken_as_it_is() -> None:
    own = NetworkSettings(name="resnet101", weights="coco.pth", output_stride=8)
    settings = SegmentSettings(network=own, architecture="deeplabv3plus")
    config = settings.config(run_network=RUN, class_names=("cat",))
    assert config.network == own
    assert config.architecture == "deeplabv3plus"


def test_each_kind_of_mask_is_trained_on_once() -> None:
    assert SegmentSettings(train_on=()).train_on == ()
    with pytest.raises(SettingsError, match="expected each kind of mask once in train_on, got pseudo pseudo"):
        SegmentSettings(train_on=("pseudo", "pseudo"))


@pytest.mark.parametrize(("rounds", "refined"), [("none", []), ("last", [2]), ("first-and-last", [0, 2])])
def test_which_rounds_are_refined(rounds: str, refined: list[int]) -> None:
    refine = SETTINGS.with_({"refine.rounds": rounds}).refine
    assert [index for index in range(3) if refine.refines(index, last=2)] == refined


def test_a_run_ends_with_a_stage_of_its_last_round_or_of_another() -> None:
    settings = RunSettings(rounds=2, until="cam")
    assert [settings.ends_with("cam", index) for index in range(3)] == [False, False, True]
    assert settings.ends_after_the_rounds
    earlier = settings.with_({"until_round": 1})
    assert [earlier.ends_with("cam", index) for index in range(3)] == [False, True, False]
    assert not earlier.ends_after_the_rounds
    assert not settings.ends_with("classify", 2)
