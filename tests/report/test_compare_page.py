"""The page of a comparison: one file that loads nothing, with or without ground truth and images."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.class_names import write_legend
from subcam.export.compare import SideBySide, agreeing, open_folders, scored
from subcam.report.compare_page import _panel, comparison_html, verdict, write_comparison

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CLASSES = ("<b>cat</b>", "dog", "owl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Truth, one that equals it but for an image, one that is wrong throughout, and images but for one."""
    root, rng = tmp_path_factory.mktemp("compared"), np.random.default_rng(0)
    for index in range(6):
        name = f"below/{index}"
        truth = np.zeros((40, 60), np.uint8)
        truth[10:30, 10:40] = 1 + index % 2
        good = np.roll(truth, 10, axis=1) if index == 3 else truth
        bad = np.roll(truth, 5 + index, axis=0)
        for kind, mask in (("truth", truth), ("a & b", good), ("bad", bad), ("bad again", bad)):
            write_mask(root / kind / f"{name}.png", mask, palette=voc_palette(), durable=False)
        if index != 5:
            path = root / "images" / f"{name}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    for kind in ("truth", "a & b", "bad", "bad again"):
        write_legend(root / kind, CLASSES)
    return root


def opened(folder: Path, *names: str, truth: bool = True) -> SideBySide:
    return open_folders([folder / name for name in names], truth=folder / "truth" if truth else None)


def images(folder: Path) -> dict[str, Path]:
    return {f"below/{path.stem}": path for path in (folder / "images").rglob("*.jpg")}


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    side, path = opened(folder, "a & b", "bad", "bad again"), folder / "page.html"
    found = scored(side, resamples=100)
    write_comparison(path, side, found, images=images(folder), most=4, words=["a & b", "--out", "x"])
    return path


def test_what_the_page_says(page: Path) -> None:
    text = page.read_text("utf-8")
    assert "<b>cat" not in text
    assert "&lt;b&gt;cat&lt;/b&gt;" in text
    assert "6 images, 3 classes, scored against ground truth." in text
    assert re.search(r"bad is \d+\.\d points of mIoU \(−\d+\.\d to −\d+\.\d\) below a &amp; b\.", text)
    assert "subcam compare &#39;a &amp; b&#39; --out x" in text
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert text.count('<article class="sheet shot">') == 8, "four images of each of two"
    assert text.count("<figure>") == 8 * 4 - text.count("<h3>below/5</h3>"), "one has no image"
    below = re.findall(
        r'axis down" style="--zero: 50%" title="−.*?left: ([\d.]+)%; width: ([\d.]+)%.*?left: ([\d.]+)%', text
    )
    assert below
    assert all(0 <= float(low) <= float(value) <= float(low) + float(width) < 50 for low, width, value in below)
    rows = re.findall(r'<th scope="row" class="text">([^<]*)</th>', text)
    assert rows == ["a &amp; b", "bad", "bad again", "background", "&lt;b&gt;cat&lt;/b&gt;", "dog", "owl"]
    assert "–</td>" in text.partition(">owl<")[2], "a class that the truth has not"


def test_the_images_that_differ_most_come_first(folder: Path) -> None:
    side = opened(folder, "a & b", "bad")
    found = scored(side, resamples=10)
    text = comparison_html(side, found, images=images(folder), most=2)
    expected = [name for name, *_ in found.images_that_differ(1, most=2)]
    assert re.findall(r"<h3>(below/\d)</h3>", text) == expected
    assert comparison_html(side, found, images={}, most=0).count("<article") == 0


def test_without_truth_it_says_how_far_they_agree_and_not_which_is_right(folder: Path) -> None:
    side = opened(folder, "a & b", "bad", truth=False)
    found = agreeing(side, resamples=50)
    text = comparison_html(side, found, images={}, most=9)
    assert "There is no ground truth: this page says how far they agree, not which is right." in text
    assert verdict(found, 1).startswith(f"bad agrees with a & b on {100 * found.equal_pixels[0]:.1f} per cent of the")
    assert "ground truth</figcaption>" not in text
    assert text.count("<figure>") == 2 * len(found.images_that_differ(1, most=9))
    assert "The images themselves are not known; --image-folder shows them" in text
    assert 'class="axis' not in text


def test_equal_masks_differ_nowhere(folder: Path) -> None:
    side = opened(folder, "bad", "bad again")
    found = scored(side, resamples=50)
    assert verdict(found, 1) == (
        "6 images do not tell bad again and bad apart: 0.0 points of mIoU (+0.0 to +0.0) between them."
    )
    assert "No image on which they differ." in comparison_html(side, found, images={}, most=5)


def test_an_image_of_another_size_is_not_drawn_under_its_masks(folder: Path, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    side = opened(folder, "a & b", "bad")
    found = scored(side, resamples=5)
    other = dict.fromkeys(side.images, tmp_path / "small.png")
    text = comparison_html(side, found, images=other, most=2)
    assert text.count("<figure>") == 2 * 3


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_in_a_browser_it_fits_and_fetches_nothing(browser: Browser, page: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)  # type: ignore[arg-type]
    shown, asked, said = context.new_page(), [], []
    shown.on("request", lambda request: asked.append(request.url))
    shown.on("console", lambda message: said.append(message.text))
    shown.goto(page.as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    assert shown.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert said == []
    context.close()


def test_a_small_mask_is_drawn_large_and_sharp() -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, 3:] = 200
    panel = _panel("mask", pixels)
    assert (panel["width"], panel["height"]) == (360, 240)
    with Image.open(io.BytesIO(base64.b64decode(panel["uri"].partition(",")[2]))) as drawn:
        row = np.asarray(drawn)[120, :, 0].astype(int)
    assert row[:176].max() < 20
    assert row[184:].min() > 180
