"""One door: ours, a package's and a module's methods are found by what settings name, and nothing else is imported."""

import json
import sys
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from methods.plugins import MINE, WriteModule

from subcam.comparisons.settings import ErasingSettings
from subcam.errors import SettingsError
from subcam.methods import registry
from subcam.methods.registry import GROUP, choose
from subcam.methods.settings import CompareSettings


def chosen(*methods: str) -> list[registry.ChosenMethod]:
    return list(choose(CompareSettings(methods=methods)))


def test_ours_have_their_settings() -> None:
    (one,) = choose(CompareSettings(methods=("erasing",), erasing=ErasingSettings(threshold=0.3)))
    assert one.is_ours
    assert one.training is not None
    assert one.training.key == ErasingSettings(threshold=0.3)
    assert one.method.losses.keywords == {"settings": ErasingSettings(threshold=0.3)}  # type: ignore[union-attr]


def test_a_module_s_method_is_imported_from_the_folder_one_is_in(
    module: WriteModule, capsys: pytest.CaptureFixture[str]
) -> None:
    module()
    (one,) = chosen("own_method:MINE")
    assert (one.method.title, one.reference, one.is_ours) == ("Centre", "own_method:MINE", False)
    assert capsys.readouterr().out == "method own_method:MINE: runs the code of the module own_method\n"
    assert chosen("own_method:MINE") == [one]
    assert capsys.readouterr().out == "", "it was imported before"


def test_a_file_of_the_folder_takes_the_place_of_no_module(module: WriteModule) -> None:
    module("raise SystemError('a json of somebody')\n", name="json")
    sys.modules["json"] = json
    module()
    chosen("own_method:MINE")
    assert sys.path[-1] == str(Path.cwd())


def test_its_source_is_part_of_its_key(module: WriteModule) -> None:
    """A change of the code, of the version or of the code of another module that holds a function of it."""
    module()
    first = chosen("own_method:MINE")[0].key
    module(MINE + "\n# a comment\n")
    second = chosen("own_method:MINE")[0].key
    assert first["source"] != second["source"]
    assert {**first, "source": second["source"]} == second
    module()
    assert chosen("own_method:MINE")[0].key == first
    using = "from own_method import centre\nTHEIRS = Method(name='other', maps=centre)\n"
    module(using, name="other_method")
    third = chosen("other_method:THEIRS")[0].key
    module(MINE + "\n# a comment\n")
    module(using, name="other_method")
    assert chosen("other_method:THEIRS")[0].key["source"] != third["source"]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    points: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints(points).select(group=group))
    return points


def test_a_package_s_method_is_found_by_its_name(
    module: WriteModule, register: list[EntryPoint], capsys: pytest.CaptureFixture[str]
) -> None:
    register += [EntryPoint("in-the-middle", "own_method:MINE", GROUP), EntryPoint("broken", "gone:GONE", GROUP)]
    module()
    assert [one.method.name for one in chosen("erasing")] == ["erasing"]
    assert capsys.readouterr().out == "", "a package's code was run that nobody named"
    assert chosen("in-the-middle")[0].method.name == "centre"
    assert capsys.readouterr().out == "method in-the-middle: runs the code of the package a package (own_method:MINE)\n"
    with pytest.raises(SettingsError, match=r"--method in-the-midle: .* did you mean 'in-the-middle'\?"):
        chosen("in-the-midle")
    with pytest.raises(SettingsError, match="--method broken: there is no module gone in"):
        chosen("broken")


def test_a_name_that_two_packages_have(module: WriteModule, register: list[EntryPoint]) -> None:
    module()
    register += [EntryPoint("same", "own_method:MINE", GROUP), EntryPoint("same", "a.b:C", GROUP)]
    register += [EntryPoint("erasing", "own_method:MINE", GROUP)]
    with pytest.raises(SettingsError, match=r"--method same: several packages have registered it: a\.b:C, own_method"):
        chosen("same")
    assert chosen("erasing")[0].is_ours, "a package's method took the name of ours"


def test_an_installed_package_is_found_by_its_metadata(
    module: WriteModule, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = module().parent / "mine-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[subcam.methods]\nin-the-middle = own_method:MINE\n")
    monkeypatch.syspath_prepend(folder.parent)
    assert chosen("in-the-middle")[0].method.title == "Centre"
    assert capsys.readouterr().out == "method in-the-middle: runs the code of the package mine (own_method:MINE)\n"


@pytest.mark.parametrize(
    ("text", "reference", "message"),
    [
        (MINE, "own_methods:MINE", "there is no module own_methods in "),
        (MINE, "own_method.part:MINE", "there is no module own_method.part in "),
        (MINE, "own_method:MINES", "the module own_method has no 'MINES'; did you mean 'MINE'?"),
        (MINE, "own_method:centre", "expected a subcam.Method, got function"),
        ("import gone_module\n", "own_method:MINE", "importing own_method raised ModuleNotFoundError: No module named"),
        ("1 / 0\n", "own_method:MINE", "importing own_method raised ZeroDivisionError: division by zero; --debug"),
        ("def f(:\n", "own_method:MINE", "importing own_method raised SyntaxError: "),
        ("MINE = Method(name='A')\n", "own_method:MINE", "importing own_method raised SettingsError: name: expected"),
        (
            "MINE = Method(name='erasing')\n",
            "own_method:MINE",
            "its name 'erasing' is that of erasing; give it another",
        ),
    ],
)
def test_what_cannot_be_taken_is_said_with_its_name(
    module: WriteModule, text: str, reference: str, message: str
) -> None:
    module(text)
    with pytest.raises(SettingsError) as error:
        chosen(reference)
    assert str(error.value).startswith(f"--method {reference}: {message}")


def test_two_of_one_name(module: WriteModule) -> None:
    module(MINE + "OTHER = Method(name='centre')\n")
    with pytest.raises(SettingsError, match="own_method:OTHER: its name 'centre' is that of own_method:MINE"):
        chosen("own_method:MINE", "own_method:OTHER")


def test_a_machine_that_ran_out_of_memory_is_no_mistake_of_the_module(module: WriteModule) -> None:
    module("raise MemoryError\n")
    with pytest.raises(MemoryError):
        chosen("own_method:MINE")


def test_a_module_without_a_file_is_refused(module: WriteModule, monkeypatch: pytest.MonkeyPatch) -> None:
    path = module()
    chosen("own_method:MINE")
    registry._sources.clear()
    path.unlink()
    with pytest.raises(SettingsError, match="the module own_method is no file, so that nothing can tell when its code"):
        chosen("own_method:MINE")


def test_what_a_method_needs_is_asked_for_first(module: WriteModule) -> None:
    module("def no():\n    raise ImportError('no such package')\nMINE = Method(name='a', needs=no)\n")
    with pytest.raises(ImportError, match="no such package"):
        chosen("own_method:MINE")
