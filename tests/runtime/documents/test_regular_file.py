"""What is no file is refused at once, wherever a file is read: nothing waits for a pipe."""

import os
import shlex
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.export.made_masks import write_made
from tests.mistakes import IMAGES, PREDICT, RUN, TABLE, file, mask, model, rows, write_tar

from subcam import cli
from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import open_file, read_bytes
from subcam.runtime.files import file_digest, open_arrays, read_json


def folder(path: Path) -> None:
    path.mkdir(parents=True)


def link_to_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # the paths of sockets are short
        server.bind(path.name)
        os.chdir(here)


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (os.mkfifo, "a pipe"),
    "folder": (folder, "a folder"),
    "socket": (bound, "a socket"),
    "device": (link_to_device, "a device"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_file_is_said(tmp_path: Path, kind: str) -> None:
    make, words = KINDS[kind]
    path = tmp_path / "x.json"
    make(path)
    for read in (read_bytes, file_digest, read_json):
        with pytest.raises(BadInputError, match=rf"x\.json: expected a file, got {words}; name the file itself"):
            read(path)
    with pytest.raises(BadInputError, match="x"), open_arrays(path, what="maps"):
        pass


def test_a_file_is_read_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"whole")
    (tmp_path / "b").symlink_to("a")
    assert read_bytes(tmp_path / "b") == b"whole"
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "c")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    IMAGES.mkdir()
    for name in "ab":
        Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(IMAGES / f"{name}.png")
    rows("image,labels", "a.png,cat", "b.png,dog")()


def nothing() -> None:
    pass


def shards() -> None:
    TABLE.unlink()
    write_tar(IMAGES / "train.tar", {"c.png": b"x", "c.txt": b"cat"})


def coco() -> None:
    TABLE.unlink()
    file("images/annotations/instances_train.json", "{}")()


def voc() -> None:
    for name in ("JPEGImages/a.jpg", "Annotations/a.xml", "ImageSets/Segmentation/train.txt"):
        file(f"images/{name}", "a")()


def predictions() -> None:
    write_made(Path("p"), unlabelled=False)


def finished() -> None:
    file("r/run.json", "{}")()


PLACES = {
    "image": (nothing, RUN, "images/a.png"),
    "mask": (mask(), RUN, "images/masks/a.png"),
    "table": (nothing, RUN, "images/labels.csv"),
    "classes": (file("images/classes.txt", "cat\ndog"), RUN, "images/classes.txt"),
    "tar": (shards, RUN, "images/train.tar"),
    "coco": (coco, RUN, "images/annotations/instances_train.json"),
    "annotation": (voc, RUN, "images/Annotations/a.xml"),
    "split": (voc, RUN, "images/ImageSets/Segmentation/train.txt"),
    "voc image": (voc, RUN, "images/JPEGImages/a.jpg"),
    "weights": (file("w.safetensors", "x"), f"{RUN} --network.weights w.safetensors", "w.safetensors"),
    "torch's weights": (file("w.pth", "x"), f"{RUN} --network.weights w.pth", "w.pth"),
    "mxnet's weights": (file("w.params", "x"), f"{RUN} --network.name resnet38 --network.weights w.params", "w.params"),
    "image to predict": (model, PREDICT.replace("images", "images/a.png"), "images/a.png"),
    "list": (model, f"{PREDICT.replace('images', '')} --list list.txt", "list.txt"),
    "config": (model, PREDICT, "model/config.json"),
    "weights to predict": (model, PREDICT, "model/model.safetensors"),
    "mask to evaluate": (predictions, "evaluate --predictions p --truth p", "p/masks/2008_000001.png"),
    "names": (predictions, "evaluate --predictions p --truth p --classes n.csv", "n.csv"),
    "numbers": (predictions, "export coco-rle --predictions p --out o --numbers n.json", "n.json"),
    "record": (finished, "report r", "r/run.json"),
    "labels": (nothing, "data labels x.json --images images --out l.csv", "x.json"),
    "check": (nothing, "data check images", "images/labels.csv"),
}


LEFT_OUT = {("p/masks/2008_000001.png", "folder")}
"""Of a folder of masks, the files are counted; folders in it are folders."""


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("kind", ["pipe", "folder"])
@pytest.mark.parametrize(("prepare", "command", "place"), PLACES.values(), ids=PLACES)
def test_every_place_refuses_what_is_no_file(
    prepare: Callable[[], object], command: str, place: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare()
    path = Path(place)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    KINDS[kind][0](path)
    status = cli.main(shlex.split(command))
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert status == (cli.EXIT_OK if (place, kind) in LEFT_OUT else cli.EXIT_USER)
