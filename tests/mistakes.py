"""What goes wrong on a disk before a wrong command is given: pieces that tables of mistakes are put together from."""

import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tests.predict.saved_network import save_tiny_network

from subcam.data.images import voc_palette, write_mask

IMAGES = Path("images")
TABLE = IMAGES / "labels.csv"
RUN = (
    "run toy --data images --out out --machine.accelerator cpu --machine.workers 0 --machine.threads 1 --rounds 0"
    " --no-control --classify.epochs 0 --refine.rounds none --segment.train-on"
)
"""Stops after the plain classifier, which is not trained: a mistake is found before, or in it."""

TIMM = f"{RUN} --network.name mobilenetv2_100"
PREDICT = "predict model images --out masks --accelerator cpu --threads 1"


def rows(*lines: str) -> Callable[[], object]:
    return lambda: TABLE.write_text("\n".join(lines) + "\n")


def classes(*names: str) -> Callable[[], object]:
    return lambda: (IMAGES / "classes.txt").write_text("\n".join(names) + "\n")


def mask(value: int = 1, size: tuple[int, int] = (16, 24)) -> Callable[[], object]:
    return lambda: write_mask(IMAGES / "masks" / "a.png", np.full(size, value, np.uint8), palette=voc_palette())


def masks(folder: str, names: str, value: int = 1, size: tuple[int, int] = (8, 8)) -> Callable[[], object]:
    def write() -> None:
        for name in names:
            write_mask(Path(folder, f"{name}.png"), np.full(size, value, np.uint8), palette=voc_palette())

    return write


def file(path: str, text: str = "") -> Callable[[], object]:
    def write() -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)

    return write


def cut(path: str, *, keep: float = 0.5) -> Callable[[], object]:
    def shorten() -> None:
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: int(keep * len(whole))])

    return shorten


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def jpeg(path: str) -> Callable[[], object]:
    return lambda: Image.effect_noise((200, 200), 50).save(path, format="JPEG")


def model() -> None:
    save_tiny_network(Path("model"))


def config(**changed: object) -> Callable[[], object]:
    path = Path("model/config.json")
    return lambda: path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def classifier() -> None:
    from subcam.networks.classifier import ClassificationNetwork, ModelConfig
    from subcam.networks.settings import NetworkSettings

    network = NetworkSettings(name="tiny", weights="none")
    ClassificationNetwork(ModelConfig(network=network, class_names=("cat",))).save(Path("model"))


class RunsCode:
    """What a hostile file of weights holds."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch code-was-run",)


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """command: what the person types. prepare: what is wrong on the disk. message: what stands after "error: "."""

    command: str
    message: str
    prepare: tuple[Callable[[], object], ...] = ()
