"""How long stages will take, from what others took in this process: the same kind of work, or work like it.

A stage's work is counted in megapixels that pass a network, forwards or forwards and backwards, and that pass kernels
of the processor such as the dense CRF. Numbers below say how the kinds of work compare; how fast they go is measured.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from subcam.crf.settings import CRFSettings
from subcam.data.check import CheckedImages
from subcam.stages import cam, classify, confidence, discover, evaluate, predict, prototypes, segment
from subcam.stages.context import PlannedStage
from subcam.stages.given import corrections
from subcam.stages.given import maps as given_maps
from subcam.stages.given import masks as given_masks
from subcam.stages.refine import affinity, alphas, pseudo_masks, random_walk, sure_regions
from subcam.training.loop import total_steps

MOST_ASSUMED = 0.5
"""Of a time that is said at most this share may rest on work of which nothing was measured in this run."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a stage does, in seconds of one core of the machine on which kinds of work were compared.

    kind: stages of one kind differ in amount alone.
    network, processor: the parts that pass networks, and the rest.
    """

    kind: str
    network: float = 0.0
    processor: float = 0.0

    @property
    def amount(self) -> float:
        """Both parts."""
        return self.network + self.processor


def work_of(planned: PlannedStage) -> Work | None:
    """What a planned stage will do; None where nothing is known of it, such as of another program's method."""
    count = _COUNTED.get(planned.work)
    if count is None or planned.given.get("comparison") is not None or planned.given.get("method") is not None:
        return None
    network, processor = count(planned.given)
    return Work(kind=f"{planned.work.__module__}.{planned.work.__name__}", network=network, processor=processor)


@dataclass
class Costs:
    """What was measured in this process, by kind of work: seconds, and the amount that they were spent on.

    threads: that the processor's part may take.
    """

    threads: int = 1
    _seconds: dict[str, tuple[float, Work]] = field(default_factory=dict)

    def measured(self, work: Work, seconds: float) -> None:
        """Work of this kind took so long; the last of a kind counts."""
        if work.amount and seconds > 0:
            self._seconds[work.kind] = (seconds, work)

    def seconds_of(self, works: Sequence[Work], *, beside: float = 0.0) -> float | None:
        """How long all of this takes, with what is known to take `beside` seconds; None where too much is unknown."""
        of_network, of_processor = self._pace("network"), self._pace("processor")
        total, assumed = beside, 0.0
        for work in works:
            if work.kind in self._seconds:
                seconds, known = self._seconds[work.kind]
                total += seconds * work.amount / known.amount
                continue
            if work.network and of_network is None:
                return None
            total += work.network * (of_network or 0.0)
            if of_processor is None:
                assumed += work.processor / self.threads
            else:
                total += work.processor * of_processor
        total += assumed
        return None if assumed > MOST_ASSUMED * total else total

    def _pace(self, part: str) -> float | None:
        """Seconds of this machine for one of the other, over the kinds that have no other part; None without any."""
        pure = [(seconds, work) for seconds, work in self._seconds.values() if getattr(work, part) == work.amount]
        amount = sum(work.amount for _, work in pure)
        return sum(seconds for seconds, _ in pure) / amount if amount else None


# Seconds a megapixel, rounded: recipe small with MobileNetV2 on one thread, 60 photographs of voc-animals.
CLASSIFY, AFFINITY, SEGMENT = 0.9, 1.3, 2.1
MAPS, FEATURES, SEGMENTED = 0.2, 0.4, 0.4
WALK, SCORED, RATED = 1.5, 0.2, 0.1
CRF = 0.25
"""Of ten iterations where colours are told apart by 13 of 255; finer colours make the lattice larger."""

Given = Mapping[str, Any]


def _megapixels(images: CheckedImages) -> float:
    return sum(height * width for height, width in images.sizes) / 1e6


def _trained(settings: Any, images: CheckedImages) -> float:
    """Megapixels of all crops of a training."""
    batch_size = min(settings.batch_size, len(images.image_set))
    steps = total_steps(
        images=len(images.image_set),
        batch_size=batch_size,
        epochs=settings.epochs,
        least_steps=settings.least_steps,
    )
    return steps * batch_size * settings.augmentation.crop**2 / 1e6


def _passes(settings: Any) -> float:
    """How many times its own pixels an image gives a network, over scales and flips."""
    return sum(scale * scale for scale in settings.scales) * (1 + settings.flip)


def _crf(settings: CRFSettings) -> float:
    return CRF * settings.iterations / 10 * 13 / max(1.0, settings.bilateral_sigma_rgb)


def _segment(given: Given) -> tuple[float, float]:
    settings, scales = given["settings"], given["config"].multi_scale_inputs
    trained = _trained(settings, given["images"]) * (1 + sum(scale * scale for scale in scales))
    validated = 0.0
    if given["validation"] is not None and settings.validate_every:
        validated = _megapixels(given["validation"]) * settings.epochs / settings.validate_every
    return SEGMENT * trained + SEGMENTED * validated, 0.0


def _predict(given: Given) -> tuple[float, float]:
    settings, size = given["settings"], _megapixels(given["images"])
    sharpened = settings.crf * (1 + settings.known_labels)
    return SEGMENTED * _passes(settings) * size, _crf(settings.crf_settings) * sharpened * size


def _masks(given: Given) -> tuple[float, float]:
    variants = 2 if given["walked"] is not None and given["scored"] else 1
    return 0.0, _crf(given["settings"].crf) * variants * _megapixels(given["images"])


def _each_pixel(network: float, processor: float) -> Callable[[Given], tuple[float, float]]:
    def count(given: Given) -> tuple[float, float]:
        size = _megapixels(given["images"])
        return network * size, processor * size

    return count


_COUNTED: dict[Callable[..., None], Callable[[Given], tuple[float, float]]] = {
    classify.run: lambda given: (CLASSIFY * _trained(given["settings"], given["images"]), 0.0),
    affinity.run: lambda given: (AFFINITY * _trained(given["settings"], given["images"]), 0.0),
    segment.run: _segment,
    cam.run: lambda given: (MAPS * _passes(given["settings"]) * _megapixels(given["images"]), 0.0),
    discover.run: _each_pixel(FEATURES, 0.0),
    discover.run_on_features: _each_pixel(0.0, RATED),
    prototypes.run: _each_pixel(FEATURES, 0.0),
    prototypes.run_labels: _each_pixel(FEATURES, 0.0),
    predict.run: _predict,
    sure_regions.run: lambda given: (0.0, 1.5 * _crf(given["settings"].crf) * _megapixels(given["images"])),
    pseudo_masks.run: _masks,
    alphas.run: _each_pixel(0.0, RATED),
    alphas.run_limits: _each_pixel(0.0, RATED),
    alphas.run_of_walk: _each_pixel(0.0, RATED),
    random_walk.run: _each_pixel(FEATURES, WALK),
    evaluate.run_maps: _each_pixel(0.0, SCORED),
    evaluate.run_pseudo_masks: _each_pixel(0.0, SCORED),
    evaluate.run_segmentation: _each_pixel(0.0, SCORED),
    confidence.run: _each_pixel(0.0, RATED),
    given_maps.run: _each_pixel(0.0, RATED),
    given_masks.run: _each_pixel(0.0, RATED),
    corrections.run: _each_pixel(0.0, RATED),
}
