"""Without a home or a site-packages that can be written all works; what is compiled is kept elsewhere, or nowhere."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba
import pytest
from numba.core import caching, config

from subcam import cli
from subcam.runtime.caches import places
from subcam.runtime.caches.kernels import kernel

NOWHERE = "/dev/null/home"
"""A home that nobody can write, root neither."""


@pytest.fixture(autouse=True)
def no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No home to write in, no caches that were chosen, and temporary files of this test's own."""
    for variable in (*places.VARIABLES, "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.setenv(variable, "")  # so that what the test sets is undone
    monkeypatch.setenv("HOME", NOWHERE)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(config, "CACHE_DIR", "")
    places.temporary_place.cache_clear()
    yield
    places.temporary_place.cache_clear()


def test_caches_go_to_the_users_own_temporary_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        places.prepare()
    place = tmp_path / "temporary" / f"subcam-caches-{os.getuid()}"
    assert {variable: os.environ[variable] for variable in places.VARIABLES} == {
        variable: str(place / name) for variable, name in places.VARIABLES.items()
    }
    assert place.stat().st_mode & 0o777 == 0o700
    assert [record.getMessage() for record in caplog.records] == [
        f"{NOWHERE}/.cache cannot be written: what is compiled once is kept in {place}"
    ]


def test_a_home_that_can_be_written_and_places_that_were_chosen_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MPLCONFIGDIR", "chosen")
    places.prepare()
    assert os.environ["MPLCONFIGDIR"] == "chosen"
    assert os.environ["TRITON_CACHE_DIR"]
    monkeypatch.setenv("TRITON_CACHE_DIR", "")
    caplog.clear()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    places.prepare()
    assert not os.environ["TRITON_CACHE_DIR"]
    assert caplog.records == []


def test_limits_of_caches_are_set_unless_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in places.LIMITS:
        monkeypatch.setenv(variable, "")  # so that what the test sets is undone
        monkeypatch.delenv(variable)
    places.prepare()
    assert {variable: os.environ[variable] for variable in places.LIMITS} == places.LIMITS
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    places.prepare()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"


def test_a_user_without_a_name_has_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile names its folder after the user, and fails where there is no name."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr(places.getpass, "getuser", nobody)
    places.prepare()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"]


@pytest.mark.parametrize("kind", ["link", "open to all"])
def test_a_folder_that_is_somebody_elses_is_not_taken(tmp_path: Path, kind: str) -> None:
    planted = tmp_path / "temporary" / f"subcam-caches-{os.getuid()}"
    if kind == "link":
        (tmp_path / "elsewhere").mkdir()
        planted.symlink_to(tmp_path / "elsewhere")
    else:
        planted.mkdir()
        planted.chmod(0o777)
    place = places.temporary_place()
    assert place is not None
    assert place != planted
    assert place.stat().st_mode & 0o777 == 0o700


def test_without_any_place_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(tempfile, "tempdir", NOWHERE)
    places.prepare()
    assert not any(os.environ[variable] for variable in places.VARIABLES)
    assert len(caplog.records) == 1


def twice(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("temporary", [True, False])
def test_kernels_are_kept_elsewhere_or_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, temporary: bool
) -> None:
    """As where neither the folder of the source nor the home can be written."""
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(twice)
    if not temporary:
        monkeypatch.setattr(tempfile, "tempdir", NOWHERE)
    assert kernel()(twice)(21) == 42
    kept = list((tmp_path / "temporary").rglob("*.nbi"))
    assert len(kept) == int(temporary)


def test_a_command_in_such_a_place(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    assert cli.main(["recipes"]) == cli.EXIT_OK
    assert "voc12_paper" in capsys.readouterr().out
    assert len([record for record in caplog.records if "cannot be written" in record.getMessage()]) == 1
