"""What a command imports before its work begins: help and a first mistake must not wait for torch and the like."""

import json
import subprocess
import sys
from pathlib import Path

from PIL import Image

from subcam.cli import COMMANDS
from subcam.commands import data
from subcam.commands.export import FORMATS

HEAVY = ("torch", "torchvision", "timm", "numba", "scipy", "sklearn", "matplotlib", "lightning_fabric")

HELP = [
    ["--help"],
    ["recipes"],
    *([command, "--help"] for command in COMMANDS if command != "recipes"),
    *(["data", word, "--help"] for word in data.COMMANDS),
    *([command, "small", level] for command in ("run", "ablate") for level in ("--help", "--help-all")),
]
NETWORKS = ("onnx", "torch", "hub")
MISTAKES = [
    ["nosuch"],
    *([command, "--no-such-flag"] for command in COMMANDS),
    *([command, "small", "--no-such-flag"] for command in ("run", "classify", "discover", "cam", "refine", "segment")),
    *(["data", word, "--no-such-flag"] for word in data.COMMANDS),
    *(["export", word, "--no-such-flag"] for word in FORMATS),
    ["run", "nosuch"],
    ["run", "small", "--data", "/no/such"],
    ["run", "--config", "/no/such.toml"],
    ["refine", "--maps", "/no/such", "--data", "toy"],
    ["segment", "--masks", "/no/such", "--data", "toy"],
    ["discover", "toy", "--features", "/no/such.npy"],
    ["run", "small", "--corrections", "/no/such", "--data", "toy"],
    ["predict", "/no/such", "/no/such", "--out", "/no/out"],
    ["evaluate", "--predictions", "/no/such", "--truth", "/no/such"],
    ["compare", "/no/such", "/no/other"],
    ["export", "nosuch"],
    *(["export", word, "/no/such", "--out", "/no/out"] for word in NETWORKS),
    *(["export", word, "--predictions", "/no/such", "--out", "/no/out"] for word in FORMATS if word not in NETWORKS),
    ["report", "/no/such"],
    ["ablate", "small", "--grid", "nosuch=1"],
    ["completion", "nosuch"],
    ["data", "nosuch"],
    ["data", "check", "/no/such"],
    ["data", "labels", "/no/such"],
    ["data", "masks", "/no/such.json", "--images", "/no/such", "--out", "/no/out"],
    ["data", "corrections", "/no/such.json", "--run", "/no/such"],
    ["data", "shards", "/no/such", "--out", "/no/out"],
]

PROGRAM = f"""
import contextlib, io, json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {HEAVY!r}:
            raise AssertionError(f"{{name}} is imported")

sys.meta_path.insert(0, Refuse())
from subcam.cli import main

for words in json.load(sys.stdin):
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code
        except AssertionError as fault:
            status = str(fault)
    print(json.dumps([words, status, told.getvalue()[:200]]))
"""


def statuses(commands: list[list[str]]) -> dict[str, int | str]:
    """How each command ended, in one process to which heavy packages are refused."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(commands), capture_output=True, text=True, check=True
    )
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    return {" ".join(words): status for words, status, _ in ends}


WORK = ["demo", "--out", "/dev/null/no"]
"""Begins: what is heavy is imported, which shows that the others would be found out."""


def test_help_and_first_mistakes_import_nothing_heavy(tmp_path: Path) -> None:
    for index in range(3):
        Image.new("RGB", (40, 30), (80 * index, 9, 9)).save(tmp_path / f"{index}.jpg")
    (tmp_path / "labels.csv").write_text("image,labels\n0.jpg,a\n1.jpg,b\n2.jpg,a;b\n")
    right = [*HELP, ["data", "check", str(tmp_path)]]
    found = statuses([*right, *MISTAKES, WORK])
    assert found.pop(" ".join(WORK)) in [f"{name} is imported" for name in HEAVY]
    assert found == {" ".join(words): 0 for words in right} | {" ".join(words): 2 for words in MISTAKES}


def test_a_report_is_written_without_torch() -> None:
    """Its figures need matplotlib."""
    others = [name for name in HEAVY if name != "matplotlib"]
    code = f"import subcam.report.page.page, sys; print(*set(sys.modules) & set({others}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
