"""The page in a browser, from a file, without a network: it draws, answers mouse and keyboard, fits, is accessible."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")

PATIENCE_MS = 120_000
DRAWN = ".card:not([hidden])[data-drawn=true]"


@dataclass
class Opened:
    """The page in one window, what it asked for and what it complained about."""

    page: sync_api.Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def first(self, selector: str) -> sync_api.Locator:
        """An element of the first card that is shown."""
        return self.page.locator(f".card:not([hidden]) {selector}").first


def opened(browser: sync_api.Browser, path: Path, *, width: int = 1440, scheme: str = "light") -> Opened:
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce", offline=True
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    found = Opened(page)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("console", lambda said: found.complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.goto(path.as_uri())
    page.locator("#images").scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN)
    return found


@pytest.fixture(scope="module")
def wide(browser: sync_api.Browser, report_page: Path) -> Iterator[Opened]:
    found = opened(browser, report_page)
    yield found
    found.page.context.close()


@pytest.fixture(scope="module")
def narrow(browser: sync_api.Browser, report_page: Path) -> Iterator[Opened]:
    found = opened(browser, report_page, width=390, scheme="dark")
    yield found
    found.page.context.close()


@pytest.fixture(params=["wide", "narrow"])
def either(request: pytest.FixtureRequest) -> Opened:
    return request.getfixturevalue(request.param)


def test_all_images_load_and_nothing_is_fetched(either: Opened, report_page: Path) -> None:
    broken = "() => [...document.images].filter(image => !(image.complete && image.naturalWidth > 0)).length"
    assert either.page.evaluate("document.images.length") > either.page.locator(".card").count() > 8
    assert either.page.evaluate(broken) == 0
    assert {url for url in either.requests if not url.startswith(("data:", "blob:"))} == {report_page.as_uri()}
    assert either.complaints == []


def drawing(canvas: sync_api.Locator) -> str:
    return canvas.evaluate("canvas => canvas.toDataURL()")


def settled(opened: Opened) -> None:
    """Wait until what a slider asked for is drawn: two frames, then whatever was being unpacked."""
    opened.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")
    opened.page.wait_for_timeout(100)


def test_the_slider_over_rounds_answers_the_mouse(either: Opened) -> None:
    slider, canvas = either.first(".round"), either.first("canvas.ours")
    slider.scroll_into_view_if_needed()
    slider.evaluate("slider => { slider.value = 1; slider.dispatchEvent(new Event('input', {bubbles: true})); }")
    settled(either)
    before = drawing(canvas)
    box = slider.bounding_box()
    assert box is not None
    either.page.mouse.click(box["x"] + 3, box["y"] + box["height"] / 2)
    settled(either)
    assert slider.input_value() == "0"
    assert either.first(".ours-name").text_content() == "plain CAM"
    assert drawing(canvas) != before
    assert drawing(canvas) == drawing(either.first("canvas.plain"))


def test_sliders_answer_the_keyboard(either: Opened) -> None:
    slider, canvas = either.first(".threshold"), either.first("canvas.plain")
    slider.focus()
    either.page.keyboard.press("Home")
    settled(either)
    before = drawing(canvas)
    for _ in range(3):
        either.page.keyboard.press("PageUp")
    settled(either)
    assert either.first(".threshold-value").text_content() == "0.30"
    assert slider.get_attribute("aria-valuetext") == "0.30"
    assert "threshold 0.30" in (canvas.get_attribute("aria-label") or "")
    assert drawing(canvas) != before
    either.first(".round").focus()
    either.page.keyboard.press("End")
    settled(either)
    assert either.first(".ours-name").text_content() == "round 1"


def test_the_iou_that_is_shown_is_right(wide: Opened) -> None:
    card = wide.page.locator(".card:not([hidden])").first
    data = json.loads(wide.page.locator("#data").text_content() or "")
    packed = data["images"][int(card.get_attribute("data-image") or 0)]
    width, height = packed["width"], packed["height"]
    scale = -(-240 // max(width, height))
    size = (height * scale, width * scale)
    truth = decoded(packed["truth"], width).repeat(scale, 0).repeat(scale, 1)
    for value in (0.1, 0.45):
        slider = wide.first(".threshold")
        slider.evaluate(
            "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }", round(100 * value)
        )
        settled(wide)
        maps = np.stack([decoded(text, packed["grid"][0]) for text in packed["maps"][0]])
        full = torch.nn.functional.interpolate(
            torch.from_numpy(maps[None].astype(np.float32)), size=size, mode="bilinear", align_corners=False
        )[0].numpy()
        labels = np.where(full.max(0) / 255 > value, np.array(packed["classes"])[full.argmax(0)], 0)
        ious = [
            ((labels == c) & (truth == c)).sum() / (((labels == c) | (truth == c)) & (truth != 255)).sum()
            for c in sorted(set(truth.ravel().tolist()) - {0, 255})
        ]
        shown = float(wide.first(".plain-iou").text_content() or "nan")
        assert shown == pytest.approx(100 * float(np.mean(ious)), abs=0.2)


def decoded(text: str, width: int) -> np.ndarray:
    values = list(zlib.decompress(base64.b64decode(text)))
    for place in range(1, len(values)):
        values[place] = (values[place] + values[place - 1 if place % width else place - width]) % 256
    return np.array(values, np.uint8).reshape(-1, width)


def shown_classes(opened: Opened) -> list[set[str]]:
    cards = opened.page.locator(".card:not([hidden])")
    return [set((card.get_attribute("data-classes") or "").split()) for card in cards.all()]


def test_the_class_filter_answers_mouse_and_keyboard(either: Opened) -> None:
    chip = either.page.locator("#gallery-form input[name='class'][value='2']")
    chip.click()
    assert shown_classes(either)
    assert all("2" in classes for classes in shown_classes(either))
    either.page.keyboard.press("ArrowRight")
    assert either.page.locator("#gallery-form input[name='class']:checked").input_value() == "3"
    assert all("3" in classes for classes in shown_classes(either))
    count = either.page.locator("#gallery-count").text_content() or ""
    shown, total = map(int, re.findall(r"\d+", count))
    assert shown == len(shown_classes(either)) < total < either.page.locator(".card").count()
    either.page.locator("#gallery-form input[name='class'][value='']").click()


def test_the_worst_come_first_when_asked_for(wide: Opened) -> None:
    def gains() -> list[float]:
        cards = wide.page.locator(".card:not([hidden])").all()
        return [float(card.get_attribute("data-gain") or "nan") for card in cards]

    everything = wide.page.eval_on_selector_all(".card", "cards => cards.map(card => Number(card.dataset.gain))")
    for order, expected in (("loss", min(everything)), ("gain", max(everything))):
        wide.page.locator(f"#gallery-form input[name='order'][value='{order}']").click()
        assert gains()[0] == expected
        assert all((a <= b) if order == "loss" else (a >= b) for a, b in pairwise(gains()))
    before = len(gains())
    wide.page.locator("#more").click()
    assert len(gains()) > before


def test_images_are_filtered_and_sorted_by_disagreement(wide: Opened) -> None:
    wide.page.locator("#gallery-form input[name='order'][value='disagreement']").click()
    cards = wide.page.locator(".card:not([hidden])")

    def shown() -> list[float]:
        return cards.evaluate_all("cards => cards.map(card => Number(card.dataset.disagreement))")

    everything = wide.page.eval_on_selector_all(
        ".card", "cards => cards.map(card => Number(card.dataset.disagreement))"
    )
    assert shown() == sorted(everything, reverse=True)[: len(shown())]
    slider, count = wide.page.locator("#disagreement"), wide.page.locator("#gallery-count")
    least = sorted(everything)[-3]
    to = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }"
    slider.evaluate(to, int(100 * least))
    assert 3 <= len(shown()) < len(everything)
    assert min(shown()) >= int(100 * least) / 100
    slider.evaluate(to, 100)
    assert shown() == [value for value in sorted(everything, reverse=True) if value == 1]
    assert bool(shown()) or "No image is like this" in (count.text_content() or "")
    slider.evaluate(to, 0)
    wide.page.locator("#gallery-form input[name='order'][value='gain']").click()


def test_an_empty_prediction_says_so(wide: Opened) -> None:
    slider, caption = wide.first(".threshold"), wide.first("figure:has(canvas.plain) figcaption")
    to = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }"
    before = slider.input_value()
    slider.evaluate(to, 100)
    settled(wide)
    assert "only background" in (caption.text_content() or "")
    slider.evaluate(to, before)
    settled(wide)
    assert "only background" not in (caption.text_content() or "")


def test_the_whole_navigation_is_seen(either: Opened) -> None:
    """No link is cut off by the edge of its list or lies under the button."""
    cut = """() => [...document.querySelectorAll('.bar nav a')].filter(link => {
        const box = link.getBoundingClientRect(), list = link.closest('nav').getBoundingClientRect();
        return box.left < list.left - 1 || box.right > list.right + 1 || box.bottom > list.bottom + 1;
    }).map(link => link.textContent)"""
    assert either.page.evaluate(cut) == []


def test_nothing_overlaps_or_reaches_over_the_edge(either: Opened) -> None:
    width = either.page.viewport_size["width"]  # type: ignore[index]
    assert either.page.evaluate("document.documentElement.scrollWidth") == width
    over = either.page.evaluate(
        """() => [...document.querySelectorAll('body *')].filter(element => {
            const box = element.getBoundingClientRect();
            const over = box.right > innerWidth + 1 || box.left < -1;
            return box.width && over && !element.closest('.scroll, nav, .skip');
        }).map(element => element.outerHTML.slice(0, 120))"""
    )
    assert over == []
    colliding = either.page.evaluate(
        """() => ['.tiles', '.panels', '.row', '.chips', '.sliders', '.clusters', '.thumbs', '.pair', '.stack',
                  '.status', '.card header', '.bar .wide', '.finals']
            .flatMap(name => [...document.querySelectorAll(name)]).flatMap(parent => {
                const boxes = [...parent.children].map(child => child.getBoundingClientRect()).filter(box => box.width);
                return boxes.flatMap((a, i) => boxes.slice(i + 1).filter(b =>
                    a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1
                ).map(() => parent.className + ' ' + parent.textContent.slice(0, 60)));
            })"""
    )
    assert colliding == []


def test_the_theme_can_be_changed(narrow: Opened) -> None:
    ground = "() => getComputedStyle(document.body).backgroundColor"
    button = narrow.page.locator("#theme")
    assert button.inner_text() == "Light"
    dark = narrow.page.evaluate(ground)
    button.focus()
    narrow.page.keyboard.press("Enter")
    assert narrow.page.evaluate(ground) != dark
    assert button.inner_text() == "Dark"
    narrow.page.keyboard.press("Enter")
    assert narrow.page.evaluate(ground) == dark


def test_the_keyboard_comes_past_the_navigation_first(wide: Opened) -> None:
    wide.page.evaluate("() => { document.body.tabIndex = -1; document.body.focus(); }")
    wide.page.keyboard.press("Tab")
    skip = wide.page.evaluate("() => [document.activeElement.textContent, document.activeElement.getAttribute('href')]")
    assert skip == ["Skip to content", "#main"]


def test_on_paper_there_are_no_controls(wide: Opened) -> None:
    wide.page.emulate_media(media="print")
    for selector in (".bar", "#gallery-form", ".card:not([hidden]) .sliders", "#more"):
        assert not wide.page.locator(selector).first.is_visible()
    assert wide.page.locator(".card:not([hidden]) canvas").first.is_visible()
    assert "prints all of them" in wide.page.locator("#gallery-printed").inner_text()
    wide.page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert wide.page.locator("#table-cost").is_visible()
    wide.page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert not wide.page.locator("#table-cost").is_visible()
    wide.page.emulate_media(media="screen")


def test_what_is_shown_is_drawn_without_scrolling(wide: Opened) -> None:
    """So that a page that is printed at once has every map."""
    wide.page.wait_for_function(
        "() => !document.querySelector('.card:not([hidden]):not([data-drawn])')", timeout=10_000
    )
    first = wide.page.locator("canvas[data-first]").first
    blank = first.evaluate("canvas => !canvas.getContext('2d').getImageData(0, 0, 9, 9).data.some(value => value)")
    assert not blank


def test_a_card_is_enlarged_and_closed_by_the_keyboard(wide: Opened) -> None:
    wide.first(".enlarge").click()
    assert wide.page.locator("#large img").count() == wide.first(".panels").locator("figure:not([hidden])").count()
    assert wide.page.locator("#large").evaluate("window => window.scrollHeight <= window.clientHeight")
    wide.page.keyboard.press("Escape")
    assert not wide.page.locator("#large").is_visible()


def test_the_column_of_masks_begins_with_the_files_in_masks_and_its_link_follows(wide: Opened) -> None:
    choice, link, name = wide.page.locator("#mask-choice"), wide.first(".mask-file"), wide.first(".mask-name")
    ours = choice.input_value()
    assert ours == name.inner_text() == "pseudo mask of round 1, CRF"
    assert (link.get_attribute("href") or "").startswith("../masks/")
    other = "segmentation trained on pseudo masks of round 1 + CRF"
    choice.select_option(other)
    settled(wide)
    assert name.inner_text() == other
    assert "/masks-crf/" in (link.get_attribute("href") or "")
    choice.select_option(ours)
    settled(wide)
    assert (link.get_attribute("href") or "").startswith("../masks/")


def test_the_masks_to_look_at_first_are_a_fifth(wide: Opened) -> None:
    chips = wide.page.locator("#gallery-form [name=which]")
    chips.last.check()
    assert wide.page.locator("#gallery-count").inner_text() == "8 of 8 images shown"
    chips.first.check()
    assert wide.page.locator("#gallery-count").inner_text() == "8 of 40 images shown"


def test_colours_over_the_image_can_be_taken_away(wide: Opened) -> None:
    canvas = wide.first("canvas.plain")
    before = drawing(canvas)
    slider = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input')); }"
    wide.page.locator("#opacity").evaluate(slider, 0)
    settled(wide)
    assert drawing(canvas) != before
    wide.page.locator("#opacity").evaluate(slider, 65)
    settled(wide)
    assert drawing(canvas) == before


def test_there_are_no_serious_faults_of_accessibility(either: Opened) -> None:
    """`wide` is light and `narrow` is dark."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    violations = axe.Axe().run(either.page).response["violations"]
    serious = [
        (fault["id"], fault["impact"], [node["html"][:150] for node in fault["nodes"]][:3])
        for fault in violations
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []
