"""Labels of positions carried along with a training image's crop: grids of whole images in, grids of crops out."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int16, Integer, UInt8
from torch import Tensor
from torch.utils.data import Dataset

from subcam.data.augmentation import Augmentation, draw_augmentation
from subcam.data.batches.training import Key, TrainingImages
from subcam.errors import SettingsError
from subcam.prototypes.classifier import UNLABELLED


@dataclass(frozen=True, kw_only=True)
class PrototypeTargets:
    """What the positions of the training images show.

    grids: of each image, class times prototypes a class + prototype, or -1 where that is not known.
    sizes: height and width of each upright image.
    """

    grids: tuple[Int16[np.ndarray, "_ _"], ...]
    sizes: tuple[tuple[int, int], ...]


def targets_of_crop(
    grid: Int16[np.ndarray, "_ _"], augmentation: Augmentation, *, cells: tuple[int, int]
) -> Int16[np.ndarray, "{cells[0]} {cells[1]}"]:
    """What the cells of a crop show: the labels of the image's grid at their centres, -1 outside the image.

    Args:
        grid: labels of an image, spread over the whole of it.
        augmentation: how the crop was taken.
        cells: rows and columns of the crop's feature map.
    """
    top, left, height, width = augmentation.taken
    down = (np.arange(cells[0]) + 0.5) * augmentation.crop / cells[0] - augmentation.placed[0]
    across = (np.arange(cells[1]) + 0.5) * augmentation.crop / cells[1] - augmentation.placed[1]
    outside = ((down < 0) | (down >= height))[:, None] | ((across < 0) | (across >= width))
    across = width - across if augmentation.flip else across
    rows = ((top + down) / augmentation.scaled[0] * grid.shape[0]).astype(int).clip(0, grid.shape[0] - 1)
    columns = ((left + across) / augmentation.scaled[1] * grid.shape[1]).astype(int).clip(0, grid.shape[1] - 1)
    return np.where(outside, np.int16(UNLABELLED), grid[np.ix_(rows, columns)])


class PrototypeTrainingImages(Dataset[tuple[Tensor, Tensor]]):
    """Augmented images with their labels, behind which stand the labels of the crop's cells, row by row.

    Args:
        images: the images with image-level labels.
        targets: labels of positions, in the same order.
        cells: rows and columns of a crop's feature map.

    Raises:
        SettingsError: images and grids differ in number.
    """

    def __init__(self, images: TrainingImages, targets: PrototypeTargets, *, cells: tuple[int, int]) -> None:
        if len(images) != len(targets.grids):
            raise SettingsError(
                f"expected one grid of prototype labels an image, got {len(targets.grids)} for {len(images)} images"
            )
        self.images = images
        self.targets = targets
        self.cells = cells
        self.seed = images.seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> tuple[UInt8[Tensor, "3 crop crop"], Integer[Tensor, " columns"]]:
        """The crop of image `index` in `epoch`; its image-level labels and those of its cells."""
        crop, labels = self.images[key]
        epoch, index = key
        # The same chance as the crop's: it depends on these three numbers and the image's size alone.
        rng = np.random.default_rng((self.seed, epoch, index))
        drawn = draw_augmentation(rng, self.targets.sizes[index], self.images.augmentation)
        cells = targets_of_crop(self.targets.grids[index], drawn, cells=self.cells)
        return crop, torch.cat([labels.to(torch.int16), torch.from_numpy(cells).flatten()])
