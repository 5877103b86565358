"""No file starts a program: PostScript under the names of images is refused by every command that reads images.

That no line of the source opens an image in another way is held by `test_architecture`.
"""

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.export.made_masks import write_made
from tests.foreign_program import POSTSCRIPT, stand_in
from tests.mistakes import IMAGES, PREDICT, RUN, model, rows

from subcam import cli
from subcam.data.image_file import open_image
from subcam.data.images import read_image, read_indices
from subcam.data.records import IMAGE_SUFFIXES
from subcam.errors import BadInputError

NAMES = ("x.jpg", "x.png", "x.tif", "x.eps", "x.webp", "x")


@pytest.fixture(autouse=True)
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stand-in leaves, in a current folder with one good image."""
    monkeypatch.chdir(tmp_path)
    IMAGES.mkdir()
    Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(IMAGES / "a.png")
    return stand_in(tmp_path, monkeypatch)


def test_the_stand_in_is_what_pillow_would_start(mark: Path) -> None:
    """Without which no test here could fail."""
    Path("x.png").write_bytes(POSTSCRIPT)
    with Image.open("x.png") as image, pytest.raises(Exception, match="gs"):
        image.load()
    assert mark.exists()


@pytest.mark.parametrize("name", [*NAMES, *(f"x{suffix.upper()}" for suffix in IMAGE_SUFFIXES)])
def test_no_name_makes_it_an_image(name: str, mark: Path) -> None:
    Path(name).write_bytes(POSTSCRIPT)
    for read in (read_image, read_indices):
        with pytest.raises(BadInputError, match=rf"{name}: expected an image"):
            read(Path(name))
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["PSD", "TGA", "ICO", "DDS", "PCX", "SGI", "IM", "DIB", "QOI", "MSP", "XBM", "SPIDER"])
def test_other_kinds_that_pillow_knows_are_refused(kind: str, tmp_path: Path) -> None:
    """Few people have them, and each is one more decoder for a hostile file."""
    from io import BytesIO

    modes = {"MSP": "1", "XBM": "1", "SPIDER": "F"}
    data = BytesIO()
    if kind == "PSD":
        data.write(b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\2\0\0\0\2\0\x08\0\3" + bytes(40))
    else:
        Image.new(modes.get(kind, "RGB"), (32, 32)).save(data, format=kind)
    with (
        pytest.raises(BadInputError, match=r"a\.png: expected an image"),
        open_image(Path("a.png"), data=data.getvalue()),
    ):
        pass


COMMANDS = {"run": (RUN, 2), "check": ("data check images", 2), "predict": (PREDICT, 0)}
"""With their exit status: a bad image does not end a prediction."""


@pytest.mark.parametrize("name", ["x.png", "x.eps"])
@pytest.mark.parametrize(("command", "status"), COMMANDS.values(), ids=COMMANDS)
def test_commands(command: str, status: int, name: str, mark: Path) -> None:
    (IMAGES / name).write_bytes(POSTSCRIPT)
    rows("image,labels", "a.png,cat", f"{name},dog")()
    model()
    assert cli.main(shlex.split(command)) == status
    assert not mark.exists()


@pytest.mark.parametrize("name", ["label-studio", "coco-rle", "voc", "cvat", "coco-panoptic", "cvat-masks"])
def test_export_and_evaluate(name: str, mark: Path) -> None:
    """Of an image, which export measures, and of a mask."""
    write_made(Path("p"), unlabelled=False, names=("person", "cat", "sheep"))
    for path in Path("p/images").iterdir():
        path.write_bytes(POSTSCRIPT)
    words = ["export", name, "--predictions", "p", "--out", "o.tgz" if name == "voc" else "o"]
    assert cli.main([*words, "--images", "p/images"]) == cli.EXIT_USER
    for path in Path("p/masks").iterdir():
        path.write_bytes(POSTSCRIPT)
    assert cli.main(words) == cli.EXIT_USER
    assert cli.main(["evaluate", "--predictions", "p/masks", "--truth", "p/masks"]) == cli.EXIT_USER
    assert not mark.exists()
