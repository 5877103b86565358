"""An audit finds each fault that was put into a small data set, and no other; counts are those of a plain loop."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.readers.made_coco import annotation, coco_2014, image, write_annotations

from subcam.audit.dataset import Audit, audit_dataset, require_usable
from subcam.audit.finding import Finding
from subcam.data.images import voc_palette, write_mask
from subcam.data.settings import DatasetSettings
from subcam.errors import BadInputError

SIZE = (100, 120)

Rows = dict[str, tuple[str, str]]


def made(root: Path, rows: Rows, *, mask: Callable[[str], np.ndarray] | None = None) -> Path:
    """A folder with an image for each row of name: (labels, split)."""
    for name in rows:
        image(root / "images" / f"{name}.png", SIZE)
        if mask is not None:
            write_mask(root / "masks" / f"{name}.png", mask(name), palette=voc_palette())
    lines = [f"{name}.png,{labels},{split}" for name, (labels, split) in rows.items()]
    (root / "labels.csv").write_text("\n".join(["image,labels,split", *lines]))
    return root


def healthy() -> Rows:
    """60 images to learn from, each class alone and with the other; 6 to score."""
    rows = {f"t{i}": (("cat", "dog", "cat;dog")[i % 3], "train") for i in range(60)}
    return rows | {f"v{i}": (("cat", "dog")[i % 2], "val") for i in range(6)}


def audited(root: Path, tmp_path: Path, **changes: object) -> Audit:
    settings = replace(DatasetSettings(root=str(root)), **changes)  # type: ignore[arg-type]
    return audit_dataset(settings, work_folder=tmp_path / "work", workers=2)


def kinds(audit: Audit) -> list[str]:
    return [finding.kind for finding in audit.findings]


def only(audit: Audit, kind: str) -> Finding:
    (finding,) = [finding for finding in audit.findings if finding.kind == kind]
    return finding


def labelled(name: str) -> np.ndarray:
    """A mask of a `healthy` image that agrees with its labels."""
    mask = np.zeros(SIZE, np.uint8)
    index = int(name[1:])
    present = (index % 3) if name[0] == "t" else index % 2
    if present in (0, 2):
        mask[:25] = 1
    if present in (1, 2):
        mask[50:60] = 2
    return mask


def test_a_healthy_set_has_no_finding_and_plain_counts(tmp_path: Path) -> None:
    rows = healthy()
    found = audited(made(tmp_path / "mine", rows, mask=labelled), tmp_path)
    assert found.findings == ()
    require_usable(found)
    assert [(split.name, split.learned, split.images, split.masks) for split in found.splits] == [
        ("train", True, 60, 60),
        ("val", False, 6, 6),
    ]
    for row in found.classes:
        train = [labels.split(";") for labels, split in rows.values() if split == "train"]
        assert row.images == sum(row.name in labels for labels in train)
        assert row.alone == sum(labels == [row.name] for labels in train)
        assert row.share == pytest.approx(row.images / 60)
        assert row.scored == (3,)
        assert row.area == pytest.approx({"cat": 0.25, "dog": 0.1}[row.name])
    assert found.together == ((40, 20), (20, 40))
    assert found.sizes is not None
    assert found.sizes.width == (120, 120, 120)
    assert found.sizes.height == (100, 100, 100)
    assert found.sizes.kinds == {"PNG": 66}
    assert (found.recipe, found.subcategories) == ("small", 1)


def test_every_bad_file_is_named_and_stops(tmp_path: Path) -> None:
    root = made(tmp_path / "mine", healthy(), mask=labelled)
    (root / "images" / "t0.png").write_bytes(b"")
    (root / "images" / "t1.png").write_bytes(b"no image")
    (root / "images" / "v0.png").write_bytes((root / "images" / "v0.png").read_bytes()[:800])
    (root / "images" / "v1.png").unlink()
    (root / "masks" / "t2.png").write_bytes(b"no mask")
    write_mask(root / "masks" / "t3.png", np.full(SIZE, 7, np.uint8), palette=voc_palette())
    write_mask(root / "masks" / "t4.png", np.zeros((100, 121), np.uint8), palette=voc_palette())
    found = audited(root, tmp_path)
    named = {finding.kind: [example.text for example in finding.examples] for finding in found.of("stop")}
    assert {kind: len(texts) for kind, texts in named.items()} == {
        "image-bad": 3,
        "mask-damaged": 1,
        "mask-values": 1,
        "mask-size": 1,
        "entry-bad": 1,
    }
    for kind, parts in {
        "image-bad": ["t0.png: expected an image, got an empty file", "t1.png: expected an image", "v0.png"],
        "mask-values": ["t3.png: expected the values 0"],
        "mask-size": ["t4.png: expected a mask as large as its image"],
        "entry-bad": ["labels.csv:63: 'v1.png' is no file"],
    }.items():
        assert all(part in text for part, text in zip(parts, named[kind], strict=True)), kind
    with pytest.raises(BadInputError, match=r"mine: a run would stop: 1 entry of the list that cannot be used; 3 imag"):
        require_usable(found)
    skipping = audited(root, tmp_path, on_bad_input="skip")
    require_usable(skipping)
    assert {finding.kind for finding in skipping.of("warning")} >= set(named)


def test_nothing_that_can_be_read_stops_in_any_case(tmp_path: Path) -> None:
    root = made(tmp_path / "mine", {"a": ("cat", "train"), "b": ("", "train")})
    for path in (root / "images").iterdir():
        path.write_bytes(b"no image")
    found = audited(root, tmp_path, on_bad_input="skip")
    assert [finding.kind for finding in found.of("stop")] == ["nothing-left"]
    assert found.sizes is None


def test_labels_that_maps_cannot_be_learned_from(tmp_path: Path) -> None:
    rows = {f"t{i}": ("cat;dog" if i % 2 else "cat;bird" if i % 4 else "cat", "train") for i in range(60)}
    rows |= {"u": ("", "train"), "f": ("cat;rare", "train")}
    root = made(tmp_path / "mine", rows)
    (root / "classes.txt").write_text("cat\ndog\nbird\nrare\nnone\n")
    found = audited(root, tmp_path)
    assert kinds(found) == [
        "class-empty",
        "class-few",
        "class-everywhere",
        "classes-together",
        "never-alone",
        "unlabelled",
        "no-masks",
    ]
    assert [example.text for example in only(found, "class-empty").examples] == ["none"]
    few = [example.text for example in only(found, "class-few").examples]
    assert few == ["rare: 1 image", "bird: 15 images"]
    assert only(found, "class-everywhere").examples[0].text == "cat: not in 1 image"
    # bird has too few images to tell chance from rule
    assert [example.text for example in only(found, "classes-together").examples] == [
        "dog: 30 of 30 images also show cat (100%)"
    ]
    assert [example.text for example in only(found, "never-alone").examples] == ["dog: 30 images"]
    assert only(found, "unlabelled").examples[0].images == (root / "images" / "u.png",)


def test_a_single_class_in_every_image(tmp_path: Path) -> None:
    found = audited(made(tmp_path / "mine", {f"t{i}": ("cat", "train") for i in range(25)}), tmp_path)
    assert "in every image" in only(found, "class-everywhere").title


def test_duplicates_leaks_and_contradictions(tmp_path: Path) -> None:
    root = made(tmp_path / "mine", healthy())
    images = root / "images"
    (images / "t3.png").write_bytes((images / "t0.png").read_bytes())  # both cat
    Image.open(images / "t6.png").save(images / "t9.png", compress_level=1)  # the same pixels, another file
    (images / "t4.png").write_bytes((images / "t2.png").read_bytes())  # dog, and cat and dog
    (images / "v0.png").write_bytes((images / "t12.png").read_bytes())
    assert (images / "t6.png").read_bytes() != (images / "t9.png").read_bytes()
    found = audited(root, tmp_path)
    assert [example.text for example in only(found, "duplicate").examples] == [
        "t0 = t3 (the same file)",
        "t6 = t9 (the same pixels in other files)",
    ]
    assert [example.text for example in only(found, "duplicate-contradicts").examples] == ["t2 = t4 (the same file)"]
    leak = only(found, "leak")
    assert leak.severity == "warning"
    assert leak.examples[0].images == (images / "t12.png", images / "v0.png")


def voc(root: Path, lists: dict[str, str]) -> Path:
    for name in {name for names in lists.values() for name in names.split()}:
        image(root / "JPEGImages" / f"{name}.jpg", SIZE)
        path = root / "Annotations" / f"{name}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text("<annotation><object><name>cat</name></object></annotation>")
    for split, names in lists.items():
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names.split()))
    return root


def test_a_split_inside_the_training_images_is_meant_and_a_mixture_is_not(tmp_path: Path) -> None:
    root = voc(tmp_path / "voc", {"train_aug": "a b c d", "train": "a b", "val": "e f"})
    assert "overlap" not in kinds(audited(root, tmp_path))
    root = voc(tmp_path / "mixed", {"train_aug": "a b c d", "train": "a b", "val": "d e f"})
    finding = only(audited(root, tmp_path), "overlap")
    assert finding.title == "1 image of split val (3) also learned from"
    assert [example.text for example in finding.examples] == ["d"]


def test_labels_that_contradict_masks(tmp_path: Path) -> None:
    def mask(name: str) -> np.ndarray:
        found = labelled(name)
        if name == "t0":  # cat
            found[:50] = 2
        if name == "t1":  # dog
            found[found == 2] = 255
        return found

    found = audited(made(tmp_path / "mine", healthy(), mask=mask), tmp_path)
    assert [example.text for example in only(found, "label-missing").examples] == [
        "t0: dog has 50.0% of the mask and no label"
    ]
    assert [example.text for example in only(found, "label-without-pixel").examples] == [
        "t0: labelled cat, no such pixel in the mask",
        "t1: labelled dog, no such pixel in the mask (10.0% of it is not scored)",
    ]
    assert only(found, "label-missing").examples[0].mask == tmp_path / "mine" / "masks" / "t0.png"


def test_masks_that_have_no_class_at_all(tmp_path: Path) -> None:
    found = audited(made(tmp_path / "mine", healthy(), mask=lambda _: np.full(SIZE, 255, np.uint8)), tmp_path)
    assert kinds(found) == ["mask-without-class"]


def test_sizes_and_kinds_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subcam.audit.files.HUGE", 100_000)
    root = made(tmp_path / "mine", healthy())
    images = root / "images"
    rng = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, shape, dtype=np.uint8)

    Image.fromarray(noise(20, 30, 3)).save(images / "t0.png")
    Image.fromarray(noise(400, 500, 3)).save(images / "t1.png")
    Image.fromarray(noise(30, 130, 3)).save(images / "t2.png")
    Image.fromarray(noise(*SIZE)).save(images / "t3.png")
    Image.fromarray(noise(*SIZE).astype(np.uint16) * 257).save(images / "t4.png")
    Image.fromarray(noise(*SIZE, 4), "CMYK").save(images / "t5.png", "JPEG")
    Image.fromarray(noise(*SIZE, 4), "RGBA").save(images / "t6.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(*SIZE, 3)).save(images / "t7.png", "JPEG", exif=exif)
    found = audited(root, tmp_path)
    assert kinds(found) == ["tiny", "huge", "long", "misnamed", "kinds", "no-masks"]
    assert only(found, "tiny").examples[0].text == "t0: 30 x 20"
    assert only(found, "huge").examples[0].text == "t1: 500 x 400"
    assert only(found, "long").examples[0].text == "t2: 130 x 30"
    named = [example.text for example in only(found, "misnamed").examples]
    assert named == [f"{images / name}: a JPEG that is called .png" for name in ("t5.png", "t7.png")]
    traits = {example.text.split(": ")[0]: example.text.split(": ")[1] for example in only(found, "kinds").examples}
    assert traits == {
        "t3": "grey",
        "t4": "grey, 16-bit",
        "t5": "CMYK",
        "t6": "see-through",
        "t7": "turned by EXIF",
    }
    assert found.sizes is not None
    assert found.sizes.width == (30, 120, 500)
    assert found.sizes.kinds == {"PNG": 64, "JPEG": 2}


def test_images_that_no_row_names(tmp_path: Path) -> None:
    root = made(tmp_path / "mine", healthy(), mask=labelled)
    image(root / "images" / "more" / "extra.jpg")
    finding = only(audited(root, tmp_path), "unlisted")
    assert [example.text for example in finding.examples] == ["images/more/extra.jpg"]


def test_a_set_in_coco_s_layout(tmp_path: Path) -> None:
    root = coco_2014(tmp_path / "coco")
    val = {5: "COCO_val2014_5.png", 6: "COCO_val2014_6.png"}
    annotations = [annotation(5, 17), annotation(6, 99)]
    write_annotations(root / "annotations" / "instances_val2014.json", val, annotations)
    found = audited(root, tmp_path)
    assert found.layout == "coco"
    assert [(split.name, split.images, split.masks) for split in found.splits] == [
        ("train2014", 3, 0),
        ("val2014", 1, 1),
    ]
    assert "category 99, which is not listed" in only(found, "entry-bad").examples[0].text
    assert only(found, "tiny").severity == "warning"
    content = json.loads((root / "annotations" / "instances_val2014.json").read_text())
    content["categories"].append({"id": 3, "name": "car"})
    (root / "annotations" / "instances_val2014.json").write_text(json.dumps(content))
    with pytest.raises(BadInputError, match="split val2014: expected the classes of the training images"):
        audited(root, tmp_path)


@pytest.mark.parametrize(("images", "fitting"), [(0, 1), (29, 1), (59, 1), (60, 2), (250, 8), (5000, 10)])
def test_how_many_subcategories_fit(images: int, fitting: int) -> None:
    from subcam.audit.labels import ClassCounts, fitting_subcategories

    counts = tuple(ClassCounts(name=name, images=n, alone=0) for name, n in (("a", images), ("empty", 0)))
    assert fitting_subcategories(counts) == fitting
