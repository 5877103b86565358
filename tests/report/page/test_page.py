"""The page as a file: what is packed comes back, the size holds, nothing is fetched, and its words are true."""

import base64
import csv
import io
import json
import re
import shutil
import zlib
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from jinja2 import Environment
from matplotlib.figure import Figure
from PIL import Image
from report.legible import said

from subcam.cli import main
from subcam.data.images import read_mask
from subcam.errors import RunFolderError
from subcam.report.gather.images import ImageRecord, Images, final_segmentation, image_iou
from subcam.report.page.content import _finals, script_json
from subcam.report.page.figures import PageFigure, file_name, inline_svg, kind_of, number_figures
from subcam.report.page.headline import headline
from subcam.report.page.packing import pack, pack_images, packed_bytes
from subcam.report.page.page import IMAGES_BUDGET, MOST_CLUSTER_IMAGES, write_report
from subcam.results import open_images, read_run

MOST_BYTES = 15_000_000


def unpacked(text: str, width: int) -> np.ndarray:
    """The slow opposite of `packed_bytes`."""
    values = list(zlib.decompress(base64.b64decode(text)))
    for place in range(len(values)):
        before = 0 if not place else values[place - 1] if place % width else values[place - width]
        values[place] = (values[place] + before) % 256
    return np.array(values, np.uint8).reshape(-1, width)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (13, 9)])
