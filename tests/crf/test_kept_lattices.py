"""Spatial lattices are built once for each size, as long as they fit into the memory that they may take."""

import threading

import numpy as np
import pytest

from subcam.crf.dense_crf import KEPT_BYTES, SPATIAL, DenseCRF
from subcam.crf.kept_lattices import KeptLattices, Shape
from subcam.crf.lattice import Lattice, build_lattice
from subcam.crf.settings import CRFSettings


def of_bytes(count: int) -> Lattice:
    """A lattice of `count` bytes that is nothing else."""
    assert count % 4 == 0
    empty = np.zeros(0, np.float32)
    return Lattice(vertices=np.zeros(count // 4, np.int32), weights=empty, neighbours=np.zeros((3, 0, 2), np.int32))


@pytest.fixture
def built() -> list[Shape]:
    return []


@pytest.fixture
def kept(built: list[Shape]) -> KeptLattices:
    """Of a shape h x w one of 4 h w bytes; 100 bytes may be kept."""

    def build(shape: Shape) -> Lattice:
        built.append(shape)
        return of_bytes(4 * shape.height * shape.width)

    return KeptLattices(build, most_bytes=100)


def test_a_shape_is_built_once(kept: KeptLattices, built: list[Shape]) -> None:
    first = kept.of(Shape(2, 3, 1.0))
    assert kept.of(Shape(2, 3, 1.0)) is first
    assert kept.of(Shape(3, 2, 1.0)) is not first
    assert kept.of(Shape(2, 3, 1.5)) is not first
    assert len(built) == 3


def test_those_asked_for_longest_ago_go(kept: KeptLattices, built: list[Shape]) -> None:
    shapes = [Shape(2, 5, 1.0), Shape(5, 1, 1.0), Shape(1, 10, 1.0)]  # 40, 20, 40 bytes: just fit
    lattices = [kept.of(shape) for shape in shapes]
    assert kept.of(shapes[0]) is lattices[0]
    kept.of(Shape(1, 1, 1.0))
    assert shapes[1] not in kept
    assert all(shape in kept for shape in (shapes[0], shapes[2], Shape(1, 1, 1.0)))
    assert len(built) == 4


def test_one_that_is_too_large_is_built_each_time_and_drives_none_out(kept: KeptLattices, built: list[Shape]) -> None:
    small, large = Shape(5, 5, 1.0), Shape(2, 13, 1.0)
    kept.of(small)
    assert kept.of(large).nbytes == 104
    kept.of(large)
    assert built == [small, large, large]
    assert len(kept) == 1
    assert small in kept


def test_cleared_it_builds_anew(kept: KeptLattices, built: list[Shape]) -> None:
    kept.of(Shape(2, 3, 1.0))
    kept.clear()
    assert len(kept) == 0
    kept.of(Shape(2, 3, 1.0))
    assert len(built) == 2


def test_several_threads_may_ask(built: list[Shape]) -> None:
    kept = KeptLattices(lambda shape: of_bytes(4 * shape.height), most_bytes=40)
    failed: list[BaseException] = []

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for height in rng.integers(1, 6, 400).tolist():
                assert kept.of(Shape(height, 1, 1.0)).nbytes == 4 * height
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert 0 < len(kept) <= 5


def test_the_crf_s_are_those_of_its_size_and_a_megapixel_is_kept() -> None:
    settings = CRFSettings(spatial_sigma=1.0)
    image = np.random.default_rng(0).integers(0, 256, (33, 20, 3), np.uint8)
    crf = DenseCRF(image, settings=settings)
    assert Shape(33, 20, 1.0) in SPATIAL
    assert SPATIAL.of(Shape(33, 20, 1.0)) is crf._spatial
    new = build_lattice(np.empty((33, 20, 0), np.uint8), (1.0, 1.0))
    for name in ("vertices", "weights", "neighbours"):
        np.testing.assert_array_equal(getattr(crf._spatial, name), getattr(new, name))
    assert new.nbytes == sum(getattr(new, name).nbytes for name in ("vertices", "weights", "neighbours"))
    assert 1e6 * new.nbytes / (33 * 20) < 1.1 * KEPT_BYTES
