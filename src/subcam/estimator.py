"""`SubCategoryCAM`: the method as one object. Settings in the constructor, images in `fit`, maps and masks out."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from subcam.cam.multiscale import multiscale_response
from subcam.cam.response import background_score
from subcam.cam.settings import read_maps_file, write_maps_file
from subcam.cam.threshold import threshold_of_maps
from subcam.checks.arguments import takes_arrays
from subcam.crf.dense_crf import dense_crf_many
from subcam.crf.settings import CRFSettings
from subcam.data.check import check_images
from subcam.data.dataset import ALL, Dataset, open_dataset
from subcam.data.images import read_image
from subcam.data.records import ImageSet, require_room
from subcam.errors import CheckpointError, SettingsError
from subcam.networks.classifier import ClassificationNetwork
from subcam.networks.networks_of_run import CONFIG_FILE
from subcam.networks.segmenter import SegmentationNetwork
from subcam.pipeline import run
from subcam.predict.settings import InferenceSettings
from subcam.predict.tiles import segment_probabilities
from subcam.recipes import RECIPES
from subcam.refine.alphas import alpha_of
from subcam.refine.variants import AUTO, Auto
from subcam.results import RunResult, read_run
from subcam.runtime import launch
from subcam.runtime.documents.plain_values import from_plain
from subcam.runtime.files import read_json, write_json
from subcam.runtime.run_folder import RECORD
from subcam.settings import RunSettings
from subcam.stages.settings.given import GivenMasksSettings

Image = UInt8[np.ndarray, "height width 3"] | str | Path
"""RGB 0..255, or a file."""

PRESENT = 0.5
"""A class is taken to be in an image above this probability, where nobody says what is in it."""

Source = Literal["segmentation", "crf", "maps"]
"""Where masks come from, the best first: a segmentation network that learned from pseudo masks, response maps refined
by a dense CRF, or response maps cut at the background threshold."""

MASKS_FILE = "masks.json"
SEGMENTATION_FOLDER = "segmentation"


@dataclass(frozen=True, kw_only=True)
class _MasksFile:
    """What `masks.json` holds: how `predict` makes masks."""

    source: Source
    crf_alpha: float | Auto
    crf: CRFSettings
    inference: InferenceSettings


class SubCategoryCAM:
    """Response maps from image-level labels by sub-category exploration.

    Args:
        settings: of the whole method, or the name of a recipe.

    Attributes, after `fit` or `load`:
        class_names_: the parent classes; maps and probabilities have their order, masks hold 0 for background and i + 1
            for class i.
        network_: the trained classifier, a torch module.
        segmenter_: the segmentation network that was trained on the pseudo masks; None where none was.
        source_: where the masks of `predict` come from: "segmentation", "crf" or "maps".
        threshold_: a pixel whose strongest response is not above it is background; as the settings give it, else chosen
            on the training images without masks, None where a folder that was loaded does not say.
        result_: after `fit` alone: every round with its scores.
    """

    def __init__(self, settings: RunSettings | str = "small") -> None:
        self.settings = _settings(settings)
        self.network_: ClassificationNetwork | None = None
        self.segmenter_: SegmentationNetwork | None = None
        self.source_: Source = "maps"
        self.class_names_: tuple[str, ...] = ()
        self.threshold_: float | None = None
        self._alpha_of_masks: float | None = None
        self.result_: RunResult | None = None

    def __repr__(self) -> str:
        settings = self.settings
        state = f"{len(self.class_names_)} classes" if self.network_ else "not trained"
        return (
            f"<SubCategoryCAM: {settings.network.name}, {settings.rounds} rounds of"
            f" {'prototypes' if settings.route == 'prototypes' else 'sub-categories of images'}, {state}>"
        )

    def fit(self, dataset: ImageSet | Dataset | str | Path, *, out: Path | str | None = None) -> "SubCategoryCAM":
        """Train all rounds.

        Args:
            dataset: images with labels as a reader returned them, or a folder that `subcam run --data` takes. An
                `ImageSet` is scored as well where it has masks.
            out: the run's folder, in which an interrupted training resumes; None works in a temporary one.
        """
        settings = self.settings
        if isinstance(dataset, str | Path):
            settings = replace(settings, dataset=replace(settings.dataset, root=str(dataset)))
        if out is None and launch.launched():
            raise SettingsError("several processes need a folder that all of them see; give fit(..., out=FOLDER)")
        with tempfile.TemporaryDirectory(prefix="subcam-") as temporary:
            folder = Path(out or temporary)
            if isinstance(dataset, str | Path):
                given = open_dataset(settings.dataset, work_folder=folder)
            else:
                given = dataset if isinstance(dataset, Dataset) else _dataset(dataset, settings)
            self.result_ = run(settings, folder, dataset=given)
            last = self.result_.last
            self._take_run(self.result_)
            given_threshold = settings.evaluate.background_threshold
            if isinstance(given_threshold, str):
                records = given.train.image_set.records
                chosen = threshold_of_maps(records, last.responses.path, num_classes=len(self.class_names_))
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
        self._check(labels or ())
        present = torch.tensor([[labels is None or name in labels for name in self.class_names_]], dtype=torch.uint8)
        cam = self.settings.cam
        response = multiscale_response(
            network,
            _batch(pixels, network),
            present,
            scales=cam.scales,
            flip=cam.flip,
            attention_layers=cam.attention_layers,
            attention_steps=cam.attention_steps,
        )[0].maps
        maps = np.zeros((len(self.class_names_), *pixels.shape[:2]), np.float32)
        maps[present[0].bool().numpy()] = response.cpu().numpy()
        return maps

    def probabilities(self, image: Image) -> Float32[np.ndarray, " classes"]:
        """How likely the image shows each class, 0..1, at its own size.

        Raises:
            SettingsError: nothing was trained or loaded yet.
            BadInputError: the file is no image.
        """
        network = self._trained()
        with torch.inference_mode():
            shares = network(_batch(_pixels(image), network)).parent[0].float().sigmoid()
        return shares.cpu().numpy()

    def predict(
        self,
        image: Image,
        labels: Sequence[str] | None = None,
        *,
        threshold: float | None = None,
        source: Source | None = None,
    ) -> UInt8[np.ndarray, "height width"]:
        """The best mask that this model can make of an image: 0 background, i + 1 class i. `source_` says how.

        A segmentation network makes it where one was trained; else the response maps with a dense CRF on top, where
        refinement was on; else the response maps, cut at the background threshold.

        Args:
            image: RGB 0..255, or a file.
            labels: names of what is in it; no other class is in the mask. None lets the segmentation network choose
                among all; response maps then take the classes that are more likely in the image than not.
            threshold: of the background of response maps, 0..1; giving one means `source="maps"`. None takes
                `threshold_`.
            source: where the mask comes from; None takes `source_`.

        Raises:
            SettingsError: as `response_maps`; this model has no segmentation network; or no threshold is known and none
                is given.
            BadInputError: the file is no image.
        """
        self._trained()
        source = source or ("maps" if threshold is not None else self.source_)
        if threshold is not None and source != "maps":
            raise SettingsError(f"a threshold cuts response maps and nothing else; leave it out for source={source!r}")
        pixels = _pixels(image)
        if source == "segmentation":
            return self._segmented(pixels, labels)
        limit = self.threshold_ if threshold is None else threshold
        if limit is None and source == "maps":
            raise SettingsError("no background threshold came with this model; give one, such as threshold=0.3")
        if labels is None:
            shares = self.probabilities(pixels)
            labels = [name for name, share in zip(self.class_names_, shares, strict=True) if share > PRESENT]
        maps = self.response_maps(pixels, labels)
        if source == "maps":
            return np.where(maps.max(0) > limit, maps.argmax(0) + 1, 0).astype(np.uint8)
        channels = self._channels(labels)
        own = torch.from_numpy(maps[[channel - 1 for channel in channels[1:]]])
        if not len(own):
            return np.zeros(pixels.shape[:2], np.uint8)
        masks = self.settings.refine.masks
        alpha = self._crf_alpha()
        if isinstance(alpha, str):
            raise SettingsError("no alpha came with this model; give settings with a number as refine.masks.crf_alpha")
        scores = torch.cat([background_score(own, alpha)[None], own]).numpy()
        return channels[dense_crf_many(pixels, [scores], settings=masks.crf)[0].argmax(0)]

    def _crf_alpha(self) -> float | Auto:
        """The background score's exponent before the CRF; one that was to be chosen is that of the masks."""
        alpha = self.settings.refine.masks.crf_alpha
        if not isinstance(alpha, str):
            return alpha
        if self._alpha_of_masks is not None:
            return self._alpha_of_masks
        return AUTO if self.threshold_ is None else alpha_of(self.threshold_)

    def _segmented(
        self, pixels: UInt8[np.ndarray, "height width 3"], labels: Sequence[str] | None
    ) -> UInt8[np.ndarray, "height width"]:
        """The segmentation network's mask, as the run's last stage makes it."""
        if self.segmenter_ is None:
            raise SettingsError("this model has no segmentation network; fit it with segment.train_on 'pseudo'")
        channels = self._channels(self.class_names_ if labels is None else labels)
        settings = self.settings.segment.predict
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(next(self.segmenter_.parameters()).device)
            scores = segment_probabilities(self.segmenter_, batch, settings=settings)[0].float().cpu().numpy()[channels]
        if settings.crf and len(scores) > 1:
            scores = dense_crf_many(pixels, [scores / scores.sum(0)], settings=settings.crf_settings)[0]
        return channels[scores.argmax(0)]

    def _channels(self, labels: Sequence[str]) -> UInt8[np.ndarray, " present"]:
        """The values of background and these classes in a mask."""
        self._check(labels)
        return np.array([0, *(i + 1 for i, name in enumerate(self.class_names_) if name in labels)], np.uint8)

    def _check(self, labels: Sequence[str]) -> None:
        unknown = set(labels) - set(self.class_names_)
        if unknown:
            raise SettingsError(f"{sorted(unknown)} are no classes of this model; they are {list(self.class_names_)}")

    def save(self, folder: Path | str) -> None:
        """Write the classifier (`config.json`, `model.safetensors`) and how maps and masks are computed.

        A segmentation network goes into the sub-folder `segmentation`.
        """
        folder, masks = Path(folder), self.settings.refine.masks
        self._trained().save(folder)
        write_maps_file(folder, self.settings.cam, self.threshold_)
        if self.segmenter_ is not None:
            self.segmenter_.save(folder / SEGMENTATION_FOLDER)
        inference = self.settings.segment.predict
        how = _MasksFile(source=self.source_, crf_alpha=self._crf_alpha(), crf=masks.crf, inference=inference)
        write_json(folder / MASKS_FILE, how)

    @classmethod
    def load(cls, folder: Path | str) -> "SubCategoryCAM":
        """Read what `save` wrote, a run's folder, or the network of one of its rounds (`stages/round3-classify-...`).

        Raises:
            CheckpointError: a file is missing or does not fit; names it.
        """
        folder = Path(folder)
        if not (folder / CONFIG_FILE).is_file() and (folder / RECORD).is_file():
            run = read_run(folder)
            model = cls(run.result.settings)
            model._take_run(run.result)
            model.threshold_ = run.threshold
            return model
        model = cls()
        maps_file = read_maps_file(folder)
        if maps_file is not None:
            cam, model.threshold_ = maps_file
            model.settings = replace(model.settings, cam=cam)
        model._take(ClassificationNetwork.load(folder))
        if (folder / MASKS_FILE).is_file():
            model._take_masks_file(folder)
        return model

    def _take_run(self, result: RunResult) -> None:
        """The networks of a run, and where its best masks come from."""
        self._take(ClassificationNetwork.load(result.last.classifier.path))
        learned = [network for network in result.segmented if network.trained_on != "truth"]
        self.segmenter_ = _ready(SegmentationNetwork.load(learned[-1].model.path)) if learned else None
        self.source_ = "segmentation" if learned else "crf" if result.refined else "maps"
        made = result.refined[-1].made if result.refined else None
        self._alpha_of_masks = made.crf_alpha if made else None

    def _take_masks_file(self, folder: Path) -> None:
        try:
            content = from_plain(_MasksFile, read_json(folder / MASKS_FILE))
            self.settings = self.settings.with_(
                {
                    "refine.masks.crf_alpha": content.crf_alpha,
                    "refine.masks.crf": content.crf,
                    "segment.predict": content.inference,
                }
            )
            self.source_ = content.source
        except (TypeError, SettingsError) as error:
            raise CheckpointError(
                f"{folder / MASKS_FILE} does not say how masks are made ({error}); copy the folder again"
            ) from error
        if self.source_ == "segmentation":
            self.segmenter_ = _ready(SegmentationNetwork.load(folder / SEGMENTATION_FOLDER))

    def _take(self, network: ClassificationNetwork) -> None:
        require_room(network.config.class_names, where="the classifier")
        self.network_ = network.to(memory_format=torch.channels_last).eval()
        self.class_names_ = network.config.class_names

    def _trained(self) -> ClassificationNetwork:
        if self.network_ is None:
            raise SettingsError("this model was not trained yet; call fit or load first")
        return self.network_


