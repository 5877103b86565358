"""A command's words read as settings: each field is a flag, with its docstring and range as help, and checked by it."""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, NoReturn, TypeVar

import tyro
from tyro.constructors import (
    MISSING,
    MISSING_NONPROP,
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from subcam.checks.fields import Alias, Range, Settings, check_all, leaves, types_of, unchecked
from subcam.commands import HELP_ALL
from subcam.errors import SettingsError

Given = TypeVar("Given", bound=Settings)


def read_flags(
    kind: type[Given],
    words: Sequence[str],
    *,
    prog: str,
    description: str | None = None,
    default: Given | None = None,
    config: tuple[Any, ...] = (),
    often: Sequence[str] = (),
) -> Given:
    """The settings that the words of a command line say.

    Args:
        kind: the class of the settings; groups in it give flags with a dot.
        words: those after the command's name.
        prog: the command, for its help.
        description: what the command does; else the docstring of `kind`.
        default: what flags that are not given are; else the fields' own.
        config: markers of tyro.
        often: the settings that --help shows, by dotted name; --help-all shows all. Without, both show all.

    Raises:
        SettingsError: a value out of its range, values that contradict each other, or a flag of several values that
            comes twice; names the flag.
        SystemExit: help was asked for, or the words are no flags of the command.
    """
    if _listing:
        raise FlagsListed(flags_of(kind, prefixes=tyro.conf.OmitArgPrefixes not in config))
    if often and {"-h", "--help"} & {*words}:
        _short_help(kind, often, prog=prog, description=description or kind.__doc__, default=default)
    words = ["--help" if word == HELP_ALL else word for word in words]
    _refuse_twice(kind, words, called=partial(flag_of, kind, prefixes=tyro.conf.OmitArgPrefixes not in config))
    registry = ConstructorRegistry()
    registry.struct_rule(_as_flags)
    given = tyro.cli(
        kind,
        args=words,
        prog=prog,
        description=description,
        default=MISSING_NONPROP if default is None else default,
        config=config,
        registry=registry,
    )
    check_all(given, called=partial(flag_of, kind, prefixes=tyro.conf.OmitArgPrefixes not in config))
    return given


class FlagsListed(Exception):  # noqa: N818 - no error: it carries what was asked for
    """Ends a command that was called to learn its flags."""


_listing: list[bool] = []


@contextmanager
def listing_flags() -> Iterator[None]:
    """Let `read_flags` raise `FlagsListed` with the flags of the command in the place of reading words."""
    _listing.append(True)
    try:
        yield
    finally:
        _listing.pop()


def flags_of(kind: type, *, prefixes: bool = True) -> tuple[str, ...]:
    """All flags of a class of settings."""
    found: list[str] = []
    for name, hint in leaves(kind):
        beside = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
        plain = typing.get_args(hint)[0] if beside else hint
        if tyro.conf.Positional in typing.get_args(hint):
            continue
        flag = flag_of(kind, name, prefixes=prefixes)
        group, dot, last = flag.rpartition(".")
        off = [f"{group}{dot}no-{last}" if dot else f"--no-{flag[2:]}"] if plain is bool else []
        found += [flag, *off, *(entry.flag for entry in beside if isinstance(entry, Alias))]
    return tuple(found)


def _short_help(kind: type, often: Sequence[str], *, prog: str, description: str | None, default: Any) -> NoReturn:
    """Print the help of some settings, and how many more there are; then end."""
    hints = dict(leaves(kind))
    shown = []
    for place, name in enumerate(often):
        group, _, last = name.rpartition(".")
        owner, value = owner_of(kind, group), default
        for part in name.split(".") if default is not None else ():
            value = getattr(value, part)
        beside = typing.get_args(hints[name])[1:] if typing.get_origin(hints[name]) is Annotated else ()
        metavar = next((entry.metavar for entry in beside if hasattr(entry, "metavar")), None)
        named = tyro.conf.arg(name=flag_of(kind, name)[2:], help=help_of(owner, last), metavar=metavar)
        plain = _parsed(hints[name], named=False)
        without = dataclasses.field(default=value) if default is not None else dataclasses.field()
        shown.append((f"setting{place}", Annotated[plain, named], without))
    try:
        tyro.cli(
            dataclasses.make_dataclass("Often", shown, kw_only=True),
            args=["--help"],
            prog=prog,
            description=description,
        )
    finally:
        print(f"{len(hints) - len(often)} more: {prog} {HELP_ALL}")
    raise SystemExit(0)


def owner_of(kind: type, group: str) -> type:
    """The class of a group of settings in another, by dotted name."""
    for part in group.split(".") if group else ():
        hint = types_of(kind)[part]
        kind = typing.get_args(hint)[0] if typing.get_origin(hint) is Annotated else hint
    return kind


def _refuse_twice(kind: type, words: Sequence[str], *, called: Callable[[str], str]) -> None:
    """Refuse a flag that takes several values and comes twice: of these the last would count alone."""
    given = [word.partition("=")[0].replace("_", "-") for word in words if word.startswith("--")]
    for name, hint in leaves(kind):
        beside = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
        plain = typing.get_args(hint)[0] if beside else hint
        flags = {called(name), *(entry.flag for entry in beside if isinstance(entry, Alias))}
        if typing.get_origin(plain) is tuple and sum(word in flags for word in given) > 1:
            raise SettingsError(
                f"expected {' or '.join(sorted(flags, key=len))} once with all values after it, got it several times"
            )


def flag_of(kind: type, name: str, *, prefixes: bool = True) -> str:
    """The flag of a setting, from its dotted name in `kind`; the last part alone without `prefixes`."""
    parts: list[str] = []
    owner: Any = kind
    for part in name.split("."):
        hint = types_of(owner)[part]
        beside = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
        owner = typing.get_args(hint)[0] if beside else hint
        # What tyro.conf.arg says of the flag's name.
        named = [entry for entry in beside if hasattr(entry, "prefix_name")]
        if not prefixes or any(entry.prefix_name is False for entry in named):
            parts = []
        parts.append(next((entry.name for entry in named if entry.name is not None), part))
    return f"--{'.'.join(filter(None, parts)).replace('_', '-')}"


def _as_flags(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A group of settings as flags; its values are checked when all are there, so that errors know the flags."""
    kind: Any = info.type
    if not (isinstance(kind, type) and issubclass(kind, Settings)):
        return None
    hints = types_of(kind)
    return StructConstructorSpec(
        instantiate=lambda **values: unchecked(kind, values),
        fields=tuple(
            StructFieldSpec(
                name=entry.name,
                type=_parsed(hints[entry.name]),
                default=_default(entry, info.default),
                helptext=partial(help_of, kind, entry.name),
            )
            for entry in dataclasses.fields(kind)
        ),
    )


def help_of(kind: type, name: str) -> str | None:
    """What the docstring of a class of settings, or of one that it extends, says about a field under "Attributes:"."""
    for owner in kind.__mro__:
        _, _, listed = inspect.cleandoc(owner.__doc__ or "").partition("\nAttributes:\n")
        found = re.search(rf"^    {name}: (.*(?:\n     +.*)*)", listed, re.MULTILINE)
        if found:
            return " ".join(found[1].split())
    return None


def _default(entry: "dataclasses.Field[Any]", default: Any) -> Any:
    if default is not MISSING and default is not MISSING_NONPROP:
        return getattr(default, entry.name)
    if entry.default is not dataclasses.MISSING:
        return entry.default
    return MISSING if entry.default_factory is dataclasses.MISSING else entry.default_factory()


def _parsed(kind: Any, *, named: bool = True) -> Any:
    """The type of a field as tyro reads it: numbers with a range show that in the help.

    named: whether what the annotation says of the flag's name stays in it.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        ranges = [entry for entry in parts[1:] if isinstance(entry, Range)]
        aliases = [entry.flag for entry in parts[1:] if isinstance(entry, Alias)]
        further = [tyro.conf.arg(aliases=aliases)] if aliases and named else []
        kept = [entry for entry in parts[1:] if named or not hasattr(entry, "prefix_name")]
        said = [*kept, *further, *(_number(parts[0], limit) for limit in ranges)]
        return Annotated[(_parsed(parts[0]), *said)] if said else _parsed(parts[0])
    if origin in (typing.Union, types.UnionType):
        return typing.Union[tuple(map(_parsed, parts))]  # noqa: UP007 - of parts that are known at run time only
    if origin in (tuple, dict):
        return origin[tuple(part if part is ... else _parsed(part) for part in parts)]
    return kind


def _number(kind: type, limit: Range) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{kind.__name__.upper()} {limit}",
        instance_from_str=lambda words: kind(words[0]),
        is_instance=lambda value: isinstance(value, int | float) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(value)],
    )
