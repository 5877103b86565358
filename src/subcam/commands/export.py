"""`subcam export FORMAT`: masks for servers and labelling tools, networks for other runtimes and for model hubs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal
from urllib.parse import quote

import tyro

from subcam.checks.fields import Range, Settings, Share
from subcam.commands.exported_masks import Drafts, Masks, Regions
from subcam.commands.flags import read_flags
from subcam.errors import SubcamError
from subcam.hub import FolderSettings

if TYPE_CHECKING:
    from subcam.export.coco import CocoIds
    from subcam.networks.segmenter import SegmentationNetwork


@dataclass(frozen=True, kw_only=True)
class Voc(Masks):
    """The archive (tar.gz) for PASCAL VOC's evaluation server, checked by the rules of its development kit.

    Attributes:
        competition: comp5 for training on VOC's own data alone, comp6 for anything but the test set.
        image_set: the set that was predicted, part of the folder's name.
        fill_unlabelled: whether to make unlabelled pixels (255) background, instead of refusing them.
    """

    competition: Literal["comp5", "comp6"] = "comp6"
    image_set: str = "test"
    fill_unlabelled: bool = False

    def write(self) -> str:
        """Write and check the archive."""
        masks, images = self.found()

        from subcam.export.voc import check_voc_archive, export_voc

        export_voc(
            masks,
            self.target,
            competition=self.competition,
            image_set=self.image_set,
            images=images,
            fill_unlabelled=self.fill_unlabelled,
        )
        check_voc_archive(self.target, names=tuple(masks.files), competition=self.competition, image_set=self.image_set)
        unsized = "" if images.root else "; sizes were not checked, --images DIR does that"
        return f"{self.target}: {len(masks.files)} masks, as the development kit wants them{unsized}"


@dataclass(frozen=True, kw_only=True)
class CocoRle(Regions):
    """COCO's results.json (for loadRes) and annotations.json, masks as run-length codes, into the folder `out`.

    Attributes:
        numbers: a COCO annotation file whose numbers of images and categories are to be used.
        score: what every result is rated with; a mask holds no probabilities.
    """

    numbers: Path | None = None
    score: Share = 1.0

    default_name: ClassVar[str] = "coco-rle"

    def write(self) -> str:
        """Write both files."""
        masks, images = self.found()

        from subcam.export.coco import export_coco_rle

        written = export_coco_rle(
            masks,
            self.target,
            images=images,
            ids=_ids(self.numbers),
            pieces=self.pieces,
            least_area=self.least_area,
            score=self.score,
        )
        return f"{written[0]} and {written[1]}: {len(masks.files)} images"


@dataclass(frozen=True, kw_only=True)
class CocoPanoptic(Regions):
    """COCO's panoptic format: panoptic.json and the folder panoptic of PNGs, into the folder `out`.

    Attributes:
        numbers: a COCO annotation file whose numbers of images and categories are to be used.
    """

    numbers: Path | None = None

    default_name: ClassVar[str] = "coco-panoptic"

    def write(self) -> str:
        """Write the PNGs, then the JSON file."""
        masks, images = self.found()

        from subcam.export.coco import export_coco_panoptic

        written = export_coco_panoptic(
            masks,
            self.target,
            images=images,
            ids=_ids(self.numbers),
            pieces=self.pieces,
            least_area=self.least_area,
        )
        return f"{written} and {written.with_suffix('')}: {len(masks.files)} images"


@dataclass(frozen=True, kw_only=True)
class LabelStudio(Regions):
    """Pre-annotations for Label Studio: tasks.json and interface.xml, into the folder `out`.

    Attributes:
        url_prefix: what stands before an image's path to make its URL; else the address of local files, with the name
            of the folder of images, as Label Studio serves only what lies in a folder below its own.
        model_version: under which name the predictions are shown.
        shape: how regions are given: exact masks, or polygons round each connected piece, in which holes are filled.
        tolerance: how far a polygon may leave the edges of pixels, in pixels.
    """

    url_prefix: str = ""
    model_version: str = "subcam"
    shape: Literal["mask", "polygon"] = "mask"
    tolerance: Annotated[float, Range(0.0, 1000.0)] = 1.0

    default_name: ClassVar[str] = "label-studio"

    def write(self) -> str:
        """Write both files."""
        masks, images = self.found()

        from subcam.export.label_studio import LOCAL_FILES, export_label_studio

        root = None if images.root is None or self.url_prefix else images.root.resolve()
        tasks, interface = export_label_studio(
            masks,
            self.target,
            images=images,
            url_prefix=self.url_prefix or LOCAL_FILES + (f"{quote(root.name)}/" if root else ""),
            model_version=self.model_version,
            shape=self.shape,
            pieces=self.pieces,
            least_area=self.least_area,
            tolerance=self.tolerance,
            confidences=self.confidences,
        )
        said = f"{tasks}: {len(masks.files)} tasks for a project whose labelling interface is {interface}"
        if root is None:
            return said
        return (
            f"{said}\nLabel Studio shows the images if it is started with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true"
            f" LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={root.parent}, and its project has a local storage: {root}"
        )


@dataclass(frozen=True, kw_only=True)
class Cvat(Regions):
    """Pre-annotations for CVAT, "CVAT for images 1.1": an XML file.

    Attributes:
        shape: how regions are given: exact masks, or polygons round each connected piece, in which holes are filled.
        tolerance: how far a polygon may leave the edges of pixels, in pixels.
    """

    shape: Literal["mask", "polygon"] = "mask"
    tolerance: Annotated[float, Range(0.0, 1000.0)] = 1.0

    default_name: ClassVar[str] = "cvat.xml"

    def write(self) -> str:
        """Write the file."""
        masks, images = self.found()

        from subcam.export.cvat import export_cvat_images

        export_cvat_images(
            masks,
            self.target,
            images=images,
            shape=self.shape,
            pieces=self.pieces,
            least_area=self.least_area,
            tolerance=self.tolerance,
        )
        return f"{self.target}: {len(masks.files)} images; upload it as 'CVAT for images 1.1'"


@dataclass(frozen=True, kw_only=True)
class CvatMasks(Drafts):
    """Pre-annotations for CVAT, "Segmentation mask 1.1": a zip. Each connected piece is an object.

    Attributes:
        least_area: objects of fewer pixels are left out.
    """

    least_area: Annotated[int, Range(0, 1_000_000_000)] = 1

    default_name: ClassVar[str] = "cvat-masks.zip"

    def write(self) -> str:
        """Write the archive."""
        masks, images = self.found()

        from subcam.export.cvat import export_cvat_masks

        export_cvat_masks(masks, self.target, images=images, least_area=self.least_area)
        return f"{self.target}: {len(masks.files)} images; upload it as 'Segmentation mask 1.1'"


@dataclass(frozen=True, kw_only=True)
class Program(Settings):
    """Which network to write as a program.

    Attributes:
        model: folder of a saved segmentation network, or of a run that trained one.
        out: the file; replaced as a whole if it is there.
        output: what the program gives at each pixel.
        input_type: type of the RGB images 0..255 that it takes.
    """

    model: Annotated[Path, tyro.conf.Positional]
    out: Path
    output: Literal["logits", "probabilities"] = "logits"
    input_type: Literal["uint8", "float32"] = "uint8"

    def network(self) -> "SegmentationNetwork":
        """The network; a wrong path is said before the imports that take seconds."""
        from subcam.predict.find_model import find_model

        folder = find_model(self.model)

        from subcam.networks.segmenter import SegmentationNetwork

        return SegmentationNetwork.load(folder)

    def export(self, network: "SegmentationNetwork", write: Callable[..., float], runtime: str) -> str:
        """Write the network and say how well it was met."""
        from subcam.runtime.progress import say

        say(f"writing {self.out} and comparing it with the network in {runtime}: takes minutes")
        difference = write(network, self.out, output=self.output, input_type=self.input_type)
        return f"{self.out}: differs by at most {difference:.1g} from the network in {runtime}"


@dataclass(frozen=True, kw_only=True)
class Onnx(Program):
    """A segmentation network as ONNX, compared in onnxruntime; needs onnx, onnxscript, onnxruntime."""

    def write(self) -> str:
        """Write the file."""
        network = self.network()

        from subcam.export.onnx_and_torch import export_onnx

        return self.export(network, export_onnx, "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Torch(Program):
    """A segmentation network as a program of torch.export (.pt2), which runs without this package."""

    def write(self) -> str:
        """Write the file."""
        network = self.network()

        from subcam.export.onnx_and_torch import export_torch

        return self.export(network, export_torch, "torch")


@dataclass(frozen=True, kw_only=True)
class Hub(Settings):
    """A model folder for the Hugging Face hub: config.json, model.safetensors and a card written from the run.

    Attributes:
        source: folder of a run, or of a saved network.
        out: the folder; of what is in it only these files are replaced.
    """

    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    out: Path
    settings: Annotated[FolderSettings, tyro.conf.arg(name="")] = field(default_factory=FolderSettings)

    def write(self) -> str:
        """Write the folder."""
        from subcam.hub import CARD_FILE, write_folder

        write_folder(self.source, self.out, self.settings)
        return f"{self.out}: read {self.out / CARD_FILE}, then send it with subcam.hub.push or `hf upload`"


FORMATS: dict[str, type[Any]] = {
    "voc": Voc,
    "coco-rle": CocoRle,
    "coco-panoptic": CocoPanoptic,
    "label-studio": LabelStudio,
    "cvat": Cvat,
    "cvat-masks": CvatMasks,
    "onnx": Onnx,
    "torch": Torch,
    "hub": Hub,
}


def export(words: list[str]) -> None:
    """`subcam export FORMAT [settings]`."""
    from subcam.runtime.progress import say

    if words[:1] in ([], ["-h"], ["--help"]):
        print(usage())
        return
    name, *rest = words
    if name not in FORMATS:
        raise SubcamError(f"there is no format {name!r} to export; there are: {', '.join(FORMATS)}")
    kind = FORMATS[name]
    say(read_flags(kind, rest, prog=f"subcam export {name}", description=_title(kind)).write())


def usage() -> str:
    """The formats and what they are."""
    lines = [f"  {name:<14} {_title(kind)}" for name, kind in FORMATS.items()]
    return "\n".join(["subcam export FORMAT ..., see subcam export FORMAT --help", "", *lines])


def _title(kind: type[Any]) -> str:
    return (kind.__doc__ or "").splitlines()[0]


def _ids(path: Path | None) -> "CocoIds | None":
    from subcam.export.coco import read_coco_ids

    return None if path is None else read_coco_ids(path)