@takes_arrays()
def segment(
    masks: Path | str,
    data: Path | str,
    *,
    out: Path | str,
    settings: RunSettings | str = "small",
    classes: Sequence[str] = (),
    unknown: Literal["stop", "ignore"] = "stop",
) -> RunResult:
    """Train a segmentation network on a folder of masks, as `subcam segment --masks` does; `load(out)` then predicts.

    Args:
        masks: a folder of indexed PNGs named after the training images, 255 where nothing is known; or a run's folder.
        data: what `--data` takes.
        out: the run's folder, in which an interrupted training resumes.
        settings: of the run, or the name of a recipe.
        classes: what the values 1, 2, ... of the masks are called; none takes those of `classes.txt` or `classes.csv`
            in the folder, else the data set's in its order.
        unknown: what to do about pixels of a class that the data set does not have: stop, or learn nothing from them.

    Raises:
        SubcamError: as `run`; or a mask is missing or cannot be used.
    """
    given = GivenMasksSettings(folder=str(masks), classes=tuple(classes), unknown=unknown)
    changes = {"dataset.root": str(data), "given_masks": given, "until": "segment", "segment.train_on": ("pseudo",)}
    recipe = settings if isinstance(settings, str) else ""
    return run(_settings(settings).with_({"until_round": None} | changes), Path(out), recipe=recipe)


def _settings(settings: RunSettings | str) -> RunSettings:
    """The settings of a recipe by its name, or these."""
    if not isinstance(settings, str):
        return settings
    if settings not in RECIPES:
        raise SettingsError(f"there is no recipe {settings!r}; there are: {', '.join(RECIPES)}")
    return RECIPES[settings]()


def _ready(network: SegmentationNetwork) -> SegmentationNetwork:
    return network.to(memory_format=torch.channels_last).eval()


def _pixels(image: Image) -> UInt8[np.ndarray, "height width 3"]:
    return read_image(Path(image)) if isinstance(image, str | Path) else image


def _batch(
    pixels: UInt8[np.ndarray, "height width 3"], network: ClassificationNetwork
) -> UInt8[torch.Tensor, "1 3 height width"]:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].to(network.parent_head.weight.device)


def _dataset(image_set: ImageSet, settings: RunSettings) -> Dataset:
    checked = check_images(image_set, on_bad_input=settings.dataset.on_bad_input)
    return Dataset(train=checked, scored={ALL: checked} if checked.classes_in_masks else {})
