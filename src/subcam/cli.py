"""The command line: `subcam run RECIPE`, `subcam demo`, `subcam recipes`. A user's mistake is one line of text."""

import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from subcam._version import __version__
from subcam.errors import SubcamError
from subcam.run_folder import is_disk_full

USAGE = f"""subcam {__version__}: pixels from image-level labels

  subcam demo                      the whole way on generated pictures, in minutes, without a download
  subcam run RECIPE --data DIR --out DIR
                                   labelled pictures in, scored response maps out; every setting can be given,
                                   see subcam run RECIPE --help
  subcam recipes                   what the recipes are
  subcam --version

Any command takes --debug, which shows where in the code an error arose.
The same command again goes on where it was cut off.
"""

EXIT_OK, EXIT_UNEXPECTED, EXIT_USER, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 2 the user's mistake, 130 interrupted, 1 a fault of ours."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, format="%(name)s: %(message)s")
    commands: dict[str, Callable[[list[str]], None]] = {"run": _run, "demo": _demo, "recipes": _recipes}
    if words[:1] == ["--version"]:
        print(__version__)
        return EXIT_OK
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return EXIT_OK if words else EXIT_USER
    try:
        if words[0] not in commands:
            raise SubcamError(f"there is no command {words[0]!r}; there are: {', '.join(commands)}")
        commands[words[0]](words[1:])
    except SubcamError as error:
        if debug:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER
    except Exception as error:
        # A library that writes behind our back (TensorBoard) meets a full disk too.
        if debug or not is_disk_full(error):
            raise
        print(f"error: no space left ({error}); free some and give the same command again", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_OK


def _run(words: list[str]) -> None:
    from subcam.recipes import RECIPES

    if not words or words[0] not in RECIPES:
        given = words[0] if words else "nothing"
        raise SubcamError(f"expected a recipe after 'run', got {given}; there are: {', '.join(RECIPES)}")
    _execute(words[0], words[1:], prog=f"subcam run {words[0]}")


def _demo(words: list[str]) -> None:
    _execute("toy", words, prog="subcam demo")


def _execute(recipe: str, words: list[str], *, prog: str) -> None:
    """Read the settings that differ from the recipe's, run, and print the table."""
    import tyro

    from subcam.pipeline import run
    from subcam.progress import console, say
    from subcam.recipes import RECIPES
    from subcam.report.tables import explanation, tables_of, terminal_table, write_tables
    from subcam.settings import RunSettings

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        """A run.

        out: the run's folder. The same command again goes on from what is in it.
        """

        settings: Annotated[RunSettings, tyro.conf.arg(name="")]
        out: Path

    given = tyro.cli(
        Arguments,
        args=words,
        prog=prog,
        description=RECIPES[recipe].__doc__,
        default=Arguments(settings=RECIPES[recipe](), out=Path("runs") / recipe),
    )
    result = run(given.settings, given.out)
    write_tables(result)
    for table in tables_of(result):
        console.print(terminal_table(table))
    say(explanation(result))
    say(f"{result.seconds:.0f} s; tables in {given.out / 'summary.md'}, all else listed in {given.out / 'run.json'}")


def _recipes(words: list[str]) -> None:
    from subcam.recipes import RECIPES

    if words:
        raise SubcamError(f"'recipes' takes no arguments, got {' '.join(words)}")
    for name, recipe in RECIPES.items():
        print(f"{name}\n    {(recipe.__doc__ or '').strip()}\n")


if __name__ == "__main__":
    sys.exit(main())
