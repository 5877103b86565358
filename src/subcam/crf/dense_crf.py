"""Dense CRF: class scores sharpened along the colours of an image by mean field (Section 3.3; Kraehenbuehl 2011).

In: an RGB image and scores of its classes. Out: marginals. Nothing else of subcam is needed to use it.

    marginals = dense_crf(image, probabilities)
    low, high = dense_crf_many(image, [low_alpha_scores, high_alpha_scores])

A call runs on one thread and does not hold the interpreter's lock while it computes: for several images at once, call
it from several threads. On a GPU see `dense_crf_torch`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, UInt8

from subcam.checks.arguments import takes_arrays
from subcam.crf.distinct_classes import DistinctClasses, distinct_classes
from subcam.crf.kept_lattices import KeptLattices, Shape
from subcam.crf.lattice import Lattice, build_lattice
from subcam.crf.mean_field import choose_widths, infer_sets
from subcam.crf.settings import CRFSettings, Iterations
from subcam.runtime.resources import require_memory

MOST = 1.001
"""The greatest score; rounding may lead a little above 1."""


class DenseCRF:
    """The dense CRF of one image: its two lattices, built once, for any number of score sets.

    Raises:
        ValueError: the image is not uint8 [h, w, 3] with at least one pixel.
        SettingsError: sigmas so small against the image that its lattice points cannot be numbered.
        MemoryError: the lattices would not fit into the memory that is free.
    """

    @takes_arrays()
    def __init__(self, image: UInt8[np.ndarray, "h w 3"], *, settings: CRFSettings | None = None) -> None:
        _check_image(image)
        self.settings = settings or CRFSettings()
        self.height, self.width, _ = image.shape
        self._spatial = SPATIAL.of(Shape(self.height, self.width, self.settings.spatial_sigma))
        sigma_xy, sigma_rgb = self.settings.bilateral_sigma_xy, self.settings.bilateral_sigma_rgb
        self._bilateral = build_lattice(image, (sigma_xy, sigma_xy, sigma_rgb, sigma_rgb, sigma_rgb))

    @takes_arrays()
    def infer(
        self, probabilities: Float[np.ndarray, "cls h w"], *, iterations: Iterations | None = None
    ) -> Float32[np.ndarray, "cls h w"]:
        """The marginals of one score set; see `infer_many`."""
        return self.infer_many([probabilities], iterations=iterations)[0]

    @takes_arrays(may_be_empty=("score_sets",))
    def infer_many(
        self, score_sets: Sequence[Float[np.ndarray, "cls h w"]], *, iterations: Iterations | None = None
    ) -> list[Float32[np.ndarray, "cls h w"]]:
        """The marginals of score sets of the same classes, side by side through the same filter passes.

        score_sets: scores in 0..1, unnormalised if need be; clipped to [1e-5, 1] before the logarithm, as in psa.
        iterations: those of the settings where None.

        Returns:
            For each set marginals in [0, 1] that sum to 1 over the classes within 4e-7.

        Raises:
            ValueError: scores that are not floats, of another shape than the image or the first set, not finite,
                negative or above 1; the message says how many and where.
            MemoryError: the working arrays would not fit into the memory that is free.
        """
        if not score_sets:
            return []
        highest = [
            self._check_scores(scores, position, len(score_sets), score_sets[0].shape)
            for position, scores in enumerate(score_sets)
        ]
        classes = distinct_classes(score_sets, highest)
        count = len(classes.computed)
        marginals: list[np.ndarray] = []
        while len(marginals) < len(score_sets):
            widths = choose_widths(count, len(score_sets) - len(marginals))
            group = score_sets[len(marginals) : len(marginals) + widths.sets]
            self._require_memory(classes, len(group), len(widths.padded))
            results, unusable = infer_sets(
                [np.ascontiguousarray(classes.of(scores), np.float32).reshape(count, -1) for scores in group],
                self._spatial,
                self._bilateral,
                spatial_weight=self.settings.spatial_weight,
                bilateral_weight=self.settings.bilateral_weight,
                iterations=self.settings.iterations if iterations is None else iterations,
                widths=widths,
                copies=classes.copies,
            )
            if unusable:
                raise ValueError(_describe_unusable(score_sets))
            marginals.extend(classes.to_all(results).reshape(len(group), -1, self.height, self.width))
        return marginals

    def _check_scores(
        self, scores: np.ndarray, position: int, num_sets: int, first_shape: tuple[int, ...]
    ) -> Float[np.ndarray, " cls"]:
        """The greatest score of each class."""
        which = "probabilities" if num_sets == 1 else f"probabilities of set {position}"
        if not np.issubdtype(scores.dtype, np.floating):
            raise ValueError(
                f"dense CRF: expected {which} as floats, got {scores.dtype}. Convert and scale them first."
            )
        expected = f"[classes, {self.height}, {self.width}]"
        if scores.ndim != 3 or scores.shape[0] == 0 or scores.shape[1:] != (self.height, self.width):
            raise ValueError(
                f"dense CRF: expected {which} of shape {expected}, as the image's, got {list(scores.shape)}"
            )
        highest = scores.max((1, 2))
        if MOST < (most := float(highest.max())) < np.inf:
            raise ValueError(
                f"dense CRF: expected {which} of at most 1, got {most:g}. Divide them by their maximum, or take a"
                " softmax of logits."
            )
        if scores.shape != first_shape:
            raise ValueError(
                f"dense CRF: expected {which} to have {first_shape[0]} classes as set 0, got {len(scores)}"
            )
        return highest

    def _require_memory(self, classes: DistinctClasses, num_sets: int, padded: int) -> None:
        vertices = self._spatial.num_vertices + self._bilateral.num_vertices
        pixels, count = self.height * self.width, len(classes.computed)
        inside = pixels * (2 * num_sets * count + padded) + 2 * vertices * padded
        afterwards = pixels * num_sets * (count + len(classes.all))
        require_memory(
            4 * max(inside, afterwards), f"dense CRF of {self.width} x {self.height} pixels, {len(classes.all)} classes"
        )


@takes_arrays()
def dense_crf(
    image: UInt8[np.ndarray, "h w 3"],
    probabilities: Float[np.ndarray, "cls h w"],
    *,
    iterations: int = 10,
    spatial_sigma: float = 3.0,
    spatial_weight: float = 3.0,
    bilateral_sigma_xy: float = 80.0,
    bilateral_sigma_rgb: float = 13.0,
    bilateral_weight: float = 10.0,
) -> Float32[np.ndarray, "cls h w"]:
    """Marginals of a fully connected CRF with Gaussian edge potentials (Potts model) after mean field.

    The same numbers as the common published code, whose settings these are; with settings in hand call
    `dense_crf(image, probabilities, **dataclasses.asdict(settings))`. Arguments as in `CRFSettings`.

    image: RGB, 0-255.
    probabilities: scores in 0..1; they need not sum to 1 and are clipped to [1e-5, 1] before the logarithm. Above 1 all
        would be alike, and one class would take the whole image.

    Raises:
        ValueError, SettingsError, MemoryError: as `DenseCRF` and `DenseCRF.infer_many`.
    """
    settings = CRFSettings(
        iterations=iterations,
        spatial_sigma=spatial_sigma,
        spatial_weight=spatial_weight,
        bilateral_sigma_xy=bilateral_sigma_xy,
        bilateral_sigma_rgb=bilateral_sigma_rgb,
        bilateral_weight=bilateral_weight,
    )
    return DenseCRF(image, settings=settings).infer(probabilities)


@takes_arrays(may_be_empty=("score_sets",))
def dense_crf_many(
    image: UInt8[np.ndarray, "h w 3"],
    score_sets: Sequence[Float[np.ndarray, "cls h w"]],
    *,
    settings: CRFSettings | None = None,
) -> list[Float32[np.ndarray, "cls h w"]]:
    """`dense_crf` of several score sets of one image, such as low- and high-alpha backgrounds, sharing its lattices."""
    return DenseCRF(image, settings=settings).infer_many(score_sets)


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"dense CRF: expected an RGB image of type uint8 and shape [h, w, 3], got {image.dtype} "
            f"{list(image.shape)}. Convert it, for instance with PIL's convert('RGB')."
        )


def _describe_unusable(score_sets: Sequence[np.ndarray]) -> str:
    parts = []
    for position, scores in enumerate(score_sets):
        finite = np.isfinite(scores.astype(np.float32))
        for kind, wrong in (("not finite", ~finite), ("negative", finite & (scores < 0))):
            if wrong.any():
                index, row, column = np.argwhere(wrong)[0]
                where = f"the first at class {index}, row {row}, column {column}"
                parts.append(
                    f"{wrong.sum()} {kind}" + (f" in set {position}" if len(score_sets) > 1 else "") + f" ({where})"
                )
    return "dense CRF: expected finite probabilities of at least 0, got " + ", ".join(parts)


def _spatial_lattice(shape: Shape) -> Lattice:
    return build_lattice(np.empty((shape.height, shape.width, 0), np.uint8), (shape.sigma, shape.sigma))


KEPT_BYTES = 64 << 20
"""Enough for one image of a megapixel with DeepLab's settings, of three with psa's."""

SPATIAL = KeptLattices(_spatial_lattice, most_bytes=KEPT_BYTES)
