"""`subcam.load`: the best model that a folder holds, and the masks that it makes of images, one after the other.

In: a run's folder, a saved network's, or what `SubCategoryCAM.save` wrote. Out: masks as arrays with names of classes.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from subcam.checks.arguments import takes_arrays
from subcam.crf.dense_crf import dense_crf_many
from subcam.data.images import read_image
from subcam.data.readers.class_names import BACKGROUND_NAME
from subcam.errors import CheckpointError
from subcam.estimator import SubCategoryCAM
from subcam.hub.folder import kind_of
from subcam.networks.networks_of_run import CONFIG_FILE
from subcam.networks.segmenter import SegmentationNetwork
from subcam.predict.find_images import find_images
from subcam.predict.settings import InferenceSettings
from subcam.predict.tiles import segment_labels, segment_probabilities
from subcam.results import read_run
from subcam.runtime.run_folder import RECORD

Named = tuple[Path | None, np.ndarray]
"""An image and where it was read from; None for an array."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The mask of one image.

    image: the path that it was read from; None for an array.
    mask: 0 background, i + 1 class i of the model, at the size of the image.
    class_names: what the mask's values are called, background first.
    """

    image: Path | None
    mask: UInt8[np.ndarray, "height width"]
    class_names: tuple[str, ...]

    @property
    def present(self) -> dict[str, float]:
        """The classes in the mask and their shares of its pixels, the largest first; background is not among them."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.class_names))
        shares = {self.class_names[value]: float(counts[value] / self.mask.size) for value in counts.nonzero()[0]}
        shares.pop(BACKGROUND_NAME, None)
        return dict(sorted(shares.items(), key=lambda entry: -entry[1]))


class Model:
    """What makes masks of images without labels: a segmentation network, or else response maps of a classifier.

    Attributes:
        network: which of the two it is; a torch module, or the fitted `SubCategoryCAM`.
        settings: how a segmentation network is applied; a run's own, else the defaults.
        class_names: what the values of masks are called, background first.
    """

    def __init__(
        self, network: SegmentationNetwork | SubCategoryCAM, settings: InferenceSettings | None = None
    ) -> None:
        self.network, self.settings = network, settings or InferenceSettings()
        own = network.config.class_names if isinstance(network, SegmentationNetwork) else network.class_names_
        self.class_names: tuple[str, ...] = (BACKGROUND_NAME, *own)

    def __repr__(self) -> str:
        return f"<Model: {type(self.network).__name__}, {len(self.class_names) - 1} classes>"

    def predict(self, images: Any) -> Iterator[Prediction]:
        """The masks of images, each as soon as it is made; at most a batch of images is in memory.

        Args:
            images: a file, a folder whose images are meant, an RGB image 0..255 as an array, tensor or PIL image; or
                an iterable of these, which is read as masks are asked for. Images of one size that follow each other
                pass the network together (`settings.batch_size`).

        Raises:
            BadInputError: a file is no image.
            TypeError, ValueError: an array is no RGB image in uint8.
        """
        for batch in self._batches(_each(images)):
            pixels = [image for _, image in batch]
            for (path, _), mask in zip(batch, self._masks(pixels), strict=True):
                yield Prediction(image=path, mask=mask, class_names=self.class_names)

    def _batches(
        self, images: Iterator[tuple[Path | None, np.ndarray]]
    ) -> Iterator[list[tuple[Path | None, np.ndarray]]]:
        """Images of one size that follow each other, as many as go through the network together."""
        most = self.settings.batch_size if isinstance(self.network, SegmentationNetwork) else 1
        batch: list[Named] = []
        for path, image in images:
            if batch and (len(batch) == most or batch[0][1].shape != image.shape):
                yield batch
                batch = []
            batch.append((path, image))
        if batch:
            yield batch

    def _masks(self, images: Sequence[np.ndarray]) -> Iterator[UInt8[np.ndarray, "height width"]]:
        if isinstance(self.network, SubCategoryCAM):
            yield from map(self.network.predict, images)
            return
        where = next(self.network.parameters()).device
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(where)
        if not self.settings.crf:
            with torch.inference_mode():
                labels = segment_labels(self.network, stacked, settings=self.settings).cpu().numpy()
            yield from labels
            return
        with torch.inference_mode():
            probabilities = segment_probabilities(self.network, stacked, settings=self.settings).float().cpu().numpy()
        for image, scores in zip(images, probabilities, strict=True):
            refined = dense_crf_many(image, [scores], settings=self.settings.crf_settings)[0]
            yield refined.argmax(0).astype(np.uint8)


def load(folder: Path | str, *, settings: InferenceSettings | None = None, device: str = "auto") -> Model:
    """The best model that a folder holds, ready to predict.

    Of a run it is the segmentation network that `subcam predict` takes, applied as the run's last stage did; of a run
    without one the last round's response maps, refined as the run refined them.

    Args:
        folder: of a run, of a saved network, or what `SubCategoryCAM.save` wrote.
        settings: how a segmentation network is applied, if not as the run did.
        device: of torch, such as "cuda:0"; "auto" takes a GPU where there is one.

    Raises:
        CheckpointError: there is no model in the folder, or it is damaged.
        RunFolderError: the run's record is damaged.
    """
    folder = Path(folder)
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else torch.device(device)
    if not os.path.isdir(folder):  # noqa: PTH112 - that of `Path` raises where a path is longer than paths can be
        raise CheckpointError(f"{folder!s:.300}: no such folder; give that of a run or of a saved network")
    if not (folder / CONFIG_FILE).is_file() and (folder / RECORD).is_file():
        run = read_run(folder)
        if not run.result.segmented:
            return Model(_on(SubCategoryCAM.load(folder), where))
        settings = settings or run.result.settings.segment.predict
    elif kind_of(folder) == "classification":
        return Model(_on(SubCategoryCAM.load(folder), where))
    network = SegmentationNetwork.load(folder).eval()
    return Model(network.to(device=where, memory_format=torch.channels_last), settings)  # type: ignore[call-overload]


def _on(model: SubCategoryCAM, device: torch.device) -> SubCategoryCAM:
    for network in (model.network_, model.segmenter_):
        if network is not None:
            network.to(device)
    return model


def _each(images: Any) -> Iterator[Named]:
    """Every image with its path, read when it is asked for."""
    if isinstance(images, str | Path):
        path = Path(images)
        for file in [record.image for record in find_images([path]).records] if path.is_dir() else [path]:
            yield Path(file), read_image(Path(file))
    elif hasattr(images, "__array__") or not isinstance(images, Iterable):
        yield None, _pixels(images)
    else:
        for image in images:
            yield from _each(image)


@takes_arrays()
def _pixels(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
    return image
