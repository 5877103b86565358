"""The audit turns masks as a run does: by their sizes, and where these do not tell as the others of their split."""

from pathlib import Path

import pytest
from tests.data.test_turned_masks import turned_set

from subcam.audit.dataset import Audit, audit_dataset
from subcam.data.check import check_images
from subcam.data.images import read_image, read_indices, turned
from subcam.data.readers.folder import read_folder
from subcam.data.settings import DatasetSettings
from subcam.report.audit_page import _masked

SETS = {
    "alone": ({"a": 3}, "upright", (6, 10)),
    "square": ({"a": 6}, "upright", (8, 8)),
    "stored": ({"a": 6, "b": 8}, "stored", (6, 10)),
    "beside one that is stored": ({"a": 3, "b": 6}, "stored", (6, 10)),
    "beside one that is upright": ({"a": 2, "b": 8}, "upright", (6, 10)),
    "plain": ({"a": 1}, "upright", (6, 10)),
}


def names(audit: Audit, kind: str) -> list[str]:
    return [example.text for finding in audit.findings if finding.kind == kind for example in finding.examples]


@pytest.mark.parametrize("case", SETS)
def test_as_a_run_does(case: str, tmp_path: Path) -> None:
    orientations, grid, size = SETS[case]
    turned_set(tmp_path, orientations, dict.fromkeys(orientations, grid), size)
    (tmp_path / "labels.csv").write_text("\n".join(["image,labels", *(f"{name}.png,red" for name in orientations)]))
    audit = audit_dataset(DatasetSettings(root=str(tmp_path)), work_folder=tmp_path / "work", workers=1)
    records = check_images(read_folder(tmp_path)).image_set.records
    assert names(audit, "mask-stored") == [record.name for record in records if record.mask_turn != 1]
    unclear = [name for name, orientation in orientations.items() if orientation in (2, 3) or case == "square"]
    assert names(audit, "mask-turned") == (unclear if grid == "upright" else [])


def test_each_split_is_looked_at_by_itself(tmp_path: Path) -> None:
    """An image that is turned by 180 degrees follows the others of its split, not those of another."""
    turned_set(tmp_path, {"a": 3, "b": 6, "c": 3}, dict.fromkeys("abc", "stored"), (6, 10))
    rows = ["image,labels,split", "a.png,red,train", "b.png,red,train", "c.png,red,val"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    audit = audit_dataset(DatasetSettings(root=str(tmp_path)), work_folder=tmp_path / "work", workers=1)
    assert names(audit, "mask-stored") == ["a", "b"]
    assert names(audit, "mask-turned") == ["c"]
    for split, turns in (("train", [3, 6]), ("val", [1])):
        records = check_images(read_folder(tmp_path, split=split)).image_set.records
        assert [record.mask_turn for record in records] == turns


def test_the_page_shows_it_on_its_image(tmp_path: Path) -> None:
    turned_set(tmp_path, {"a": 6}, {"a": "stored"}, (6, 10))
    image, mask = tmp_path / "a.png", tmp_path / "masks" / "a.png"
    assert (turned(read_indices(mask), 6) == (read_image(image)[..., 0] > 0)).all()
    assert _masked(image, mask, 1) == ""
    assert _masked(image, mask, 6).startswith("data:image")
