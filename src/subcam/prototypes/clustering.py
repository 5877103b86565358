"""Prototypes: K-means on features of single positions, inside each class and in what surrounds its objects.

Not in the paper. Eq. 2 clusters one pooled feature of each image, which holds the scene as much as the object. Here
response maps say which positions of a feature map show a class with confidence, and which show none of the image's
classes; K-means on the features of each group finds the prototypes of the class, and those of its context.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float16, Float32, Int16, Integer
from threadpoolctl import threadpool_limits

from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Count, Seed
from subcam.prototypes.classifier import UNLABELLED
from subcam.runtime import distributed

CONTEXT = -2

LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, kw_only=True)
class Prototypes:
    """Unit vectors in feature space, the centres of the clusters; zero rows where a group has fewer.

    objects: of each class. context: of what surrounds the objects in images of that class.
    """

    objects: Float32[np.ndarray, "classes k dim"]
    context: Float32[np.ndarray, "classes k_context dim"]

    @property
    def together(self) -> Float32[np.ndarray, "classes prototypes dim"]:
        """Of each class the prototypes of its objects, then those of its context."""
        return np.concatenate([self.objects, self.context], axis=1)


def confident_positions(
    maps: Float[np.ndarray, "present h w"],
    classes: Integer[np.ndarray, " present"],
    *,
    object_above: float,
    context_below: float,
) -> Int16[np.ndarray, "h w"]:
    """What each position of an image shows with confidence: a class 0..C-1, `CONTEXT`, or neither (`UNLABELLED`).

    Args:
        maps: response maps in 0..1 of the classes that are present, on the grid of the features.
        classes: their indices 0..C-1.
        object_above: a position whose strongest response is greater shows that class.
        context_below: one whose strongest response is less shows none.
    """
    shown = np.full(maps.shape[1:], UNLABELLED, np.int16)
    if not len(maps):
        return shown
    strongest = maps.max(0)
    shown[strongest < context_below] = CONTEXT
    above = strongest > object_above
    shown[above] = np.asarray(classes, np.int16)[maps.argmax(0)][above]
    return shown


class PositionSample:
    """A random sample of `size` of the positions that it is shown, each equally likely; holds a quarter more.

    They are kept in half precision, which is all that a network in bf16 gives. Every position gets a random number;
    those with the smallest stay. Which these are does not depend on the order in which images come.
    """

    def __init__(self, size: int, *, dim: int) -> None:
        self.size = size
        self.seen = 0
        self._below = np.inf
        self._keys = [np.zeros(0)]
        self._features = [np.zeros((0, dim), np.float16)]

    def add(self, features: Float32[np.ndarray, "positions dim"], rng: np.random.Generator) -> None:
        """Show the positions of one image; `rng` is that image's own."""
        self.seen += len(features)
        keys = rng.random(len(features))
        chosen = keys < self._below
        self._keys.append(keys[chosen])
        self._features.append(features[chosen].clip(-LARGEST, LARGEST).astype(np.float16))
        if sum(map(len, self._keys)) > 1.25 * self.size:
            self._keep_smallest()

    @property
    def features(self) -> Float16[np.ndarray, "sampled dim"]:
        """The sample, in an order of its own."""
        self._keep_smallest()
        return self._features[0]

    def gather(self) -> None:
        """Make the first process's sample one of the positions that all processes were shown."""
        self._keep_smallest()
        self.seen = int(distributed.total(np.array(self.seen)))
        self._keys, self._features = distributed.gathered(self._keys[0]), distributed.gathered(self._features[0])

    def _keep_smallest(self) -> None:
        keys = np.concatenate(self._keys)
        smallest = np.argsort(keys)[: self.size]
        self._keys, self._features = [keys[smallest]], [np.concatenate(self._features)[smallest]]
        if len(smallest) == self.size:
            self._below = float(self._keys[0][-1])  # no later one beyond it would stay


@takes_arrays(may_be_empty=("objects[]", "context[]"))
def find_prototypes(
    objects: Sequence[Float[np.ndarray, "_ dim"]],
    context: Sequence[Float[np.ndarray, "_ dim"]],
    *,
    num_objects: Count,
    num_context: Count,
    seed: Seed = 0,
    restarts: Count = 2,
    max_iterations: Count = 100,
) -> Prototypes:
    """Cluster the features of confident positions by their direction.

    A group with fewer distinct directions than clusters gets as many as it has, an empty one none.

    Args:
        objects: of each class, features of the positions that show it.
        context: of each class, features of the positions in its images that show none.
        num_objects: prototypes of each class.
        num_context: prototypes of each context.
        seed: of K-means, the same for each group.
        restarts: number of initialisations.
        max_iterations: limit of one run.
    """
    from sklearn.cluster import KMeans  # takes a second to import, which only what clusters should wait for

    def centres(features: np.ndarray, k: int) -> np.ndarray:
        rows = np.zeros((k, features.shape[1]), np.float32)
        own = directions(features)
        distinct = min(k, len(np.unique(own, axis=0)))
        if distinct:
            kmeans = KMeans(distinct, random_state=seed, n_init=restarts, max_iter=max_iterations)
            # A second thread makes K-means on few rows many times slower, not faster.
            with threadpool_limits(1):
                rows[:distinct] = directions(kmeans.fit(own).cluster_centers_)
        return rows

    return Prototypes(
        objects=np.stack([centres(features, num_objects) for features in objects]),
        context=np.stack([centres(features, num_context) for features in context]),
    )


def assign(
    features: Float[np.ndarray, "h w dim"],
    shown: Int16[np.ndarray, "h w"],
    classes: Integer[np.ndarray, " present"],
    prototypes: Prototypes,
) -> Int16[np.ndarray, "h w"]:
    """The nearest prototype of each confident position of an image, or `UNLABELLED`.

    A position of a class is compared with the prototypes of that class, one of the context with the contexts of all
    classes that are present.

    Returns:
        Class times prototypes a class, plus the row in `Prototypes.together`.
    """
    k, per_class = prototypes.objects.shape[1], prototypes.together.shape[1]
    rows = prototypes.together.reshape(-1, features.shape[2])
    cosine = directions(features) @ rows.T
    cosine[..., ~rows.any(1)] = -np.inf
    nearest = np.full(shown.shape, UNLABELLED, np.int16)
    contexts = [c * per_class + row for c in classes for row in range(k, per_class)]
    for group in np.unique(shown[shown != UNLABELLED]):
        candidates = np.array(contexts if group == CONTEXT else range(group * per_class, group * per_class + k), int)
        own = cosine[shown == group][:, candidates]
        if own.size:
            nearest[shown == group] = np.where(np.isfinite(own).any(1), candidates[own.argmax(1)], UNLABELLED)
    return nearest


def directions(features: Float[np.ndarray, "*shape dim"]) -> Float32[np.ndarray, "*shape dim"]:
    """Features scaled to unit length; zeros stay zeros."""
    features = features.astype(np.promote_types(features.dtype, np.float32), copy=False)
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return (features / np.maximum(length, 1e-6)).astype(np.float32)
