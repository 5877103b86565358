"""`SubCategoryCAM`: the method as one object. Settings in the constructor, images in `fit`, maps and masks out."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from subcam.cam.multiscale import multiscale_response
from subcam.cam.threshold import threshold_of_maps
from subcam.data.check import check_images
from subcam.data.dataset import ALL, Dataset, open_dataset
from subcam.data.images import read_image
from subcam.data.records import ImageSet
from subcam.errors import SettingsError
from subcam.maps_file import read_maps_file, write_maps_file
from subcam.networks.classifier import ClassificationNetwork
from subcam.pipeline import run
from subcam.recipes import RECIPES
from subcam.results import RunResult
from subcam.runtime import launch
from subcam.settings import RunSettings

Image = UInt8[np.ndarray, "height width 3"] | str | Path
"""RGB 0..255, or a file."""

PRESENT = 0.5
"""A class is taken to be in an image above this probability, where nobody says what is in it."""


class SubCategoryCAM:
    """Response maps from image-level labels by sub-category exploration.

    Args:
        settings: of the whole method, or the name of a recipe.

    Attributes, after `fit` or `load`:
        class_names_: the parent classes; maps and probabilities have their order, masks hold 0 for background and i + 1
            for class i.
        network_: the trained network, a torch module.
        threshold_: a pixel whose strongest response is not above it is background; as the settings give it, else chosen
            on the training images without masks, None where a folder that was loaded does not say.
        result_: after `fit` alone: every round with its scores.
    """

    def __init__(self, settings: RunSettings | str = "small") -> None:
        if isinstance(settings, str):
            if settings not in RECIPES:
                raise SettingsError(f"there is no recipe {settings!r}; there are: {', '.join(RECIPES)}")
            settings = RECIPES[settings]()
        self.settings = settings
        self.network_: ClassificationNetwork | None = None
        self.class_names_: tuple[str, ...] = ()
        self.threshold_: float | None = None
        self.result_: RunResult | None = None

    def __repr__(self) -> str:
        settings = self.settings
        state = f"{len(self.class_names_)} classes" if self.network_ else "not trained"
        return (
            f"<SubCategoryCAM: {settings.network.name}, {settings.rounds} rounds of sub-categories of"
            f" {'positions' if settings.subcategories == 'local' else 'images'}, {state}>"
        )

    def fit(self, dataset: ImageSet | Dataset | str | Path, *, out: Path | None = None) -> "SubCategoryCAM":
        """Train all rounds.

        Args:
            dataset: images with labels as a reader returned them, or a folder that `subcam run --data` takes. An
                `ImageSet` is scored as well where it has masks.
            out: the run's folder, in which a training that was cut off goes on; None works in a temporary one.
        """
        settings = self.settings
        if isinstance(dataset, str | Path):
            settings = replace(settings, dataset=replace(settings.dataset, root=str(dataset)))
        if out is None and launch.launched():
            raise SettingsError("several processes need a folder that all of them see; give fit(..., out=FOLDER)")
        with tempfile.TemporaryDirectory(prefix="subcam-") as temporary:
            folder = out or Path(temporary)
            if isinstance(dataset, str | Path):
                given = open_dataset(settings.dataset, work_folder=folder)
            else:
                given = dataset if isinstance(dataset, Dataset) else _dataset(dataset, settings)
            self.result_ = run(settings, folder, dataset=given)
            last = self.result_.last
            self._take(ClassificationNetwork.load(last.model.path))
            given_threshold = settings.evaluate.background_threshold
            if isinstance(given_threshold, str):
                records = given.train.image_set.records
                chosen = threshold_of_maps(records, last.maps.path, num_classes=len(self.class_names_))
                self.threshold_ = chosen.threshold
            else:
                self.threshold_ = given_threshold
        return self

    def response_maps(
        self, image: Image, labels: Sequence[str] | None = None
    ) -> Float32[np.ndarray, "classes height width"]:
        """Response maps of one image (Eq. 1), over the settings' scales and flips, in 0..1.

        Args:
            image: RGB 0..255, or a file.
            labels: names of what is in it; the other classes' maps are zero. None computes all classes, each
                normalised by its own maximum.

        Raises:
            SettingsError: nothing was trained or loaded yet, or a name is no class.
            BadInputError: the file is no image.
        """
        network = self._trained()
        pixels = _pixels(image)
        unknown = set(labels or ()) - set(self.class_names_)
        if unknown:
            raise SettingsError(f"{sorted(unknown)} are no classes of this model; they are {list(self.class_names_)}")
        present = torch.tensor([[labels is None or name in labels for name in self.class_names_]], dtype=torch.uint8)
        cam = self.settings.cam
        found = multiscale_response(
            network,
            _batch(pixels, network),
            present,
            scales=cam.scales,
            flip=cam.flip,
            attention_layers=cam.attention_layers,
            attention_steps=cam.attention_steps,
        )[0].maps
        maps = np.zeros((len(self.class_names_), *pixels.shape[:2]), np.float32)
        maps[present[0].bool().numpy()] = found.cpu().numpy()
        return maps

    def probabilities(self, image: Image) -> Float32[np.ndarray, " classes"]:
        """How likely the image shows each class, 0..1, at its own size.

        Raises:
            SettingsError: nothing was trained or loaded yet.
            BadInputError: the file is no image.
        """
        network = self._trained()
        with torch.inference_mode():
            found = network(_batch(_pixels(image), network)).parent[0].float().sigmoid()
        return found.cpu().numpy()

    def predict(
        self, image: Image, labels: Sequence[str] | None = None, *, threshold: float | None = None
    ) -> UInt8[np.ndarray, "height width"]:
        """The mask that the response maps make: 0 background, i + 1 class i. Without CRF, random walk or segmentation.

        Args:
            image: RGB 0..255, or a file.
            labels: names of what is in it; None takes the classes that are more likely there than not.
            threshold: of the background, 0..1; None takes `threshold_`.

        Raises:
            SettingsError: as `response_maps`; or no threshold is known and none is given.
            BadInputError: the file is no image.
        """
        limit = self.threshold_ if threshold is None else threshold
        if limit is None:
            raise SettingsError("no background threshold came with this model; give one, such as threshold=0.3")
        pixels = _pixels(image)
        if labels is None:
            shares = self.probabilities(pixels)
            labels = [name for name, share in zip(self.class_names_, shares, strict=True) if share > PRESENT]
        maps = self.response_maps(pixels, labels)
        return np.where(maps.max(0) > limit, maps.argmax(0) + 1, 0).astype(np.uint8)

    def save(self, folder: Path | str) -> None:
        """Write the network (`config.json`, `model.safetensors`) and how its maps are computed and cut."""
        self._trained().save(Path(folder))
        write_maps_file(Path(folder), self.settings.cam, self.threshold_)

    @classmethod
    def load(cls, folder: Path | str) -> "SubCategoryCAM":
        """Read what `save` wrote, or the network of a run's round (`stages/round3-classify-...`).

        Raises:
            CheckpointError: a file is missing or does not fit; names it.
        """
        model = cls()
        found = read_maps_file(Path(folder))
        if found is not None:
            cam, model.threshold_ = found
            model.settings = replace(model.settings, cam=cam)
        model._take(ClassificationNetwork.load(Path(folder)))
        return model

    def _take(self, network: ClassificationNetwork) -> None:
        self.network_ = network.to(memory_format=torch.channels_last).eval()
        self.class_names_ = network.config.class_names

    def _trained(self) -> ClassificationNetwork:
        if self.network_ is None:
            raise SettingsError("this model was not trained yet; call fit or load first")
        return self.network_


def _pixels(image: Image) -> UInt8[np.ndarray, "height width 3"]:
    return read_image(Path(image)) if isinstance(image, str | Path) else image


def _batch(
    pixels: UInt8[np.ndarray, "height width 3"], network: ClassificationNetwork
) -> UInt8[torch.Tensor, "1 3 height width"]:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].to(network.parent_head.weight.device)


def _dataset(image_set: ImageSet, settings: RunSettings) -> Dataset:
    checked = check_images(image_set, on_bad_input=settings.dataset.on_bad_input)
    return Dataset(train=checked, scored={ALL: checked} if checked.image_set.has_masks else {})
