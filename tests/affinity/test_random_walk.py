"""The random walk against the dense matrix power, the golden walks, and its own error bound."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.affinity.dense_walk import dense_affinity, dense_walk, random_features, to_dense, transition

from subcam.affinity.grid import source_region
from subcam.affinity.pairs import pair_offsets, pool_to_grid, shifted, upsample_from_grid
from subcam.affinity.random_walk import PixelAffinity, pixel_affinity, random_walk
from subcam.affinity.walk_stencil import (
    apply_power,
    build_stencil,
    power_coefficients,
    series_by_gathering,
    series_on_cpu,
)
from subcam.errors import BadInputError, SettingsError

GRIDS = ["h20w15", "h9w13", "h6w17", "h5w9"]
SIZES = [(1, 1), (1, 7), (3, 2), (4, 30), (5, 9), (6, 17), (20, 15)]


def random_maps(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def reference(golden):
    return np.load(golden / "random_walk.npz")


@pytest.mark.data
@pytest.mark.parametrize("grid", GRIDS)
def test_golden_affinity(reference, grid):
    affinity = pixel_affinity(torch.from_numpy(reference[f"f_{grid}"]))
    _, height, width = affinity.values.shape
    for plane, offset, expected in zip(affinity.values, pair_offsets(5), reference[f"aff_{grid}"], strict=True):
        region = source_region(offset, height=height, width=width)
        np.testing.assert_allclose(plane[region].flatten(), expected, rtol=0, atol=1e-6)
    matrix = to_dense(affinity)
    np.testing.assert_allclose(matrix, reference[f"mat_{grid}"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(transition(matrix, beta=8), reference[f"trans_{grid}"], rtol=0, atol=1e-6)


@pytest.mark.data
@pytest.mark.parametrize("key", [*GRIDS, "h9w13_b8_t6", "h9w13_b4_t8"])
def test_golden_walk(reference, key):
    grid = key.split("_")[0]
    beta, log_steps = reference[f"beta_logt_{key}"].tolist()
    affinity = pixel_affinity(torch.from_numpy(reference[f"f_{grid}"]))
    walked = random_walk(affinity, torch.from_numpy(reference[f"cam_{grid}"]), beta=beta, log_steps=log_steps)
    np.testing.assert_allclose(walked, reference[f"rw_{key}"], rtol=0, atol=1e-4)


@pytest.mark.data
def test_golden_whole_script(reference):
    """psa's infer_aff: background from alpha, pooling of the padded scores, walk, up-sampling, the best class."""
    alpha, beta, log_steps = reference["full_A_params"].tolist()
    responses = torch.from_numpy(reference["full_A_cam"])
    background = (1 - responses.amax(0, keepdim=True)) ** alpha
    pooled = pool_to_grid(torch.cat([background, responses]))
    np.testing.assert_allclose(pooled, reference["full_A_pooled"], rtol=0, atol=1e-6)

    affinity = pixel_affinity(torch.from_numpy(reference["full_A_f"]))
    every_class = torch.zeros(21, *pooled.shape[1:])
    channels = [0, *reference["full_A_classes"].tolist()]
    every_class[channels] = pooled
    walked = random_walk(affinity, every_class, beta=beta, log_steps=log_steps)
    np.testing.assert_allclose(walked[channels], reference["full_A_rw"], rtol=0, atol=1e-4)
    absent = sorted(set(range(21)) - set(channels))
    assert not walked[absent].any()

    upsampled = upsample_from_grid(walked, size=responses.shape[1:])
    whole = upsample_from_grid(walked[channels], size=(120, 160))
    np.testing.assert_allclose(whole[:, ::4, ::4], reference["full_A_up_s4"], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(upsampled.argmax(0), reference["full_A_pred"])


@pytest.mark.parametrize("all_pairs", [False, True])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_equals_the_dense_power(height, width, all_pairs):
    features, maps = random_features(16, height, width), random_maps(3, height, width)
    affinity = pixel_affinity(features, all_pairs=all_pairs)
    matrix = dense_affinity(features, all_pairs=all_pairs)
    np.testing.assert_allclose(to_dense(affinity), matrix, rtol=0, atol=1e-6)
    walked = random_walk(affinity, maps)
    np.testing.assert_allclose(walked, dense_walk(matrix, maps), rtol=0, atol=2e-5)
    np.testing.assert_allclose(walked, dense_walk(to_dense(affinity), maps), rtol=0, atol=5e-6)


@pytest.mark.parametrize("all_pairs", [False, True])
@pytest.mark.parametrize(("radius", "beta", "log_steps"), [(1, 8, 8), (2, 8, 8), (3, 0.5, 3), (7, 3, 0), (5, 2.5, 12)])
def test_settings_in_float64(radius, beta, log_steps, all_pairs):
    features, maps = random_features(5, 8, 15).double(), random_maps(2, 8, 15).double()
    affinity = pixel_affinity(features, radius=radius, all_pairs=all_pairs)
    matrix = dense_affinity(features, radius=radius, all_pairs=all_pairs)
    walked = random_walk(affinity, maps, beta=beta, log_steps=log_steps)
    assert walked.dtype == torch.float64
    expected = dense_walk(matrix, maps, beta=beta, log_steps=log_steps)
    np.testing.assert_allclose(walked, expected, rtol=0, atol=1e-9)  # the squarings drift, not the walk


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 14),
    radius=st.integers(1, 6),
    spread=st.floats(0, 20),
    all_pairs=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_grid(height, width, radius, spread, all_pairs, seed):
    features = random_features(3, height, width, seed=seed, spread=spread)
    maps = random_maps(2, height, width, seed=seed) - 0.3
    walked = random_walk(pixel_affinity(features, radius=radius, all_pairs=all_pairs), maps)
    matrix = dense_affinity(features, radius=radius, all_pairs=all_pairs)
    np.testing.assert_allclose(walked, dense_walk(matrix, maps), rtol=0, atol=3e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 40), (40, 8)])
