import jaxtyping
import numpy as np
import pytest
import torch
from tests.crf.direct_crf import lattice_filter, plain_dense_crf, random_image, random_scores, smooth_image

from subcam.crf.dense_crf import dense_crf, dense_crf_many
from subcam.crf.dense_crf_torch import build_batch_lattice, dense_crf_torch
from subcam.crf.lattice import build_lattice
from subcam.crf.settings import CRFSettings
from subcam.errors import SettingsError

SIZES = [(30, 41), (1, 1), (24, 20), (7, 33), (40, 13)]


@pytest.fixture
def unchecked():
    """Calls as a user makes them, without the shape checks of the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def tensors(arrays):
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.data
@pytest.mark.parametrize("name", ["odd_c3", "crop_c7", "crop_c21"])
def test_golden(golden, name):
    case = np.load(golden / f"crf_{name}.npz")
    (marginals,) = dense_crf_torch(*(tensors([case[key]]) for key in ("image", "probs")))
    error = np.abs(marginals.numpy() - case["Q_t10"])
    assert error.max() < 1e-4
    assert error.mean() < 1e-6
    assert (marginals.numpy().argmax(0) == case["Q_t10"].argmax(0)).mean() >= 0.9999


def test_batch_of_unequal_images_is_each_alone():
    images = [smooth_image(*size, seed) for seed, size in enumerate(SIZES)]
    scores = [random_scores(2 + seed, *size, seed) for seed, size in enumerate(SIZES)]
    batch = dense_crf_torch(tensors(images), tensors(scores))
    for image, score, marginals in zip(images, scores, batch, strict=True):
        assert marginals.shape == score.shape
        assert marginals.dtype == torch.float32
        np.testing.assert_allclose(marginals, dense_crf(image, score), rtol=0, atol=1e-4)
        np.testing.assert_allclose(marginals.sum(0), 1, atol=1e-6)


def test_sets_share_a_lattice():
    images = [smooth_image(20, 30, 1), smooth_image(18, 10, 2)]
    low, high = random_scores(3, 20, 30, 1), random_scores(3, 20, 30, 2)
    other = random_scores(4, 18, 10)
    together, alone = dense_crf_torch(tensors(images), tensors([np.stack([low, high]), other]))
    np.testing.assert_allclose(together, dense_crf_many(images[0], [low, high]), rtol=0, atol=1e-4)
    np.testing.assert_allclose(alone, dense_crf(images[1], other), rtol=0, atol=1e-4)


def test_plain_lattice_with_other_settings():
    settings = CRFSettings(iterations=3, spatial_sigma=1, bilateral_sigma_xy=7, bilateral_sigma_rgb=30)
    image, scores = random_image(9, 11), random_scores(3, 9, 11)
    (marginals,) = dense_crf_torch(tensors([image]), tensors([scores]), settings=settings)
    np.testing.assert_allclose(marginals, plain_dense_crf(image, scores, settings), rtol=0, atol=1e-4)


def test_one_class_and_empty_batch():
    (marginals,) = dense_crf_torch(tensors([random_image(4, 5)]), [torch.full((1, 4, 5), 0.2)])
    np.testing.assert_array_equal(marginals, 1)
    assert dense_crf_torch([], []) == []


@pytest.mark.parametrize("sigmas", [(3.0, 3.0), (80.0, 80.0, 13.0, 13.0, 13.0)])
def test_row_sums_and_vertices_are_those_of_the_cpu(sigmas):
    images = [random_image(21, 17, 1)[..., : len(sigmas) - 2], random_image(16, 16, 2)[..., : len(sigmas) - 2]]
    batch = build_batch_lattice(tensors(images), sigmas)
    singles = [build_lattice(image, sigmas) for image in images]
    assert abs(batch.neighbours.shape[2] - sum(single.num_vertices for single in singles)) <= 4  # ties of rounding
    ones = [np.ones((image.shape[0] * image.shape[1], 1), np.float32) for image in images]
    row_sums = np.concatenate([lattice_filter(single, one) for single, one in zip(singles, ones, strict=True)])
    np.testing.assert_allclose(batch.filter(torch.ones(len(row_sums), 1)), row_sums, rtol=1e-4)


def test_low_precision_scores():
    image, scores = random_image(12, 13), random_scores(3, 12, 13)
    (marginals,) = dense_crf_torch(tensors([image]), [torch.from_numpy(scores).bfloat16()])
    np.testing.assert_allclose(
        marginals, dense_crf(image, torch.from_numpy(scores).bfloat16().float().numpy()), rtol=0, atol=1e-4
    )


def test_unusable_scores_name_the_image():
    images, scores = [random_image(4, 5)] * 2, [random_scores(2, 4, 5), random_scores(2, 4, 5)]
    scores[1][0, 1, 1], scores[1][1, 2, 2] = np.nan, -1
    with pytest.raises(ValueError, match="image 1 of the batch, got 1 not finite, 1 negative"):
        dense_crf_torch(tensors(images), tensors(scores))


def test_wrong_shapes(unchecked):
    image, scores = torch.zeros(4, 5, 3, dtype=torch.uint8), torch.ones(2, 4, 5)
    with pytest.raises(ValueError, match=r"images\[0\]: expected uint8, got float32"):
        dense_crf_torch([image.float() + 0.5], [scores])
    with pytest.raises(ValueError, match=r"h, w = 4, 5, got torch.float32 \[2, 5, 4\]"):
        dense_crf_torch([image], [scores.mT])
    with pytest.raises(ValueError, match="probabilities for 1 images, got them for 2"):
        dense_crf_torch([image], [scores, scores])


def test_too_many_lattice_points():
    image, scores = random_image(4, 5), random_scores(2, 4, 5)
    tight = CRFSettings(bilateral_sigma_rgb=0.05)
    with pytest.raises(SettingsError, match="Use fewer at a time"):
        dense_crf_torch(tensors([image] * 60), tensors([scores] * 60), settings=tight)


@pytest.mark.gpu
def test_gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    image, scores = random_image(30, 41), random_scores(3, 30, 41)
    (marginals,) = dense_crf_torch([torch.from_numpy(image).cuda()], [torch.from_numpy(scores).cuda()])
    assert marginals.is_cuda
    np.testing.assert_allclose(marginals.cpu(), dense_crf(image, scores), rtol=0, atol=1e-4)
