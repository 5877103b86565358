"""Figures 5 and 6: images of clusters in their rows; weights that are alike lie side by side."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from report.legible import faults, said

from subcam.report.figures.clusters import Cluster, cluster_figure, embed, weights_tsne
from subcam.report.figures.files import figure_bytes
from subcam.report.figures.style import class_colour
from subcam.report.figures.thumbnails import square


def images(count: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(count)
    return tuple(rng.integers(0, 256, (20 + i, 30, 3), dtype=np.uint8) for i in range(count))


def test_figure_5() -> None:
    clusters = [
        Cluster(name="cat 0", images=images(5), size=31, purity=0.876),
        Cluster(name="cat 1", images=images(1), size=1),
        Cluster(name="a name that people gave " * 8, images=(), size=0, purity=0.0),
    ]
    figure = cluster_figure("cat", clusters)
    placed = figure.axes[0].images
    lefts, tops = zip(*((round(one.get_extent()[0]), round(one.get_extent()[3])) for one in placed), strict=True)
    assert list(lefts[:5]) == sorted(set(lefts))
    assert lefts[5] == lefts[0]
    assert len(set(tops[:5])) == 1
    assert tops[5] > tops[0]
    assert len(placed) == 6
    assert placed[2].get_array().tolist() == square(clusters[0].images[2]).tolist()
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles[:2] == ["cat 0: 31 images, purity 88%", "cat 1: 1 image"]
    assert titles[2].endswith("…: 0 images, purity 0%")
    assert faults(figure) == []
    with pytest.raises(ValueError, match="one cluster of cat"):
        cluster_figure("cat", [])


def weights(classes: int, k: int, *, spread: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Parents that point anywhere, sub-categories near theirs and of any length."""
    rng = np.random.default_rng(classes)
    parents = rng.normal(size=(classes, 24)).astype(np.float32)
    noise = spread * rng.normal(size=(classes * k, 24))
    lengths = rng.uniform(0.1, 10, (classes * k, 1))
    return parents, ((parents.repeat(k, 0) + noise) * lengths).astype(np.float32)


def points(figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    """Places of sub-categories and of parents."""
    axes: Axes = figure.axes[0]
    subcategories, parents = (np.asarray(collection.get_offsets()) for collection in axes.collections)
    return subcategories, parents


def test_alike_weights_are_neighbours() -> None:
    parents, subcategories = weights(4, 6)
    crosses, dots = points(weights_tsne(parents, subcategories, ["a", "b", "c", "d"], seed=1))
    nearest = np.linalg.norm(crosses[:, None] - dots[None], axis=2).argmin(1)
    assert nearest.tolist() == np.arange(4).repeat(6).tolist()


@pytest.mark.parametrize(("classes", "k"), [(1, 1), (1, 2), (2, 1), (6, 5), (20, 3), (80, 1)])
def test_legible(classes: int, k: int) -> None:
    names = [f"class number {i}" if i % 7 else f"{i} has a very long name that leaves no room" for i in range(classes)]
    figure = weights_tsne(*weights(classes, k), names, title="Weights")
    crosses, dots = points(figure)
    assert crosses.shape == (classes * k, 2)
    assert dots.shape == (classes, 2)
    assert np.isfinite(dots).all()
    assert np.isfinite(crosses).all()
    written = said(figure)
    assert {name for name in names if name.startswith("class")} <= set(written)
    assert len([text for text in written if text[-1] == "…"]) == len(names[::7])
    assert faults(figure) == []


def test_colours_and_what_is_left_out() -> None:
    parents, subcategories = weights(3, 2)
    shown = np.array([True, True, False, True, False, False])
    axes = weights_tsne(parents, subcategories, ["a", "b", "c"], shown=shown).axes[0]
    crosses, dots = axes.collections
    expected = [tuple(int(class_colour(label)[i : i + 2], 16) / 255 for i in (1, 3, 5)) for label in (1, 2, 3)]
    assert [tuple(colour[:3]) for colour in dots.get_facecolors()] == expected
    assert [tuple(colour[:3]) for colour in crosses.get_edgecolors()] == [expected[0], expected[0], expected[1]]


def test_one_seed_gives_one_figure() -> None:
    first, second = (figure_bytes(weights_tsne(*weights(5, 4), list("abcde"), seed=3), "svg") for _ in range(2))
    assert first == second


def test_only_directions_count() -> None:
    parents, subcategories = weights(3, 5)
    together = np.concatenate([parents, subcategories])
    np.testing.assert_allclose(embed(together, seed=0), embed(together * 8, seed=0))


def test_names_must_fit() -> None:
    parents, subcategories = weights(3, 2)
    with pytest.raises(ValueError, match=r"3 parents.*2 names"):
        weights_tsne(parents, subcategories, ["a", "b"])
    with pytest.raises(ValueError, match="5 rows"):
        weights_tsne(parents, subcategories[:5], ["a", "b", "c"])
