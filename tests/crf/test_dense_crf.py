import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import jaxtyping
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.crf.direct_crf import (
    PlainLattice,
    direct_dense_crf,
    features,
    lattice_filter,
    plain_dense_crf,
    random_image,
    random_scores,
    smooth_image,
)

from subcam.crf.dense_crf import DenseCRF, dense_crf, dense_crf_many
from subcam.crf.lattice import build_lattice
from subcam.crf.settings import CRFSettings
from subcam.errors import SettingsError
from subcam.runtime import resources

GOLDEN = ["full_c2", "odd_c3", "crop_c7", "crop_c21", "deeplab_c21"]
SMALL = CRFSettings(iterations=4, bilateral_sigma_xy=6, bilateral_sigma_rgb=40)


def settings_of(case):
    sigma_xy, weight, bilateral_xy, bilateral_rgb, bilateral_weight = case["params"].tolist()
    return CRFSettings(
        spatial_sigma=sigma_xy,
        spatial_weight=weight,
        bilateral_sigma_xy=bilateral_xy,
        bilateral_sigma_rgb=bilateral_rgb,
        bilateral_weight=bilateral_weight,
    )


def assert_same_lattice(marginals, expected):
    """The tolerances of the golden README for another implementation of the same lattice, and tighter where we are."""
    error = np.abs(marginals - expected)
    assert error.max() < 2e-5  # without the zero padding of the pixels it is 3e-4 on crop_c21
    assert error.mean() < 1e-6
    assert (marginals.argmax(0) == expected.argmax(0)).mean() >= 0.9999
    assert np.abs(marginals.sum(0, dtype=float) - 1).max() <= 4e-7


@pytest.mark.data
@pytest.mark.parametrize("name", GOLDEN)
def test_golden(golden, name):
    case = np.load(golden / f"crf_{name}.npz")
    crf = DenseCRF(case["image"], settings=settings_of(case))
    steps = [t for t in (1, 5, 10) if f"Q_t{t}" in case]
    assert steps
    for t in steps:
        assert_same_lattice(crf.infer(case["probs"], iterations=t), case[f"Q_t{t}"])


@pytest.mark.data
def test_golden_low_and_high_alpha_together(golden):
    case = np.load(golden / "crf_cam_c3.npz")
    low, high = dense_crf_many(case["image"], [case["score_a4"], case["score_a32"]], settings=settings_of(case))
    assert_same_lattice(low, case["Q_a4_t10"])
    assert_same_lattice(high, case["Q_a32_t10"])


@pytest.mark.data
def test_golden_needs_every_iteration_and_rgb_order(golden):
    case = np.load(golden / "crf_crop_c7.npz")
    fewer = dense_crf(case["image"], case["probs"], iterations=9)
    swapped = dense_crf(case["image"][:, :, ::-1], case["probs"])
    assert np.abs(fewer - case["Q_t10"]).max() > 1e-3
    assert np.abs(swapped - case["Q_t10"]).max() > 1e-3


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["deeplab_c21", "crop_c21"])
def test_distance_to_exact_gaussians_is_that_of_the_published_lattice(golden, name):
    case = np.load(golden / f"crf_{name}.npz")
    exact = direct_dense_crf(case["image"], case["probs"], settings_of(case))
    ours = dense_crf(case["image"], case["probs"], **asdict(settings_of(case)))
    assert np.abs(exact - ours).mean() < 5e-3
    assert (exact.argmax(0) == ours.argmax(0)).mean() >= 0.98
    published = np.abs(exact - case["Q_t10"])
    np.testing.assert_allclose(np.abs(exact - ours).mean(), published.mean(), rtol=1e-2)
    np.testing.assert_allclose(np.abs(exact - ours).max(), published.max(), atol=1e-3)


def test_close_to_exact_gaussians():
    """Two noisy regions and a background, with scores that know of them only roughly."""
    rng = np.random.default_rng(0)
    regions = np.zeros((36, 44), int)
    regions[6:30, 4:20], regions[10:34, 24:40] = 1, 2
    image = np.array([[90, 130, 60], [200, 80, 40], [30, 60, 190]])[regions] + rng.normal(0, 6, (36, 44, 3))
    scores = 0.6 * (np.arange(3)[:, None, None] == regions) + 0.4 * random_scores(3, 36, 44)
    image = image.astype(np.uint8)
    exact, ours = direct_dense_crf(image, scores), dense_crf(image, scores)
    assert np.abs(exact - ours).mean() < 5e-3
    assert (exact.argmax(0) == ours.argmax(0)).mean() >= 0.98
    assert np.abs(exact - scores).mean() > 0.1