def test_packed_bytes_come_back(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(unpacked(packed_bytes(values), shape[1]), values)


def test_a_packed_image_has_its_truth_and_masks(gathered: Images) -> None:
    record = gathered.shown[0]
    packed = pack(record, 384)
    assert (packed.width, packed.height) == (48, 48)
    assert packed.data["classes"] == [label + 1 for label in record.labels]
    np.testing.assert_array_equal(unpacked(packed.data["truth"], 48), record.read_truth())
    for what, path in record.masks.items():
        np.testing.assert_array_equal(unpacked(packed.data["masks"][what], 48), read_mask(path, tuple(range(256))))
    assert len(packed.data["maps"]) == 2
    assert packed.size < len(json.dumps(packed.data)) + len(packed.thumbnail)
    name, truth = final_segmentation(record.masks), record.read_truth()
    assert truth is not None
    assert packed.final_iou == image_iou(record.read_own_mask(name), truth, num_classes=6)
    assert packed.final_iou is not None
    small = pack(record, 24)
    assert small.final_iou == packed.final_iou  # at full size, whatever the thumbnail's
    assert (small.width, small.height) == (24, 24)
    assert max(small.data["grid"]) <= 8


@pytest.mark.parametrize("count", [5, 9, 10, 11, 20])
def test_figure_7_shows_no_image_twice(gathered: Images, count: int) -> None:
    finals = _finals([pack(record, 24) for record in gathered.shown[:count]])
    shown = [final["image"] for final in finals]
    assert len(shown) == len(set(shown)) == min(count, 9)
    ious = [float(final["story"].removeprefix("IoU ")) for final in finals]
    assert ious == sorted(ious, reverse=True)


def noisy(tmp_path: Path, count: int) -> list[ImageRecord]:
    """Photographs that do not compress."""
    rng = np.random.default_rng(0)
    records = []
    for index in range(count):
        path = tmp_path / f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(path)
        records.append(
            ImageRecord(
                name=path.stem,
                split="",
                image=path,
                truth=None,
                mask_values=(),
                labels=(0,),
                maps=(None,),
                masks={},
            )
        )
    return records


def test_images_fit_into_their_budget(tmp_path: Path) -> None:
    records = noisy(tmp_path, 4)
    large = pack_images(records, budget=10**9)
    assert {max(image.width, image.height) for image in large} == {384}
    needed = sum(image.size for image in large)
    smaller = pack_images(records, budget=needed // 2)
    assert len(smaller) == 4
    assert sum(image.size for image in smaller) <= needed // 2
    least = sum(pack(record, 112).size for record in records)
    few = pack_images(records, budget=least // 2)
    assert 0 < len(few) < 4
    assert sum(image.size for image in few) <= least // 2
    assert pack_images([], budget=10) == ()


def test_the_page_is_small_and_loads_nothing(report_page: Path, gathered: Images) -> None:
    """Images have a budget (`pack_images`) and those of clusters a number; all else fits into what is left."""
    text = report_page.read_text("utf-8")
    images = sum(len(uri) for uri in re.findall(r'src="data:image/webp[^"]*"', text))
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert data
    rest = report_page.stat().st_size - images - len(data[1])
    assert rest + IMAGES_BUDGET + 4000 * MOST_CLUSTER_IMAGES <= MOST_BYTES
    assert text.count('<article class="card"') == gathered.total
    sources = re.findall(r"""\b(?:src|srcset|poster|action|data)=["']([^"']{0,20})""", text)
    assert sources
    assert all(source.startswith("data:") for source in sources)
    outward = [link for link in re.findall(r"""\bhref=["']([^"']+)""", text) if not link.startswith(("#", "data:"))]
    assert outward
    assert all((report_page.parent / unquote(link)).is_file() for link in outward)  # followed, never loaded
    assert not re.search(r"@import|\beval\(|new Function|url\((?!#|data:)", text)


def test_ids_are_unique(report_page: Path) -> None:
    ids = re.findall(r'\bid="([^"]+)"', report_page.read_text("utf-8"))
    assert sorted(ids) == sorted(set(ids))


def test_any_name_of_a_class_becomes_a_name_of_a_file() -> None:
    assert file_name("Potted plant (2)") == "potted-plant-2"
    odd = ["猫", "犬", "", "../../x\n", "a" * 300, "a" * 301, "\ud800", "Ä", "ä"]
    names = [file_name(name) for name in odd]
    assert len(set(names)) == len(odd)
    assert all(re.fullmatch(r"[a-z0-9-]{1,100}", name) for name in names)


def test_every_figure_and_table_is_a_file_of_each_kind(report_page: Path) -> None:
    figures = {path.stem for path in (report_page.parent / "figures").iterdir()}
    assert figures >= {
        "figure-3-responses",
        "figure-4-subcategories-1",
        "figure-5-01-ringtail",
        "figure-6-weights",
        "figure-7-segmentation",
        "thresholds-val",
        "confusion-val",
        "training-classify",
        "training-affinity",
        "cost",
    }
    for name in figures:
        with Image.open(report_page.parent / "figures" / f"{name}.png") as drawn:
            drawn.load()
        ElementTree.parse(report_page.parent / "figures" / f"{name}.svg")
    tables = {path.name for path in (report_page.parent / "tables").iterdir()}
    assert tables == {f"table-{name}.{kind}" for name in ("1", "2", "3-val", "4") for kind in ("csv", "md", "tex")}


def test_numbers_on_the_page_are_those_of_the_run(report_page: Path, finished_run: Path) -> None:
    text = report_page.read_text("utf-8")
    rounds = json.loads((finished_run / "run.json").read_text("utf-8"))["rounds"]
    plain, last = (rounds[index]["scores"]["val"]["fixed"]["miou"] for index in (0, 1))
    assert f'<span class="value">{100 * plain:.1f} ' in text
    assert f'<span class="value">{100 * last:.1f} ' in text
    assert f"{abs(100 * (last - plain)):.1f} points {'above' if last > plain else 'below'} plain CAM" in text
    (address,) = re.findall(r'href="(data:[^"]+)" download="table-2.csv"', text)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(address.partition(",")[2]).decode())))
    assert [float(row["mIoU"]) for row in rows[:2]] == [pytest.approx(plain), pytest.approx(last)]


def test_figure_4_says_the_fewest_seeds_of_its_points(finished_run: Path) -> None:
    figure = next(one for one in number_figures(read_run(finished_run)) if one.name == "figure-4-subcategories-1")
    assert "sub-categories, mean and std. dev. of 2 seeds" in said(figure.figure)
    assert "CAM (55.0)" in said(figure.figure)


def test_no_control_is_said(finished_run: Path) -> None:
    run = read_run(finished_run)
    assert "the control, which was trained equally long" in headline(run).verdict
    alone = replace(run, result=replace(run.result, rounds=run.result.rounds[:2]))
    assert "no control" in headline(alone).verdict
    unscored = replace(run, result=replace(run.result, rounds=(replace(run.result.rounds[0], scores={}),)))
    assert "nothing is scored" in headline(unscored).verdict


def a_figure(title: str, *, follows_theme: bool) -> PageFigure:
    return PageFigure(name="cost", figure=Figure(), title=title, caption="", follows_theme=follows_theme)


