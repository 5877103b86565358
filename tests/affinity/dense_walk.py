"""The random walk the slow way: every two cells looked at, the whole matrix built, squared, multiplied, in float64."""

import itertools

import numpy as np
import torch
from torch import Tensor

from subcam.affinity.pairs import pair_offsets
from subcam.affinity.random_walk import PixelAffinity


def is_pair(upper, lower, *, height, width, radius, all_pairs):
    """Whether psa (or, with all_pairs, the plain radius) joins two cells; `upper` comes first in reading order."""
    (y, x), (v, u) = upper, lower
    near = (y - v) ** 2 + (x - u) ** 2 < radius**2
    inner = y <= height - radius and radius - 1 <= x <= width - radius
    return near and (all_pairs or inner)


def dense_affinity(features: Tensor, *, radius: int = 5, all_pairs: bool = False) -> np.ndarray:
    """[cells, cells]: exp(-mean |difference|) of the pairs, 1 on the diagonal, 0 elsewhere."""
    _, height, width = features.shape
    values = features.double().numpy()
    cells = list(itertools.product(range(height), range(width)))
    matrix = np.eye(len(cells))
    for (i, upper), (j, lower) in itertools.combinations(enumerate(cells), 2):
        if is_pair(upper, lower, height=height, width=width, radius=radius, all_pairs=all_pairs):
            distance = np.abs(values[:, *upper] - values[:, *lower]).mean()
            matrix[i, j] = matrix[j, i] = np.exp(-distance)
    return matrix


def transition(matrix: np.ndarray, *, beta: float) -> np.ndarray:
    """matrix^beta, element by element, each column divided by its sum."""
    powered = matrix**beta
    return powered / powered.sum(axis=0, keepdims=True)


def dense_walk(matrix: np.ndarray, maps: Tensor, *, beta: float = 8, log_steps: int = 8) -> np.ndarray:
    """maps (transition)^(2^log_steps), by repeated squaring."""
    power = transition(matrix, beta=beta)
    for _ in range(log_steps):
        power = power @ power
    return (maps.double().flatten(1).numpy() @ power).reshape(maps.shape)


def to_dense(affinity: PixelAffinity) -> np.ndarray:
    """The matrix that a PixelAffinity stands for."""
    _, height, width = affinity.values.shape
    matrix = np.eye(height * width)
    planes = affinity.values.double().numpy()
    for o, (dy, dx) in enumerate(pair_offsets(affinity.radius)):
        for y, x in zip(*np.nonzero(planes[o]), strict=True):
            i, j = y * width + x, (y + dy) * width + x + dx
            assert 0 <= y + dy < height
            assert 0 <= x + dx < width
            matrix[i, j] = matrix[j, i] = planes[o, y, x]
    return matrix


def random_features(*shape: int, seed: int = 0, spread: float = 0.5) -> Tensor:
    """Smooth random features, so that some affinities are near 1 and some near 0."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).cumsum(-1) * spread
