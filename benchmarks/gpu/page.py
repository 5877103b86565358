"""What was found on a GPU as a table: for a terminal, and as Markdown for `docs/scale.md`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.gpu.record import Found, Target
from benchmarks.show import between_marks, duration

BEGIN, END = "<!-- gpu: begin -->", "<!-- gpu: end -->"
"""What stands between these lines of a page is written by `python -m benchmarks gpu --markdown`."""

NOT_MEASURED = "not measured"
HEADINGS = ("what", "wanted", "measured", "")
ROW_HEADINGS = ("part", "case", "time", "a second", "beside", "device works")


def target_cells(targets: Sequence[Target]) -> Iterator[tuple[str, ...]]:
    """Each target: what, what is wanted, what was measured, and whether it is met."""
    for target in targets:
        number = NOT_MEASURED if target.measured is None else f"{target.measured:.3g}"
        yield target.what, target.wanted, number, {True: "met", False: "missed", None: ""}[target.met]


def row_cells(found: Found) -> Iterator[tuple[str, ...]]:
    """Each row of each part, and what became of parts that did not end well."""
    for part in found.parts:
        for row in part.rows:
            yield part.name, *cells_of(row)
        if part.state != "done":
            yield part.name, f"{part.state}: {part.why.splitlines()[0] if part.why else ''}"[:160], "", "", "", ""


def cells_of(row: dict[str, Any]) -> tuple[str, ...]:
    """A row in words: case, time, throughput, what stands beside it, and how long the device worked."""
    seconds = next((row[name] for name in ("seconds_an_image", "seconds_a_step", "seconds") if name in row), None)
    rate = f"{row['images_a_second']:.3g} images" if "images_a_second" in row else ""
    busy = row["profile"]["device"] if row.get("profile") else row.get("device_busy")
    return (
        row["case"],
        "" if seconds is None else duration(seconds),
        rate,
        "; ".join(_beside(row)),
        "" if busy is None else f"{100 * busy:.0f} %",
    )


def _beside(row: dict[str, Any]) -> Iterator[str]:
    words = {
        "share_of_peak": "{:.1%} of the bf16 peak",
        "ratio": "{:.1f} x the naive loop",
        "ratio_one_core": "{:.1f} x one core",
        "ratio_all_cores": "{:.1f} x all cores",
        "tflops": "{:.0f} TFLOP/s",
        "passed": "{} passed",
        "failed": "{} failed",
        "skipped": "{} skipped",
        "kills": "{} kills",
        "largest_difference": "difference {:.1e}",
        "peak_memory_mib": "{:.0f} MiB",
    }
    for name, text in words.items():
        if name in row:
            yield text.format(row[name])
    for score in row.get("scores", ()) if isinstance(row.get("scores"), list) else ():
        if "cpu" in score:
            yield f"{score['what']}: {score['miou']:.1f} (CPU {score['cpu']:.1f} ± {score['cpu_std']:.1f})"


def to_table(found: Found) -> Table:
    """For a terminal: rows, then targets."""
    table = Table(*ROW_HEADINGS, title=about(found), title_justify="left")
    for row in row_cells(found):
        table.add_row(*row)
    table.add_section()
    for what, wanted, measured, met in target_cells(found.targets):
        table.add_row("target", what, wanted, measured, met, "")
    return table


def about(found: Found) -> str:
    """Date, device and versions in one line."""
    versions = found.versions
    cuda = f", CUDA {versions['cuda']}" if "cuda" in versions and found.device["kind"] == "cuda" else ""
    tiny = ", tiny: times say nothing" if found.tiny else ""
    return (
        f"{found.date}, {found.device['name']}, {found.machine['cores']} cores, Python {versions['python']}, torch"
        f" {versions['torch']}{cuda}, subcam {versions['subcam']}{tiny}"
    )


def to_markdown(found: Found | None) -> str:
    """The targets and all rows; without a file of a GPU, the targets as not measured."""
    if found is None:
        targets = _markdown(HEADINGS, target_cells(Found(device={"kind": "cpu"}, tiny=True, budget=0).targets))
        return f"On a GPU nothing has been measured; none was at hand.\n\n{targets}"
    rows = _markdown(ROW_HEADINGS, row_cells(found))
    lacking = "".join(f"\n\nMissing was {one.what}." for one in found.missing)
    return f"{about(found)}.{lacking}\n\n{_markdown(HEADINGS, target_cells(found.targets))}\n\n{rows}"


def write_page(path: Path, found: Found | None) -> None:
    """Put the tables between the marks of a page.

    Raises:
        BadInputError: the page has no marks; names it.
    """
    between_marks(path, to_markdown(found), begin=BEGIN, end=END)


def _markdown(headings: Sequence[str], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
