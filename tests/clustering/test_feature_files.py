"""Features read back from their parts: in memory where they are few, memory-mapped from one file where many."""

from pathlib import Path

import numpy as np
import pytest

from subcam.clustering.feature_files import read_features
from subcam.errors import BadInputError


@pytest.fixture
def parts(tmp_path: Path) -> np.ndarray:
    features = np.random.default_rng(0).random((10, 3), dtype=np.float32)
    for index, part in enumerate(np.split(features, [4, 8])):
        np.save(tmp_path / f"part-{index:05d}.npy", part)
    return features


def test_few_features_are_read_into_memory(parts: np.ndarray, tmp_path: Path) -> None:
    features = read_features(tmp_path)
    np.testing.assert_array_equal(features, parts)
    assert not (tmp_path / "features.npy").exists()


def test_many_features_are_memory_mapped_from_one_file(parts: np.ndarray, tmp_path: Path) -> None:
    features = read_features(tmp_path, mapped_above_bytes=parts.nbytes - 1)
    assert isinstance(features, np.memmap)
    np.testing.assert_array_equal(features, parts)
    np.testing.assert_array_equal(np.load(tmp_path / "features.npy"), parts)
    written = (tmp_path / "features.npy").stat().st_mtime_ns
    np.testing.assert_array_equal(read_features(tmp_path, mapped_above_bytes=0), parts)
    assert (tmp_path / "features.npy").stat().st_mtime_ns == written


def test_a_damaged_part_is_named(parts: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "part-00001.npy").write_bytes(b"not an array")
    with pytest.raises(BadInputError, match=r"part-00001\.npy holds no features"):
        read_features(tmp_path)


def test_a_folder_without_parts_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no features"):
        read_features(tmp_path)
