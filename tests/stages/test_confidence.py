"""masks.csv of a run: every mask, the worst first, from the stages' files; of given masks; after the network."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.stages.given import images_of, stage_at

from subcam.data.images import read_indices, voc_palette, write_mask
from subcam.data.records import ImageSet, Record
from subcam.errors import BadInputError
from subcam.metrics.confidence import image_confidence, region_confidences
from subcam.metrics.masks_csv import MaskRow, read_confidences, read_masks_csv
from subcam.refine.scores_and_masks import mask_path
from subcam.refine.variants import GIVEN
from subcam.refine.walked_maps import read_walked, walked_path
from subcam.results import read_run
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.stages import confidence

CLASSES = ("cat", "dog")


def test_of_every_mask_that_a_run_shows_the_worst_first(refined_run: Path) -> None:
    rows = read_confidences(refined_run)
    assert {f"{row.image}.png" for row in rows} == {path.name for path in (refined_run / "masks").glob("*.png")}
    assert [row.confidence for row in rows] == sorted(row.confidence for row in rows)
    assert all(row.lowered_by for row in rows if row.confidence < 0.5)
    assert len({row.confidence for row in rows}) > len(rows) / 2


def test_the_numbers_are_those_of_the_files(refined_run: Path) -> None:
    """Of the walk's scores and, as the network saw no training image, of nothing else than the stages."""
    run = read_run(refined_run)
    (refined,) = run.result.refined
    assert refined.confidence is not None
    assert refined.confidence.inputs["network"] is None
    (walk,) = (refined_run / "stages").glob("round0-walk-*")
    settings = run.result.settings.refine.masks
    for row in read_confidences(refined_run)[:4]:
        mask = read_indices(mask_path(refined.masks.path, refined.variant, row.image))
        after = read_walked(walked_path(walk, row.image))
        regions = region_confidences(mask, after.classes, scores=after.scores(settings.walk_alpha))
        areas = [region.area for region in row.regions.values()]
        assert areas == [round(region.area, 4) for region in regions]
        found = [region for region in row.regions.values() if region.area]
        decided = [region.decided for region in regions if region.area]
        # Half of a region's confidence is how decided its scores are, the other lies in 0..1.
        assert all(d / 2 - 1e-4 <= one.confidence <= d / 2 + 0.5001 for d, one in zip(decided, found, strict=True))


@pytest.fixture
def rate(tmp_path: Path, device: Device) -> Callable[..., tuple[MaskRow, ...]]:
    """The table of given masks, by the name of their image, beside those of a network."""

    def rate(masks: dict[str, np.ndarray], network: dict[str, np.ndarray]) -> tuple[MaskRow, ...]:
        for folder, files in (("given", masks), ("masks", network)):
            for name, labels in files.items():
                path = mask_path(tmp_path, folder, name)
                write_mask(path, labels.astype(np.uint8), palette=voc_palette(), durable=False)
        records = tuple(Record(name=name, image=Path(f"{name}.jpg"), labels=(0,)) for name in ("a", "b", "c/d e"))
        stage: Stage = RunFolder(path=tmp_path / "run").stage("given-confidence")
        confidence.run(
            stage,
            images=images_of(ImageSet(class_names=CLASSES, records=records, mask_values=())),
            masks=stage_at(tmp_path),
            variant=GIVEN,
            maps=None,
            walked=None,
            network=stage_at(tmp_path),
            network_variant="masks",
            corrected=None,
            device=device,
        )
        assert stage.done
        return read_masks_csv(stage.path / "masks.csv")

    return rate


def test_given_masks_beside_the_network_s(rate: Callable) -> None:
    """A class without a label may be in them; an image without a mask is left out; none is trusted by itself."""
    half = np.array([[1, 1, 0, 0]])
    rows = rate({"a": half, "c/d e": np.array([[0, 0, 0, 2]])}, {"a": half, "c/d e": np.array([[0, 0, 2, 2]])})
    assert [(row.image, row.confidence) for row in rows] == [
        ("c/d e", round(float(np.mean([2 / 3, 0, 1 / 2])), 4)),
        ("a", 1.0),
    ]
    assert rows[0].lowered_by == "cat: is labelled and has no pixel"
    assert {name: region.area for name, region in rows[0].regions.items()} == {
        "background": 0.75,
        "cat": 0,
        "dog": 0.25,
    }
    assert image_confidence(region_confidences(half.astype(np.uint8), np.array([0]))) == 1


def test_a_network_s_mask_of_another_size(rate: Callable) -> None:
    with pytest.raises(BadInputError, match=r"given/a\.png: .*move the stages it came from away"):
        rate({"a": np.zeros((2, 2))}, {"a": np.zeros((2, 3))})
