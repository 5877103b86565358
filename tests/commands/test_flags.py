"""Words of a command line as settings: short flags beside long ones, and none that is silently lost."""

import pytest

from subcam.commands.flags import read_flags
from subcam.errors import SettingsError
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
