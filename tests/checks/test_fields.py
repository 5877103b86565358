"""Every field of all settings: what is out of its range is refused at each door by the field's name; help for each."""

import dataclasses
import math
import types
import typing
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest

from subcam import cli
from subcam.checks.fields import Entries, Range, Settings, check_all, checked, in_words, leaves, types_of, unchecked
from subcam.commands import flags
from subcam.commands.flags import flag_of, help_of
from subcam.errors import SettingsError
from subcam.networks.settings import NetworkSettings
from subcam.recipes import RECIPES, small
from subcam.runtime.documents.plain_values import as_plain, from_plain
from subcam.settings import RunSettings
from subcam.stages.settings.classify import ClassifySettings
from subcam.training.settings import OptimiserSettings

SOURCE = Path(__file__).resolve().parents[2] / "src"
ALL_SETTINGS = dict(leaves(RunSettings))

NO_NUMBERS: tuple[Any, ...] = (
    *(math.nan, math.inf, -math.inf, 1e300, 10**12, -(10**12), 10**400, 10**5000),
    *("1", "", True, [], (), {}, {"a": 1}, object(), 1j, b"1", np.ones(1), np.float64("nan")),
)
NO_TEXTS: tuple[Any, ...] = (1, 1.5, True, ["a"], object(), b"a", Path("a\0b"), "a\0b", "a\nb", "\x1b[31m", "x" * 5000)


def classes() -> Iterator[type[Settings]]:
    """All classes of settings that a module holds."""
    for path in sorted(SOURCE.rglob("*.py")):
        if "(Settings)" in path.read_text("utf-8"):
            name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
            for value in vars(import_module(name)).values():
                if isinstance(value, type) and issubclass(value, Settings) and value.__module__ == name:
                    yield value


CLASSES = [kind for kind in classes() if kind is not Settings]


def numbers_in(kind: Any, beside: tuple[Any, ...] = ()) -> Iterator[tuple[type, tuple[Any, ...]]]:
    """Each type of a number that is a part of the type of a field, with what is said beside it."""
    if typing.get_origin(kind) is Annotated:
        yield from numbers_in(typing.get_args(kind)[0], typing.get_args(kind)[1:])
    elif kind in (int, float):
        yield kind, beside
    elif typing.get_origin(kind) is not Literal:
        for part in typing.get_args(kind):
            yield from numbers_in(part)


