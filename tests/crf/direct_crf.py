"""Two slow dense CRFs in plain NumPy and Python: with exact Gaussian kernels, and on a lattice kept in a dictionary.

And the small images and scores that they are tried on.
"""

import numpy as np

from subcam.crf.settings import CRFSettings


def random_image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def smooth_image(height, width, seed=0):
    """Blocks of colour with a little noise."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(40, 216, (-(-height // 8), -(-width // 8), 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    return (blocks + rng.integers(-10, 11, (height, width, 3))).astype(np.uint8)


def random_scores(classes, height, width, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), (height, width)).transpose(2, 0, 1).astype("f4")


def features(image, settings):
    """Spatial [pixels, 2] and bilateral [pixels, 5] features in float64."""
    height, width, _ = image.shape
    y, x = np.mgrid[:height, :width].reshape(2, -1).astype(float)
    positions = np.stack([x, y], 1)
    colours = image.reshape(-1, 3) / settings.bilateral_sigma_rgb
    return positions / settings.spatial_sigma, np.hstack([positions / settings.bilateral_sigma_xy, colours])


def mean_field(probabilities, message, iterations):
    """Q <- softmax(log p + message(Q)); `message` maps [pixels, cls] to [pixels, cls]."""
    logits = np.log(np.clip(probabilities.reshape(len(probabilities), -1).T.astype(float), 1e-5, 1))
    marginals = softmax(logits)
    for _ in range(iterations):
        marginals = softmax(logits + message(marginals))
    return marginals.T.reshape(probabilities.shape)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def direct_dense_crf(image, probabilities, settings=None):
    """Every pixel against every pixel, with the Gaussians themselves: time and memory of pixels squared."""
    settings = settings or CRFSettings()
    total = 0
    weights = (settings.spatial_weight, settings.bilateral_weight)
    for weight, points in zip(weights, features(image, settings), strict=True):
        points = points.astype(np.float32)
        squares = (points**2).sum(1)
        kernel = points @ points.T
        kernel *= 2
        kernel -= squares
        kernel -= squares[:, None]
        kernel *= 0.5
        np.exp(np.minimum(kernel, 0, out=kernel), out=kernel)
        norm = 1 / np.sqrt(kernel.sum(1) + 1e-20)
        total += weight * norm[:, None] * kernel * norm
    return mean_field(probabilities, lambda marginals: total @ marginals.astype(np.float32), settings.iterations)


class PlainLattice:
    """The permutohedral lattice of points [pixels, d], a dictionary from coordinates to number."""

    def __init__(self, points):
        self.dim = points.shape[1]
        padding = np.zeros((-len(points) % 4, self.dim))
        self.vertices, self.weights, self.numbers = [], [], {}
        for point in np.vstack([points, padding]):
            self.add(point)
        self.vertices = np.array(self.vertices)[: len(points)]
        self.weights = np.array(self.weights)[: len(points)]
        self.norm = np.ones(len(points))
        self.norm = 1 / np.sqrt(self(np.ones((len(points), 1)))[:, 0] + 1e-20)

    def add(self, point):
        axes = self.dim + 1
        scaled = point * np.sqrt(2 / 3) * axes / np.sqrt([(i + 1) * (i + 2) for i in range(self.dim)])
        elevated = np.array([scaled[i:].sum() - (i * scaled[i - 1] if i else 0) for i in range(axes)])
        cell = np.rint(elevated / axes) * axes
        order = np.argsort(cell - elevated, kind="stable")  # the largest offset first
        excess = int(cell.sum()) // axes
        if excess > 0:  # rounded up too often: lower those that gained most
            cell[order[axes - excess :]] -= axes
        elif excess < 0:
            cell[order[:-excess]] += axes
        offsets = (elevated - cell) / axes
        order = np.argsort(-offsets, kind="stable")
        descending = offsets[order]
        rises = descending[:-1] - descending[1:]
        weights = [1 - rises.sum(), *rises[::-1]]
        vertices = []
        for k in range(axes):
            vertex = cell + k
            vertex[order[axes - k :]] -= axes
            vertices.append(self.numbers.setdefault(tuple(vertex.astype(int)), len(self.numbers)))
        self.vertices.append(vertices)
        self.weights.append(weights)

    def __call__(self, channels):
        """Normalised filter of channels [pixels, c]."""
        values = np.zeros((len(self.numbers), channels.shape[1]))
        for pixel, (vertices, weights) in enumerate(zip(self.vertices, self.weights, strict=True)):
            for vertex, weight in zip(vertices, weights, strict=True):
                values[vertex] += weight * self.norm[pixel] * channels[pixel]
        for axis in range(self.dim + 1):
            step = np.ones(self.dim + 1, int)
            step[axis] -= self.dim + 1
            blurred = values.copy()
            for coordinates, number in self.numbers.items():
                for sign in (1, -1):
                    neighbour = self.numbers.get(tuple(np.array(coordinates) + sign * step))
                    if neighbour is not None:
                        blurred[number] += values[neighbour] / 2
            values = blurred
        sliced = (values[self.vertices] * self.weights[..., None]).sum(1) / (1 + 2.0**-self.dim)
        return sliced * self.norm[:, None]


def lattice_filter(lattice, channels):
    """What the filter of a `Lattice` makes of channels [pixels, c], in plain NumPy."""
    axes, count, _ = lattice.neighbours.shape
    vertices = lattice.vertices.reshape(-1, axes)
    weights = lattice.weights[: vertices.size].reshape(-1, axes, 1)
    values = np.zeros((count + 1, channels.shape[1]))
    np.add.at(values, vertices, weights * channels[:, None])
    for neighbours in lattice.neighbours:
        values[:-1] += values[neighbours].sum(1) / 2
    return (values[vertices] * weights).sum(1)


def plain_dense_crf(image, probabilities, settings=None):
    """The lattice approximation, with nothing shared with the fast kernels."""
    settings = settings or CRFSettings()
    spatial, bilateral = (PlainLattice(points) for points in features(image, settings))
    weights = settings.spatial_weight, settings.bilateral_weight
    return mean_field(
        probabilities,
        lambda marginals: weights[0] * spatial(marginals) + weights[1] * bilateral(marginals),
        settings.iterations,
    )
