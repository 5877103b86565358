"""The page of an audit: one file that loads nothing and says what was found, in either theme, on any width."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest
from tests.data.readers.made_coco import image

from subcam.audit.dataset import audit_dataset
from subcam.data.images import voc_palette, write_mask
from subcam.data.settings import DatasetSettings
from subcam.report.audit_page import LISTED, MOST_CLASSES, SHOWN, audit_html, proposed_command, verdict, write_audit

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a set with some of everything; a class's name is one that must be escaped."""
    root = tmp_path_factory.mktemp("page") / "mine & yours"
    rows = []
    for i in range(60):
        image(root / "images" / f"{i}.png", (60, 90))
        rows.append(f"{i}.png,{('<b>cat</b>', 'dog', '<b>cat</b>;dog')[i % 3]},{'val' if i > 55 else 'train'}")
    (root / "images" / "1.png").write_bytes(b"no image")
    (root / "images" / "4.png").write_bytes((root / "images" / "3.png").read_bytes())
    mask = np.zeros((60, 90), np.uint8)
    mask[:30] = 2
    write_mask(root / "masks" / "0.png", mask, palette=voc_palette())
    (root / "labels.csv").write_text("\n".join(["image,labels,split", *rows]))
    settings = DatasetSettings(root=str(root))
    audit = audit_dataset(settings, work_folder=root.parent / "work", workers=1)
    return write_audit(audit, root.parent / "out", settings=("--dataset.labels", "labels.csv"))


def test_what_the_page_says(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "<b>cat" not in text
    assert "mine &amp; yours" in text
    assert "1 image that cannot be read" in text
    assert "A run would stop: 1 problem must be fixed first" in text
    shown = re.findall(r"<figcaption>(.*?)</figcaption>", text)
    assert any("(the same file)" in caption for caption in shown)
    masked = next(html.unescape(caption) for caption in shown if "of the mask and no label" in caption)
    assert masked == "0: dog has 50.0% of the mask and no label"
    assert len(re.findall(r'src="data:image/webp', text)) >= 6
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "--dataset.labels labels.csv --out" in text


def test_the_record_has_every_case(page: Path) -> None:
    record = json.loads((page.parent / "audit.json").read_text("utf-8"))
    kinds = {finding["kind"]: finding for finding in record["findings"]}
    assert kinds["image-bad"]["severity"] == "stop"
    assert len(kinds["tiny"]["examples"]) == 59
    assert kinds["tiny"]["examples"][0]["images"][0].endswith(".png")
    assert record["splits"][0] == {"name": "train", "learned": True, "images": 56, "masks": 1}


def test_long_lists_are_cut_and_large_tables_left_out(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    names = [f"class {number:03}" for number in range(LISTED + 30)]
    image(root / "a.png", (120, 120))
    (root / "labels.csv").write_text("image,labels\na.png,class 000\n")
    (root / "classes.txt").write_text("\n".join(names))
    audit = audit_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work")
    text = audit_html(audit)
    assert "and 29 more, all in audit.json" in text
    assert len(names) > MOST_CLASSES
    assert 'id="together"' not in text
    assert text.count("<figure>") <= SHOWN
    assert verdict(audit).startswith("A run would work.")
    assert proposed_command(audit) == f"subcam run small --data {root} --out runs/mine"


def test_shares_are_those_of_the_class_of_the_row(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for name in "abcd":
        image(root / "images" / f"{name}.png", (120, 120))
    (root / "labels.csv").write_text("image,labels\na.png,cat\nb.png,cat;dog\nc.png,cat\nd.png,cat\n")
    text = audit_html(audit_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work"))
    table = text[text.index('<table class="pairs">') :]
    assert re.findall(r"<td(?: class=\"(\w+)\")?>(\d*)</td>", table) == [
        ("", ""),
        ("", "25"),
        ("high", "100"),
        ("", ""),
    ]
    assert "of 1 to 4 images" in text


@pytest.mark.parametrize(("scheme", "width"), [("light", 1300), ("dark", 390)])
def test_in_a_browser(page: Path, browser: Browser, scheme: Literal["light", "dark"], width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True, bypass_csp=True
    )
    window = context.new_page()
    window.set_default_timeout(120_000)
    complaints: list[str] = []
    window.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    window.goto(page.as_uri())
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    assert window.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    violations = axe.Axe().run(window)
    assert violations.violations_count == 0, violations.generate_report()
    assert complaints == []
    context.close()
