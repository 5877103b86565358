"""Two real processes that write one output at the same time: one wins whole, the other waits or is told."""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.readers.made_coco import image
from tests.export.made_masks import NAMES, write_made
from tests.forked import DONE, REFUSED, at_once, one_whole
from tests.test_results import record, written

from subcam.audit.dataset import audit_dataset
from subcam.commands import evaluate
from subcam.data.check import check_images
from subcam.data.dataset import Dataset
from subcam.data.decoded_cache import DecodedImages
from subcam.data.images import read_image
from subcam.data.labels.from_folders_and_tags import LabelledImage
from subcam.data.labels.label_csv import write_label_table
from subcam.data.readers.folder import read_folder
from subcam.data.settings import DatasetSettings
from subcam.errors import RunFolderError
from subcam.export import coco, label_studio
from subcam.export.images import find_images
from subcam.export.mask_folder import MaskFolder, open_masks
from subcam.report import audit_page
from subcam.report.page import page
from subcam.runtime.files import write_json
from subcam.runtime.lock import hold

SLOWLY = 0.01
"""Seconds between the files of one writer, so that the other comes between them."""


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MaskFolder:
    write_made(tmp_path / "masks", unlabelled=False)
    for module in (coco, label_studio):
        really = module.regions_of
        monkeypatch.setattr(
            module, "regions_of", lambda *a, _really=really, **k: (time.sleep(SLOWLY), _really(*a, **k))[1]
        )
    return open_masks(tmp_path / "masks")


def classes(masks: MaskFolder, letter: str) -> MaskFolder:
    """The same masks, their classes called after one writer."""
    return MaskFolder(root=masks.root, files=masks.files, class_names=tuple(f"{letter}{name}" for name in NAMES))


