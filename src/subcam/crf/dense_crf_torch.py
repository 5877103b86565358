"""Dense CRF for batches of images with torch, meant for a GPU (Section 3.3; the mathematics of `crf` and `lattice`).

In: images of any sizes with scores of any numbers of classes. Out: their marginals, on the same device.

The pixels of all images form one list and their lattices one table of vertices, kept apart by an image number in the
packed coordinates; sorting takes the place of hash tables. The result differs from `crf.dense_crf` by rounding only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from subcam.checks.arguments import takes_arrays
from subcam.crf.lattice import PADDED_TO, key_steps, lattice_scales
from subcam.crf.settings import CRFSettings
from subcam.errors import SettingsError
from subcam.runtime.devices import to_device

SMALLEST, LARGEST, MOST = 1e-5, 1.0, 1.001
MAX_BATCH_BITS = 62


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchLattice:
    """The normalised Gaussian filters of all images of a batch; fields as those of `lattice.Lattice`.

    neighbours: before and after along each axis; the number of vertices stands for "absent".
    """

    vertices: Int64[Tensor, "pixels axes"]
    weights: Float32[Tensor, "pixels axes"]
    neighbours: Int64[Tensor, "axes 2 num_vertices"]

    def filter(self, channels: Float32[Tensor, "pixels channels"]) -> Float32[Tensor, "pixels channels"]:
        """Splat, blur along all axes, slice."""
        values = channels.new_zeros(self.neighbours.shape[2] + 1, channels.shape[1])
        corners = list(zip(self.vertices.unbind(1), self.weights.unbind(1), strict=True))
        for vertex, weight in corners:
            values.index_add_(0, vertex, weight[:, None] * channels)
        for before, after in self.neighbours:
            values[:-1] += 0.5 * (values[before] + values[after])
        sliced = torch.zeros_like(channels)
        for vertex, weight in corners:
            sliced += weight[:, None] * values[vertex]
        return sliced


@takes_arrays(may_be_empty=("images", "probabilities"))
@torch.no_grad()
def dense_crf_torch(
    images: Sequence[UInt8[Tensor, "_ _ 3"]],
    probabilities: Sequence[Float[Tensor, "*_"]],
    *,
    settings: CRFSettings | None = None,
) -> list[Float32[Tensor, "*_"]]:
    """Marginals of each image's scores after mean field; the model and its settings as in `crf.dense_crf`.

    images: RGB, 0-255, all on one device, of any sizes.
    probabilities: for each image [cls, h, w], or [sets, cls, h, w] for score sets that share its lattice; scores in
        0..1, clipped to [1e-5, 1] before the logarithm. Numbers of classes and sets may differ between images.

    Returns:
        Marginals of the shapes of the scores.

    Raises:
        ValueError: types or shapes that do not fit, or scores that are not finite, negative or above 1; names the
            image's place.
        SettingsError: more lattice points than an int64 can number: sigmas too small, or too many images at once.
    """
    settings = settings or CRFSettings()
    if len(images) != len(probabilities):
        raise ValueError(
            f"dense CRF: expected probabilities for {len(images)} images, got them for {len(probabilities)}"
        )
    for place, (image, scores) in enumerate(zip(images, probabilities, strict=True)):
        _check(image, scores, place)
    if not images:
        return []
    _check_values(probabilities)
    sigma_xy, sigma_rgb = settings.bilateral_sigma_xy, settings.bilateral_sigma_rgb
    spatial = build_batch_lattice([image[..., :0] for image in images], (settings.spatial_sigma,) * 2)
    bilateral = build_batch_lattice(images, (sigma_xy, sigma_xy, sigma_rgb, sigma_rgb, sigma_rgb))

    sets = [scores if scores.ndim == 4 else scores[None] for scores in probabilities]
    most_sets, most_classes = max(len(scores) for scores in sets), max(scores.shape[1] for scores in sets)
    logits = torch.cat([_pixel_logits(scores, most_sets, most_classes) for scores in sets])
    marginals = logits.softmax(-1)
    for _ in range(settings.iterations):
        flat = marginals.flatten(1)
        message = settings.spatial_weight * spatial.filter(flat) + settings.bilateral_weight * bilateral.filter(flat)
        marginals = (logits + message.view_as(logits)).softmax(-1)
    pieces = marginals.split([image.shape[0] * image.shape[1] for image in images])
    return [
        piece[:, : one.shape[0], : one.shape[1]].permute(1, 2, 0).reshape(scores.shape)
        for piece, one, scores in zip(pieces, sets, probabilities, strict=True)
    ]


def build_batch_lattice(images: Sequence[UInt8[Tensor, "_ _ _"]], sigmas: Sequence[float]) -> BatchLattice:
    """The lattices of images over (x, y) and their colours, if they have any; sigmas in pixels and grey levels.

    Raises:
        SettingsError: more lattice points than an int64 can number.
    """
    device, axes = images[0].device, len(sigmas) + 1
    sizes = [image.shape[:2] for image in images]
    height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
    scales = lattice_scales(sigmas)
    reach = zip((width - 1, height - 1, 255, 255, 255)[: len(sigmas)], scales, strict=True)
    step_of_axis, bits = key_steps([extent * scale for extent, scale in reach])
    if bits + len(images).bit_length() > MAX_BATCH_BITS:
        raise SettingsError(
            f"dense CRF: expected fewer than 2^{MAX_BATCH_BITS - bits} images of {height} x {width} pixels for "
            f"these sigmas, got {len(images)}. Use fewer at a time or larger sigmas."
        )
    # Zero features of no weight after an image whose pixels are no multiple of four, as in the published code.
    padded = [place for place, size in enumerate(sizes) if size.numel() % PADDED_TO]
    pixels = torch.cat([_features(image) for image in images])
    features = torch.cat([pixels, pixels.new_zeros(len(padded), axes - 1)])
    features = features * to_device(torch.tensor(scales, dtype=features.dtype), device)
    counts = [size.numel() for size in sizes] + [1] * len(padded)
    place = to_device(torch.tensor([*range(len(images)), *padded]), device).repeat_interleave(
        to_device(torch.tensor(counts), device), output_size=sum(counts)
    )

    cells, ranks, weights = _embed(features)
    steps = to_device(torch.tensor(step_of_axis), device)
    cell_keys = (place << bits) - (cells * steps).sum(1)
    keys = torch.stack([cell_keys + ((ranks >= axes - k) * steps).sum(1) for k in range(axes)], dim=1)
    known, vertices = torch.unique(keys, return_inverse=True)
    neighbours = [torch.stack([_find(known, known - step), _find(known, known + step)]) for step in step_of_axis]
    return _normalise(vertices[: len(pixels)], weights[: len(pixels)], torch.stack(neighbours))


def _features(image: UInt8[Tensor, "h w colours"]) -> Float32[Tensor, "pixels dim"]:
    height, width, _ = image.shape
    rows, columns = (torch.arange(size, device=image.device, dtype=torch.float32) for size in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.cat([x[..., None], y[..., None], image.float()], dim=-1).flatten(0, 1)


def _embed(
    features: Float32[Tensor, "pixels dim"],
) -> tuple[Int64[Tensor, "pixels axes"], Int64[Tensor, "pixels axes"], Float32[Tensor, "pixels axes"]]:
    """Cell (over d + 1), ranks of the offsets from it, and barycentric weights; see `lattice_embedding`."""
    axes = features.shape[1] + 1
    after = features.flip(1).cumsum(1).flip(1)  # after[:, i] sums the features from i on
    index = torch.arange(1, axes, device=features.device)
    rest = torch.cat([after[:, 1:], torch.zeros_like(after[:, :1])], dim=1)
    elevated = torch.cat([after[:, :1], rest - index * features], dim=1)
    cells = (elevated / axes).round().long()
    offsets = elevated - cells * axes
    ranks = (-offsets).argsort(dim=1, stable=True).argsort(dim=1) + cells.sum(1, keepdim=True)
    shift = (ranks < 0).long() - (ranks >= axes).long()
    cells, ranks = cells + shift, ranks + shift * axes
    ascending = ((elevated - cells * axes) / axes).gather(1, (-ranks).argsort(dim=1))
    rises = ascending.diff(dim=1)
    return cells, ranks, torch.cat([1 - (ascending[:, -1:] - ascending[:, :1]), rises], dim=1)


def _find(
    known: Int64[Tensor, " num_vertices"], wanted: Int64[Tensor, " num_vertices"]
) -> Int64[Tensor, " num_vertices"]:
    """The place of each wanted key among the sorted ones, or their number if it is absent."""
    place = torch.searchsorted(known, wanted).clamp_(max=len(known) - 1)
    return torch.where(known[place] == wanted, place, len(known))


def _normalise(
    vertices: Int64[Tensor, "pixels axes"],
    weights: Float32[Tensor, "pixels axes"],
    neighbours: Int64[Tensor, "axes 2 num_vertices"],
) -> BatchLattice:
    """Symmetric normalisation 1 / sqrt(K 1 + 1e-20), and the lattice's constant."""
    plain = BatchLattice(vertices=vertices, weights=weights, neighbours=neighbours)
    constant = 1 / (1 + 0.5 ** (len(neighbours) - 1))
    row_sums = constant * plain.filter(weights.new_ones(len(weights), 1))
    return BatchLattice(
        vertices=vertices, weights=weights * (constant / (row_sums + 1e-20)).sqrt(), neighbours=neighbours
    )