OF_ALL_WIDTHS = [1, 2, 3, 5, 6, 9, 17, 21, 40]
"""Numbers of classes for which kernels of all kinds of widths are compiled, which takes most of a second each."""


@pytest.mark.parametrize(
    "classes", [*OF_ALL_WIDTHS, *(pytest.param(more, marks=pytest.mark.thorough) for more in (4, 12, 18))]
)
def test_every_width_of_the_kernels(classes):
    """One pixel count that is a multiple of 4, one not, both longer than a block of 64 with a rest."""
    for height, width in ((8, 10), (9, 11)):
        image, scores = random_image(height, width), random_scores(classes, height, width)
        expected = plain_dense_crf(image, scores, SMALL)
        np.testing.assert_allclose(dense_crf(image, scores, **asdict(SMALL)), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 2), (1, 7), (5, 1), (2, 2), (3, 4)])
def test_tiny_images(height, width):
    image, scores = random_image(height, width), random_scores(3, height, width)
    np.testing.assert_allclose(dense_crf(image, scores), plain_dense_crf(image, scores), rtol=0, atol=1e-5)


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    classes=st.integers(2, 5),
    sigma_xy=st.floats(0.3, 90),
    sigma_rgb=st.floats(2, 200),
    seed=st.integers(0, 9),
)
@settings(max_examples=25, deadline=None, derandomize=True)  # a pixel on the face of a simplex may round to either side
def test_lattice_is_the_plain_one(height, width, classes, sigma_xy, sigma_rgb, seed):
    model = CRFSettings(iterations=2, spatial_sigma=1.5, bilateral_sigma_xy=sigma_xy, bilateral_sigma_rgb=sigma_rgb)
    image, scores = random_image(height, width, seed), random_scores(classes, height, width, seed)
    result = dense_crf(image, scores, **asdict(model))
    np.testing.assert_allclose(result, plain_dense_crf(image, scores, model), rtol=0, atol=1e-3)


def test_single_pixel_by_hand():
    """The only pixel of an image is its own only neighbour: every filter gives Q itself."""
    scores = np.array([0.2, 0.5, 0.3], np.float32)
    expected = scores.copy()
    for _ in range(3):
        expected = scores * np.exp((3 + 10) * expected)
        expected /= expected.sum()
    marginals = dense_crf(np.full((1, 1, 3), 77, np.uint8), scores.reshape(3, 1, 1), iterations=3)
    # A colour that is not at a lattice point reaches its own vertices only in part; the norm takes that out again.
    np.testing.assert_allclose(marginals[:, 0, 0], expected, rtol=1e-5)


def test_no_iteration_gives_the_clipped_scores():
    scores = np.array([0, 1, 0.5, 1e-7], np.float32).reshape(2, 1, 2)
    expected = np.array([[[1e-5 / 0.50001, 1 / 1.00001]], [[0.5 / 0.50001, 1e-5 / 1.00001]]])
    np.testing.assert_allclose(dense_crf(np.zeros((1, 2, 3), np.uint8), scores, iterations=0), expected, rtol=1e-5)


def test_one_class_has_all():
    np.testing.assert_array_equal(dense_crf(random_image(5, 6), np.full((1, 5, 6), 0.3, np.float32)), 1)


def test_all_background_stays_background():
    scores = np.zeros((21, 30, 40), np.float32)
    scores[0] = 1
    marginals = dense_crf(smooth_image(30, 40), scores)
    assert (marginals[0] > 0.999).all()
    np.testing.assert_allclose(marginals.sum(0, dtype=float), 1, rtol=0, atol=4e-7)


def test_scores_follow_the_colours():
    """A blurred score is sharpened to the edge of the object."""
    image = np.full((40, 60, 3), (200, 60, 30), np.uint8)
    image[:, 30:] = (20, 90, 180)
    ramp = np.linspace(1, 0, 60, dtype=np.float32)[None].repeat(40, 0) * 0.8 + 0.05
    marginals = dense_crf(image, np.stack([ramp, 1 - ramp]))
    assert (marginals[0, :, :30] > 0.9).all()
    assert (marginals[0, :, 30:] < 0.1).all()


