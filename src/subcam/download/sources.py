"""Where the archives of PASCAL VOC 2012, SBD and COCO 2014 (Section 4.1) lie, how large they are, their checksums.

In: nothing. Out: constants. None of the publishers names a checksum itself; these are what widely used loaders demand:

- MD5 of VOC 2012 and SBD: torchvision (`torchvision.datasets.voc`, `.sbd`). MD5 of COCO 2014: PaddlePaddle's download
  script; those of the images in LAVIS (`download_coco.py`) too.
- SHA-256 of VOC 2012 and COCO 2014: TensorFlow Datasets (`url_checksums/voc.txt`, `coco.txt`), confirmed by others. Of
  SBD a single source has one, so its MD5 and its size have to do; the SHA-256 of what was had is kept in a receipt.
- Sizes: TensorFlow Datasets; of SBD the length that its server gave others.
- Addresses: the publishers', as in torchvision now; then mirrors of VOC 2012 (YOLO's author, Dive into Deep Learning)
  and the storage behind COCO's site. None could be tried where this was written.
"""

from dataclasses import dataclass
from typing import Literal

DataSetName = Literal["voc2012", "sbd", "coco2014"]

TRAIN_AUG_NAMES = 10_582
"""Images of VOC's train and SBD's train and val less VOC's val, as in the paper (Section 4.1)."""

AUGMENTED_MASKS = 12_031
"""These images and those of VOC's val."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """One file to download.

    Attributes:
        name: what it is called on disk.
        urls: where it lies, in the order in which they are tried.
        size: its bytes.
        md5, sha256: as hex digits; at least one.
        needed_bytes: what is made of it takes at most about this much on the disk.
        most_bytes, most_members: far more than its unpacked bytes and its files and folders: an archive bomb.
    """

    name: str
    urls: tuple[str, ...]
    size: int
    md5: str | None = None
    sha256: str | None = None
    needed_bytes: int
    most_bytes: int
    most_members: int

    @property
    def checksums(self) -> dict[str, str]:
        """The published checksums by algorithm, as hashlib calls it."""
        return {kind: value for kind, value in (("md5", self.md5), ("sha256", self.sha256)) if value}


VOC2012 = Archive(
    name="VOCtrainval_11-May-2012.tar",
    urls=(
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "https://data.pjreddie.com/files/VOCtrainval_11-May-2012.tar",
        "https://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
    ),
    size=1_999_639_040,
    md5="6cd6e144f989b92b3379bac3b3de84fd",
    sha256="e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
    needed_bytes=2_100_000_000,  # it is not compressed; small files fill up their last block
    most_bytes=4_000_000_000,
    most_members=100_000,
)

SBD = Archive(
    name="benchmark.tgz",
    urls=(
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    ),
    size=1_419_539_633,
    md5="82b4d87ceb2ed10f6038a1cba92111cb",
    needed_bytes=200_000_000,  # only the masks are unpacked
    most_bytes=8_000_000_000,
    most_members=200_000,
)

COCO2014 = (
    Archive(
        name="annotations_trainval2014.zip",
        urls=(
            "http://images.cocodataset.org/annotations/annotations_trainval2014.zip",
            "https://s3.amazonaws.com/images.cocodataset.org/annotations/annotations_trainval2014.zip",
        ),
        size=252_872_794,
        md5="0a379cfc70b0e71301e0f377548639bd",
        sha256="031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
        needed_bytes=1_500_000_000,
        most_bytes=5_000_000_000,
        most_members=1_000,
    ),
    Archive(
        name="val2014.zip",
        urls=(
            "http://images.cocodataset.org/zips/val2014.zip",
            "https://s3.amazonaws.com/images.cocodataset.org/zips/val2014.zip",
        ),
        size=6_645_013_297,
        md5="a3d79f5ed8d289b7a7554ce06a5782b3",
        sha256="fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
        needed_bytes=7_000_000_000,
        most_bytes=20_000_000_000,
        most_members=100_000,
    ),
    Archive(
        name="train2014.zip",
        urls=(
            "http://images.cocodataset.org/zips/train2014.zip",
            "https://s3.amazonaws.com/images.cocodataset.org/zips/train2014.zip",
        ),
        size=13_510_573_713,
        md5="0da8c0bd3d6becc4dcb32757491aca88",
        sha256="ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
        needed_bytes=14_500_000_000,
        most_bytes=40_000_000_000,
        most_members=200_000,
    ),
)

ARCHIVES: dict[DataSetName, tuple[Archive, ...]] = {"voc2012": (VOC2012,), "sbd": (SBD,), "coco2014": COCO2014}
"""The archives of each data set; the small ones first, so that what goes wrong goes wrong early."""
