"""From image to files, one after the other: nothing piles up, and one bad image stops nothing."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from subcam.crf.dense_crf import dense_crf
from subcam.data.images import read_image, voc_palette
from subcam.data.overlay import overlay_mask
from subcam.data.records import Record, Skipped
from subcam.predict import image_stream
from subcam.predict.folder import Row, mask_path, overlay_path, probabilities_path
from subcam.predict.image_stream import Outputs, _batched_with, _Image, predict_each
from subcam.predict.legend import with_legend
from subcam.predict.settings import InferenceSettings
from subcam.predict.tiles import segment_probabilities

NAMES = ("background", "red", "green", "blue")


class ColourNetwork(nn.Module):
    """Class red, green or blue where that colour is the strongest by far; cells are pixels."""

    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        colours = images.float() / 64
        return torch.cat([torch.full_like(colours[:, :1], 2), colours], 1)


@pytest.fixture
def network() -> ColourNetwork:
    return ColourNetwork()


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Record]:
    """An image with a block of each of some colours on black."""

    def write(
        name: str, *, size: tuple[int, int] = (24, 30), colours: tuple[int, ...] = (0, 2), noise: int = 90
    ) -> Record:
        image = np.random.default_rng(len(name)).integers(0, noise, (*size, 3), dtype=np.uint8)
        for place, colour in enumerate(colours):
            image[4:14, 2 + 10 * place : 10 + 10 * place, colour] = 240
        path = tmp_path / "in" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        return Record(name=name, image=path, labels=())

    return write


def run(
    network: nn.Module, records: list[Record], outputs: Outputs, settings: InferenceSettings | None = None
) -> list[Row | Skipped]:
    settings = settings or InferenceSettings()
    return list(predict_each(network, records, outputs, settings=settings, device=torch.device("cpu"), threads=2))


def test_all_that_is_written_of_a_image(network: ColourNetwork, write: Callable, tmp_path: Path) -> None:
    record = write("sub/a")
    outputs = Outputs(out=tmp_path / "out", names=NAMES, probabilities=True)
    assert not outputs.are_written(record)
    (row,) = run(network, [record], outputs)
    assert outputs.are_written(record)
    image = read_image(record.image)
    expected = segment_probabilities(network, torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
    labels = expected.argmax(0)
    assert set(np.unique(labels)) == {0, 1, 3}
    with Image.open(mask_path(tmp_path / "out", "sub/a")) as mask:
        assert (mask.mode, mask.format) == ("P", "PNG")
        assert (np.asarray(mask) == labels).all()
        assert (np.asarray(mask.convert("RGB")) == voc_palette()[labels]).all()
    with np.load(probabilities_path(tmp_path / "out", "sub/a"), allow_pickle=False) as stored:
        assert stored["probabilities"].dtype == np.float16
        assert (stored["probabilities"] == expected.astype(np.float16)).all()
        assert stored["names"].tolist() == list(NAMES)
    shown = np.asarray(Image.open(overlay_path(tmp_path / "out", "sub/a")).convert("RGB")).astype(int)
    wanted = with_legend(overlay_mask(image, labels.astype(np.uint8)), {1: "red", 3: "blue"})
    assert shown.shape == wanted.shape
    assert np.abs(shown - wanted).mean() < 12, "JPEG changes colours a little"
    assert isinstance(row, Row)
    assert row.image == str(record.image)
    assert row.mask == "masks/sub/a.png"
    assert row.classes == f"red {(labels == 1).mean():.2%}; blue {(labels == 3).mean():.2%}"
    assert float(row.seconds) > 0


def test_what_is_not_wanted_is_not_written(network: ColourNetwork, write: Callable, tmp_path: Path) -> None:
    outputs = Outputs(out=tmp_path / "out", names=NAMES, overlays=False)
    run(network, [write("a")], outputs)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")] == [
        "masks/a.png"
    ]


def test_the_crf_is_deeplabs(network: ColourNetwork, write: Callable, tmp_path: Path) -> None:
    record = write("a", noise=160)
    outputs = Outputs(out=tmp_path, names=NAMES, overlays=False)
    run(network, [record], outputs, InferenceSettings(crf=True))
    image = read_image(record.image)
    probabilities = segment_probabilities(network, torch.from_numpy(image).permute(2, 0, 1)[None])[0].numpy()
    expected = dense_crf(
        image,
        probabilities,
        iterations=10,
        spatial_sigma=1,
        spatial_weight=3,
        bilateral_sigma_xy=67,
        bilateral_sigma_rgb=3,
        bilateral_weight=4,
    ).argmax(0)
    found = np.asarray(Image.open(mask_path(tmp_path, "a")))
    assert (found == expected).all()
    assert (found != probabilities.argmax(0)).any(), "a CRF that changes nothing shows nothing"


def test_images_of_one_size_share_a_batch(network: ColourNetwork, write: Callable, tmp_path: Path) -> None:
    records = [write(f"p{index}", size=((20, 30), (30, 20))[index % 2]) for index in range(8)]
    rows = run(network, records, Outputs(out=tmp_path, names=NAMES), InferenceSettings(batch_size=3))
    assert sorted(row.image for row in rows if isinstance(row, Row)) == [str(record.image) for record in records]
    assert sorted(network.batches) == [1, 1, 3, 3]
    for record in records:
        assert Image.open(mask_path(tmp_path, record.name)).size == Image.open(record.image).size


def test_bad_images_are_told_and_stop_nothing(
    network: ColourNetwork, write: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, empty, missing = write("good"), write("empty"), write("missing")
    empty.image.write_bytes(b"")
    missing.image.unlink()
    rows = run(network, [empty, good, missing], Outputs(out=tmp_path, names=NAMES))
    failed = {row.file: row.reason for row in rows if isinstance(row, Skipped)}
    assert "got an empty file" in failed[str(empty.image)]
    assert "no such file" in failed[str(missing.image)]
    assert [row.image for row in rows if isinstance(row, Row)] == [str(good.image)]

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_stream, "write_mask", fail)
    with pytest.raises(OSError, match="No space left"):
        run(network, [good], Outputs(out=tmp_path, names=NAMES))


@pytest.mark.parametrize("crf", [False, True])
def test_many_images_take_no_more_memory_than_a_few(
    write: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crf: bool
) -> None:
    """Counts the decoded images that are alive at once: at most those under way in threads or waiting for a batch."""
    record = write("a", size=(8, 8))
    alive: set[int] = set()
    most: dict[int, int] = {}

    class Watched(np.ndarray):
        """An array whose end can be told."""

    def watched(path: Path, *, data: bytes) -> np.ndarray:
        image = read_image(path, data=data).view(Watched)
        alive.add(id(image))
        weakref.finalize(image, alive.discard, id(image))
        most[count] = max(most.get(count, 0), len(alive))
        return image

    monkeypatch.setattr(image_stream, "read_image", watched)
    settings = InferenceSettings(batch_size=2, crf=crf)
    for count in (24, 72):
        records = [Record(name=f"{count}/{index}", image=record.image, labels=()) for index in range(count)]
        rows = run(ColourNetwork(), records, Outputs(out=tmp_path, names=NAMES, overlays=False), settings)
        assert len(rows) == count
        gc.collect()
        assert alive == set()
    reading, waiting, batch, writing = 4, 8, 2, 4
    assert max(most.values()) <= reading + waiting + batch + writing + 2, "two may be in a generator's hand"


@pytest.mark.parametrize(("side", "batched"), [(1024, True), (1025, False)])
def test_only_small_images_are_batched(side: int, batched: bool) -> None:
    pixels = np.zeros((8, side, 3), np.uint8)
    shape = _batched_with(_Image(record=Record(name="a", image=Path("a.png"), labels=()), image=pixels, sha256=""))
    assert shape == (pixels.shape if batched else None)
