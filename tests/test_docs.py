"""The documents are true: their code and commands run, their links lead somewhere, their numbers and files are ours."""

import contextlib
import re
import runpy
import shlex
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import jaxtyping
import pytest
import workbench
from documents import (
    COMMAND,
    DOCUMENTS,
    FENCE,
    LINK,
    LONG,
    PAGES,
    README,
    REASONS,
    ROOT,
    TAUGHT,
    anchors,
    blocks,
    commands_of,
    id_of,
    prose,
    python_blocks,
    segments,
    tables,
)

import subcam


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


class ParsedError(Exception):
    """Raised in place of what a command would do, once its words are read."""


@pytest.fixture
def parse(monkeypatch):
    """Give the words of a command to subcam, and get what it read from them, with nothing done."""
    import tyro

    from subcam import cli

    read = tyro.cli

    def stop(*arguments, **options):
        raise ParsedError(read(*arguments, **options))

    def parse(words):
        with monkeypatch.context() as patch:
            patch.setattr("tyro.cli", stop)
            with pytest.raises(ParsedError) as caught:
                cli.main(words)
        return caught.value.args[0]

    return parse


@pytest.fixture(scope="session")
def bench(once, tiny_run, toy_folder):
    """What the commands of the documents name, small; not to be changed."""
    return once("bench", lambda folder: workbench.build(folder, settings=tiny_run, toy_folder=toy_folder))


