"""Response maps on disk: small, the same when they come back, and named when they are damaged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from subcam.cam.map_files import ResponseMaps, maps_path, read_response_maps, write_response_maps
from subcam.cam.map_grid import coarsen, upsampled
from subcam.errors import BadInputError


def smooth_maps(count: int, height: int, width: int) -> torch.Tensor:
    """Broad bumps in 0..1, as upsampled class activation maps are."""
    y = torch.linspace(0, 3, height)[None, :, None] + torch.arange(count)[:, None, None]
    x = torch.linspace(0, 4, width)[None, None, :]
    return (torch.sin(y) * torch.cos(x)).relu()


@pytest.fixture
def maps() -> ResponseMaps:
    full = smooth_maps(2, 203, 301)
    return ResponseMaps(
        maps=coarsen(full, 4),
        classes=np.array([3, 7], np.int16),
        subcategory_maps=np.stack([coarsen(smooth_maps(5, 203, 301), 4)] * 2),
        logits=np.linspace(-3, 3, 20).astype(np.float32),
        size=(203, 301),
    )


@pytest.mark.parametrize(
    ("grid", "size"),
    [
        ((60, 80), (240, 320)),
        ((51, 76), (203, 301)),
        ((5, 7), (20, 27)),
        ((9, 4), (9, 4)),
        ((1, 1), (3, 2)),
        ((2, 3), (1, 50)),
    ],
)
def test_full_size_equals_torchs_bicubic(grid: tuple[int, int], size: tuple[int, int]) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (3, *grid)).astype(np.uint8)
    maps = ResponseMaps(
        maps=stored,
        classes=np.array([0, 2, 1], np.int16),
        subcategory_maps=stored[:, None],
        logits=np.zeros(3, np.float32),
        size=size,
    )
    expected = upsampled(torch.from_numpy(stored), size).numpy()
    assert maps.full_size().dtype == np.float32
    np.testing.assert_allclose(maps.full_size(), expected, atol=2e-5)
    np.testing.assert_allclose(maps.subcategories_full_size(1), expected[1:2], atol=2e-5)


def test_no_map_has_the_size_of_the_image_too() -> None:
    none = np.zeros((0, 5, 7), np.uint8)
    maps = ResponseMaps(
        maps=none,
        classes=np.zeros(0, np.int16),
        subcategory_maps=none[:, None],
        logits=np.zeros(3, np.float32),
        size=(20, 27),
    )
    assert maps.full_size().shape == (0, 20, 27)


def test_maps_come_back_to_full_size(maps: ResponseMaps) -> None:
    full = smooth_maps(2, 203, 301).numpy()
    assert maps.full_size().shape == full.shape
    assert np.abs(maps.full_size() - full).max() < 0.03
    assert np.abs(maps.full_size() - full).mean() < 0.002
    no_subcategories = np.zeros((2, 0, 203, 301), np.uint8)
    fine = replace(maps, maps=coarsen(torch.from_numpy(full), 1), subcategory_maps=no_subcategories)
    assert np.abs(fine.full_size() - full).max() <= 0.5 / 255 + 1e-6
    assert np.abs(maps.subcategories_full_size(1)[:2] - full).max() < 0.03


def test_what_is_written_is_read(maps: ResponseMaps, tmp_path: Path) -> None:
    path = maps_path(tmp_path, "deep/folder/näme")
    assert path == tmp_path / "maps" / "deep" / "folder" / "näme.npz"
    write_response_maps(path, maps)
    found = read_response_maps(path)
    assert found.size == maps.size
    for name in ("maps", "classes", "subcategory_maps", "logits"):
        mine, theirs = getattr(found, name), getattr(maps, name)
        assert mine.dtype == theirs.dtype
        assert (mine == theirs).all()
    assert list(path.parent.iterdir()) == [path]


def test_an_image_without_labels(tmp_path: Path) -> None:
    nothing = ResponseMaps(
        maps=np.zeros((0, 3, 4), np.uint8),
        classes=np.zeros(0, np.int16),
        subcategory_maps=np.zeros((0, 0, 3, 4), np.uint8),
        logits=np.zeros(2, np.float32),
        size=(9, 13),
    )
    write_response_maps(tmp_path / "a.npz", nothing)
    assert read_response_maps(tmp_path / "a.npz").full_size().shape == (0, 9, 13)


def test_a_tenth_of_what_full_float32_takes(maps: ResponseMaps, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_response_maps(path, replace(maps, subcategory_maps=np.zeros((2, 0, 51, 76), np.uint8)))
    assert path.stat().st_size < 2 * 203 * 301 * 4 / 10


def test_a_damaged_file_is_named(maps: ResponseMaps, tmp_path: Path) -> None:
    """Cut anywhere, or with any byte changed: a clear error, or (where a byte meant nothing) the same maps."""
    path = tmp_path / "a.npz"
    write_response_maps(path, replace(maps, subcategory_maps=np.zeros((2, 0, 51, 76), np.uint8)))
    whole = path.read_bytes()
    named = rf"{path} holds no response maps .*; move it away and run again"
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInputError, match=named):
            read_response_maps(path)
    errors = 0
    for place in range(0, len(whole), 13):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            assert (read_response_maps(path).maps == maps.maps).all()
        except BadInputError as error:
            errors += str(path) in str(error)
    assert errors > 0.8 * len(whole) / 13


@pytest.mark.parametrize("content", [{}, {"maps": np.zeros((1, 2, 2), np.uint8)}, {"size": np.array([object()])}])
def test_other_arrays_are_no_response_maps(tmp_path: Path, content: dict[str, np.ndarray]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **content)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match=rf"{path} holds no response maps"):
        read_response_maps(path)
    with pytest.raises(BadInputError, match=r"missing\.npz holds no response maps"):
        read_response_maps(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"maps": np.full((2, 51, 76), np.nan, np.float32)}, ""),
        ({"maps": np.zeros((2, 51), np.uint8)}, ""),
        ({"maps": np.zeros((3, 51, 76), np.uint8)}, ""),
        ({"classes": np.array([3, 20], np.int16)}, r"2 maps of the classes \[3, 20\] among 20"),
        ({"classes": np.array([-1, 3], np.int16)}, r"2 maps of the classes \[-1, 3\] among 20"),
        ({"classes": np.array([3, 3], np.int16)}, r"2 maps of the classes \[3, 3\] among 20"),
        ({"size": np.array([10**6, 10**6])}, "for an image of"),
        ({"size": np.array([0, 301])}, "for an image of"),
        ({"size": np.array([203])}, "not enough values"),
        ({"subcategory_maps": np.zeros((2, 5, 3, 3), np.uint8)}, ""),
    ],
)
def test_maps_that_do_not_belong_together_are_named(
    tmp_path: Path, maps: ResponseMaps, changed: dict[str, np.ndarray], message: str
) -> None:
    path = maps_path(tmp_path, "a")
    write_response_maps(path, maps)
    read = dict(np.load(path))
    np.savez(path, **{**read, **changed})
    with pytest.raises(BadInputError, match=rf"a\.npz holds no response maps .*{message}"):
        read_response_maps(path)
