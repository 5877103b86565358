"""Shell completion: what it offers is what the commands take, tried in bash."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from subcam import cli
from subcam.commands import COMMANDS, completion
from subcam.recipes import RECIPES


@pytest.mark.parametrize(
    "words",
    [
        ["run", "small"],
        ["refine", "small"],
        ["ablate", "small"],
        ["demo"],
        ["predict"],
        ["compare"],
        ["report"],
        ["export", "cvat"],
        ["data", "check"],
        ["data", "shards"],
    ],
)
def test_the_flags_are_those_of_the_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([*words, "--help-all"])
    lines = re.findall(r"^(?:│| ) (?:-h, )?(--[a-z].*)$", capsys.readouterr().out, re.MULTILINE)
    in_help = {flag for line in lines for flag in re.findall(r"(?:^|, )(--[a-z][\w.-]*)", line.partition("  ")[0])}
    offered = set(completion._flags(words)) - {"--debug", "--help-all", "--quiet"}
    assert offered == in_help


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "subcam.sh"
    path.write_text(completion.script(), "utf-8")
    return path


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["subcam", ""], set(COMMANDS)),
        (["subcam", "re"], {"refine", "recipes", "report"}),
        (["subcam", "run", ""], set(RECIPES)),
        (["subcam", "ablate", "voc12_p"], {"voc12_paper"}),
        (["subcam", "run", "small", "--classify.ep"], {"--classify.epochs"}),
        (["subcam", "segment", "small", "--quick", "--mas"], {"--masks", "--masks-classes", "--masks-unknown"}),
        (["subcam", "refine", "--map"], {"--maps", "--maps-classes"}),
        (["subcam", "run", "small", "--hel"], {"--help", "--help-all"}),
        (["subcam", "export", "co"], {"coco-rle", "coco-panoptic"}),
        (["subcam", "export", "cvat", "--wo"], {"--worst"}),
        (["subcam", "data", "corr"], {"corrections"}),
        (["subcam", "data", "corrections", "--r"], {"--run"}),
        (["subcam", "predict", "--no-ov"], {"--no-overlays"}),
        (["subcam", "predict", ""], set()),
        (["subcam", "run", "small", "--data", ""], set()),
        (["subcam", "completion", ""], {"bash", "zsh"}),
    ],
)
def test_bash_offers(script: Path, line: list[str], offered: set[str]) -> None:
    """Where nothing is offered, bash offers files (`-o default`)."""
    program = '. "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _subcam; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", program, script, *line], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered
    assert not done.stderr


def test_the_command(capsys: pytest.CaptureFixture[str], script: Path) -> None:
    assert cli.main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == script.read_text("utf-8")
    assert cli.main(["completion", "zsh"]) == 0
    first, _, rest = capsys.readouterr().out.partition("\n")
    assert first.startswith("autoload")
    assert rest == script.read_text("utf-8")
    assert cli.main(["completion", "tcsh"]) == 2
