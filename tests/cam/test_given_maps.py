"""Response maps of other programs: every way to write them is read as the same, and what cannot be meant is refused."""

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from subcam.cam.given_maps import maps_digest, open_maps
from subcam.cam.map_files import ResponseMaps, maps_path, write_response_maps
from subcam.errors import BadInputError

CLASSES = ("cat", "cow", "dog")
LABELS = (0, 2)
SIZE = (40, 60)
rng = np.random.default_rng(0)
STORED = rng.integers(0, 256, (3, 10, 15)).astype(np.uint8)
MAPS = STORED / np.float32(255)
CAT, COW, DOG = MAPS


def read(folder: Path, channels: tuple[str, ...] = ()) -> ResponseMaps:
    given = open_maps(folder, channels=channels, class_names=CLASSES)
    (path,) = given.files(["a"], needed=[True]).values()
    return given.read(path, class_names=CLASSES, labels=LABELS, size=SIZE)


def of_a_stage(folder: Path) -> None:
    own = ResponseMaps(
        maps=STORED[[0, 2]],
        classes=np.array(LABELS, np.int16),
        subcategory_maps=np.zeros((2, 0, 10, 15), np.uint8),
        logits=np.zeros(3, np.float32),
        size=SIZE,
    )
    write_response_maps(maps_path(folder, "a"), own)


@pytest.mark.parametrize(
    ("write", "channels"),
    [
        (lambda folder: np.save(folder / "a.npy", MAPS), ()),
        (lambda folder: np.save(folder / "a.npy", (MAPS.astype(np.float64) - 0.4 / 255).clip(0)), ()),
        (lambda folder: np.save(folder / "a.npy", MAPS[[0, 2]]), ()),
        (lambda folder: np.save(folder / "a.npy", MAPS[::-1]), ("dog", "cow", "cat")),
        (lambda folder: np.save(folder / "a.npy", np.stack([DOG, -CAT, CAT])), ("dog", "background", "cat")),
        (lambda folder: np.savez(folder / "a.npz", MAPS), ()),
        (lambda folder: np.savez(folder / "a.npz", **{"0": CAT, "2": DOG}), ()),
        (lambda folder: np.savez(folder / "a.npz", cat=CAT, dog=DOG), ()),
        (lambda folder: np.savez_compressed(folder / "a.npz", **{"7": CAT, "11": DOG}), tuple("bcdefghCijkDl")),
        (of_a_stage, ()),
    ],
    ids=[
        "all",
        "float64",
        "own labels",
        "other order",
        "background",
        "npz",
        "indices",
        "names",
        "among others",
        "stage",
    ],
)
def test_ways_to_write_the_same(write: Callable, channels: tuple[str, ...], tmp_path: Path) -> None:
    channels = tuple({"C": "cat", "D": "dog"}.get(name, name) for name in channels)
    write(tmp_path)
    maps = read(tmp_path, channels)
    assert (maps.maps == STORED[[0, 2]]).all()
    assert maps.classes.tolist() == list(LABELS)
    assert maps.size == SIZE


def test_a_legend_in_the_folder_says_the_order(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MAPS[::-1])
    (tmp_path / "classes.txt").write_text("dog\ncow\ncat\n")
    assert (read(tmp_path).maps == STORED[[0, 2]]).all()


def negative(one: np.ndarray) -> np.ndarray:
    return np.where(np.arange(15) == 3, -0.25, one)


def npy(maps: object) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "a.npy", maps, allow_pickle=True)  # type: ignore[arg-type]


