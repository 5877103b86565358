"""Makes what documents show of a finished `subcam demo`: `python docs/make_images.py runs/toy`.

In: the run's folder, chromium and playwright. Out: docs/images/*.webp, the text after "made" marks in the pages, and
the outputs of docs/tour.ipynb. Nothing is chosen by how well it came out: the images are the first of the split val.
"""

import argparse
import base64
import contextlib
import io
import json
import re
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import matplotlib
import nbformat
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import font_manager
from nbclient import NotebookClient
from PIL import Image, ImageDraw, ImageFont

from subcam import cli
from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.images import read_image, read_indices
from subcam.data.overlay import overlay_mask
from subcam.results import FinishedRun, open_images, read_run

DOCS = Path(__file__).resolve().parent
IMAGES = DOCS / "images"
_SHOWN = 8
_SIDE = 128
_GAP = 6
_LEFT = 96
_QUALITY = 82
_ENTRIES = 5
_WINDOW = {"width": 1280, "height": 860}

Pixels = UInt8[np.ndarray, "h w 3"]


def hero(run: FinishedRun) -> Image.Image:
    """The first images of val: as they are, under plain CAM, and under the run's pseudo mask."""
    records = open_images(run).scored["val"].image_set.records[:_SHOWN]
    plain = run.mapped[0].responses.path
    rows: dict[str, list[Pixels]] = {"image": [], "plain CAM": [], "our mask": []}
    for record in records:
        image = read_image(record.image)
        maps = read_response_maps(maps_path(plain, record.name)).full_size()
        rows["image"].append(image)
        rows["plain CAM"].append(_heat(image, maps.max(0).clip(0, 1)))
        mask = read_indices(run.result.out / "masks" / f"{record.name}.png")
        rows["our mask"].append(overlay_mask(image, mask))
    return _grid(rows)


def _heat(image: Pixels, response: Float[np.ndarray, "h w"]) -> Pixels:
    colours = matplotlib.colormaps["magma"](response)[..., :3] * 255
    return np.rint(0.35 * image + 0.65 * colours).astype(np.uint8)


