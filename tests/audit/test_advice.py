"""What `data check` advises, followed to the letter: the finding is gone, nothing new stops a run, the set opens."""

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.audit.test_dataset import SIZE, Rows, labelled, made
from tests.audit.test_dataset import healthy as many_rows
from tests.data.readers.made_coco import image

from subcam.audit.dataset import Audit, audit_dataset
from subcam.commands.data.labels import labels
from subcam.data.dataset import open_dataset
from subcam.data.images import voc_palette, write_mask
from subcam.data.settings import DatasetSettings

Changes = dict[str, object]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images of a class are enough here."""
    monkeypatch.setattr("subcam.audit.labels.FEW", 3)


def healthy() -> Rows:
    return {name: row for name, row in many_rows().items() if int(name[1:]) < 12}


def edit(root: Path, before: str, after: str) -> None:
    text = (root / "labels.csv").read_text()
    assert before in text
    (root / "labels.csv").write_text(text.replace(before, after))


def add(root: Path, *lines: str) -> None:
    with (root / "labels.csv").open("a") as file:
        file.writelines(f"\n{line}" for line in lines)


def rarely(root: Path) -> None:
    made(root, healthy() | {"r": ("rare", "train"), "s": ("cat;rare", "train")})


def never(root: Path) -> None:
    made(root, healthy())
    (root / "classes.txt").write_text("cat\ndog\nnever seen\n")


def many(root: Path) -> None:
    made(root, healthy())
    add(root, *(f"more/{place}.png,c{place},train" for place in range(255)))
    for place in range(255):
        (root / "images" / "more").mkdir(exist_ok=True)
        (root / "images" / "more" / f"{place}.png").write_bytes((root / "images" / "t0.png").read_bytes())


def always(root: Path) -> None:
    rows: Rows = {name: ("cat", split) for name, (_, split) in healthy().items()}
    made(root, rows)


def together(root: Path) -> None:
    made(root, {name: ("cat;dog" if "dog" in shown else shown, split) for name, (shown, split) in many_rows().items()})


def copied(first: str, second: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        made(root, healthy())
        (root / "images" / second).write_bytes((root / "images" / first).read_bytes())

    return make


def without(name: str, row: str) -> Callable[[Path], None]:
    def mend(root: Path) -> None:
        (root / "images" / name).unlink()
        edit(root, f"{row}\n", "")

    return mend


def bad_entry(root: Path) -> None:
    made(root, healthy())
    add(root, "gone.png,cat,train")


def bad_image(root: Path) -> None:
    made(root, healthy())
    (root / "images" / "t0.png").write_bytes(b"no image")


def masks(root: Path) -> None:
    made(root, healthy(), mask=labelled)
    (root / "classes.txt").write_text("cat\ndog\n")


def third_value(root: Path) -> None:
    masks(root)
    write_mask(root / "masks" / "t0.png", np.full(SIZE, 3, np.uint8), palette=voc_palette())


def colours(root: Path) -> None:
    masks(root)
    Image.fromarray(np.full((*SIZE, 3), 77, np.uint8)).save(root / "masks" / "t0.png")


def small_mask(root: Path) -> None:
    masks(root)
    write_mask(root / "masks" / "t0.png", labelled("t0")[::2, ::2], palette=voc_palette())


def drawn_anew(root: Path) -> None:
    write_mask(root / "masks" / "t0.png", labelled("t0"), palette=voc_palette())


def two_values(root: Path) -> None:
    made(root, {f"t{place}": ("cat" * (place % 2), "train") for place in range(12)})
    for place in range(12):
        mask = np.zeros(SIZE, np.uint8)
        mask[:30] = 255 * (place % 2)
        write_mask(root / "masks" / f"t{place}.png", mask, palette=voc_palette())


def unlabelled_pixels(root: Path) -> None:
    masks(root)
    edit(root, "t2.png,cat;dog", "t2.png,cat")


def misnamed(root: Path) -> None:
    made(root, healthy())
    Image.open(root / "images" / "t0.png").save(root / "images" / "t0.png", "JPEG")


def renamed(root: Path) -> None:
    (root / "images" / "t0.png").rename(root / "images" / "t0.jpg")
    edit(root, "t0.png", "t0.jpg")


def unlisted(root: Path) -> None:
    made(root, healthy())
    image(root / "images" / "more" / "extra.jpg", SIZE)


def unread(root: Path) -> None:
    made(root, healthy())
    (root / "images" / "raw.psd").write_bytes(b"8BPS")


def converted(root: Path) -> None:
    (root / "images" / "raw.psd").unlink()
    image(root / "images" / "raw.png", SIZE)
    add(root, "raw.png,cat,train")


def nothing(root: Path) -> None:
    pass


def negatives(root: Path) -> None:
    for place in range(6):
        image(root / "images" / f"n{place}.png", SIZE)
    add(root, *(f"n{place}.png,,train" for place in range(6)))


SKIP: Changes = {"on_bad_input": "skip"}

CASES: dict[str, tuple[str, Callable[[Path], None], str, Callable[[Path], None], Changes]] = {
    "class-few, left out": ("class-few", rarely, "--dataset.classes", nothing, {}),
    "class-few, one name": ("class-few", rarely, "the same name", lambda root: edit(root, "rare", "dog"), {}),
    "class-empty, left out": ("class-empty", never, "--dataset.classes", nothing, {}),
    "classes-too-many": ("classes-too-many", many, "Choose some", nothing, {"classes": ("dog", "cat")}),
    "class-everywhere": ("class-everywhere", always, "an empty cell", negatives, {}),
    "classes-together": ("classes-together", together, "the same name", lambda root: edit(root, "cat;dog", "cat"), {}),
    "duplicate": ("duplicate", copied("t0.png", "t3.png"), "delete", without("t3.png", "t3.png,cat,train"), {}),
    "duplicate-contradicts": (
        "duplicate-contradicts",
        copied("t2.png", "t1.png"),
        "delete",
        without("t1.png", "t1.png,dog,train"),
        {},
    ),
    "leak": ("leak", copied("t0.png", "v0.png"), "take them out", without("v0.png", "v0.png,cat,val"), {}),
    "entry-bad, skipped": ("entry-bad", bad_entry, "--dataset.on-bad-input skip", nothing, SKIP),
    "entry-bad, corrected": (
        "entry-bad",
        bad_entry,
        "Correct",
        lambda root: edit(root, "\ngone.png,cat,train", ""),
        {},
    ),
    "image-bad, skipped": ("image-bad", bad_image, "--dataset.on-bad-input skip", nothing, SKIP),
    "image-bad, out of the list": (
        "image-bad",
        bad_image,
        "out of the list",
        without("t0.png", "t0.png,cat,train"),
        {},
    ),
    "mask-values, named": (
        "mask-values",
        third_value,
        "name the missing classes in classes.txt",
        lambda root: (root / "classes.txt").write_text("cat\ndog\nsofa\n"),
        {},
    ),
    "mask-damaged": ("mask-damaged", colours, "indexed PNGs", drawn_anew, {}),
    "mask-size": ("mask-size", small_mask, "at the image's size", drawn_anew, {}),
    "mask-without-class": (
        "mask-without-class",
        two_values,
        "--dataset.two-valued-masks",
        nothing,
        {"two_valued_masks": True},
    ),
    "label-missing": (
        "label-missing",
        unlabelled_pixels,
        "add the label",
        lambda root: edit(root, "t2.png,cat", "t2.png,cat;dog"),
        {},
    ),
    "misnamed": ("misnamed", misnamed, "in the list as well", renamed, {}),
    "unlisted": ("unlisted", unlisted, "without any", lambda root: add(root, "more/extra.jpg,,train"), {}),
    "unread": ("unread", unread, "Convert them", converted, {}),
}


def audited(settings: DatasetSettings, tmp_path: Path) -> Audit:
    return audit_dataset(settings, work_folder=tmp_path / "work", workers=1)


@pytest.mark.parametrize("name", CASES)
def test_advice_that_is_followed_ends_the_complaint(name: str, tmp_path: Path) -> None:
    kind, make, advice, follow, changes = CASES[name]
    root = tmp_path / "mine"
    make(root)
    settings = DatasetSettings(root=str(root))
    before = audited(settings, tmp_path)
    (finding,) = [finding for finding in before.findings if finding.kind == kind]
    said = f"{finding.advice} {' '.join(example.text for example in finding.examples)}"
    assert advice in said
    if advice == "--dataset.classes":
        changes = {"classes": tuple(shlex.split(said.partition(advice)[2].split(". ")[0].rstrip(".")))[:2]}
        assert changes == {"classes": ("cat", "dog")}
    follow(root)
    settings = replace(settings, **changes)  # type: ignore[arg-type]
    after = audited(settings, tmp_path)
    assert after.of("stop") == ()
    assert kind not in {finding.kind for finding in after.findings if changes != SKIP}
    assert open_dataset(settings, work_folder=tmp_path / "run").train.image_set.records


def test_a_coco_file_gets_images_of_nothing_by_a_csv(tmp_path: Path) -> None:
    for place in range(30):
        image(tmp_path / "images" / f"{place}.png", SIZE)
    content = {
        "images": [{"id": place, "file_name": f"{place}.png"} for place in range(30)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 4, 4]} for i in range(25)],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    settings = DatasetSettings(root=str(tmp_path))
    (finding,) = [finding for finding in audited(settings, tmp_path).findings if finding.kind == "class-everywhere"]
    assert "`subcam data labels FILE`" in finding.advice
    labels([str(tmp_path / "coco.json")])
    after = audited(settings, tmp_path)
    assert (after.layout, after.classes[0].images, after.splits[0].images) == ("folder", 25, 30)
    assert "class-everywhere" not in {finding.kind for finding in after.findings}