def test_permuted_classes_give_permuted_marginals():
    image, scores = smooth_image(31, 37), random_scores(6, 31, 37)
    order = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(dense_crf(image, scores[order]), dense_crf(image, scores)[order], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("classes", "sets"), [(2, 2), (2, 3), (3, 2), (5, 2), (9, 2), (5, 5), (21, 2)])
def test_sets_together_are_the_sets_alone(classes, sets):
    image = smooth_image(23, 29)
    stacked = [random_scores(classes, 23, 29, seed) for seed in range(sets)]
    together = dense_crf_many(image, stacked)
    assert len(together) == sets
    for scores, marginals in zip(stacked, together, strict=True):
        np.testing.assert_allclose(marginals, dense_crf(image, scores), rtol=0, atol=1e-5)


def test_threads_do_not_change_the_answer():
    images = [smooth_image(40 + i, 50, i) for i in range(6)]
    scores = [random_scores(3, 40 + i, 50, i) for i in range(6)]
    alone = [dense_crf(image, score) for image, score in zip(images, scores, strict=True)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(dense_crf, images, scores))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_same_answer_twice_and_inputs_untouched():
    image, scores = smooth_image(20, 30), random_scores(4, 20, 30)
    kept_image, kept_scores = image.copy(), scores.copy()
    crf = DenseCRF(image)
    first, again = crf.infer(scores), crf.infer(scores)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, kept_image)
    np.testing.assert_array_equal(scores, kept_scores)


def test_other_float_types_and_layouts():
    image, scores = smooth_image(20, 30), random_scores(4, 20, 30)
    expected = dense_crf(image, scores)
    np.testing.assert_array_equal(dense_crf(image, scores.astype(np.float64)), expected)
    np.testing.assert_array_equal(dense_crf(np.asfortranarray(image), np.asfortranarray(scores)), expected)
    np.testing.assert_allclose(dense_crf(image, scores.astype(np.float16)), expected, atol=0.05)
    assert dense_crf(image, scores.astype(np.float64)).dtype == np.float32


@pytest.mark.parametrize("classes", [3, 21])
def test_very_heavy_kernels_do_not_overflow(classes):
    """Messages of some hundreds, beyond what exp holds in float32."""
    model = CRFSettings(iterations=3, bilateral_weight=500, spatial_weight=200, bilateral_sigma_rgb=60)
    image, scores = smooth_image(8, 9), random_scores(classes, 8, 9)
    marginals = dense_crf(image, scores, **asdict(model))
    np.testing.assert_allclose(marginals, plain_dense_crf(image, scores, model), rtol=0, atol=1e-3)


def test_no_kernels_leave_the_scores():
    scores = random_scores(5, 9, 9)
    marginals = dense_crf(random_image(9, 9), scores, spatial_weight=0, bilateral_weight=0)
    np.testing.assert_allclose(marginals, scores.clip(1e-5) / scores.clip(1e-5).sum(0), rtol=1e-5, atol=1e-7)


def test_large_images():
    """The kernels' tables grow several times."""
    image = random_image(1001, 400)
    scores = np.stack([np.full(image.shape[:2], 0.25, np.float32), np.full(image.shape[:2], 0.75, np.float32)])
    marginals = dense_crf(image, scores, iterations=1)
    assert np.isfinite(marginals).all()
    assert (marginals[1] > 0.75).all()


def test_lattice_of_noise_has_the_plain_vertices():
    image = random_image(30, 31)
    lattice = build_lattice(image, (8.0, 8.0, 20.0, 20.0, 20.0))
    plain = PlainLattice(features(image, CRFSettings(bilateral_sigma_xy=8, bilateral_sigma_rgb=20))[1])
    assert abs(lattice.num_vertices - len(plain.numbers)) <= 2  # ties of rounding
    assert lattice.num_vertices - len(set(lattice.vertices)) <= 6  # those of the padding
    ones = np.ones((image[..., 0].size, 1))
    np.testing.assert_allclose(lattice_filter(lattice, ones), plain(ones), rtol=1e-3)


