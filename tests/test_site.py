"""The documentation as a site: it builds without a warning, asks for nothing elsewhere, and fits a phone."""

import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from documents import PAGES, ROOT, blocks

import subcam

pytest.importorskip("mkdocs", reason="needs mkdocs (dependency group docs)")

LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=["']?(?:https?:)?//""")
SIZES = {"desk": 1440, "phone": 390}

# A drawer that still slides out of view counts as part of the page.
IS_WIDER = """() => {
    document.getAnimations().forEach(animation => animation.finish())
    return document.documentElement.scrollWidth > innerWidth
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, with the notebook not executed (tests/test_tour.py does that), and no run for the sample report."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    sample = tmp_path_factory.mktemp("sample") / "index.html"
    sample.write_text("<!doctype html><title>a report</title>", "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("EXECUTE_TOUR", "false")
        patch.setenv("SAMPLE_REPORT", str(sample))
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def page(site, name):
    return (site / f"{name}.html").read_text("utf-8")


def test_every_document_is_a_page(site):
    assert {path.stem for path in PAGES} | {"tour", "404", "sample-report"} == {
        path.stem for path in site.glob("*.html")
    }


def test_the_sample_report_and_every_image_are_where_pages_say(site):
    assert 'href="sample-report.html"' in page(site, "report")
    assert page(site, "sample-report") == "<!doctype html><title>a report</title>"
    for path in PAGES:
        for image in re.findall(r'<img [^>]*src="([^"]+)"', page(site, path.stem)):
            assert (site / image).is_file(), f"{path.name}: {image}"
    assert page(site, "index").count("<img ") == 1


def test_nothing_is_loaded_from_elsewhere(site):
    for path in site.glob("*.html"):
        assert not LOADED.search(path.read_text("utf-8")), path.name
    for path in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", path.read_text("utf-8")), path.name


def test_the_pattern_finds_what_is_loaded():
    assert LOADED.search('<link rel="stylesheet" href="https://fonts.example/css">')
    assert LOADED.search("<script src=//cdn.example/x.js></script>")
    assert not LOADED.search('<a href="https://example.org/">there</a>')


def test_equations_are_mathml(site):
    for path in PAGES:
        equations = sum(block.kind == "math" for block in blocks(path))
        assert page(site, path.stem).count("<math") == equations, path.name
    assert page(site, "pipeline").count("<math") >= 5


def test_every_public_name_has_its_docstring(site):
    html = page(site, "api") + page(site, "api-data")
    for name in set(subcam.__all__) - {"__version__", "hub"}:
        assert re.search(rf'id="subcam\.[\w.]+\.{name}"', html), name
    assert 'id="subcam.hub.folder.load"' in html
    assert "discover_subcategories</span>" in html, "no signature"


def test_no_markdown_is_left(site):
    """A list without an empty line before it keeps its dashes, a fence that is not understood its ticks."""
    for path in PAGES:
        assert not re.search(r"<p>[^<]*(?:\n- |```)", page(site, path.stem)), path.name


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(site):
    """Where a web server on this machine has the site."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_pages_fit_desk_and_phone_and_ask_for_nothing_elsewhere(site, address, browser):
    asked, wrong = set(), []
    tab = browser.new_page()
    tab.on("request", lambda request: asked.add(request.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    for path in sorted(site.glob("*.html")):
        tab.goto(f"{address}/{path.name}")
        for size, width in SIZES.items():
            tab.set_viewport_size({"width": width, "height": 900})
            if tab.evaluate(IS_WIDER):
                wrong.append(f"{path.name} is wider than a {size}")
    tab.close()
    assert not wrong
    assert len(asked) > len(PAGES)
    assert [url for url in asked if not url.startswith((address, "data:", f"blob:{address}"))] == []


@pytest.mark.slow
def test_search_finds_a_page(address, browser):
    from playwright import sync_api

    tab = browser.new_page(viewport={"width": SIZES["desk"], "height": 900})
    tab.goto(f"{address}/index.html")
    found = tab.locator(".md-search-result__link").first
    for _ in range(10):  # what is typed before the page listens is lost
        tab.locator(".md-search__input").fill("")
        tab.locator(".md-search__input").press_sequentially("pydensecrf")
        try:
            found.wait_for(timeout=6000)
            break
        except sync_api.TimeoutError:
            continue
    assert "refine.html" in tab.locator(".md-search-result__list").inner_html()
    tab.close()
