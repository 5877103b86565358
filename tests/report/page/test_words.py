"""The page explains the words that it uses, as the documents do."""

import re
from pathlib import Path

import pytest

from subcam.report.page.words import MARK, WORDS, with_words, words_in

INDEX = Path(__file__).parents[3] / "docs" / "index.md"


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("<p>Plain CAMs of sub-categories</p>", ["sub-category", "plain CAM"]),
        ("<p>K = 10, alphas</p>", ["alpha", "K"]),
        (
            '<script>"round"</script><style>.round {}</style><i class="round">OK around</i><pre>CRF</pre>',
            [],
        ),
        ("<svg><!-- parent loss --></svg>", ["parent loss"]),
    ],
)
def test_words_that_are_read_are_explained(html: str, words: list[str]) -> None:
    assert [word for word, _ in words_in(html)] == words
    assert with_words(html + MARK).count("<dt>") == len(words)


def test_the_documents_explain_words_alike() -> None:
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", INDEX.read_text("utf-8").partition("## Words")[2], re.MULTILINE)
    meanings = {word.strip(): meaning.strip() for word, meaning in rows[1:]}
    same = {word: meaning for word, meaning in meanings.items() if word in WORDS}
    assert len(same) >= 6
    assert same == {word: WORDS[word] for word in same}