@pytest.fixture
def unchecked():
    """Calls as a user makes them, without the shape checks of the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(
    ("image", "scores", "message"),
    [
        (
            np.zeros((4, 5), np.uint8),
            np.ones((2, 4, 5), "f4"),
            r"^image: expected an array of shape \[h, w, 3\], got \[4, 5\]",
        ),
        (np.zeros((4, 5, 4), np.uint8), np.ones((2, 4, 5), "f4"), r"\[4, 5, 4\]"),
        (np.zeros((0, 5, 3), np.uint8), np.ones((2, 0, 5), "f4"), r"\[0, 5, 3\]"),
        (np.full((4, 5, 3), 0.5, np.float32), np.ones((2, 4, 5), "f4"), "^image: expected uint8, got float32"),
        (
            np.zeros((4, 5, 3), np.uint8),
            np.ones((2, 5, 4), "f4"),
            r"^probabilities: expected shape \[cls, h, w\] with h = 4 as in image, got \[2, 5, 4\]",
        ),
        (
            np.zeros((4, 5, 3), np.uint8),
            np.ones((4, 5), "f4"),
            r"^probabilities: expected an array of shape \[cls, h, w\], got \[4, 5\]",
        ),
        (np.zeros((4, 5, 3), np.uint8), np.ones((0, 4, 5), "f4"), r"^probabilities: .*shape \[0, 4, 5\]"),
        (np.zeros((4, 5, 3), np.uint8), np.ones((2, 4, 5), np.uint8), "^probabilities: expected floats, got uint8"),
    ],
)
def test_wrong_shapes_and_types(unchecked, image, scores, message):
    with pytest.raises(ValueError, match=message):
        dense_crf(image, scores)


def test_sets_of_different_classes(unchecked):
    with pytest.raises(
        ValueError,
        match=r"score_sets\[1\]: expected shape \[cls, h, w\] with cls = 2 as in score_sets\[0\], got \[3, 4, 5\]",
    ):
        dense_crf_many(random_image(4, 5), [random_scores(2, 4, 5), random_scores(3, 4, 5)])


def test_no_sets():
    assert dense_crf_many(random_image(4, 5), []) == []


def test_unusable_scores_are_counted_and_located():
    image, scores = random_image(4, 5), random_scores(3, 4, 5)
    scores[1, 2, 3] = np.nan
    scores[2, 0, 0] = np.inf
    scores[0, 3, 4] = -0.25
    with pytest.raises(
        ValueError, match=r"2 not finite \(the first at class 1, row 2, column 3\), 1 negative \(.*class 0"
    ):
        dense_crf(image, scores)
    with pytest.raises(ValueError, match="1 negative in set 1"):
        dense_crf_many(image, [random_scores(3, 4, 5), np.where(np.isfinite(scores), scores, 0)])


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan, -1e-20])
def test_every_kind_of_unusable_score(value):
    scores = random_scores(2, 9, 9)
    scores[1, 8, 8] = value
    with pytest.raises(ValueError, match="class 1, row 8, column 8"):
        dense_crf(random_image(9, 9), scores)


@pytest.mark.parametrize(
    "wrong",
    [{"iterations": -1}, {"spatial_sigma": 0.0}, {"bilateral_sigma_rgb": float("nan")}, {"bilateral_weight": -1.0}],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        CRFSettings(**wrong)


def test_sigmas_too_small_to_number_the_lattice():
    with pytest.raises(SettingsError, match="Use larger sigmas"):
        dense_crf(random_image(4, 5), random_scores(2, 4, 5), bilateral_sigma_rgb=1e-4, bilateral_sigma_xy=1e-3)


def test_too_little_memory(monkeypatch):
    monkeypatch.setattr(resources, "NOT_WORTH_ASKING", 0)
    image, scores = random_image(40, 50), random_scores(3, 40, 50)
    crf = DenseCRF(image)
    monkeypatch.setattr(resources, "available_memory", lambda: 20_000)
    with pytest.raises(MemoryError, match=r"50 x 40 pixels, 3 classes: expected \d+ MiB of free memory, got 0 MiB"):
        crf.infer(scores)
    with pytest.raises(MemoryError, match="lattice of 50 x 40 pixels"):
        DenseCRF(image)


@pytest.mark.parametrize("absent", [[], [1, 3]])
def test_the_memory_that_is_asked_for_is_what_it_takes(monkeypatch, absent):
    crf = DenseCRF(random_image(60, 70))
    scores = random_scores(5, 60, 70).astype(np.float64)
    scores[absent] = 0
    crf.infer(scores)  # compiles
    asked = []
    monkeypatch.setattr(sys.modules[DenseCRF.__module__], "require_memory", lambda needed, _: asked.append(needed))
    tracemalloc.start()
    crf.infer(scores)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 0.95 < peak / asked[0] < 1.1


def test_available_memory_is_plausible():
    available = resources.available_memory()
    assert available is None or 2**20 < available < 2**50
