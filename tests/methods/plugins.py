"""Modules of methods that the tests write, and what they need to be found."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HEAD = "import torch\nfrom subcam import Method\n\n"

MINE = """\
def centre(network, images, labels, settings):
    height, width = images.shape[2:]
    rows, columns = (torch.linspace(-1, 1, side, device=images.device) for side in (height, width))
    map_ = (1 - rows[:, None] ** 2) * (1 - columns**2)
    return [map_.expand(int(own.sum()), height, width) for own in labels]

MINE = Method(name="centre", title="Centre", maps=centre)
"""
"""Whatever the image shows, it is in the middle."""

WriteModule = Callable[..., Path]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteModule:
    """Write a module into the folder that the test is in; forgotten after it."""
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str = MINE, name: str = "own_method") -> Path:
        path = folder / f"{name}.py"
        path.write_text(HEAD + text, "utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
        return path

    return write
