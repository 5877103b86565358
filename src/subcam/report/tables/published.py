"""What the paper prints in its Tables 1 to 4 on PASCAL VOC 2012, in per cent. Nothing here was measured by us.

Source: Chang et al., Weakly-Supervised Semantic Segmentation via Sub-category Exploration, CVPR 2020.
"""

from dataclasses import dataclass

from subcam.data.readers.voc import VOC_CLASSES
from subcam.results import RunResult

NOTE = (
    "Published: copied from the paper, not measured here. The paper does not say how it chose its background threshold."
)

IMAGES = {"train": 1464, "val": 1449}
"""Images of each split with masks (Section 4.1); test has 1456, whose masks are not public."""


@dataclass(frozen=True, kw_only=True)
class PublishedMaps:
    """A row of Table 1: mIoU of response maps (CAM) and of pseudo masks after the random walk (RW), by split."""

    method: str
    cam: dict[str, float]
    walk: dict[str, float]


TABLE_1 = (
    PublishedMaps(method="AffinityNet", cam={"train": 48.0, "val": 46.8}, walk={"train": 58.1, "val": 57.0}),
    PublishedMaps(method="SC-CAM", cam={"train": 50.9, "val": 49.6}, walk={"train": 63.4, "val": 61.2}),
)


@dataclass(frozen=True, kw_only=True)
class PublishedRound:
    """A row of Table 2, on val."""

    round_index: int
    miou: float
    f_score: float


TABLE_2 = (
    PublishedRound(round_index=0, miou=46.8, f_score=65.1),
    PublishedRound(round_index=1, miou=48.0, f_score=65.6),
    PublishedRound(round_index=2, miou=48.7, f_score=66.6),
    PublishedRound(round_index=3, miou=49.6, f_score=67.0),
)


@dataclass(frozen=True, kw_only=True)
class PublishedClasses:
    """A row of Table 3, on val: IoU of background and of the 20 classes in VOC's order, and their mean.

    crf: whether the table has the row among those with a CRF on the segmentation's output.
    """

    method: str
    crf: bool
    iou: tuple[float, ...]
    miou: float


# fmt: off
TABLE_3 = (
    PublishedClasses(method="AffinityNet", crf=False, miou=61.7, iou=(
        88.2, 68.2, 30.6, 81.1, 49.6, 61.0, 77.8, 66.1, 75.1, 29.0, 66.0,
        40.2, 80.4, 62.0, 70.4, 73.7, 42.5, 70.7, 42.6, 68.1, 51.6)),
    PublishedClasses(method="SC-CAM", crf=False, miou=64.8, iou=(
        88.1, 49.6, 30.0, 79.8, 51.9, 74.6, 87.7, 73.7, 85.1, 31.0, 77.6,
        53.2, 80.3, 76.3, 69.6, 69.7, 40.7, 75.7, 42.6, 66.1, 58.2)),
    PublishedClasses(method="MCOF", crf=True, miou=60.3, iou=(
        87.0, 78.4, 29.4, 68.0, 44.0, 67.3, 80.3, 74.1, 82.2, 21.1, 70.7,
        28.2, 73.2, 71.5, 67.2, 53.0, 47.7, 74.5, 32.4, 71.0, 45.8)),
    PublishedClasses(method="Zeng et al.", crf=True, miou=63.3, iou=(
        90.0, 77.4, 37.5, 80.7, 61.6, 67.9, 81.8, 69.0, 83.7, 13.6, 79.4,
        23.3, 78.0, 75.3, 71.4, 68.1, 35.2, 78.2, 32.5, 75.5, 48.0)),
    PublishedClasses(method="FickleNet", crf=True, miou=64.9, iou=(
        89.5, 76.6, 32.6, 74.6, 51.5, 71.1, 83.4, 74.4, 83.6, 24.1, 73.4,
        47.4, 78.2, 74.0, 68.8, 73.2, 47.8, 79.9, 37.0, 57.3, 64.6)),
    PublishedClasses(method="SC-CAM", crf=True, miou=66.1, iou=(
        88.8, 51.6, 30.3, 82.9, 53.0, 75.8, 88.6, 74.8, 86.6, 32.4, 79.9,
        53.8, 82.3, 78.5, 70.4, 71.2, 40.2, 78.3, 42.9, 66.8, 58.8)),
)
# fmt: on


@dataclass(frozen=True, kw_only=True)
class PublishedSegmentation:
    """A row of Table 4: mIoU by split of a segmentation network that was trained with image-level labels."""

    method: str
    venue: str
    backbone: str
    miou: dict[str, float]


def _row(method: str, venue: str, backbone: str, val: float, test: float) -> PublishedSegmentation:
    return PublishedSegmentation(
        method=method,
        venue=venue,
        backbone=backbone,
        miou={"val": val, "test": test},
    )


TABLE_4 = (
    _row("MCOF", "CVPR 2018", "ResNet-101", 60.3, 61.2),
    _row("DCSP", "BMVC 2017", "ResNet-101", 60.8, 61.9),
    _row("DSRG", "CVPR 2018", "ResNet-101", 61.4, 63.2),
    _row("AffinityNet", "CVPR 2018", "Wide ResNet-38", 61.7, 63.7),
    _row("SeeNet", "NIPS 2018", "ResNet-101", 63.1, 62.8),
    _row("Zeng et al.", "ICCV 2019", "DenseNet-169", 63.3, 64.3),
    _row("BDSSW", "ECCV 2018", "ResNet-101", 63.6, 64.5),
    _row("OAA", "ICCV 2019", "ResNet-101", 63.9, 65.6),
    _row("CIAN", "CVPR 2019", "ResNet-101", 64.1, 64.7),
    _row("FickleNet", "CVPR 2019", "ResNet-101", 64.9, 65.3),
    _row("SC-CAM", "CVPR 2020", "ResNet-101", 66.1, 65.9),
)


def compares(result: RunResult, split: str) -> bool:
    """Whether a split is the whole of PASCAL VOC 2012's with all its classes, so that the paper's numbers compare."""
    scored = [entry.scores[split].images for entry in result.rounds if split in entry.scores]
    return bool(scored) and scored[0] == IMAGES.get(split) and result.class_names == VOC_CLASSES
