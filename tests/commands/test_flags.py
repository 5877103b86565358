"""Words of a command line as settings: short flags beside long ones, and none that is silently lost."""

import re

import pytest

from subcam import cli
from subcam.checks.fields import leaves
from subcam.commands.flags import help_of, owner_of, read_flags
from subcam.commands.run import OFTEN, OFTEN_OF_STAGE
from subcam.errors import SettingsError
from subcam.recipes import small
from subcam.settings import RunSettings


def read(*words: str) -> RunSettings:
    return read_flags(RunSettings, words, prog="test")


@pytest.mark.parametrize("flag", ["--method", "--compare.methods"])
def test_a_setting_with_a_short_flag(flag: str) -> None:
    assert read(flag, "erasing", "a:B", "--seed", "3").compare.methods == ("erasing", "a:B")


@pytest.mark.parametrize(
    "words",
    [
        ("--method", "a:B", "--method", "c:D"),
        ("--method=a:B", "--compare.methods", "c:D"),
        ("--cam.scales", "1", "--seed", "1", "--cam.scales", "2"),
        ("--segment.train-on", "truth", "--segment.train_on", "pseudo"),
    ],
)
def test_a_flag_of_several_values_that_comes_twice_is_refused(words: tuple[str, ...]) -> None:
    """Of these the last would count alone."""
    with pytest.raises(SettingsError, match=r"expected --\S+( or --\S+)? once with all values after it, got it"):
        read(*words)


def test_a_flag_of_one_value_may_come_twice_and_the_last_counts() -> None:
    assert read("--seed", "1", "--seed", "2").seed == 2


# Help in two levels


@pytest.mark.parametrize("words", [("run", "small"), ("refine", "small"), ("segment", "toy"), ("ablate", "toy")])
def test_help_shows_what_people_touch_and_help_all_every_setting(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {}
    for level in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, level])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        flags[level] = re.findall(r"^(?:│| ) (--(?!\S*\.no-)[a-z][a-z0-9.-]*)", said, re.MULTILINE)
        assert flags[level].count("--data") == 1
        if level == "--help":
            (more,) = re.findall(rf"^(\d+) more: subcam {' '.join(words)} --help-all$", said, re.MULTILINE)
            assert f"default: {small().classify.epochs if words[1] == 'small' else 4})" in " ".join(said.split())
    assert set(flags["--help"]) <= set(flags["--help-all"])
    assert len(flags["--help"]) < 26
    assert len(flags["--help-all"]) == len(flags["--help"]) + int(more) > 200


def test_every_setting_has_a_text() -> None:
    names = [name for name, _ in leaves(RunSettings)]
    assert set(OFTEN) | {name for own in OFTEN_OF_STAGE.values() for name in own} <= set(names)
    parts = [name.rpartition(".") for name in names]
    assert not [last for group, _, last in parts if not help_of(owner_of(RunSettings, group), last)]