def test_names_of_users_cannot_leave_their_place() -> None:
    hostile = '</script><b onclick="x">&\''
    embedded = script_json({"masks": {hostile: ""}})
    assert "<" not in embedded
    assert json.loads(embedded) == {"masks": {hostile: ""}}
    svg = inline_svg('<?xml version="1.0"?><svg width="1"></svg>', a_figure(hostile, follows_theme=False))
    assert ElementTree.fromstring(svg).get("aria-label") == hostile
    assert Environment(autoescape=True).from_string("{{ x }}").render(x=hostile).count("<") == 0


def test_ids_of_drawings_are_made_their_own() -> None:
    svg = '<?xml?><svg w="1"><path id="p"/><use xlink:href="#p" clip-path="url(#c)"/><clipPath id="c"/></svg>'
    found = inline_svg(svg, a_figure("Cost", follows_theme=True))
    assert found.startswith("<svg")
    assert 'id="cost-p"' in found
    assert 'xlink:href="#cost-p"' in found
    assert "url(#cost-c)" in found
    assert 'id="cost-c"' in found
    coloured = '<svg w="1"><path style="fill: #000000; stroke: #0072b2"/><path style="fill: #ffffff"/></svg>'
    themed = inline_svg(coloured, a_figure("Cost", follows_theme=True))
    assert "fill: var(--ink); stroke: #0072b2" in themed
    assert "fill: var(--paper)" in themed
    assert "fill: #000000" in inline_svg(coloured, a_figure("Cost", follows_theme=False))


def test_stages_are_grouped_by_what_they_do(finished_run: Path) -> None:
    kinds = {cost.name: kind_of(cost) for cost in read_run(finished_run).stages}
    assert kinds["round1-control-classify"] == "classify (control)"
    assert kinds["round1-evaluate-masks-val"] == "evaluate"
    assert kinds["round1-walk"] == "walk"


@pytest.fixture
def bare_run(finished_run: Path, tmp_path: Path) -> Path:
    """Round 0 alone, in a folder that shares the stages and images of the other."""
    record = json.loads((finished_run / "run.json").read_text("utf-8"))
    bare = {**record, "rounds": record["rounds"][:1], "refined": [], "segment": []}
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(bare), "utf-8")
    for path in (finished_run / "stages", *finished_run.glob("toy-*")):
        (folder / path.name).symlink_to(path)
    return folder


def test_nothing_is_written_through_a_link_in_the_place_of_the_report(bare_run: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    run = tmp_path / "run"
    shutil.copytree(bare_run, run, ignore=shutil.ignore_patterns("report"))
    (run / "report").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunFolderError, match=r"report is a link that leads out of"):
        write_report(run)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_run_without_masks_or_later_rounds_has_a_page(bare_run: Path) -> None:
    record = json.loads((bare_run / "run.json").read_text("utf-8"))
    record["rounds"][0]["scores"] = {}
    (bare_run / "unscored.json").write_text(json.dumps(record), "utf-8")
    dataset = open_images(read_run(bare_run))
    val = dataset.scored["val"]
    without = tuple(replace(one, mask=None) for one in val.image_set.records)
    unscored = replace(val, image_set=replace(val.image_set, records=without))
    dataset = replace(dataset, train=unscored, scored={})
    text = write_report(bare_run, images=3, dataset=dataset, record="unscored.json").read_text("utf-8")
    assert text.count('<article class="card"') == 3
    assert "There are no true masks to compare with" in text
    assert 'id="tables"' not in text
    assert 'class="truth"' not in text
    assert 'class="round"' not in text
    assert not (bare_run / "report" / "tables").exists()


def test_the_command_writes_the_page(bare_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(bare_run), "--out", str(bare_run / "page"), "--images", "2"]) == 0
    assert "index.html" in capsys.readouterr().out
    text = (bare_run / "page" / "index.html").read_text("utf-8")
    assert text.count('<article class="card"') == 2
    assert "2 of 40 images: evenly spaced" in text
    assert main(["report", str(bare_run / "none")]) == 2
    assert "holds no finished run" in capsys.readouterr().err
    assert main(["report", str(bare_run), "--images", "0"]) == 2
    assert "--images: expected a whole number from 1 to" in capsys.readouterr().err
