"""Files that subcam wrote and reads back, with every key taken out or put to another type: one error, or made anew.

Each file is written by its own writer, and read by all who read it. What still can be read is read as before.
"""

import contextlib
import copy
import hashlib
import itertools
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from tests.data.readers.test_any_bytes import table
from tests.predict.saved_network import save_tiny_network
from tests.test_results import record, written

from subcam import SubCategoryCAM, hub
from subcam.cam.settings import CamSettings, read_maps_file, write_maps_file
from subcam.crf.settings import CRFSettings
from subcam.data.check import check_images
from subcam.download import archive_folder, published_sets, transfer, voc_augmented
from subcam.download.sources import Archive
from subcam.errors import SubcamError
from subcam.export.mask_folder import _of_run as masks_of_run
from subcam.networks.networks_of_run import segmentation_of_run
from subcam.predict.folder import check_same
from subcam.predict.settings import InferenceSettings
from subcam.report.gather.ablation import Summary, read_summary
from subcam.report.page.headline import headline
from subcam.report.tables.formats import markdown_table
from subcam.report.tables.tables import tables_of
from subcam.results import read_run
from subcam.run_files.shown import _shown
from subcam.runtime.files import write_json
from subcam.runtime.lock import Holder, hold

OTHERS: tuple[Any, ...] = (None, True, -7, 10**40, 10**400, 0.5, "x", [], ["x"], {}, {"x": 1}, [[[[1]]]])
"""What is put in the place of a value."""

Made = tuple[Path, Callable[[], object]]
"""A file, and what reads it and says what it read."""


def run(root: Path) -> Made:
    written(root, record())

    def read() -> object:
        found = read_run(root)
        tables = [markdown_table(table) for table in tables_of(found.result)]
        return found, tables, headline(found), masks_of_run(root), segmentation_of_run(root)

    return root / "run.json", read


def stage(root: Path) -> Made:
    path, read = run(root)
    return next(path.parent.glob("stages/*/stage.json")), read


def ablation(root: Path) -> Made:
    one = Summary(grid={"discover.num_subcategories": 2}, split="val", what="maps: round 1", mean=0.5, std=None, n=1)
    write_json(root / "ablate.json", {"runs": [], "failed": [], "summary": [one], "notes": ["n"]})
    return root / "ablate.json", lambda: read_summary(root)


def maps(root: Path) -> Made:
    write_maps_file(root, CamSettings(), 0.2)
    return root / "response_maps.json", lambda: read_maps_file(root)


def masks(root: Path) -> Made:
    how = {"source": "maps", "crf_alpha": 4.0, "crf": CRFSettings(), "inference": InferenceSettings()}
    write_json(root / "masks.json", how)

    def read() -> object:
        model = SubCategoryCAM()
        model._take_masks_file(root)
        return model.source_, model.settings.refine.masks, model.settings.segment.predict

    return root / "masks.json", read


def network(root: Path) -> Made:
    save_tiny_network(root)
    return root / "config.json", lambda: hub.load(root).config  # type: ignore[union-attr]


def predictions(root: Path) -> Made:
    made_with = {"model": "m", "sha256": "0", "settings": {"scales": [1.0]}}
    check_same(root, made_with)
    return root / "predict.json", lambda: check_same(root, made_with)


def shown(root: Path) -> Made:
    write_json(root / "index.json", ["a.png", "b.png"])
    return root / "index.json", lambda: sorted(_shown(root / "index.json"))


def checked(root: Path) -> Made:
    _, read = table(root)
    cache = root / "checked-files.json"
    check_images(read(), cache=cache)  # type: ignore[arg-type]
    return cache, lambda: check_images(read(), cache=cache)  # type: ignore[arg-type]


ARCHIVE = Archive(
    name="a.tar",
    urls=(),
    size=3,
    sha256=hashlib.sha256(b"abc").hexdigest(),
    needed_bytes=1,
    most_bytes=1,
    most_members=1,
)


def receipt(root: Path) -> Made:
    (root / "a.tar").write_bytes(b"abc")
    archive_folder.have(ARCHIVE, root)

    def read() -> object:
        if not (root / "a.tar").is_file():  # it was discarded
            (root / "a.tar").write_bytes(b"abc")
        return archive_folder.have(ARCHIVE, root), archive_folder.discard(ARCHIVE, root)

    return root / ".subcam" / "a.tar.json", read


