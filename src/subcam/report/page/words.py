"""What the words of the page mean, for people who have not read the paper; `docs/index.md` has some of them, too."""

import re

from subcam.report.page.template import render

MARK = "<!-- words -->"
WORDS = {
    "parent class": "a name that a person gave: cat, sofa; never background",
    "sub-category": "one of K clusters inside a class",
    "prototype": "the centre of a cluster of features at single positions (recipe `small`)",
    "round": "one training of the classifier; round 0 is plain CAM",
    "response map": "how strongly each pixel responds to a class, in 0..1",
    "pseudo mask": "a mask made from response maps",
    "ground truth": "masks drawn by people, for scores",
    "control": "the same rounds trained without sub-categories (lambda = 0)",
    "plain CAM": "class activation map: where a classifier that only learned the classes looks for each of them",
    "CRF": "conditional random field: moves the edges of a mask to the edges of colours in the image",
    "random walk": "spreads responses to neighbours that look alike, as AffinityNet learned it",
    "threshold": "a pixel whose response is not above it is background",
    "mIoU": "mean over the classes of the intersection of mask and ground truth divided by their union",
    "confidence": "from 0 to 1, how far what the run knows agrees on a mask; it ranks masks and is not a probability",
    "disagreement": "the share of an object's pixels on which two predictions of an image differ",
    "alpha": "the exponent of the background's score, before a CRF or a random walk: the higher, the less background",
    "beta": "the exponent of AffinityNet's similarity of neighbours in the random walk",
    "lambda": "the weight of the sub-categories' loss beside that of the classes",
    "K": "the number of sub-categories in a class",
    "parent loss": "the classifier's error on the classes that people named",
    "subcategory loss": "the classifier's error on the sub-categories",
}
"""Word -> its meaning in one line."""


def words_in(html: str) -> list[tuple[str, str]]:
    """The words, with their meanings, that a page uses outside of its scripts and styles."""
    drawn = re.sub(r"<!--(.*?)-->", r" \1 ", html, flags=re.DOTALL)  # texts of drawings are shapes, and comments
    shown = re.sub(r"<(script|style|pre)\b.*?</\1>|<[^>]*>", " ", drawn, flags=re.DOTALL)
    shown = " ".join(shown.split())
    return [(word, text.replace("`", "")) for word, text in WORDS.items() if re.search(_pattern(word), shown)]


def _pattern(word: str) -> str:
    """A word alone, of ordinary words also the plural and a capital."""
    if word in ("K", "CRF", "mIoU"):
        return rf"\b{word}\b"
    ending = r"(y|ies)\b" if word.endswith("y") else r"(s|es)?\b"
    stem = word.removesuffix("y")
    return rf"\b(?i:{re.escape(stem)}){ending}"


def with_words(html: str) -> str:
    """The page with the words that it uses explained where it says `MARK`."""
    words = words_in(html)
    return html.replace(MARK, render("words.html", words=words) if words else "", 1)