def _pixel_logits(
    scores: Float[Tensor, "sets cls h w"], most_sets: int, most_classes: int
) -> Float32[Tensor, "pixels most_sets most_classes"]:
    """Logarithms, pixel after pixel; -inf for classes and 0 for sets that only other images of the batch have."""
    sets, classes = scores.shape[:2]
    logits = scores.new_zeros(scores.shape[2] * scores.shape[3], most_sets, most_classes, dtype=torch.float32)
    logits[:, :sets, classes:] = -torch.inf
    logits[:, :sets, :classes] = scores.float().clamp(SMALLEST, LARGEST).log().flatten(2).permute(2, 0, 1)
    return logits


def _check(image: Tensor, scores: Tensor, place: int) -> None:
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.numel() == 0:
        raise ValueError(
            f"dense CRF: expected image {place} of the batch as RGB, uint8 [h, w, 3], got {image.dtype} "
            f"{list(image.shape)}"
        )
    fits = scores.ndim in (3, 4) and scores.shape[-2:] == image.shape[:2] and scores.numel() > 0
    if not fits or not scores.is_floating_point():
        raise ValueError(
            f"dense CRF: expected probabilities of image {place} as floats, [classes, h, w] or [sets, classes, h, w]"
            f" with h, w = {image.shape[0]}, {image.shape[1]}, got {scores.dtype} {list(scores.shape)}"
        )


def _check_values(probabilities: Sequence[Tensor]) -> None:
    finite = [torch.isfinite(scores.float()) for scores in probabilities]
    faults = [
        torch.stack([(~good).sum(), (good & (scores < 0)).sum(), (good & (scores > MOST)).sum()])
        for good, scores in zip(finite, probabilities, strict=True)
    ]
    # One wait for the whole batch.
    for place, (not_finite, negative, above) in enumerate(torch.stack(faults).tolist()):
        if not_finite or negative:
            raise ValueError(
                f"dense CRF: expected finite probabilities of at least 0 for image {place} of the batch, got "
                f"{not_finite} not finite, {negative} negative"
            )
        if above:
            raise ValueError(
                f"dense CRF: expected probabilities of at most 1 for image {place} of the batch, got {above} above."
                " Divide them by their maximum, or take a softmax of logits."
            )
