"""A file that Pillow hands to another program, and a stand-in for that program which only leaves a mark."""

import os
from pathlib import Path

import pytest

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 16\n%%EndComments\nshowpage\n%%EOF\n"
"""A blank page of 24 x 16 pixels."""


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a program called gs first on the PATH; returns the mark that it leaves when it is started."""
    from PIL import EpsImagePlugin

    mark, program = folder / "gs-was-started", folder / "programs" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {mark}\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # it looks for it once a process
    return mark
