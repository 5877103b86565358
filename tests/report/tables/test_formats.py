"""One table in four formats: escapes, the best in bold, and numbers that survive."""

import csv
import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from subcam.report.tables.formats import (
    ScoreTable,
    Spread,
    csv_table,
    escaped,
    latex_table,
    markdown_table,
    score_table,
    terminal_table,
    write_table,
)

NAN = float("nan")


@pytest.fixture
def table() -> ScoreTable:
    return score_table(
        "Table 7. Cats & dogs (per cent)",
        columns={"split": "text", "100% of": "text", "mIoU": "percent", "at": "plain"},
        rows=[
            ["train", "a_b", 0.1 + 0.2, 0.3],
            ["train", "c|d", 0.123456789, None],
            ["val", "e", 1.0, 1e-3],
            ["val", "f", 1.0, 20.0],
            ["val", "g", NAN, 3.0],
            ["val", "paper (published)", 0.5, None],
        ],
        sections=[0, 2],
        published_rows=1,
        name="cats",
        note="50% of all.",
    )


def test_text_and_numbers(table: ScoreTable) -> None:
    assert [row[2:] for row in table.rows] == [
        ("30.0", "0.3"),
        ("12.3", "–"),
        ("100.0", "0.001"),
        ("100.0", "20"),
        ("–", "3"),
        ("50.0", "–"),
    ]
    assert table.numbers[0] == (None, None, 0.1 + 0.2, 0.3)
    assert table.text_columns == 2
    assert table.sections == (2, 5)
    assert not table.deviations


def test_best_of_each_part(table: ScoreTable) -> None:
    assert table.best == {(0, 2), (2, 2), (3, 2)}, "ties share it; one row alone has none; thresholds have none"


def test_best_along_rows() -> None:
    table = score_table(
        "Classes",
        columns={"class": "text", "a": "percent", "b": "percent"},
        rows=[["cat", 0.2, 0.3], ["dog", 0.4, NAN], ["cow", 0.6, 0.5]],
        compare="rows",
    )
    assert table.best == {(0, 2), (2, 1)}


def test_thresholds_have_two_decimals() -> None:
    table = score_table("T", columns={"a": "text", "at": "hundredths"}, rows=[["x", 0.4], ["y", 0.455]])
    assert [row[1] for row in table.rows] == ["0.40", "0.46"]
    assert not table.best


def test_rows_must_have_all_columns() -> None:
    with pytest.raises(ValueError, match="expected 2 cells in a row of 'T', got 1"):
        score_table("T", columns={"a": "text", "b": "percent"}, rows=[["x"]])


def test_csv_has_every_digit(table: ScoreTable) -> None:
    rows = list(csv.reader(io.StringIO(csv_table(table))))
    assert rows[0] == ["split", "100% of", "mIoU", "at"]
    assert float(rows[1][2]) == 0.1 + 0.2
    assert float(rows[2][2]) == 0.123456789
    assert rows[2][3] == ""
    assert rows[5][2] == "nan"
    assert [row[1] for row in rows[1:]] == ["a_b", "c|d", "e", "f", "g", "paper (published)"]


def test_csv_of_a_table_of_text() -> None:
    table = ScoreTable(title="T", columns=("a", "b"), rows=(("x, y", "1.0"), ("–", "2.0")))
    assert csv_table(table) == 'a,b\n"x, y",1.0\n,2.0\n'


def test_spreads_become_two_columns() -> None:
    table = score_table(
        "K",
        columns={"K": "text", "mIoU": "percent", "F": "percent"},
        rows=[["5", Spread(mean=0.5, std=0.0125), 0.3], ["10", Spread(mean=0.6), None]],
    )
    assert table.rows == (("5", "50.0 ± 1.2", "30.0"), ("10", "60.0", "–"))
    assert csv_table(table) == "K,mIoU,mIoU std,F\n5,0.5,0.0125,0.3\n10,0.6,,\n"
    assert r"\textbf{60.0}" in latex_table(table)
    assert r"50.0 $\pm$ 1.2" in latex_table(table)


def test_markdown(table: ScoreTable) -> None:
    lines = markdown_table(table).splitlines()
    assert lines[2] == "| split | 100% of | mIoU | at |"
    assert lines[5] == r"| train | c\|d | 12.3 | – |"
    assert lines[-2:] == ["", "50% of all."]


def test_terminal(table: ScoreTable) -> None:
    def lines(shown: ScoreTable) -> list[str]:
        console = Console(width=60, record=True, file=io.StringIO())
        console.print(terminal_table(shown))
        return [line.strip() for line in console.export_text().splitlines()]

    assert lines(table)[0] == table.title
    without = lines(replace(table, sections=()))
    assert [line for line in lines(table) if line] == [line for line in without if line]
    assert len(lines(table)) == len(without) + len(table.sections)


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("50% & $x_1$ #2 {a}", r"50\% \& \$x\_1\$ \#2 \{a\}"),
        ("a\\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
        ("1 < 2 > 0 | 3", r"1 \textless{} 2 \textgreater{} 0 \textbar{} 3"),
        ("± – …", r"$\pm$ -- \ldots{}"),
        ("[1]\nnext", "{[}1{]} next"),
        ("dög, 猫", "dög, 猫"),
    ],
)
def test_escapes(text: str, latex: str) -> None:
    assert escaped(text) == latex


def test_latex(table: ScoreTable) -> None:
    assert latex_table(table).splitlines() == [
        r"\begin{table}[t]",
        r"  \centering",
        r"  \caption{Cats \& dogs (per cent)}",
        r"  \label{tab:cats}",
        r"  \begin{tabular}{llrr}",
        r"    \toprule",
        r"    split & 100\% of & mIoU & at \\",
        r"    \midrule",
        r"    train & a\_b & \textbf{30.0} & 0.3 \\",
        r"    train & c\textbar{}d & 12.3 & -- \\",
        r"    \midrule",
        r"    val & e & \textbf{100.0} & 0.001 \\",
        r"    val & f & \textbf{100.0} & 20 \\",
        r"    val & g & -- & 3 \\",
        r"    \midrule",
        r"    val & paper (published) & 50.0 & -- \\",
        r"    \bottomrule",
        r"  \end{tabular}",
        r"  \par\smallskip",
        r"  \footnotesize 50\% of all.",
        r"\end{table}",
    ]


def test_latex_compiles(table: ScoreTable, tmp_path: Path) -> None:
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("needs pdflatex")
    text = "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs}\\begin{document}\n"
    (tmp_path / "t.tex").write_text(text + latex_table(table) + "\\end{document}\n", "utf-8")
    ended = subprocess.run([program, "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True)
    assert ended.returncode == 0, ended.stdout[-2000:]


def test_files(table: ScoreTable, tmp_path: Path) -> None:
    written = write_table(table, tmp_path / "tables")
    assert {suffix: path.name for suffix, path in written.items()} == {
        "csv": "cats.csv",
        "md": "cats.md",
        "tex": "cats.tex",
    }
    assert written["csv"].read_text("utf-8") == csv_table(table)
    assert written["md"].read_text("utf-8") == markdown_table(table)
    assert written["tex"].read_text("utf-8") == latex_table(table)
