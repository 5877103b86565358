"""What clusters share with what masks say: properties by hand, chance and certainty, a whole run."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks import clusters_follow
from benchmarks.clusters_follow import KINDS, NUMBERS
from PIL import Image

from subcam import pipeline
from subcam.data.images import voc_palette, write_mask
from subcam.data.records import FORBIDDEN, ImageSet, Record
from subcam.errors import SubcamError
from subcam.settings import RunSettings


def test_properties_of_an_object_by_hand(tmp_path: Path) -> None:
    pixels, mask = np.full((20, 30, 3), 40, np.uint8), np.zeros((20, 30), np.uint8)
    mask[10:20, 5:25], pixels[10:20, 5:25] = 2, 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_mask(tmp_path / "a-mask.png", mask, palette=voc_palette())
    record = Record(name="a", image=tmp_path / "a.png", mask=tmp_path / "a-mask.png", labels=(0, 1))
    meaning = (0, 1, 2, *(FORBIDDEN for _ in range(252)), 255)
    images = ImageSet(records=(record,), class_names=("cat", "dog"), mask_values=meaning)
    found = clusters_follow.properties(record, images, 1)
    assert found is not None
    assert list(found) == [*NUMBERS, *KINDS]
    assert list(found.values()) == pytest.approx([200 / 600, 0.5, 200, 40, 1, 1])
    assert clusters_follow.properties(record, images, 0) is None  # it is not there


def test_what_tells_the_clusters_shares_all_with_them_and_chance_nothing() -> None:
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 3, 300)
    names = (*NUMBERS, *KINDS)
    found = [dict(zip(names, (k, *rng.random(3), k == 1, rng.random() < 0.5), strict=True)) for k in clusters.tolist()]
    shares = clusters_follow.shared(clusters.tolist(), found)
    assert shares[NUMBERS[0]] > 0.8  # thirds of three numbers that are not equally frequent
    assert shares[KINDS[0]] == pytest.approx(1)  # the cluster tells it, though it does not tell the cluster
    assert all(abs(shares[name]) < 0.05 for name in (*NUMBERS[1:], KINDS[1]))


def test_what_does_not_differ_shares_nothing() -> None:
    found = [dict.fromkeys((*NUMBERS, *KINDS), 1.0) | {NUMBERS[0]: float(i)} for i in range(6)]
    shares = clusters_follow.shared([0, 0, 1, 1, 2, 2], found)
    assert shares[NUMBERS[0]] == pytest.approx(1)
    assert all(np.isnan(share) for name, share in shares.items() if name != NUMBERS[0])
    assert all(np.isnan(share) for share in clusters_follow.shared([0] * 6, found).values())


def test_a_run_with_sub_categories_has_a_row_for_each_class(tiny_run: RunSettings, tmp_path: Path) -> None:
    result = pipeline.run(tiny_run, tmp_path / "run")
    table, by_class = clusters_follow.table_of(result.out)
    assert list(by_class) == list(result.class_names)
    assert all(list(shares) == [*NUMBERS, *KINDS, clusters_follow.SUBTYPE] for shares in by_class.values())
    assert next(list(column.cells)[-1] for column in table.columns) == "mean"
    plain = pipeline.run(tiny_run.with_({"rounds": 0}), tmp_path / "plain")
    with pytest.raises(SubcamError, match="--route subcategories does"):
        clusters_follow.table_of(plain.out)