EXPORTS: dict[str, tuple[Callable[..., object], list[str]]] = {
    "coco": (coco.export_coco_rle, ["annotations.json", "results.json"]),
    "panoptic": (coco.export_coco_panoptic, ["panoptic.json"]),
    "label studio": (label_studio.export_label_studio, ["interface.xml", "tasks.json"]),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_two_exports_into_one_folder(kind: str, masks: MaskFolder, tmp_path: Path) -> None:
    export, expected = EXPORTS[kind]
    images, out = find_images(masks.files, None), tmp_path / "out"
    ends = at_once(*(lambda letter=letter: export(classes(masks, letter), out, images=images) for letter in "AB"))
    assert one_whole(ends)
    assert [name for name in files(out) if "/" not in name] == expected
    said = "".join((out / name).read_text("utf-8") for name in expected)
    found = set(re.findall(r"[AB](?=cat\b)", said))
    assert len(found) == 1, "one wins whole"


def test_two_reports_of_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they draw is left aside; the door and the lock are those of every report."""
    written(tmp_path / "run", record())
    image(tmp_path / "images" / "a.png", (20, 20))
    (tmp_path / "images" / "labels.csv").write_text("image,labels\na.png,cat\n")
    checked = check_images(read_folder(tmp_path / "images"))
    dataset = Dataset(train=checked, scored={})

    def write(run: object, images: object, out: Path, most: int) -> Path:
        for number in range(10):
            write_json(out / "tables" / f"{number}.json", most)
            time.sleep(SLOWLY)
        return out / "index.html"

    monkeypatch.setattr(page, "_write", write)
    ends = at_once(*(lambda n=n: page.write_report(tmp_path / "run", images=n, dataset=dataset) for n in (1, 2)))
    assert one_whole(ends)
    report = tmp_path / "run" / "report"
    assert len({(report / name).read_text() for name in files(report)}) == 1
    assert files(report) == [f"tables/{number}.json" for number in range(10)]


def test_two_pages_of_an_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    audits = []
    for letter in "AB":
        root = tmp_path / letter
        image(root / "a.png", (20, 20))
        (root / "labels.csv").write_text(f"image,labels\na.png,of{letter}\n")
        audits.append(audit_dataset(DatasetSettings(root=str(root)), work_folder=root / "work", workers=1))
    really = audit_page.write_json
    monkeypatch.setattr(audit_page, "write_json", lambda *given: (really(*given), time.sleep(10 * SLOWLY)))
    assert one_whole(
        at_once(*(lambda audit=audit: audit_page.write_audit(audit, tmp_path / "out") for audit in audits))
    )
    assert files(tmp_path / "out") == ["audit.json", "index.html"]
    said = "".join((tmp_path / "out" / name).read_text("utf-8") for name in files(tmp_path / "out"))
    assert len(set(re.findall(r"\bof[AB]\b", said))) == 1


def test_two_tables_of_labels(tmp_path: Path) -> None:
    """Each writes many times; whoever reads meanwhile reads one of the two whole."""
    path, texts = tmp_path / "labels.csv", set()
    image(tmp_path / "a.png", (20, 20))
    tables = [[LabelledImage(image="a.png", names=(letter * 3000,))] for letter in "AB"]
    for table in tables:
        write_label_table(path, table, root=tmp_path, overwrite=True)
        texts.add(path.read_bytes())

    def write(table: list[LabelledImage]) -> None:
        for _ in range(20):
            write_label_table(path, table, root=tmp_path, overwrite=True)
            assert path.read_bytes() in texts

    assert at_once(*(lambda table=table: write(table) for table in tables)) == [DONE, DONE]
    assert path.read_bytes() in texts
    assert files(tmp_path) == ["a.png", "labels.csv"]


def test_two_sets_of_scores(masks: MaskFolder, tmp_path: Path) -> None:
    from subcam.export.mask_folder import evaluate as score

    def write(letter: str) -> None:
        words = {"predictions": masks.root, "truth": masks.root, "out": tmp_path / "out"}
        names = tuple(f"{letter}{name}" for name in NAMES)
        result = score(predictions=masks.root, truth=masks.root, classes=names, truth_classes=names)
        evaluate.write_scores(tmp_path / "out", result, evaluate.Arguments(**words))  # type: ignore[arg-type]

    assert one_whole(at_once(lambda: write("A"), lambda: write("B")))
    assert files(tmp_path / "out") == ["confusion.csv", "scores.csv", "scores.json"]
    said = "".join((tmp_path / "out" / name).read_text("utf-8") for name in files(tmp_path / "out"))
    assert len(set(re.findall(r"[AB](?=cat\b)", said))) == 1


def test_one_cache_of_decoded_images(tmp_path: Path) -> None:
    kept, paths = DecodedImages(folder=tmp_path / "decoded"), [tmp_path / f"{number}.png" for number in range(6)]
    rng = np.random.default_rng(0)
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)).save(path)

    def fill(order: list[Path]) -> None:
        for path in order:
            np.testing.assert_array_equal(kept.read(path), read_image(path))

    assert at_once(lambda: fill(paths), lambda: fill(paths), lambda: fill(paths[::-1])) == [DONE] * 3
    assert len(files(tmp_path / "decoded")) == len(paths)
    fill(paths)


def test_what_one_knows_of_files_that_were_checked(tmp_path: Path) -> None:
    for number in range(8):
        image(tmp_path / f"{number}.png", (20, 20))
    lines = [f"{number}.png,cat" for number in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,labels", *lines]))
    cache = tmp_path / "checked-files.json"
    images = read_folder(tmp_path)
    assert at_once(*[lambda: check_images(images, cache=cache, workers=1)] * 3) == [DONE] * 3
    assert len(json.loads(cache.read_text())["files"]) == 8


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    with hold(tmp_path / "out", leave=False):
        yield tmp_path / "out"
    assert list((tmp_path / "out").iterdir()) == [], "no lock stays in a folder for other programs"


def test_who_comes_second_is_told_who_is_first(
    held: Path, masks: MaskFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    assert at_once(lambda: coco.export_coco_rle(masks, held, images=find_images(masks.files, None))) == [REFUSED]
    assert f"{held} is in use by process" in capfd.readouterr().out


def test_a_lock_that_was_taken_away_holds_nobody(tmp_path: Path) -> None:
    """Hundreds of turns of three: whoever opened the file of the one before does not come in beside the next."""
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count() -> None:
        turns = 0
        while turns < 40:
            with contextlib.suppress(RunFolderError), hold(tmp_path / "out", leave=False):
                before = int(counter.read_text())
                time.sleep(0)
                counter.write_text(str(before + 1))
                turns += 1

    works: list[Any] = [count] * 3
    assert at_once(*works) == [DONE] * 3
    assert counter.read_text() == "120"
