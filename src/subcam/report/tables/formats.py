"""A table of scores: for the terminal, in Markdown, in LaTeX and as CSV.

Tables for people have per cent with one decimal; the CSV has the numbers as they were computed.
"""

import csv
import io
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.table import Table

from subcam.runtime.files import atomic_write
from subcam.runtime.progress import text_table

ABSENT = "–"

Shows = Literal["text", "percent", "hundredths", "plain"]
"""What a column holds: words; shares in 0..1, where greater is better; other numbers, of which none is best."""

_FORMATS = {"hundredths": ".2f", "plain": "g"}


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A mean over seeds as a share in 0..1, and its standard deviation; None for a single seed."""

    mean: float
    std: float | None = None


Cell = str | float | Spread | None


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """A table as text, columns of names before columns of numbers; and the numbers that the text was made from.

    columns, rows: the text of the header and of each cell.
    numbers: the value of each cell as it was computed, shares in 0..1; None for text and for empty cells.
    deviations: likewise the standard deviations; empty for a table without any.
    best: row and column of each best number of a section, where there is more than one to compare.
    sections: rows that have a rule above them.
    published_rows: how many of the last rows were copied from the paper.
    text_columns: the number of columns of names.
    name: of the table's files. note: the text below the table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[tuple[float | None, ...], ...] = ()
    deviations: tuple[tuple[float | None, ...], ...] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    sections: tuple[int, ...] = ()
    published_rows: int = 0
    text_columns: int = 2
    name: str = ""
    note: str = ""


def score_table(
    title: str,
    *,
    columns: Mapping[str, Shows],
    rows: Sequence[Sequence[Cell]],
    sections: Sequence[int] = (),
    compare: Literal["columns", "rows"] = "columns",
    published_rows: int = 0,
    name: str = "",
    note: str = "",
) -> ScoreTable:
    """A table from numbers.

    Args:
        title: "Table N. What it shows".
        columns: name -> what it holds; those of text come first.
        rows: cells in the order of the columns; None where there is no number.
        sections: rows that begin a section. Each section has a best number of its own.
        compare: whether the cells of a column or those of a row are compared with each other.
        published_rows: how many of the last rows were copied from the paper; they are a section of their own.
        name: of the table's files.
        note: the text below the table.

    Raises:
        ValueError: a row does not have a cell for each column.
    """
    short = [row for row in rows if len(row) != len(columns)]
    if short:
        raise ValueError(f"expected {len(columns)} cells in a row of {title!r}, got {len(short[0])}: {short[0]}")
    shows = list(columns.values())
    begins = {*sections, *([len(rows) - published_rows] if published_rows else [])} - {0}
    numbers = tuple(tuple(map(_number, row)) for row in rows)
    deviations = tuple(tuple(cell.std if isinstance(cell, Spread) else None for cell in row) for row in rows)
    return ScoreTable(
        title=title,
        columns=tuple(columns),
        rows=tuple(tuple(map(_shown, row, shows)) for row in rows),
        numbers=numbers,
        deviations=deviations if any(std is not None for row in deviations for std in row) else (),
        best=_best(numbers, shows, [0, *sorted(begins), len(rows)], compare),
        sections=tuple(sorted(begins)),
        published_rows=published_rows,
        text_columns=shows.count("text"),
        name=name,
        note=note,
    )


def _number(cell: Cell) -> float | None:
    return cell.mean if isinstance(cell, Spread) else None if isinstance(cell, str) else cell


def _shown(cell: Cell, shows: Shows) -> str:
    if isinstance(cell, Spread):
        return _shown(cell.mean, shows) + ("" if cell.std is None else f" ± {_shown(cell.std, shows)}")
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ABSENT
    if isinstance(cell, str):
        return cell
    return f"{100 * cell:.1f}" if shows == "percent" else format(cell, _FORMATS.get(shows, ""))


def _best(
    numbers: Sequence[Sequence[float | None]], shows: Sequence[Shows], begins: Sequence[int], compare: str
) -> frozenset[tuple[int, int]]:
    """The cells with the greatest number of those that are compared, if there are two or more."""
    scored = [column for column, kind in enumerate(shows) if kind == "percent"]
    parts = [range(first, last) for first, last in itertools.pairwise(begins)]
    if compare == "columns":
        groups = [[(row, column) for row in part] for part in parts for column in scored]
    else:
        groups = [[(row, column) for column in scored] for part in parts for row in part]
    best: set[tuple[int, int]] = set()
    for group in groups:
        in_group = {(row, column): numbers[row][column] for row, column in group}
        values = {cell: value for cell, value in in_group.items() if value is not None and not math.isnan(value)}
        if len(values) > 1:
            best |= {cell for cell, value in values.items() if value == max(values.values())}
    return frozenset(best)


