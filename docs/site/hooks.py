"""What mkdocs adds to the pages when it builds the site: equations, docstrings, the tour with its outputs.

Pages stay plain Markdown that also reads well in the repository. Fences marked `math` become MathML, which browsers
render without a script; the sections of the API's pages get the signature and docstring of their names; docs/tour.ipynb
is executed and becomes a page; docs/report.md gets the report page of a small run on generated images.
"""

import base64
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbclient import NotebookClient

import subcam
from subcam.recipes import toy
from subcam.report.page.page import write_report

API_PAGES = ("api.md", "api-data.md")
API_SECTION = re.compile(r"^### (?P<names>`\w+`(?:, `\w+`)*)\n.*?(?=^##|\Z)", re.MULTILINE | re.DOTALL)
WORDS_OF_FENCE = re.compile(r"^(```\w+) .*$", re.MULTILINE)
NOTEBOOK = "tour.ipynb"
SECONDS_FOR_A_CELL = 900
SAMPLE_MARK, SAMPLE = "<!-- sample report -->", "sample-report.html"
SAMPLE_SETTINGS = {
    "dataset.toy.train_images": 96,
    "dataset.toy.val_images": 24,
    "rounds": 1,
    "control": False,
    "classify.epochs": 8,
    "classify.least_steps": 0,
    "refine.rounds": "last",
    "refine.random_walk": False,
    "segment.train_on": ("pseudo",),
    "segment.train.epochs": 6,
    "segment.train.least_steps": 0,
    "machine.threads": 1,
    "machine.workers": 0,
}
"""The recipe `toy`, made small: some 15 seconds."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Convert fences marked `math` with `equation`."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "math", "class": "equation", "format": equation})
    return config


def equation(source: str, *_: Any, **__: Any) -> str:
    """TeX as MathML; a wide equation can be scrolled, by keyboard too."""
    return f'<div class="equation" tabindex="0">{convert(source.strip(), display="block")}</div>'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the tour as a page, and its images; and a report that the page on reports leads to."""
    source = Path(config.docs_dir) / NOTEBOOK
    text, images = notebook_page(notebook(source.read_text("utf-8"), execute=config.extra["execute_tour"]))
    files.append(File.generated(config, "tour.md", content=text))
    for name, content in images.items():
        files.append(File.generated(config, name, content=content))
    files.append(File.generated(config, SAMPLE, content=sample_report(config.extra["sample_report"])))
    return files


@cache
def sample_report(there: str) -> str:
    """A report page: the file that is `there` already, or that of a small run made now."""
    if there:
        return Path(there).read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder:
        subcam.run(toy().with_(SAMPLE_SETTINGS), Path(folder), recipe="toy")
        return write_report(Path(folder)).read_text("utf-8")


@cache
def notebook(source: str, *, execute: bool) -> nbformat.NotebookNode:
    """A notebook, with its outputs where it is executed; a cell that fails ends the build.

    Cached for `mkdocs serve`, which builds at every change of a page.
    """
    cells = nbformat.reads(source, as_version=4)
    if execute:
        NotebookClient(cells, timeout=SECONDS_FOR_A_CELL, kernel_name="python3").execute()
    return cells


def notebook_page(source: nbformat.NotebookNode) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and its images by file name."""
    parts: list[str] = []
    images: dict[str, bytes] = {}
    for cell in source.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        printed = ""
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                name = f"tour-{len(images) + 1}.png"
                images[name] = base64.b64decode(data["image/png"])
                parts.append(f"![{_alternative_text(cell)}]({name})")
            elif output.output_type != "display_data":  # which progress is
                printed += output.get("text", data.get("text/plain", "")).rstrip() + "\n"
        if printed:
            parts.append(f"```text\n{printed}```")
    return "\n\n".join(parts) + "\n", images


def _alternative_text(cell: nbformat.NotebookNode) -> str:
    """The alternative text of a figure: the comment at the start of its cell."""
    first = cell.source.partition("\n")[0]
    if not first.startswith("# "):
        raise ValueError(f"expected a cell that draws to begin with a comment that says what, got {first!r}")
    return first.removeprefix("# ")


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Point links to the notebook at its page, drop test marks of fences, insert docstrings and the sample report."""
    if SAMPLE_MARK in markdown:
        markdown = markdown.replace(SAMPLE_MARK, f"[A report of a small run on generated images]({SAMPLE}).")
    markdown = WORDS_OF_FENCE.sub(r"\1", markdown.replace(f"]({NOTEBOOK})", "](tour.md)"))
    return API_SECTION.sub(_with_docstrings, markdown) if page.file.src_uri in API_PAGES else markdown


def _with_docstrings(section: re.Match[str]) -> str:
    """A section of the API page, followed by the docstrings of its names."""
    names = [name for name in re.findall(r"\w+", section["names"]) if name in subcam._homes and name != "__version__"]
    homes = [subcam._homes[name] for name in names]
    if "hub" in names:  # a package: its functions, from the file in which they stand
        homes += [subcam.hub._homes[name] for name in ("write_folder", "push", "fetch", "load")]
    docstrings = [f"::: {'.'.join(home)}" for home in homes]
    return "\n\n".join([section[0].rstrip(), *docstrings, ""])
