import numpy as np
import pytest

from subcam.crf.lattice import key_steps
from subcam.crf.lattice_blur import key_order, link
from subcam.errors import SettingsError


@pytest.mark.parametrize("bits", [0, 5, 11, 12, 40, 62])
def test_key_order_is_the_stable_order(bits):
    keys = np.random.default_rng(0).integers(-(2**bits) // 2, 2**bits // 2 + 1, 500)
    np.testing.assert_array_equal(key_order(keys), np.argsort(keys, kind="stable"))


def test_neighbours_are_a_step_away():
    keys = np.unique(np.random.default_rng(0).integers(-50, 50, 60))
    steps = np.array([1, -7, 6])
    neighbours = link(keys, steps)
    number = {key: place for place, key in enumerate(keys.tolist())}
    for axis, step in enumerate(steps.tolist()):
        for vertex, key in enumerate(keys.tolist()):
            expected = [number.get(key - step, len(keys)), number.get(key + step, len(keys))]
            np.testing.assert_array_equal(neighbours[axis, vertex], expected)


@pytest.mark.parametrize("dim", [2, 5])
def test_keys_tell_all_lattice_points_apart(dim):
    """All points that a few steps lead to from the corners of a box of features, and back again along all axes."""
    extents = [3.0, 2.0, 4.0, 4.0, 4.0][:dim]
    steps, bits = key_steps(extents)
    assert sum(steps) == 0
    counts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * (dim + 1)), -1).reshape(-1, dim + 1)
    points = counts.sum(1, keepdims=True) - (dim + 1) * counts
    keys = counts @ np.array(steps)
    assert len(np.unique(keys)) == len(np.unique(points, axis=0))
    assert np.ptp(keys) < 2**bits


def test_keys_sort_by_the_rows_of_the_image():
    """The scaled y of a point is (2 a_2 - a_0 - a_1) (d + 1) / 6 after a_i steps along the axes."""
    steps, _ = key_steps([30.0, 20.0, 40.0, 40.0, 40.0])
    counts = np.random.default_rng(0).integers(-3, 4, (200, 6))
    rows = 2 * counts[:, 2] - counts[:, 0] - counts[:, 1]
    in_order = rows[np.argsort(counts @ np.array(steps), kind="stable")]
    assert (np.diff(in_order) >= 0).all()


@pytest.mark.parametrize("extents", [[1e7, 1.0], [1.0, 3e4, 3e4, 3e4, 3e4]])
def test_too_many_points(extents):
    with pytest.raises(SettingsError, match="Use larger sigmas"):
        key_steps(extents)