def test_grid_without_pairs_is_left_alone(height, width):
    maps = random_maps(2, height, width)
    affinity = pixel_affinity(random_features(4, height, width))
    assert not affinity.values.any()
    torch.testing.assert_close(random_walk(affinity, maps), maps, rtol=0, atol=1e-6)


def test_one_step_by_hand():
    values = torch.tensor([[[0.5, 0.25, 0.0]], [[0.0] * 3], [[0.0] * 3], [[0.0] * 3]])
    walked = random_walk(PixelAffinity(values=values, radius=2), torch.tensor([[[1.0, 0.0, 0.0]]]), beta=1, log_steps=0)
    # Columns of [[1, .5, 0], [.5, 1, .25], [0, .25, 1]] sum to 1.5, 1.75, 1.25.
    torch.testing.assert_close(walked, torch.tensor([[[1 / 1.5, 0.5 / 1.75, 0.0]]]))


@pytest.mark.parametrize("all_pairs", [False, True])
def test_what_a_walk_keeps(all_pairs):
    features, maps = random_features(8, 11, 19), random_maps(3, 11, 19)
    maps[2] = 0.7
    affinity = pixel_affinity(features, all_pairs=all_pairs)
    walked = random_walk(affinity, maps)
    degrees = torch.from_numpy((to_dense(affinity) ** 8).sum(0)).view(11, 19)
    torch.testing.assert_close((walked * degrees).sum((1, 2)), (maps * degrees).sum((1, 2)), rtol=1e-5, atol=0)
    torch.testing.assert_close(walked[2], maps[2], rtol=0, atol=1e-5)
    assert (walked.amax((1, 2)) <= maps.amax((1, 2))).all()
    assert (walked.amin((1, 2)) >= maps.amin((1, 2))).all()
    assert walked[0].std() < maps[0].std()


def test_walk_does_not_cross_a_barrier():
    features = torch.zeros(4, 9, 20)
    features[:, :, 10:] = 50
    maps = torch.zeros(1, 9, 20)
    maps[0, 4, 5] = 1
    walked = random_walk(pixel_affinity(features, all_pairs=True), maps)
    assert not walked[0, :, 10:].any()
    assert (walked[0, :, :10] > 1e-3).all()


def test_scale_of_a_map_does_not_matter():
    affinity, maps = pixel_affinity(random_features(8, 9, 13)), random_maps(2, 9, 13)
    torch.testing.assert_close(random_walk(affinity, maps * 1e-30) * 1e30, random_walk(affinity, maps))


def test_grid_far_beyond_the_dense_matrix():
    features = random_features(4, 250, 300)
    affinity = pixel_affinity(features)
    walked = random_walk(affinity, torch.ones(1, 250, 300))  # its dense matrix would take 22 GB
    torch.testing.assert_close(walked, torch.ones(1, 250, 300), rtol=0, atol=1e-5)
    corner = (slice(None), slice(0, 40), slice(0, 40))
    maps = torch.zeros(1, 250, 300)
    maps[0, 10, 10] = 1
    near = random_walk(pixel_affinity(features[corner]), maps[corner], log_steps=2)
    torch.testing.assert_close(random_walk(affinity, maps, log_steps=2)[corner], near, rtol=0, atol=1e-6)


def test_both_implementations_agree():
    features, maps = random_features(8, 13, 21), random_maps(4, 13, 21)
    stencil = build_stencil(pixel_affinity(features).values, radius=5, beta=8)
    start = stencil.flatten(maps)
    for steps in (1, 2, 7, 256):
        coefficients = power_coefficients(steps, tolerance=1e-9)
        one, other = (series(stencil, start, coefficients) for series in (series_on_cpu, series_by_gathering))
        torch.testing.assert_close(one, other, rtol=0, atol=5e-6)


@pytest.mark.gpu
def test_cuda_equals_cpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    features, maps = random_features(64, 30, 40), random_maps(5, 30, 40)
    affinity, affinity_there = pixel_affinity(features), pixel_affinity(features.cuda())
    torch.testing.assert_close(affinity_there.values.cpu(), affinity.values, rtol=0, atol=1e-6)
    walked = random_walk(affinity_there, maps.cuda())
    assert walked.device.type == "cuda"
    torch.testing.assert_close(walked.cpu(), random_walk(affinity, maps), rtol=0, atol=2e-5)


