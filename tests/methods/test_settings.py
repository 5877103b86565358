"""How methods are named in settings and on the command line."""

import pytest

from subcam.errors import SettingsError
from subcam.methods.settings import CompareSettings
from subcam.settings import RunSettings


@pytest.mark.parametrize("methods", [(), ("erasing", "a.b_c:D", "of-a-package"), ("ä:Ö",)])
def test_names_and_places_of_code(methods: tuple[str, ...]) -> None:
    assert CompareSettings(methods=methods).methods == methods


@pytest.mark.parametrize(
    "reference", ["", ":", "a:", ":a", "a:b:c", "a b:c", "a/b:c", "../a:b", "a.:b", "1a:b", "a:b()"]
)
def test_what_names_no_method(reference: str) -> None:
    with pytest.raises(SettingsError, match=r"expected each of methods to be a name or package\.module:name, got"):
        RunSettings().with_({"compare.methods": (reference,)})


def test_a_method_that_is_named_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"each of methods once, got erasing erasing"):
        CompareSettings(methods=("erasing", "erasing"))