@pytest.fixture
def at_the_bench(bench, tmp_path, monkeypatch):
    """Be in a copy of `bench`, with a terminal of 100 columns."""
    monkeypatch.chdir(shutil.copytree(bench, tmp_path / "bench"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize("path", [path for path in TAUGHT if python_blocks(path)], ids=id_of)
def test_the_code_of_a_document_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in python_blocks(path):
        exec(compile("\n" * block.line + block.text, str(path), "exec"), namespace)


def test_every_public_name_has_an_example_that_runs():
    pages = [ROOT / "docs" / name for name in ("api.md", "api-data.md")]
    code = "\n".join(block.text for path in pages for block in python_blocks(path))
    headings = "\n".join(re.findall(r"^#+ .*", "".join(path.read_text("utf-8") for path in pages), re.MULTILINE))
    for name in subcam.__all__:
        assert re.search(rf"\b{name}\b", code), f"no page of the API has an example of {name}"
        assert f"`{name}`" in headings, f"no page of the API has a heading for {name}"


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


def is_parsed(words):
    """Whether the tests only read the words of a command, as it would train."""
    return words[0] in LONG and not {"-h", "--help", "--help-all", "--dry-run"} & set(words)


PARSED = [
    (path, words)
    for path in TAUGHT
    for block in blocks(path)
    for words in block.commands
    if block.not_run or is_parsed(words)
]


@pytest.mark.parametrize(("path", "words"), PARSED, ids=[f"{id_of(p)}: {shlex.join(w)[:80]}" for p, w in PARSED])
def test_commands_that_are_not_run_are_ones_that_subcam_knows(path, words, parse, tmp_path, monkeypatch):
    if "--config" in words:  # the file that the page shows
        monkeypatch.chdir(tmp_path)
        config = Path(words[words.index("--config") + 1])
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(next(block.text for block in blocks(path) if block.kind == "toml"), "utf-8")
    read = parse(words)
    if words[0] in LONG:
        assert read.settings.rounds >= 0
        assert read.out.parts


@pytest.fixture
def unchecked():
    """Without the checks of shapes, which know no sizes that are left open when a network is traced for export."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.slow
@pytest.mark.usefixtures("at_the_bench", "unchecked")
@pytest.mark.parametrize("path", [p for p in TAUGHT if any(b.kind == "bash" for b in blocks(p))], ids=id_of)
def test_the_commands_of_a_document_run(path, capsys):
    run = [block for block in blocks(path) if not block.not_run]
    if any(words[0] == "predict" for block in run for words in block.commands):
        shutil.rmtree("predictions")  # the page makes them itself
    for block in run:
        for words in (words for line in block.shell_lines for words in segments(line)):
            carry_out(words, capsys)
        if block.info == ("python", "after-commands"):
            exec(compile("\n" * block.line + block.text, str(path), "exec"), {"__name__": "__main__"})


def carry_out(words, capsys):
    """One command of a document, in this process."""
    from subcam import cli

    for known in commands_of(words):
        if not is_parsed(known):
            try:
                status = cli.main(known)
            except SystemExit as end:  # that is how the help of a recipe ends
                status = end.code
            shown = capsys.readouterr()
            assert status in (cli.EXIT_OK, None), shown.err
            assert shown.out
    if "python" in words:
        given = words[words.index("python") + 1 :]
        module = given[0] == "-m"
        program, *arguments = given[module:]
        start = (
            partial(runpy.run_module, program, alter_sys=True) if module else partial(runpy.run_path, ROOT / program)
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(ROOT))
            patch.setattr("sys.argv", [program, *arguments])
            with pytest.raises(SystemExit, match="0"):
                start(run_name="__main__")


TRANSCRIPTS = [
    (id_of(path), words, printed)
    for path in TAUGHT
    for block in blocks(path)
    if block.kind == "console" and not block.not_run
    for words, printed in block.transcript
]


@pytest.mark.usefixtures("at_the_bench")
@pytest.mark.parametrize(
    ("words", "printed"),
    [(words, printed) for _, words, printed in TRANSCRIPTS],
    ids=[f"{name}: {shlex.join(words)[:80]}" for name, words, _ in TRANSCRIPTS],
)
def test_transcripts_show_what_subcam_prints(words, printed, capsys):
    from subcam import cli

    with contextlib.suppress(SystemExit):  # so ends a command with an unknown flag
        cli.main(words)
    shown = capsys.readouterr()
    got = re.sub(r"[\u2500-\u257f]|-{3,}", " ", shown.out + shown.err)  # lines and boxes, which depend on the terminal
    wanted = ".*".join(re.escape(" ".join(part.split())) for part in printed.split("..."))
    assert re.fullmatch(wanted, " ".join(got.split()))


@pytest.mark.parametrize("path", PAGES, ids=id_of)
def test_every_block_of_a_page_is_run_or_says_why_not(path):
    for block in blocks(path):
        where = f"{path.name}:{block.line}"
        assert set(block.not_run) <= set(REASONS), f"{where}: expected reasons among {REASONS}, got {block.not_run}"
        if block.not_run:
            continue
        assert "no-run" not in block.info, f"{where}: no line above says why this block is not run"
        if block.kind in ("python", "console"):
            continue
        assert block.kind == "bash" or not COMMAND.search(block.text), f"{where}: commands in a block that no test runs"
        for words in (words for line in block.shell_lines for words in segments(line)):
            ours = [known for known in commands_of(words) if not is_parsed(known)]
            measures = "python" in words and words[-1] == "--help"
            assert ours or measures, f"{where}: nothing runs {shlex.join(words)}"


def test_commands_are_found_in_the_blocks():
    assert (README, ["demo"]) in PARSED
    assert list(commands_of(shlex.split("A=1 uv run --no-sync subcam demo --rounds 1 && cd subcam | cat"))) == [
        ["demo", "--rounds", "1"]
    ]


def test_settings_named_in_the_text_are_flags(capsys, monkeypatch):
    from subcam import cli

    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit):
        cli.main(["run", "small", "--help-all"])
    known = set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))
    for path in TAUGHT:
        for flag in re.findall(r"`(--[a-z][\w-]*\.[\w.-]+)", FENCE.sub("", path.read_text("utf-8"))):
            assert flag in known, f"{path.name} names {flag}, which the command line does not know"


def test_numbers_of_the_recipes_are_those_of_the_code():
    from subcam.recipes import RECIPES

    page = ROOT / "docs" / "recipes.md"
    listed = {}
    for heading, (header, *rows) in tables(page):
        if header[:2] == ["setting", "value"]:
            listed[heading.strip("`")] = {setting.strip("`"): value.strip("`") for setting, value, *_ in rows}
    assert set(listed) == set(RECIPES)
    variants = dict(re.findall(r"^### `(\w+)`\n\nAs `(\w+)`, except", page.read_text("utf-8"), re.MULTILINE))
    assert variants == {"voc12_reference": "voc12_paper", "coco14": "voc12_paper"}
    for name, values in listed.items():
        settings = RECIPES[name]()
        base = listed[variants[name]] if name in variants else {}
        for setting, value in {**base, **values}.items():
            assert shown(value_of(settings, setting)) == value, f"{name}: {setting}"


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
    from subcam.report.tables.tables import write_tables

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