def _grid(rows: dict[str, list[Pixels]]) -> Image.Image:
    """Rows of images with their names at the left, each pixel twice as large, on white."""
    columns = max(map(len, rows.values()))
    size = (_LEFT + columns * (_SIDE + _GAP), len(rows) * (_SIDE + _GAP) + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 14)
    for line, (name, images) in enumerate(rows.items()):
        top = _GAP + line * (_SIDE + _GAP)
        draw.text((_GAP, top + _SIDE // 2), name, fill="black", font=font, anchor="lm")
        for place, image in enumerate(images):
            enlarged = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
            sheet.paste(enlarged, (_LEFT + place * (_SIDE + _GAP), top))
    return sheet


def screenshots(pages: dict[str, tuple[Path, str]]) -> None:
    """Write docs/images/NAME.webp for each page: its file, and the order of the gallery to show, "" for its top."""
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for name, (page, order) in pages.items():
            tab = browser.new_page(viewport=_WINDOW)
            tab.goto(page.resolve().as_uri())
            if order:
                tab.get_by_label(order, exact=True).check(force=True)
                tab.locator("#gallery-count").evaluate("element => scrollTo(0, element.offsetTop - 80)")
            tab.wait_for_timeout(800)
            with tempfile.NamedTemporaryFile(suffix=".png") as shot:
                tab.screenshot(path=shot.name)
                save(name, Image.open(shot.name))
            tab.close()
        browser.close()


def save(name: str, image: Image.Image) -> None:
    """Write docs/images/NAME.webp."""
    IMAGES.mkdir(exist_ok=True)
    image.convert("RGB").save(IMAGES / f"{name}.webp", quality=_QUALITY, method=6)


def mistaken_set(source: Path, out: Path) -> Path:
    """A copy of the generated images, twice as large, with some mistakes for `data check` to find."""
    shutil.copytree(source, out)
    for path in out.rglob("*.png"):
        with Image.open(path) as image:
            image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(path)
    images = sorted((out / "images").glob("train-*.png"))
    images[7].write_bytes(images[7].read_bytes()[:300])
    images[9].write_bytes(images[3].read_bytes())
    images[-1].with_name("train-99999.png").write_bytes(images[11].read_bytes())
    return out


def command(*words: str | Path) -> None:
    """One command of subcam."""
    status = cli.main([str(word) for word in words])
    if status not in (cli.EXIT_OK, 2):
        raise SystemExit(f"subcam {' '.join(map(str, words))}: status {status}")


def printed(*words: str | Path, first: str, last: str = "") -> str:
    """What a command prints, from the line that begins with `first` up to the one that begins with `last`, if any."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        command(*words)
    lines = [line.rstrip() for line in said.getvalue().splitlines()]
    begin = next(i for i, line in enumerate(lines) if line.startswith(first))
    end = next((i for i, line in enumerate(lines) if i > begin and last and line.startswith(last)), len(lines))
    return "\n".join(line for line in lines[begin:end] if line)


def write_listing(page: str, name: str, text: str) -> None:
    """Put a text into its place in a page: the block after the mark "<!-- made: NAME -->"."""
    path = DOCS / page
    mark = re.compile(rf"(<!-- made: {re.escape(name)} -->\n\n```text\n).*?(^```$)", re.MULTILINE | re.DOTALL)
    before = path.read_text("utf-8")
    if len(mark.findall(before)) != 1:
        raise SystemExit(f"{path}: expected one mark <!-- made: {name} --> before a text block")
    if not text.strip():
        raise SystemExit(f"{path}: expected something to show as {name}, got nothing")
    path.write_text(mark.sub(lambda found: f"{found[1]}{text.rstrip()}\n{found[2]}", before), "utf-8")


def files_of(folder: Path, *, most: int = 3) -> str:
    """The files below a folder, of each sub-folder and kind the first ones and how many more."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            groups.setdefault((path.parent.relative_to(folder), path.suffix), []).append(path)
    lines = []
    for (parent, _), paths in sorted(groups.items()):
        lines += [(parent / path.name).as_posix() for path in paths[:most]]
        if len(paths) > most:
            lines.append(f"{(parent / '...').as_posix()} {len(paths) - most} more")
    return "\n".join(lines)


def stages_of(folder: Path, *names: str) -> str:
    """The stages of a run whose folders begin with a name, each with what lies in it."""
    lines = []
    for stage in sorted(path for name in names for path in (folder / "stages").glob(f"{name}-??????????")):
        entries = sorted(f"{entry.name}{'/' * entry.is_dir()}" for entry in stage.iterdir())
        shown = entries if len(entries) <= _ENTRIES else [*entries[:_ENTRIES], "..."]
        lines += [f"{stage.name}/", f"    {'  '.join(shown)}"]
    return "\n".join(lines)


def shards_of(folder: Path) -> str:
    """The files of a folder of shards with their sizes, and what is in the first of them."""
    sizes = [f"{path.name}  {path.stat().st_size / 1e6:.1f} MB" for path in sorted(folder.glob("*.tar"))]
    with tarfile.open(min(folder.glob("*.tar"))) as tar:
        inside = [f"    {name}" for name in tar.getnames()[:3]]
    return "\n".join(["classes.txt", sizes[0], *inside, "    ...", *sizes[1:]])


def said_like(log: Path, pattern: str) -> str:
    """The lines of a run's log that match without the time before them, equal ones once."""
    lines = (re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in log.read_text("utf-8").splitlines())
    return "\n".join(dict.fromkeys(line for line in lines if re.match(pattern, line)))


def between(path: Path, first: str, lines: int) -> str:
    """Lines of a file from the first one that begins so."""
    text = path.read_text("utf-8").splitlines()
    start = next(index for index, line in enumerate(text) if line.startswith(first))
    return "\n".join([*text[start : start + lines], "..."])


def first_task(path: Path) -> str:
    """The first of Label Studio's tasks, the numbers of its masks left out."""
    task = json.loads(path.read_text("utf-8"))[0]
    regions, task["predictions"][0]["result"] = task["predictions"][0]["result"], "regions"
    for region in regions:
        region["value"]["rle"] = "..."
    listed = ",\n  ".join(map(json.dumps, regions))
    return json.dumps(task).replace('"regions"', f"[\n  {listed}]")


def _head(path: Path, lines: int, keep: Callable[[str], str] = str) -> str:
    return "\n".join([*map(keep, path.read_text("utf-8").splitlines()[:lines]), "..."])


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished `subcam demo`")
    folder = parser.parse_args().run.resolve()
    execute_tour()
    run = read_run(folder)
    save("hero", hero(run))
    images = next(folder.glob("toy-*"))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        command("report", folder)
        mistaken_set(images, work / "my-images")
        shutil.copytree(folder, work / "runs" / "toy")
        with contextlib.chdir(work):
            write_listings_of_runs(images)
        some = work / "images"
        some.mkdir()
        for path in sorted((images / "images").glob("val-*.png"))[:_SHOWN]:
            shutil.copy(path, some)
        command("predict", folder, some, "--out", work / "predictions")
        command("export", "label-studio", folder, "--worst", "5", "--out", work / "tasks")
        command("export", "hub", folder, "--out", work / "toy", "--license", "cc0-1.0")
        command("data", "shards", images, "--out", work / "shards")
        screenshots(
            {
                "report": (folder / "report" / "index.html", ""),
                "least-certain": (folder / "report" / "index.html", "least certain"),
                "check": (work / "check" / "index.html", ""),
            }
        )
        save("predictions", _grid({"image": _read(some), "prediction": _overlaid(some, work / "predictions")}))
        write_listing("corrections.md", "masks.csv", _head(folder / "masks" / "masks.csv", 4, lambda line: line[:110]))
        write_listing("segment.md", "predictions", files_of(work / "predictions", most=2))
        write_listing("export.md", "tasks", first_task(work / "tasks" / "tasks.json"))
        list_run(folder)
        write_listing("scale.md", "shards", shards_of(work / "shards"))
        card = (work / "toy" / "README.md").read_text("utf-8").split("---\n")[-1].strip()
        write_listing("hub.md", "card", "\n".join([*card.splitlines()[:5], "..."]))


def list_run(folder: Path) -> None:
    """The listings that show the run's folder itself."""
    rounds = ("round1-discover", "round1-classify", "round1-cam", "round1-evaluate-val")
    write_listing("pipeline.md", "stages", stages_of(folder, *rounds))
    refined = [f"round3-{name}" for name in ("crf", "affinity", "walk", "masks", "evaluate-masks-val")]
    write_listing("refine.md", "stages", stages_of(folder, *refined))
    write_listing("recipes.md", "config.toml", between(folder / "config.toml", "recipe =", 5))
    write_listing("thresholds.md", "thresholds", said_like(folder / "run.log", r"round\d-evaluate-val: threshold"))


def write_listings_of_runs(images: Path) -> None:
    """What commands print that begin with the demo: in a folder that holds my-images and a copy of it in runs/toy."""
    said = printed("data", "check", "my-images", "--out", "check", first="STOPS A RUN")
    write_listing("data-check.md", "check", said)
    words = ["refine", "--maps", "runs/toy", "--data", images, "--out", "runs/crf"]
    words += ["--refine.no-random-walk", "--refine.masks.pseudo-mask", "crf"]
    write_listing("own-maps-and-masks.md", "refine", printed(*words, first="Table 1").replace(str(images), "my-images"))
    grid = ["--grid", "evaluate.background_threshold=auto,0.3"]
    said = printed("ablate", "toy", "--out", "runs/toy", *grid, first="Response maps, val", last="Response maps, best")
    write_listing("ablate.md", "ablate", said)


def execute_tour() -> None:
    """Store the notebook with its outputs, images in 64 colours, without what tells when and where it ran."""
    path = DOCS / "tour.ipynb"
    tour = nbformat.read(path, as_version=4)
    NotebookClient(tour, timeout=900, kernel_name="python3").execute()
    for cell in tour.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [_stored(output) for output in cell.outputs if _is_lasting(output)]
    tour.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    nbformat.write(tour, path)


def _is_lasting(output: nbformat.NotebookNode) -> bool:
    """Whether an output is printed or drawn by the cell; progress, which names folders and times, is neither."""
    return output.get("name") == "stdout" or "image/png" in output.get("data", {})


def _stored(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    output.get("metadata", {}).clear()
    data = output.get("data", {})
    if "image/png" in data:
        data.pop("text/plain", None)
        small = io.BytesIO()
        with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as image:
            image.convert("RGB").quantize(64).save(small, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(small.getvalue()).decode()
    return output


def _read(folder: Path) -> list[Pixels]:
    return [read_image(path) for path in sorted(folder.glob("*.png"))]


def _overlaid(images: Path, predictions: Path) -> list[Pixels]:
    return [
        overlay_mask(read_image(path), read_indices(predictions / "masks" / path.name))
        for path in sorted(images.glob("*.png"))
    ]


if __name__ == "__main__":
    main()
