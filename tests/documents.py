"""How the tests read the documents: fenced blocks, the commands in them, and the lines that say why one is not run."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
TAUGHT = (README, *PAGES)

REASONS = (
    "needs a download",
    "needs a GPU",
    "needs an account",
    "needs other software",
    "takes minutes",
    "takes hours",
    "takes days",
)
"""Why the tests do not run a block; a line "*Not run in CI: REASON, REASON.*" above it says so to the reader."""

LONG = ("run", "demo", "ablate", "classify", "discover", "cam", "segment")
"""Subcommands that train: the tests only parse their words."""

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(?:\$ )?(?:\w+=\S+ )*(?:subcam|python|pytest|pip|uv|git|source|srun|docker)(?= )", re.MULTILINE)

_NOT_RUN = re.compile(r"^\*Not run in CI: ([^*\n]+)\.\*\n\n\Z", re.MULTILINE)
_PAGE_NOT_RUN = re.compile(r"^\*No command of this page is run in CI: ([^*\n]+)\.\*$", re.MULTILINE)
_BEFORE_THE_COMMAND = re.compile(r"\w+=.*|uv|run|-.*")


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block.

    info: the words after its fence.
    line: that of the file on which its text begins.
    not_run: the reasons why the tests do not run it, as the page gives them.
    """

    info: tuple[str, ...]
    text: str
    line: int
    not_run: tuple[str, ...]

    @property
    def kind(self) -> str:
        return self.info[0] if self.info else ""

    @property
    def shell_lines(self) -> list[list[str]]:
        """The words of each line of a `bash` block."""
        lines = self.text.replace("\\\n", " ").splitlines() if self.kind == "bash" else []
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]

    @property
    def commands(self) -> list[list[str]]:
        """The words after every `subcam` of a `bash` block."""
        return [words for line in self.shell_lines for words in commands_of(line)]

    @property
    def transcript(self) -> list[tuple[list[str], str]]:
        """What a `console` block shows: the words of each command, and what it printed."""
        parts = re.split(r"^\$ subcam ", self.text.replace("\\\n", " "), flags=re.MULTILINE)
        found = [part.partition("\n") for part in parts if part.strip()]
        return [(shlex.split(command), printed) for command, _, printed in found]


def blocks(path: Path) -> list[Block]:
    text = path.read_text("utf-8")
    of_page = _PAGE_NOT_RUN.search(FENCE.sub("", text))
    found = []
    for match in FENCE.finditer(text):
        marker = _NOT_RUN.search(text[: match.start()]) or of_page
        found.append(
            Block(
                info=tuple(match[1].split()),
                text=match[2],
                line=text.count("\n", 0, match.start(2)),
                not_run=tuple(marker[1].split(", ")) if marker else (),
            )
        )
    return found


def python_blocks(path: Path) -> list[Block]:
    """The blocks that run in an empty folder, from the top of the page to its end."""
    return [block for block in blocks(path) if block.info == ("python",)]


def commands_of(words: list[str]) -> Iterator[list[str]]:
    """The words after each `subcam` of one line of shell."""
    for segment in segments(words):
        if "subcam" in segment:
            place = segment.index("subcam")
            if all(_BEFORE_THE_COMMAND.fullmatch(before) for before in segment[:place]):
                yield segment[place + 1 :]


def segments(words: list[str]) -> Iterator[list[str]]:
    """One line of shell, divided at `&&`, `||`, `|` and `;`."""
    segment: list[str] = []
    for word in [*words, ";"]:
        if word in ("&&", "||", "|", ";"):
            if segment:
                yield segment
            segment = []
        else:
            segment.append(word)


def prose(path: Path) -> str:
    """A document without its code."""
    return re.sub(r"`[^`\n]*`", "``", FENCE.sub("", path.read_text("utf-8")))


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables(path: Path) -> Iterator[tuple[str, list[list[str]]]]:
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


def id_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()
