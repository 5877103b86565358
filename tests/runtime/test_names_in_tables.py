"""Names that are mark-up to rich, or steer a terminal, stand in every table and line as they are."""

import argparse
import io
import logging
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table
from tests.export.made_masks import SIZES
from tests.report.made_run import a_run

from subcam import cli
from subcam.ablation.variants import Summary, summary_tables
from subcam.audit.dataset import ClassRow
from subcam.commands import evaluate
from subcam.commands.data import check as data_check
from subcam.data.images import voc_palette, write_mask
from subcam.export.compare import compare as compare_folders
from subcam.export.mask_folder import evaluate as score
from subcam.report.tables import comparison
from subcam.report.tables.formats import terminal_table
from subcam.report.tables.tables import class_tables, tables_of
from subcam.runtime.progress import HarmlessLines, text_table

NAMES = ("[bold]", "[/]", "[/red]x", "\\[x", ":cat:", "[link=http://x]")
SOURCE = Path(cli.__file__).parent


def printed(table: Table) -> str:
    text = io.StringIO()
    Console(file=text, width=300, color_system=None).print(table)
    return text.getvalue()


def all_there(text: str) -> bool:
    return all(name in text for name in NAMES)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Masks of six classes, and the same moved a little, in folders called like mark-up."""
    first, second = tmp_path / "[bold]", tmp_path / "[green]"
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        labels = rng.integers(0, len(NAMES) + 1, size, dtype=np.uint8)
        for shift, folder in enumerate((first, second)):
            write_mask(folder / f"{name}.png", np.roll(labels, shift, 1), palette=voc_palette(), durable=False)
    return first, second


def test_evaluate(folders: tuple[Path, Path]) -> None:
    assert all_there(printed(evaluate.table_of(score(predictions=folders[1], truth=folders[0], classes=NAMES))))


def test_compare(folders: tuple[Path, Path]) -> None:
    paired = compare_folders(folders, truth=folders[0], classes=NAMES, resamples=10)
    both, by_class = printed(comparison.table_of(paired)), printed(comparison.class_table(paired))
    assert all_there(by_class)
    for label in ("[bold]", "[green]"):
        assert label in both
        assert label in by_class.splitlines()[2]


def test_run_and_report(tmp_path: Path) -> None:
    run = a_run(tmp_path, NAMES)
    text = "".join(printed(terminal_table(table)) for table in [*tables_of(run), *class_tables(run)])
    assert all_there(text)


def test_ablate() -> None:
    made = [
        Summary(grid={"dataset.root": name}, split="[val]", what="maps: [b] round 0", mean=0.5, std=None, n=1)
        for name in NAMES
    ]
    (table,) = summary_tables(made)
    assert all_there(printed(terminal_table(table)))
    assert "Maps, [val]" in printed(terminal_table(table))
    assert "[b] round 0" in printed(terminal_table(table))


def test_data_check() -> None:
    @dataclass
    class Split:
        name: str

    rows = [ClassRow(name=name, images=1, share=0.5, alone=1, scored=(1,), area=None) for name in NAMES]
    audit = argparse.Namespace(classes=rows, splits=[Split("train"), Split("[/]")])
    assert all_there(printed(data_check.class_table(audit)))  # type: ignore[arg-type]


def test_what_steers_a_terminal_is_written_out() -> None:
    shown = printed(text_table(["a\x1b[2J"], [["b\x1b]0;x\x07", "c"]], title="t\x9b1m"))
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "b\\x1b]0;x\\x07" in shown


def test_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(HarmlessLines("%(name)s: %(message)s"))
    logger = logging.getLogger("subcam.test")
    logger.addHandler(handler)
    logger.warning("no class %s", " ".join(NAMES) + "\x1b[2J")
    logger.removeHandler(handler)
    line = capsys.readouterr().err.splitlines()[0]
    assert line == f"subcam.test: no class {' '.join(NAMES)}\\x1b[2J"


def test_the_command_line_logs_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: dict[str, list[logging.Handler]] = {}
    monkeypatch.setattr(logging, "basicConfig", lambda **options: given.update(options))
    assert cli.main(["--version"]) == 0
    assert [type(handler.formatter) for handler in given["handlers"]] == [HarmlessLines]


def test_tables_are_made_at_one_place() -> None:
    """Where mark-up is kept out."""
    makers = [path for path in SOURCE.rglob("*.py") if ".add_column(" in path.read_text("utf-8")]
    assert [path.relative_to(SOURCE).as_posix() for path in makers] == ["runtime/progress.py"]
