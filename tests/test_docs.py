"""The documents are true: their code runs, their links lead somewhere, their commands, numbers and files are ours."""

import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import subcam

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
TAUGHT = (README, *PAGES)

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BEFORE_THE_COMMAND = re.compile(r"\w+=.*|uv|run|-.*")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: the words after its fence, what is in it, and the line in the file on which that begins."""

    info: tuple[str, ...]
    text: str
    line: int


def blocks(path):
    text = path.read_text("utf-8")
    return [
        Block(info=tuple(match[1].split()), text=match[2], line=text.count("\n", 0, match.start(2)))
        for match in FENCE.finditer(text)
    ]


def python_blocks(path):
    return [block for block in blocks(path) if block.info[:1] == ("python",) and "no-run" not in block.info]


def commands(path):
    """The words of every `subcam ...` in the bash blocks of a document."""
    found = []
    for block in blocks(path):
        if block.info[:1] == ("bash",):
            for line in block.text.replace("\\\n", " ").splitlines():
                found.extend(_commands_of(shlex.split(line, comments=True)))
    return found


def _commands_of(words):
    segment = []
    for word in [*words, ";"]:
        if word in ("&&", "||", "|", ";"):
            if "subcam" in segment:
                place = segment.index("subcam")
                if all(BEFORE_THE_COMMAND.fullmatch(before) for before in segment[:place]):
                    yield segment[place + 1 :]
            segment = []
        else:
            segment.append(word)


def prose(path):
    """A document without its code."""
    return re.sub(r"`[^`\n]*`", "``", FENCE.sub("", path.read_text("utf-8")))


def anchors(path):
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables(path):
    """The Markdown tables of a document as lists of rows of cells, the header first, and the heading above each."""
    heading, rows = "", []
    for line in [*FENCE.sub("", path.read_text("utf-8")).splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip().strip("|").split("|")])
            continue
        if rows:
            yield heading, [row for row in rows if not set("".join(row)) <= set("-: ")]
            rows = []
        if line.startswith("#"):
            heading = line.lstrip("# ").strip()


def value_of(settings, path):
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def shown(value):
    """A setting as the documents write it, which is as the command line reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return " ".join(shown(entry) for entry in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


class WouldRunError(Exception):
    """Raised in place of a run."""


@pytest.fixture
def parsed(monkeypatch):
    """Give a command line to subcam, and get the settings and the folder that it would run with."""
    from subcam import cli

    def capture(settings, out, **_):
        raise WouldRunError(settings, out)

    monkeypatch.setattr("subcam.pipeline.run", capture)

    def parse(words):
        with pytest.raises(WouldRunError) as caught:
            cli.main(words)
        return caught.value.args

    return parse


def id_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [path for path in TAUGHT if python_blocks(path)], ids=id_of)
def test_the_code_of_a_document_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in python_blocks(path):
        exec(compile("\n" * block.line + block.text, str(path), "exec"), namespace)


def test_every_public_name_has_an_example_that_runs():
    path = ROOT / "docs" / "api.md"
    code = "\n".join(block.text for block in python_blocks(path))
    headings = "\n".join(re.findall(r"^#+ .*", path.read_text("utf-8"), re.MULTILINE))
    for name in subcam.__all__:
        assert re.search(rf"\b{name}\b", code), f"docs/api.md has no example of {name}"
        assert f"`{name}`" in headings, f"docs/api.md has no heading for {name}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=id_of)
def test_relative_links_lead_to_files_and_headings_that_exist(path):
    for target in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert found.exists(), f"{target}: there is no {found}"
        if anchor:
            assert anchor in anchors(found), f"{target}: {found.name} has no such heading"


COMMANDS = [(path, words) for path in TAUGHT for words in commands(path)]


@pytest.mark.parametrize(("path", "words"), COMMANDS, ids=[f"{id_of(p)}: {shlex.join(w)[:80]}" for p, w in COMMANDS])
def test_commands_are_ones_that_subcam_knows(path, words, parsed, capsys):
    from subcam import cli

    if words[:1] in (["run"], ["demo"]) and not {"-h", "--help"} & set(words):
        settings, out = parsed(words)
        assert settings.rounds >= 0
        assert out.parts
    else:
        try:
            status = cli.main(words)
        except SystemExit as end:  # that is how the help of a recipe ends
            status = end.code
        assert status in (cli.EXIT_OK, None)
        assert capsys.readouterr().out


def test_commands_are_found_in_the_blocks():
    assert ["demo"] in [words for path, words in COMMANDS if path == README]
    assert list(_commands_of(shlex.split("A=1 uv run --no-sync subcam demo --rounds 1 && cd subcam | cat"))) == [
        ["demo", "--rounds", "1"]
    ]


def test_settings_named_in_the_text_are_flags(capsys, monkeypatch):
    from subcam import cli

    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        cli.main(["run", "small", "--help"])
    known = set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))
    for path in TAUGHT:
        for flag in re.findall(r"`(--[a-z][\w-]*\.[\w.-]+)", FENCE.sub("", path.read_text("utf-8"))):
            assert flag in known, f"{path.name} names {flag}, which the command line does not know"


def test_numbers_of_the_recipes_are_those_of_the_code():
    from subcam.recipes import RECIPES

    checked = set()
    for heading, (header, *rows) in tables(ROOT / "docs" / "recipes.md"):
        if header[:2] == ["setting", "value"]:
            settings = RECIPES[heading.strip("`")]()
            for setting, value, *_ in rows:
                assert shown(value_of(settings, setting.strip("`"))) == value.strip("`"), f"{heading}: {setting}"
            checked.add(heading.strip("`"))
    assert checked == set(RECIPES)


def test_settings_that_say_paper_and_code_are_those_of_the_recipes():
    from subcam.recipes import RECIPES

    checked = 0
    for _, (header, *rows) in tables(ROOT / "docs" / "paper-vs-reference.md"):
        for column, title in enumerate(header):
            settings = RECIPES[title.strip("`")]() if title.strip("`") in RECIPES else None
            for row in rows if settings else ():
                for setting, value in re.findall(r"`([a-z_.0-9]+)=([^`]*)`", row[column]):
                    assert shown(value_of(settings, setting)) == value, f"{title}: {setting}"
                    checked += 1
    assert checked > 40


def test_every_file_of_a_run_is_in_the_documents(tiny_run, tmp_path):
    from subcam.pipeline import run
    from subcam.report.tables import write_tables

    refine = replace(
        tiny_run.refine,
        rounds="last",
        affinity=replace(
            tiny_run.refine.affinity,
            epochs=1,
            batch_size=8,
            augmentation=replace(tiny_run.classify.augmentation, crop=80, scale_long_side=(80, 96)),
        ),
    )
    write_tables(run(replace(tiny_run, control=True, refine=refine), tmp_path))
    written = (ROOT / "docs" / "pipeline.md").read_text("utf-8")
    entries = [*tmp_path.iterdir(), *(entry for stage in (tmp_path / "stages").iterdir() for entry in stage.iterdir())]
    for entry in entries:
        name = re.sub(r"-[0-9a-f]{10}$", "-", entry.name)
        assert name in written, f"docs/pipeline.md does not say what {entry.relative_to(tmp_path)} is"


def test_the_tests_of_ci_are_those_of_the_readme():
    (command,) = [line for line in (ROOT / ".ci" / "run").read_text("utf-8").splitlines() if line.endswith("pytest")]
    assert command in [line for block in blocks(README) for line in block.text.splitlines()]