def wrong_values(kind: Any) -> list[Any]:
    """Values that a field of this type must not have, whatever its range."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return wrong_values(parts[0])
    if origin in (typing.Union, types.UnionType):
        # Wrong for one part may be right for another.
        return [math.nan, 1e300, 10**12, -(10**12), 10**5000, object(), [], {"a": 1}, np.ones(2), "no such word"]
    if kind in (int, float):
        return [*NO_NUMBERS, None]
    if kind is str:
        return [*NO_TEXTS, None]
    if kind is bool:
        return [0, 1, "True", None, math.nan, np.bool_(True)]
    if origin is Literal:
        return ["no such choice", 1, None, True, math.nan, object(), np.ones(2)]
    if origin is dict:
        return [1, None, "x", (1,), {1: 1}, {"a": None}, {"a": math.nan}, {"a": 10**12}, {"a\n": 1}]
    assert origin is tuple
    entries = [(value,) * (1 if parts[1:] == (...,) else len(parts)) for value in wrong_values(parts[0])]
    return [1, None, "x", object(), np.ones(2), *entries]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_number_has_a_range_of_its_own_type(kind: type[Settings]) -> None:
    for name, hint in types_of(kind).items():
        for number, beside in numbers_in(hint):
            (limit,) = (entry for entry in beside if isinstance(entry, Range))
            assert type(limit.least) is type(limit.most) is number, name
            assert -(10**12) < limit.least < limit.most < 10**12, name


def test_no_class_leaves_its_fields_unchecked() -> None:
    assert len(CLASSES) > 35
    assert [kind.__name__ for kind in CLASSES if kind.__post_init__ is not Settings.__post_init__] == []
    assert all(dataclasses.is_dataclass(kind) for kind in CLASSES)


def with_one(name: str, value: Any, settings: Any) -> Any:
    """The settings with one value that nobody has checked, deep inside."""
    head, _, rest = name.partition(".")
    values = {entry.name: getattr(settings, entry.name) for entry in dataclasses.fields(settings)}
    values[head] = with_one(rest, value, values[head]) if rest else value
    return unchecked(type(settings), values)


@pytest.mark.parametrize("name", ALL_SETTINGS)
def test_a_wrong_value_is_refused_by_name_at_every_door(name: str) -> None:
    wrong, settings = wrong_values(ALL_SETTINGS[name]), small()
    assert len(wrong) > 4
    for value in wrong:
        with pytest.raises(SettingsError, match=rf"^{name}: expected ") as caught:
            checked(value, ALL_SETTINGS[name], called=name)
        assert len(str(caught.value)) < 400
    value, last = wrong[-1], name.rpartition(".")[2]
    with pytest.raises(SettingsError, match=rf"^{name}: expected "):
        settings.with_({name: value})
    given = with_one(name, value, settings)
    with pytest.raises(SettingsError, match=rf"^{flag_of(RunSettings, name)}: expected "):
        check_all(given, called=partial(flag_of, RunSettings))  # what the command line calls
    group, plain = given, as_plain(settings)
    inner = plain
    for part in name.split(".")[:-1]:
        group, inner = getattr(group, part), inner[part]
    with pytest.raises(SettingsError, match=rf"^{last}: expected "):
        group.__post_init__()  # what the constructor calls
    inner[last] = value
    with pytest.raises(TypeError, match=rf"^{name}: expected "):
        from_plain(RunSettings, plain)


@pytest.mark.parametrize("name", [name for name, hint in ALL_SETTINGS.items() if list(numbers_in(hint))])
def test_the_limits_themselves_are_allowed_and_what_is_beyond_is_not(name: str) -> None:
    for number, (limit, *_) in numbers_in(ALL_SETTINGS[name]):
        kind = Annotated[number, limit]  # type: ignore[valid-type]
        for edge, beyond in ((limit.least, -math.inf), (limit.most, math.inf)):
            kept = checked(edge, kind, called=name)
            assert kept == edge
            assert type(kept) is number
            step = edge + int(math.copysign(1, beyond)) if number is int else math.nextafter(edge, beyond)
            with pytest.raises(SettingsError, match=rf"^{name}: expected a .*number from "):
                checked(step, kind, called=name)


def test_the_recipes_have_only_such_values() -> None:
    for recipe in RECIPES.values():
        check_all(recipe())
        assert from_plain(RunSettings, as_plain(recipe())) == recipe()


def test_values_are_kept_in_the_type_of_their_field() -> None:
    settings = unchecked(OptimiserSettings, {"learning_rate": 1, "warmup_steps": np.int64(3)})
    settings.__post_init__()
    assert settings == OptimiserSettings(learning_rate=1.0, warmup_steps=3)
    assert type(settings.learning_rate) is float
    assert type(settings.warmup_steps) is int
    made = unchecked(NetworkSettings, {"weights": Path("a/b"), "freeze": ["b2"], "model_args": {"x": np.float32(0.5)}})
    made.__post_init__()
    assert (made.weights, made.freeze, made.model_args) == ("a/b", ("b2",), {"x": 0.5})
    assert unchecked(ClassifySettings, {}) == ClassifySettings()
    with pytest.raises(TypeError, match="needs a value of 'out'"):
        unchecked(_Needs, {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Needs(Settings):
    out: Path


def test_words_for_types() -> None:
    assert in_words(Annotated[tuple[Annotated[int, Range(1, 3)], ...], Entries(1, 2)]) == (
        "1 to 2 entries, each a whole number from 1 to 3"
    )
    assert in_words(Annotated[float, Range(0.0, 1e6)] | None) == "a number from 0 to 1000000 or none"
    assert in_words(Path) == "a path of at most 4096 printable characters"
    with pytest.raises(SettingsError, match=r"got int of very many digits$"):
        checked(10**5000, Annotated[int, Range(0, 1)], called="x")


# From the command line


class Captured(Exception):  # noqa: N818 - no error: it carries what a command asked for
    pass


COMMANDS = (
    *("run small", "demo", "ablate small", "predict", "evaluate", "report x"),
    *("data check", "data download", "data labels", "data masks", "data shards"),
    *("export voc", "export coco-rle", "export coco-panoptic", "export label-studio", "export cvat"),
    *("export cvat-masks", "export onnx", "export torch", "export hub"),
)


@pytest.fixture
def flags_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class whose fields are the flags of a command."""

    def captured(kind: type, **_: object) -> None:
        raise Captured(kind)

    def flags_of(command: str) -> type[Settings]:
        with pytest.raises(Captured) as caught:
            cli.main(command.split())
        return caught.value.args[0]

    monkeypatch.setattr(flags.tyro, "cli", captured)
    return flags_of


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_explained_and_limited(flags_of: Any, command: str) -> None:
    def explained(kind: type[Settings]) -> Iterator[tuple[str, str | None]]:
        for name, hint in types_of(kind).items():
            plain = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
            if isinstance(plain, type) and issubclass(plain, Settings):
                yield from explained(plain)
            else:
                yield f"{kind.__name__}.{name}", help_of(kind, name)
                assert all(any(isinstance(b, Range) for b in beside) for _, beside in numbers_in(hint)), name

    texts = dict(explained(flags_of(command)))
    assert texts
    assert {name: text for name, text in texts.items() if not text or len(text.split()) < 2} == {}


def test_help_shows_text_and_range(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["report", "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--images INT 1..1000000 most images in the gallery. (default: 200)" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("report x --images 0", "--images: expected a whole number from 1 to 1000000, got 0"),
        ("report x --images 1000000000000", "--images: expected a whole number from 1 to 1000000, got 1000000000000"),
        (
            "predict x --out y --scales nan",
            "--scales: expected 1 to 100 entries, each a number from 0.01 to 100, got (nan,)",
        ),
        ("data check x --toy.size -3", "--toy.size: expected a whole number from 8 to 10000, got -3"),
        (
            "evaluate --predictions x --truth y --num-classes 0",
            "--num-classes: expected a whole number from 1 to 65536 or none, got 0",
        ),
        ("demo --data a\x07", "--data: expected text of at most 4096 printable characters, got 'a\\x07'"),
        ("demo --machine.workers -2", "--machine.workers: expected a whole number from -1 to 1024, got -2"),
        (
            "demo --segment.predict.overlap 900",
            "--segment.predict: expected an overlap of at most half of the tile, got tile 1024 and overlap 900",
        ),
    ],
)
def test_the_flag_is_named(capsys: pytest.CaptureFixture[str], words: str, message: str) -> None:
    assert cli.main(words.split(" ")) == cli.EXIT_USER
    assert capsys.readouterr().err == f"error: {message}\n"
