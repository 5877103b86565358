"""The HTML templates, filled in: what the report page and the page of a data set's audit have in common."""

from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from subcam._version import __version__

_FOLDER = Path(__file__).parents[1] / "templates"


def render(name: str, **values: Any) -> str:
    """The template of that name as HTML, with every value escaped; a value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template(name).render(version=__version__, css=source("page.css"), **values)


def source(name: str) -> Markup:
    """The text of a style sheet or script, inserted unescaped."""
    return Markup((_FOLDER / name).read_text("utf-8"))