def test_affinity_without_the_kernel():
    features = random_features(20, 9, 14)
    kernel = pixel_affinity(features, all_pairs=True).values
    for plane, offset in zip(kernel, pair_offsets(5), strict=True):
        region = source_region(offset, height=9, width=14, all_pairs=True)
        difference = features[:, *shifted(region, offset)] - features[:, *region]
        torch.testing.assert_close(plane[region], torch.exp(-difference.abs().mean(0)))
        assert plane.count_nonzero() == plane[region].numel()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    features, maps = random_features(8, 9, 13).to(dtype), random_maps(2, 9, 13).to(dtype)
    walked = random_walk(pixel_affinity(features), maps)
    assert walked.dtype == torch.float32
    torch.testing.assert_close(walked, random_walk(pixel_affinity(features.float()), maps.float()))


def test_coefficients_by_hand():
    np.testing.assert_allclose(power_coefficients(1, tolerance=0.0), [0, 1])
    np.testing.assert_allclose(power_coefficients(2, tolerance=0.0), [0.5, 0, 0.5])
    np.testing.assert_allclose(power_coefficients(3, tolerance=0.0), [0, 0.75, 0, 0.25])


@pytest.mark.parametrize("steps", [1, 5, 64, 256, 4096])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-12])
def test_series_keeps_its_bound(steps, tolerance):
    coefficients = power_coefficients(steps, tolerance=tolerance)
    x = np.cos(np.linspace(0, np.pi, 4001))
    error = np.abs(np.polynomial.chebyshev.chebval(x, coefficients) - x**steps).max()
    assert error <= tolerance + 1e-13
    degree = len(coefficients) - 1
    assert degree <= steps
    assert degree <= np.sqrt(2 * steps * np.log(2 / tolerance)) + 1  # Hoeffding
    if degree < steps:
        shorter = np.trim_zeros(coefficients[:-1], "b")
        assert np.abs(np.polynomial.chebyshev.chebval(1.0, shorter) - 1) > tolerance  # no lower degree would do


def test_result_keeps_the_bound_of_the_series():
    """The truncated power in float64 with a coarse tolerance stays under tail * sqrt(sum(D) / min(D))."""
    features, maps = random_features(8, 9, 16).double(), random_maps(1, 9, 16).double()
    affinity = pixel_affinity(features)
    stencil = build_stencil(affinity.values, radius=5, beta=8)
    degrees = (to_dense(affinity) ** 8).sum(0)
    exact = dense_walk(to_dense(affinity), maps)
    for tolerance in (1e-1, 1e-2, 1e-4):
        rows = series_on_cpu(
            stencil, stencil.flatten(maps) * stencil.root, power_coefficients(256, tolerance=tolerance)
        )
        error = np.abs(stencil.unflatten(rows / stencil.root).numpy() - exact).max()
        assert 0 < error <= tolerance * np.sqrt(degrees.sum() / degrees.min())
    torch.testing.assert_close(apply_power(stencil, maps, steps=256), torch.from_numpy(exact), rtol=0, atol=1e-12)


def test_arguments_are_not_changed():
    features, maps = random_features(8, 9, 13), random_maps(2, 9, 13)
    features_before, maps_before = features.clone(), maps.clone()
    affinity = pixel_affinity(features)
    values_before = affinity.values.clone()
    random_walk(affinity, maps)
    assert torch.equal(features, features_before)
    assert torch.equal(maps, maps_before)
    assert torch.equal(affinity.values, values_before)


def test_takes_features_with_gradients():
    features = random_features(8, 9, 13).requires_grad_()
    assert not random_walk(pixel_affinity(features), random_maps(2, 9, 13).requires_grad_()).requires_grad


def test_errors_say_what_to_do():
    affinity, maps = pixel_affinity(random_features(8, 9, 13)), random_maps(2, 9, 13)
    with pytest.raises(SettingsError, match=r"9 x 13 cells.*got 9 x 12"):
        random_walk(affinity, maps[:, :, :12])
    with pytest.raises(SettingsError, match="beta"):
        random_walk(affinity, maps, beta=0)
    for log_steps in (-1, 21):
        with pytest.raises(SettingsError, match="log_steps"):
            random_walk(affinity, maps, log_steps=log_steps)
    with pytest.raises(SettingsError, match="radius 3 has 12 offsets, got 34"):
        random_walk(PixelAffinity(values=affinity.values, radius=3), maps)
    with pytest.raises(BadInputError, match=r"\[0, 1\]"):
        random_walk(PixelAffinity(values=affinity.values * 3, radius=5), maps)
    with pytest.raises(BadInputError, match="finite response maps"):
        random_walk(affinity, torch.where(maps == maps.max(), torch.nan, maps))
    with pytest.raises(BadInputError, match="finite features"):
        pixel_affinity(torch.full((2, 9, 13), torch.inf))