def npz(*several: np.ndarray, **by_name: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.savez(folder / "a.npz", *several, **by_name)


def bytes_in(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def both(folder: Path) -> None:
    npy(MAPS)(folder)
    npz(MAPS)(folder)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (npy(np.where(MAPS > 0.5, np.nan, MAPS)), r"a\.npy: .*map of cat, got .* not finite; .*nan_to_num"),
        (npy(negative(MAPS)), r"a\.npy: expected values in 0\.\.1 .* got -0\.25; take the positive"),
        (npy(MAPS * 3), r"a\.npy: expected values in 0\.\.1 .*; divide each map by its maximum"),
        (npy(STORED), r"a\.npy: expected values in 0\.\.1 .*; divide by 255"),
        (npy(MAPS + 1j), "expected numbers in the map of cat, got complex"),
        (npy(MAPS[:1]), "expected 3 channels.* got 1; say what they are with --maps-classes"),
        (npy(MAPS[[0, 0, 1, 2]]), "got 4; leave out the channel of the background"),
        (npy(np.zeros((3, 60, 40))), "expected maps of height x width .* exchange the axes"),
        (npy(MAPS[:, :0]), "expected maps with values"),
        (npy(CAT), "expected maps under the names of classes"),
        (npz(cat=CAT), "expected a map of dog, which the image's labels name, got maps of cat"),
        (npz(cat=CAT, horse=DOG), "got the array 'horse'"),
        (npz(cat=CAT, dog=DOG[:2]), "expected maps of one size, got 10 x 15, 2 x 15"),
        (npz(cat=CAT, dog=DOG[0]), "expected a map of height x width under 'dog'"),
        (npy({0: CAT}), r"pickled Python object.*never read.*own-maps-and-masks\.md"),
        (bytes_in("a.npy", pickle.dumps({0: CAT})), "pickled Python object"),
        (bytes_in("a.npy", b"\x93NUMPY\x01\x00 nonsense"), r"a\.npy: expected response maps as \.npy or \.npz"),
        (bytes_in("a.npz", b"PK\x03\x04 nonsense"), r"a\.npz: expected "),
        (bytes_in("a.txt", b""), "expected response maps of each of 1 images .* none for 1: a; make them"),
        (both, "maps of one image; take one away"),
    ],
)
def test_what_cannot_be_meant_is_refused(write: Callable, said: str, tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(BadInputError, match=said):
        read(tmp_path)


def test_an_object_is_never_unpickled(tmp_path: Path) -> None:
    class Marks:
        def __reduce__(self) -> tuple[Callable, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    np.savez(tmp_path / "a.npz", cat=np.array([Marks()], object))
    with pytest.raises(BadInputError, match="never read"):
        read(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_missing_maps_are_counted_and_three_named(tmp_path: Path) -> None:
    given = open_maps(tmp_path, channels=(), class_names=CLASSES)
    with pytest.raises(BadInputError, match=r"each of 5 images .* got none for 4: a, b, c, \.\.\.; make them"):
        given.files(list("abcde"), needed=[True] * 4 + [False])


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", MAPS)
    first = maps_digest(tmp_path)
    (tmp_path / "notes.md").touch()
    assert maps_digest(tmp_path) == first
    (tmp_path / "a.npy").rename(tmp_path / "b.npy")
    second = maps_digest(tmp_path)
    np.save(tmp_path / "b.npy", MAPS**2)
    third = maps_digest(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\n")
    assert len({first, second, third, maps_digest(tmp_path)}) == 4


@pytest.mark.parametrize("kind", ["psa", "irn"])
def test_the_converter_of_the_page_does_its_work(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a dict of maps as psa and SEAM save it, and on one as IRN and ReCAM do."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "own-maps-and-masks.md").read_text("utf-8")
    (code,) = re.findall(r"```python no-run\n(import sys\n.*?)```", page, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    saved = {0: CAT, 2: DOG}
    if kind == "irn":
        saved = {"keys": torch.tensor([0, 2]), "cam": torch.zeros(2, 3, 4), "high_res": np.stack([CAT, DOG])}
    (tmp_path / "saved").mkdir()
    np.save(tmp_path / "saved" / "a.npy", saved, allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(BadInputError, match="convert it to npz"):
        read(tmp_path / "saved")
    monkeypatch.setattr("sys.argv", ["convert.py", str(tmp_path / "saved"), str(tmp_path / "maps")])
    exec(compile(code, "convert.py", "exec"), {})
    assert (read(tmp_path / "maps").maps == STORED[[0, 2]]).all()


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", np.zeros((3, 400, 400)))
    monkeypatch.setattr("subcam.cam.given_maps._MOST_BYTES", 1 << 20)
    with pytest.raises(BadInputError, match=r"a\.npz: expected at most .* of maps, got 3,840,128 bytes"):
        read(tmp_path)
