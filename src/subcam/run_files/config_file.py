"""Settings as a file: `subcam run --config FILE` reads it, and every run leaves one that says all that it ran with.

TOML: settings by their names as on the command line, with `_` for `-` and a table for each group; `recipe` names the
settings that the file changes. The table `provenance` says what computed a run, and is not read.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subcam.data.records import suggest
from subcam.errors import BadInputError, SettingsError
from subcam.methods.settings import is_code
from subcam.recipes import RECIPES
from subcam.run_files.provenance import provenance
from subcam.runtime.documents import toml_text
from subcam.runtime.documents.plain_values import as_plain
from subcam.runtime.documents.regular_file import read_bytes
from subcam.runtime.files import atomic_write
from subcam.settings import RunSettings, group_types, setting_types

CONFIG_FILE = "config.toml"
RECIPE, PROVENANCE = "recipe", "provenance"
NONE = "none"
"""Stands for the value None, which TOML has not."""

ONLY_FLAGS = {"out": "--out DIR", "report": "--report", "data": 'root = "DIR" in the table [dataset]'}
"""What people know as flags of `subcam run` and is no setting, and what to write."""

_HEAD = """\
# All settings of a run. This does it again: subcam run --config {name} --out DIR{method}
# Relative paths are relative to the folder in which a command is given.

"""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a configuration file says.

    recipe: whose settings it changes; "" for the settings' own defaults, None where it does not say.
    values: settings by dotted name.
    """

    path: Path
    recipe: str | None
    values: Mapping[str, Any]

    def settings(self, recipe: str | None = None, *, code: Collection[str] = ()) -> RunSettings:
        """The settings of the recipe, changed as the file says.

        recipe: of the command; None takes the file's.
        code: methods whose code may be run, package.module:name. A file from elsewhere runs none by itself: whoever
            gives it names them once more.

        Raises:
            SettingsError: neither names a recipe, they name two, a setting is unknown or has a wrong value, or a method
                would run code that `code` does not name; names the file.
        """
        if recipe is None and self.recipe is None:
            raise SettingsError(
                f'{self.path}: expected a line such as recipe = "small", got none; add it, or give the recipe: subcam'
                f" run RECIPE --config {self.path}. There are: {', '.join(RECIPES)}"
            )
        if recipe is not None and self.recipe not in (None, recipe):
            raise SettingsError(
                f"{self.path}: its recipe is {self.recipe!r}, and the command's {recipe!r}; leave one out"
            )
        name = self.recipe if recipe is None else recipe
        start = RECIPES[name]() if name else RunSettings()
        if self.values.get("quick") is True:
            start = start.quick_look()
        try:
            settings = start.with_(self.values)
        except SettingsError as error:
            raise SettingsError(f"{self.path}: {error}") from None
        self._refuse_code(settings.compare.methods, named=code)
        return settings

    def _refuse_code(self, methods: tuple[str, ...], *, named: Collection[str]) -> None:
        unnamed = [one for one in methods if is_code(one) and one not in named]
        if unnamed:
            raise SettingsError(
                f"{self.path}: its methods would run the code of {' and '.join(unnamed)}; if you trust that code, name"
                f" it in the command too: --method {' '.join(methods)}. Else take it out of the file"
            )


def read_config(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        BadInputError: it cannot be read, or is no TOML.
        SettingsError: it names an unknown recipe, or something that is no setting.
    """
    try:
        content = toml_text.loads(read_bytes(path))
    except OSError as error:
        raise BadInputError(f"{path}: the configuration cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise BadInputError(f"{path}: expected TOML, got something else ({error}); correct it") from error
    content.pop(PROVENANCE, None)
    recipe = content.pop(RECIPE, None)
    if recipe not in (None, "") and (not isinstance(recipe, str) or recipe not in RECIPES):
        raise SettingsError(f"{path}: there is no recipe {recipe!r:.60}; {suggest(str(recipe)[:60], RECIPES)}")
    for name, instead in ONLY_FLAGS.items():
        if name in content:
            raise SettingsError(f"{path}: {name!r} is no setting; give {instead}")
    return Config(path=path, recipe=recipe, values=dict(_leaves(content, path)))


def write_config(path: Path, settings: RunSettings, *, recipe: str) -> None:
    """Write all settings, and what computed, as a file that `read_config` reads as the same; unless it says so already.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    methods = settings.compare.methods
    content = {RECIPE: recipe, **_with_none_named(as_plain(settings)), PROVENANCE: provenance()}
    method = f" --method {' '.join(methods)}" if any(map(is_code, methods)) else ""
    text = _HEAD.format(name=path.name, method=method).encode() + toml_text.dumps(content)
    if path.is_file() and not path.is_symlink() and read_bytes(path) == text:
        return
    with atomic_write(path) as file:
        file.write(text)


def _leaves(content: dict[str, Any], path: Path) -> Iterator[tuple[str, Any]]:
    """Settings by dotted name, through all tables; what is no setting comes along, to be refused by its name."""
    defaults = RunSettings()
    groups, kinds = group_types(defaults), setting_types(defaults)
    pending = list(reversed(content.items()))
    while pending:
        name, value = pending.pop()
        if name in groups and not isinstance(value, dict):
            raise SettingsError(f"{path}: {name}: expected a table of settings, [{name}], got {value!r:.60}")
        if name not in kinds and isinstance(value, dict) and value and name.count(".") < _DEEPEST:
            pending += [(f"{name}.{key}", entry) for key, entry in reversed(value.items())]
        elif name not in groups:
            yield name, None if value == NONE and _may_be_none(kinds.get(name)) else value


_DEEPEST = 8
"""Dots in a name; no setting has as many."""


def _may_be_none(kind: Any) -> bool:
    return type(None) in getattr(kind, "__args__", ())


def _with_none_named(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {name: _with_none_named(value) for name, value in plain.items()}
    return NONE if plain is None else plain
