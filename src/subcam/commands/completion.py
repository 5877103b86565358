"""`subcam completion bash`: a script by which the shell completes commands, recipes, formats, flags and files.

Each command is asked for its flags, so that there is no second list of them.
"""

import shlex
from importlib import import_module

from subcam.commands import COMMANDS, HELP_ALL, LASTING, OF_RECIPE
from subcam.commands import data as data_commands
from subcam.errors import SubcamError

SHELLS = ("bash", "zsh")
_EVERYWHERE = ("--help", "--debug")

_SCRIPT = """\
_subcam() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" first="${{COMP_WORDS[1]}}" second="${{COMP_WORDS[2]}}" offered=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        offered={commands}
    else
        case "$first" in
{seconds}
        esac
        if [ "$COMP_CWORD" -ne 2 ] || [ "${{word#-}}" != "$word" ]; then
            offered=""
            case "$first $second" in
{flags}
            esac
            [ "${{word#-}}" != "$word" ] || offered=""
        fi
    fi
    COMPREPLY=($(compgen -W "$offered" -- "$word"))
}}
complete -o default -F _subcam subcam
"""


def completion(words: list[str]) -> None:
    """`subcam completion bash|zsh`."""
    if words[:1] in (["-h"], ["--help"]):
        print("usage: subcam completion bash|zsh\n\nPrint a script for the shell to read; see docs/quickstart.md")
        return
    if len(words) != 1 or words[0] not in SHELLS:
        raise SubcamError(f"expected a shell after 'completion', got {' '.join(words) or 'nothing'}; give bash or zsh")
    if words == ["zsh"]:
        print("autoload -U +X compinit bashcompinit && compinit && bashcompinit")
    print(script(), end="")


def script() -> str:
    """The script, for bash, or for zsh's emulation of its completion."""
    from subcam.commands.export import FORMATS
    from subcam.recipes import RECIPES

    seconds = {"|".join(OF_RECIPE): tuple(RECIPES), "export": tuple(FORMATS), "data": tuple(data_commands.COMMANDS)}
    seconds["completion"] = SHELLS
    calls = [(f'"{command} "*', [command, "small"]) for command in OF_RECIPE]
    calls += [(f'"{command} {word}"', [command, word]) for command in ("export", "data") for word in seconds[command]]
    others = (one for one in COMMANDS if one not in (*seconds, *OF_RECIPE, "recipes"))
    calls += [(f'"{command} "*', [command]) for command in others]
    flags: dict[str, list[str]] = {}
    for pattern, words in calls:
        flags.setdefault(shlex.quote(" ".join(_flags(words))), []).append(pattern)
    return _SCRIPT.format(
        commands=shlex.quote(" ".join(COMMANDS)),
        seconds="\n".join(f"        {of}) offered={shlex.quote(' '.join(words))} ;;" for of, words in seconds.items()),
        flags="\n".join(f"            {'|'.join(own)}) offered={offered} ;;" for offered, own in flags.items()),
    )


def _flags(words: list[str]) -> list[str]:
    """What a command says its flags are."""
    from subcam.commands.flags import FlagsListed, listing_flags

    module, function = COMMANDS[words[0]].split(":")
    further = [HELP_ALL] * (words[0] in OF_RECIPE or words == ["demo"])
    quiet = ["--quiet"] * (words[0] in LASTING)
    try:
        with listing_flags():
            getattr(import_module(module), function)(words[1:])
    except FlagsListed as listed:
        return [*listed.args[0], *_EVERYWHERE, *further, *quiet]
    raise AssertionError(f"{words} reads no flags")
