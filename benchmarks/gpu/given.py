"""What the parts are given, and what of it is missing here."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from subcam.runtime.machine.cores import available_cores
from subcam.runtime.machine.settings import MachineSettings

Case = dict[str, Any]
"""One line of what a part found: "case" names it, the rest is numbers and texts as JSON knows them."""

MOST_DATA_MIB = 60


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a part works with.

    device: "cuda" or "cpu".
    tiny: the smallest networks and images, to see that all of it runs; times and shares say nothing.
    data: a folder in VOC's layout, or None.
    weights: a file of ImageNet weights of `mobilenetv2_100`, or None.
    scratch: a folder for what is not kept.
    note: takes a row at once, where a part makes all of its rows in one call; others it yields.
    """

    device: str
    tiny: bool = False
    data: Path | None = None
    weights: Path | None = None
    scratch: Path = field(default_factory=lambda: Path("runs/gpu"))
    note: Callable[[Case], None] = lambda case: None  # noqa: ARG005

    @property
    def torch_device(self) -> torch.device:
        """As torch knows it."""
        return torch.device(self.device)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is measured."""
        return self.device == "cuda"

    @property
    def machine(self) -> MachineSettings:
        """As a run is told it; the tiny one works on one thread, without processes that decode."""
        if self.tiny:
            return MachineSettings(accelerator=self.device, inference_precision="32-true", threads=1, workers=0)  # type: ignore[arg-type]
        return MachineSettings(accelerator=self.device)  # type: ignore[arg-type]

    def wait(self) -> None:
        """Until the device has done what it was asked."""
        if self.on_gpu:
            torch.cuda.synchronize()


@dataclass(frozen=True, kw_only=True)
class Missing:
    """What is not here. what: its name, and why it counts as missing. costs: the parts, or what of them, it takes."""

    what: str
    costs: tuple[str, ...]


def missing(given: Given) -> Iterator[Missing]:
    """All that is not here and what it costs, said before anything is measured."""
    if given.on_gpu and not torch.cuda.is_available():
        built = (
            f"torch {torch.__version__} was built for {f'CUDA {torch.version.cuda}' if torch.version.cuda else 'CPUs'}"
        )
        yield Missing(what=f"a CUDA device ({built}; look at nvidia-smi)", costs=("all parts",))
    if not given.on_gpu:
        yield Missing(what="a CUDA device, by choice (--device cpu)", costs=("every target",))
    if not given.tiny:
        if given.data is None or not (given.data / "JPEGImages").is_dir():
            what = "the data folder (--data FOLDER)" if given.data is None else f"JPEGImages in {given.data}"
            yield Missing(what=what, costs=("small", "reference"))
        elif (mib := folder_mib(given.data)) > MOST_DATA_MIB:
            yield Missing(what=f"a data folder of {MOST_DATA_MIB} MiB at most (it has {mib:.0f})", costs=())
        if given.weights is None or not given.weights.is_file():
            what = "the weights (--weights FILE)" if given.weights is None else f"the file {given.weights}"
            yield Missing(what=what, costs=("small: without ImageNet's weights its scores say nothing",))
    for package, costs in (
        ("pynvml", ("small, reference: how long the device worked in each stage",)),
        ("triton", ("training: what torch.compile gains",)),
        ("pytest", ("tests",)),
    ):
        if given.on_gpu and importlib.util.find_spec(package) is None:
            yield Missing(what=f"the package {'nvidia-ml-py' if package == 'pynvml' else package}", costs=costs)
    if given.on_gpu and not any(map(shutil.which, ("gcc", "cc", "clang"))):
        yield Missing(what="a C compiler (Triton builds its launchers with it)", costs=("training: torch.compile",))
    if given.on_gpu and available_cores() < 4:
        yield Missing(
            what=f"cores for the input ({available_cores()})", costs=("small: the device waits for decoding",)
        )


def folder_mib(folder: Path) -> float:
    """The size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20
