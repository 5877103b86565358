"""`subcam run RECIPE`, `subcam demo`, `subcam recipes`: all stages by a recipe; flags and files change its settings."""

from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

from subcam.checks.fields import Settings
from subcam.errors import SubcamError


def run(words: list[str]) -> None:
    """`subcam run RECIPE [settings]`, or `subcam run --config FILE [settings]`, whose recipe the file names."""
    if words[:1] and words[0].startswith("--config"):
        _execute(None, words, prog="subcam run")
        return
    recipe = recipe_of(words, command="run", then="--data DIR --out DIR [--config FILE] [settings]")
    _execute(recipe, words[1:], prog=f"subcam run {recipe}")


def recipe_of(words: list[str], *, command: str, then: str) -> str:
    """The recipe that comes first after a command; on --help, print which there are and end.

    then: what usually comes after it.
    """
    from subcam.recipes import RECIPES

    if words[:1] in (["-h"], ["--help"]):
        print(f"usage: subcam {command} RECIPE {then}\n\nRecipes; --help after one lists its settings:\n")
        for name, recipe in RECIPES.items():
            print(f"  {name:<16}{(recipe.__doc__ or '').strip().splitlines()[0]}")
        raise SystemExit(0)
    if not words or words[0] not in RECIPES:
        given = words[0] if words else "nothing"
        raise SubcamError(f"expected a recipe after '{command}', got {given}; there are: {', '.join(RECIPES)}")
    return words[0]


def demo(words: list[str]) -> None:
    """`subcam demo [settings]`."""
    _execute("toy", words, prog="subcam demo")


def config_named(words: list[str]) -> Path | None:
    """The file that `--config` names among a command's words; None where it does not stand there.

    Its settings are what the flags after it change, so that it is read before they are.
    """
    named = None
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        flag, equals, value = word.partition("=")
        if flag == "--config":
            named = value if equals else following
    if named is not None and (not named or named.startswith("--")):
        raise SubcamError("expected a file after --config, got none; give one, such as runs/mine/config.toml")
    return None if named is None else Path(named)


def _execute(recipe: str | None, words: list[str], *, prog: str) -> None:
    """Read the settings that differ from the recipe's, run, print the tables and write the page.

    recipe: None takes that of the file that `--config` names.
    """
    import tyro

    from subcam.commands.flags import read_flags
    from subcam.pipeline import run
    from subcam.recipes import RECIPES
    from subcam.report.tables.formats import terminal_table
    from subcam.report.tables.tables import explanation, tables_of, write_tables
    from subcam.run_files.config_file import read_config
    from subcam.run_files.write import LOG_FILE, MASKS_FOLDER
    from subcam.runtime import distributed, launch
    from subcam.runtime.progress import log_to, say, show
    from subcam.settings import RunSettings, refuse_old_flags

    @dataclass(frozen=True, kw_only=True)
    class Arguments(Settings):
        """A run.

        Attributes:
            config: a file of settings (TOML), such as the config.toml of another run; flags count on top of it.
            out: the run's folder. The same command again continues from what it holds.
            report: whether the page with all tables, figures and images is written at the end.
        """

        settings: Annotated[RunSettings, tyro.conf.arg(name="")]
        config: Path | None = None
        out: Path
        report: bool = True

    refuse_old_flags(words)
    file = config_named(words)
    if file is None:
        assert recipe is not None
        settings = RECIPES[recipe]()
    else:
        config = read_config(file)
        settings = config.settings(recipe, code=[part for word in words for part in (word, word.partition("=")[2])])
        recipe = config.recipe if recipe is None else recipe
    given = read_flags(
        Arguments,
        words,
        prog=prog,
        description=RECIPES[recipe].__doc__ if recipe else None,
        default=Arguments(settings=settings, out=Path("runs") / (recipe or "mine")),
    )
    machine = given.settings.machine
    if launch.wanted(devices=machine.devices, num_nodes=machine.num_nodes):
        raise SystemExit(launch.together([*prog.split()[1:], *words], devices=machine.devices))
    result = run(given.settings, given.out, recipe=recipe or "")
    if not distributed.is_first():
        return
    with log_to(given.out / LOG_FILE):
        write_tables(result)
        for table in tables_of(result):
            show(terminal_table(table))
        say(explanation(result))
        if result.refined:
            say(f"pseudo masks: {given.out / MASKS_FOLDER}")
        say(
            f"{result.seconds:.0f} s; tables in {given.out / 'summary.md'}, all else listed in {given.out / 'run.json'}"
        )
        if given.report:
            from subcam.report.page.page import write_report

            say(f"report page: {write_report(given.out)}")


def recipes(words: list[str]) -> None:
    """`subcam recipes`: print their names and docstrings."""
    from subcam.recipes import RECIPES

    if words:
        raise SubcamError(f"'recipes' takes no arguments, got {' '.join(words)}")
    for name, recipe in RECIPES.items():
        print(f"{name}\n    {(recipe.__doc__ or '').strip()}\n")
