"""Settings of prediction: how a trained network is applied to images."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from subcam.checks.fields import BatchSize, Range, Scales, Settings, Threads
from subcam.crf.settings import CRFSettings
from subcam.data.settings import OnBadInput
from subcam.errors import SettingsError
from subcam.runtime.machine.settings import MachineSettings, Precision

DEEPLAB_CRF = CRFSettings(
    iterations=10,
    spatial_sigma=1.0,
    spatial_weight=3.0,
    bilateral_sigma_xy=67.0,
    bilateral_sigma_rgb=3.0,
    bilateral_weight=4.0,
)
"""What DeepLab-v2's published VOC models are followed by."""


@dataclass(frozen=True, kw_only=True)
class InferenceSettings(Settings):
    """How a trained network is applied to images.

    Attributes:
        scales: factors on the image's size; probabilities are averaged over them.
        flip: whether the mirror image counts too.
        tile: images with a side above this many pixels go through in tiles of this side; 0 never tiles.
        overlap: pixels that neighbouring tiles share at least. The outer quarter of it is left to the neighbour, so
            tiles change nothing where the network sees less than a quarter of it around a pixel.
        batch_size: images of equal size that pass the network together (twice as many with flips).
        crf: whether the dense CRF sharpens the probabilities before the best class is taken.
        crf_settings: the dense CRF; DeepLab-v2's.
        known_labels: whether images of a data set get a further mask in which only classes of their image-level
            labels occur, as in pseudo masks: what the network adds to them at equal knowledge.
    """

    scales: Scales = (1.0,)
    flip: bool = False
    tile: Annotated[int, Range(0, 1_000_000)] = 1024
    overlap: Annotated[int, Range(0, 500_000)] = 256
    batch_size: BatchSize = 4
    crf: bool = False
    crf_settings: CRFSettings = field(default_factory=lambda: DEEPLAB_CRF)
    known_labels: bool = False

    def check_together(self) -> None:
        """Tiles overlap by half of their side at most."""
        if self.tile and 2 * self.overlap > self.tile:
            raise SettingsError(
                f"expected an overlap of at most half of the tile, got tile {self.tile} and overlap {self.overlap}"
            )


@dataclass(frozen=True, kw_only=True)
class PredictSettings(Settings):
    """Settings of a prediction.

    Attributes:
        overlays: whether to write each image with its mask laid over it.
        probabilities: whether to write the probabilities of all classes, as float16; megabytes an image.
        on_bad_input: whether to leave out images that cannot be used, named in the end, or to stop at the first.
        accelerator: what computes; "auto" takes a GPU where there is one.
        devices: devices of this machine to use; each predicts its share of the images in a process of its own.
        num_nodes: machines, each with so many devices; torchrun or srun starts the command on each.
        precision: numbers of the network; "auto" takes bf16 where the processor or GPU has arithmetic for it.
        threads: threads of the network on the CPU, and of reading and writing; 0 takes all cores.
    """

    inference: InferenceSettings = field(default_factory=InferenceSettings)
    overlays: bool = True
    probabilities: bool = False
    on_bad_input: OnBadInput = "skip"
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: Annotated[int, Range(1, 1024)] = 1
    num_nodes: Annotated[int, Range(1, 65_536)] = 1
    precision: Precision | Literal["auto"] = "auto"
    threads: Threads = 0

    @property
    def resolved_precision(self) -> Precision:
        """What "auto" means on this machine."""
        return self.machine.resolved_inference_precision

    @property
    def machine(self) -> MachineSettings:
        """What the prediction runs on."""
        return MachineSettings(
            accelerator=self.accelerator,
            devices=self.devices,
            num_nodes=self.num_nodes,
            inference_precision=self.precision,
            threads=self.threads,
        )
