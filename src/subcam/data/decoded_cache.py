"""Images kept decoded on disk and memory-mapped: training passes over them many times, decoding is done once.

An image takes three bytes a pixel there, ten times its JPEG or more. Which file holds it depends on its path, size and
times of change (`tar_member.stamp_of`), so that an image that was changed is decoded anew.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from subcam.data.images import read_image
from subcam.data.readers.tar_member import stamp_of
from subcam.runtime.files import atomic_write, save_array
from subcam.runtime.machine.settings import MachineSettings


@dataclass(frozen=True, kw_only=True)
class DecodedImages:
    """Decoded images in `folder`; nothing there is ever deleted, and several processes may fill it at once."""

    folder: Path

    def read(self, path: Path) -> UInt8[np.ndarray, "h w 3"]:
        """The image as `read_image` gives it, not writable; decoded and kept if it was not there.

        Raises:
            BadInputError: see `read_image`.
            RunFolderError: the disk is full, or the folder cannot be written.
        """
        kept = self.folder / self._name(path)
        if not kept.is_file():
            image = read_image(path)
            with atomic_write(kept, durable=False) as file:
                save_array(file, image)
        return np.load(kept, mmap_mode="r", allow_pickle=False)

    def _name(self, path: Path) -> str:
        try:
            stamp = str(stamp_of(path))
        except OSError:
            stamp = ""  # read_image says what is wrong
        digest = hashlib.sha256(os.fsencode(f"{path.absolute()} {stamp}")).hexdigest()
        return f"{digest[:2]}/{digest[2:40]}.npy"


def decoded_images(machine: MachineSettings) -> DecodedImages | None:
    """Where this machine keeps decoded images; None where it decodes them each time."""
    return DecodedImages(folder=Path(machine.decoded_cache)) if machine.decoded_cache else None
