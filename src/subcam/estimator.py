"""`SubCategoryCAM`: the method as one object. Settings in the constructor, pictures in `fit`, maps out."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from subcam.cam.multiscale import multiscale_response
from subcam.cam.stage import CamSettings
from subcam.classify.network import ClassificationNetwork
from subcam.data.check import check_images
from subcam.data.dataset import ALL, Dataset
from subcam.data.images import read_image
from subcam.data.records import ImageSet
from subcam.errors import SettingsError
from subcam.pipeline import run
from subcam.recipes import RECIPES
from subcam.results import RunResult
from subcam.run_folder import from_plain, read_json, write_json
from subcam.settings import RunSettings

MAPS_FILE = "response_maps.json"


class SubCategoryCAM:
    """Response maps from image-level labels by sub-category exploration.

    Args:
        settings: of the whole method, or the name of a recipe.

    After `fit` or `load`, `class_names_` are the parent classes and `network_` the trained network; after `fit`,
    `result_` holds every round with its scores.
    """

    def __init__(self, settings: RunSettings | str = "small") -> None:
        if isinstance(settings, str):
            if settings not in RECIPES:
                raise SettingsError(f"there is no recipe {settings!r}; there are: {', '.join(RECIPES)}")
            settings = RECIPES[settings]()
        self.settings = settings
        self.network_: ClassificationNetwork | None = None
        self.class_names_: tuple[str, ...] = ()
        self.result_: RunResult | None = None

    def fit(self, dataset: ImageSet | Dataset | str | Path, *, out: Path | None = None) -> "SubCategoryCAM":
        """Train all rounds.

        Args:
            dataset: pictures with labels as a reader returned them, or a folder that `subcam run --data` takes. An
                `ImageSet` is scored as well where it has masks.
            out: the run's folder, in which a training that was cut off goes on; None works in a temporary one.
        """
        if isinstance(dataset, str | Path):
            given = None
            settings = replace(self.settings, dataset=replace(self.settings.dataset, root=str(dataset)))
        else:
            settings = self.settings
            given = dataset if isinstance(dataset, Dataset) else _dataset(dataset, settings)
        with tempfile.TemporaryDirectory(prefix="subcam-") as temporary:
            self.result_ = run(settings, out or Path(temporary), dataset=given)
            self._take(ClassificationNetwork.load(self.result_.last.model.path))
        return self

    def response_maps(
        self,
        image: UInt8[np.ndarray, "height width 3"] | str | Path,
        labels: Sequence[str] | None = None,
    ) -> Float32[np.ndarray, "classes height width"]:
        """Response maps of one picture (Eq. 1), over the settings' scales and flips, in 0..1.

        Args:
            image: RGB 0..255, or a file.
            labels: names of what is in it; the other classes' maps are zero. None computes all classes, each
                normalised by its own maximum.

        Raises:
            SettingsError: nothing was trained or loaded yet, or a name is no class.
            BadInputError: the file is no picture.
        """
        network = self._trained()
        pixels = read_image(Path(image)) if isinstance(image, str | Path) else image
        unknown = set(labels or ()) - set(self.class_names_)
        if unknown:
            raise SettingsError(f"{sorted(unknown)} are no classes of this model; they are {list(self.class_names_)}")
        present = torch.tensor([[labels is None or name in labels for name in self.class_names_]], dtype=torch.uint8)
        device = network.parent_head.weight.device
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(device)
        cam = self.settings.cam
        found = multiscale_response(network, batch, present, scales=cam.scales, flip=cam.flip)[0].maps
        maps = np.zeros((len(self.class_names_), *pixels.shape[:2]), np.float32)
        maps[present[0].bool().numpy()] = found.cpu().numpy()
        return maps

    def save(self, folder: Path | str) -> None:
        """Write the network (`config.json`, `model.safetensors`) and the settings of its response maps."""
        self._trained().save(Path(folder))
        write_json(Path(folder) / MAPS_FILE, self.settings.cam)

    @classmethod
    def load(cls, folder: Path | str) -> "SubCategoryCAM":
        """Read what `save` wrote, or the network of a run's round (`stages/round3-classify-...`).

        Raises:
            CheckpointError: a file is missing or does not fit; names it.
        """
        model = cls()
        path = Path(folder) / MAPS_FILE
        if path.is_file():
            model.settings = replace(model.settings, cam=from_plain(CamSettings, read_json(path)))
        model._take(ClassificationNetwork.load(Path(folder)))
        return model

    def _take(self, network: ClassificationNetwork) -> None:
        self.network_ = network.to(memory_format=torch.channels_last).eval()
        self.class_names_ = network.config.class_names

    def _trained(self) -> ClassificationNetwork:
        if self.network_ is None:
            raise SettingsError("this model was not trained yet; call fit or load first")
        return self.network_


def _dataset(image_set: ImageSet, settings: RunSettings) -> Dataset:
    checked = check_images(image_set, on_bad_input=settings.dataset.on_bad_input)
    return Dataset(train=checked, scored={ALL: checked} if checked.image_set.has_masks else {})