def unpacked(root: Path) -> Made:
    (root / "JPEGImages").mkdir()
    content = {**ARCHIVE.checksums, "archive": "0", "folders": {"JPEGImages": 0}}
    write_json(root / ".subcam" / "a.tar.unpacked.json", content)
    return root / ".subcam" / "a.tar.unpacked.json", lambda: published_sets._is_unpacked(ARCHIVE, root)


def augmented(root: Path) -> Made:
    voc = root / "voc"
    list_file = voc_augmented._list_file(voc, voc_augmented.LIST)
    list_file.parent.mkdir(parents=True)
    list_file.write_text("a")
    path = voc / voc_augmented.MASKS / voc_augmented.RECEIPT
    write_json(path, voc_augmented.Augmented(names=1, masks=1, masks_of_sbd=0))
    return path, lambda: voc_augmented.made_before(voc)


def begun(root: Path) -> Made:
    path = root / "a.part.json"
    write_json(path, transfer.Offer(url="u", length=3, etag="e", last_modified=None))
    return path, lambda: transfer._read_offer(path)


def lock(root: Path) -> Made:
    holder = Holder(process=2**22 + 1, host=platform.node(), life="x")
    (root / ".lock").write_text(json.dumps(asdict(holder)))

    def read() -> None:
        with hold(root):
            pass

    return root / ".lock", read


FILES = (run, stage, ablation, maps, masks, network, predictions, shown, checked)
FILES += (receipt, unpacked, augmented, begun, lock)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there are values in a value from JSON; of a list of more than two the first and last."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from places(entry, (*path, key))
    elif isinstance(value, list):
        for index in {0, len(value) - 1} if value else ():
            yield from places(value[index], (*path, index))


def kind(value: Any) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def edited(whole: Any, *, all_of_them: bool) -> Iterator[tuple[str, Any, bool]]:
    """What was done, the values after it, and whether one is of another type now.

    all_of_them: every value at every place; else at places of the same last keys one, and one value in turn.
    """
    seen: set[tuple[Any, ...]] = set()
    turn = itertools.cycle(OTHERS)
    for path in places(whole):
        others = (KeyError, *(OTHERS if all_of_them else itertools.islice(turn, 1)))
        if path[-2:] in seen and not all_of_them:
            continue
        seen.add(path[-2:])
        for other in others:
            content = copy.deepcopy(whole)
            inner = content
            for key in path[:-1]:
                inner = inner[key]
            was = inner[path[-1]]
            if other is KeyError:
                del inner[path[-1]]
            else:
                inner[path[-1]] = other
            yield f"{path} -> {other!r:.20}", content, other is not KeyError and kind(other) != kind(was)


FREE = ("file", "clusters", "grid", "inputs", "std", "background_threshold", "etag", "last_modified", "length")
"""Keys under which values of several types are right."""

NOTHING = "None"
"""What is read where the file is made anew."""


def hold_against(make: Callable[[Path], Made], root: Path, *, all_of_them: bool) -> list[str]:
    """What is wrong with how the file is read after each edit."""
    path, read = make(root)
    text, whole = path.read_text("utf-8"), repr(read())
    faults = []
    for what, content, other_type in edited(json.loads(text), all_of_them=all_of_them):
        path.write_text(json.dumps(content), "utf-8")
        try:
            found = repr(read())
        except SubcamError as error:
            if str(path.parent) not in str(error):
                faults.append(f"{what}: {error}")
        except Exception as error:
            faults.append(f"{what}: {type(error).__name__}: {error}")
        else:
            if other_type and found not in (whole, NOTHING) and not any(f"'{key}'" in what for key in FREE):
                faults.append(f"{what}: read as {found[:300]}")
    return faults


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subcam.runtime.lock.LINGER_SECONDS", 0.0)


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_keys(make: Callable[[Path], Made], tmp_path: Path) -> None:
    assert hold_against(make, tmp_path, all_of_them=False) == []


@pytest.mark.thorough
@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_every_key(make: Callable[[Path], Made], tmp_path: Path) -> None:
    assert hold_against(make, tmp_path, all_of_them=True) == []


NO_JSON = ["", "[" * 100_000, '{"a": ' * 50_000, "1" * 5000, "nul", '"x"', "[]", "{}", "7", "\ufeff{}"]


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_what_is_no_such_file_at_all(make: Callable[[Path], Made], tmp_path: Path) -> None:
    path, read = make(tmp_path)
    for data in [*(text.encode() for text in NO_JSON), b"\xff\xfe\x00"]:
        path.write_bytes(data)
        with contextlib.suppress(SubcamError):
            read()