def terminal_table(table: ScoreTable) -> Table:
    """The table for the terminal; tables of scores by round fit into 80 columns."""
    return text_table(
        table.columns,
        table.rows,
        title=table.title,
        text_columns=table.text_columns,
        sections=table.sections,
        wrap_numbers=False,
    )


def markdown_table(table: ScoreTable) -> str:
    """The table as Markdown, with its note below."""
    columns, *rows = ([cell.replace("|", "\\|") for cell in row] for row in (table.columns, *table.rows))
    lines = [f"**{table.title}**", "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, *(["", table.note] if table.note else [])]) + "\n"


def latex_table(table: ScoreTable) -> str:
    """The table for a paper, the best of each section in bold; needs the package booktabs."""
    texts = table.text_columns
    lines = [
        r"\begin{table}[t]",
        r"  \centering",
        rf"  \caption{{{escaped(re.sub(r'^Table [0-9]+[.] ', '', table.title))}}}",
        rf"  \label{{tab:{re.sub(r'[^a-z0-9]+', '-', (table.name or table.title).lower()).strip('-')}}}",
        rf"  \begin{{tabular}}{{{'l' * texts}{'r' * (len(table.columns) - texts)}}}",
        r"    \toprule",
        f"    {' & '.join(map(escaped, table.columns))} \\\\",
        r"    \midrule",
    ]
    for index, row in enumerate(table.rows):
        if index in table.sections:
            lines.append(r"    \midrule")
        cells = [
            rf"\textbf{{{escaped(cell)}}}" if (index, column) in table.best else escaped(cell)
            for column, cell in enumerate(row)
        ]
        lines.append(f"    {' & '.join(cells)} \\\\")
    lines += [r"    \bottomrule", r"  \end{tabular}"]
    lines += [r"  \par\smallskip", rf"  \footnotesize {escaped(table.note)}"] if table.note else []
    return "\n".join([*lines, r"\end{table}"]) + "\n"


_ESCAPES = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "[": "{[}",  # else "\\ [1]" at a row's end is read as a length
    "]": "{]}",
    "\n": " ",
    "±": r"$\pm$",
    "–": "--",
    "…": r"\ldots{}",
    "λ": r"$\lambda$",
}


def escaped(text: str) -> str:
    """The text with LaTeX's special characters escaped; other letters than ASCII stay as they are, in UTF-8."""
    return "".join(_ESCAPES.get(letter, letter) for letter in text)


def csv_table(table: ScoreTable) -> str:
    """The table as CSV: shares in 0..1 with all digits, empty cells where there is no number, "nan" for not-a-number.

    A column with standard deviations is followed by one for these.
    """
    numbers = table.numbers or ((None,) * len(table.columns),) * len(table.rows)
    deviations = table.deviations or ((None,) * len(table.columns),) * len(table.rows)
    spread = {column for column in range(len(table.columns)) if any(row[column] is not None for row in deviations)}
    header = [name for place, name in enumerate(table.columns) for name in _doubled(name, place in spread)]
    lines = [header]
    for texts, values, stds in zip(table.rows, numbers, deviations, strict=True):
        line: list[str] = []
        for column, (text, value, std) in enumerate(zip(texts, values, stds, strict=True)):
            line.append(text if value is None else repr(float(value)))
            if value is None and text == ABSENT:
                line[-1] = ""
            line += ["" if std is None else repr(float(std))] if column in spread else []
        lines.append(line)
    return csv_text(lines)


def _doubled(name: str, spread: bool) -> list[str]:
    return [name, f"{name} std"] if spread else [name]


def csv_text(lines: Sequence[Sequence[str]]) -> str:
    """Rows of cells as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def write_table(table: ScoreTable, folder: Path) -> dict[str, Path]:
    """Write `NAME.csv`, `NAME.md` and `NAME.tex` of a table that has a name; returns suffix -> path.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    written = {}
    for suffix, content in (("csv", csv_table(table)), ("md", markdown_table(table)), ("tex", latex_table(table))):
        written[suffix] = folder / f"{table.name}.{suffix}"
        with atomic_write(written[suffix], "w", durable=False) as file:
            file.write(content)
    return written
