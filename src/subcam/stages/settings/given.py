"""Settings of the stages that take response maps and masks of other programs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from subcam.checks.fields import Settings
from subcam.runtime.run_folder import CONTENT, by_content

# What reads maps and masks is imported when there are some.


def _maps_digest(folder: Path) -> str:
    from subcam.cam.given_maps import maps_digest

    return maps_digest(folder)


def _masks_digest(folder: Path) -> str:
    from subcam.export.mask_folder import masks_digest

    return masks_digest(folder)


def _class_names_in(words: Sequence[str]) -> tuple[str, ...]:
    from subcam.export.mask_folder import class_names_in

    return class_names_in(words)


@dataclass(frozen=True, kw_only=True)
class GivenMapsSettings(Settings):
    """Response maps that are taken in the place of a run's own.

    Attributes:
        folder: a folder with a NAME.npy or NAME.npz for each image, in 0..1; or a run's folder, or that of its stage.
            A run then begins with these maps. Empty to train a classifier and make them.
        classes: the classes in the order of the channels, or a file of them; else the run's, those of classes.txt in
            the folder, or the data set's in its order.
    """

    folder: Annotated[str, tyro.conf.arg(name="maps", prefix_name=False, metavar="DIR")] = field(
        default="", metadata=by_content(_maps_digest)
    )
    classes: Annotated[
        tuple[str, ...], tyro.conf.arg(name="maps-classes", prefix_name=False, metavar="NAME...|FILE")
    ] = field(default=(), metadata={CONTENT: _class_names_in})


@dataclass(frozen=True, kw_only=True)
class GivenMasksSettings(Settings):
    """Masks that are taken in the place of pseudo masks.

    Attributes:
        folder: a folder with an indexed NAME.png for each training image, 255 where nothing is known; or one that
            `predict` wrote, or a run's. A run then begins with training a network on them. Empty to make pseudo masks.
        classes: what the values 1, 2, ... are called, or a file of names; else those of classes.txt or classes.csv in
            the folder, or the data set's in its order.
        unknown: what to do about pixels of a class that the data set does not have: stop, or take them for 255.
    """

    folder: Annotated[str, tyro.conf.arg(name="masks", prefix_name=False, metavar="DIR")] = field(
        default="", metadata=by_content(_masks_digest)
    )
    classes: Annotated[
        tuple[str, ...], tyro.conf.arg(name="masks-classes", prefix_name=False, metavar="NAME...|FILE")
    ] = field(default=(), metadata={CONTENT: _class_names_in})
    unknown: Annotated[Literal["stop", "ignore"], tyro.conf.arg(name="masks-unknown", prefix_name=False)] = "stop"


CORRECTIONS_FOLDER = "corrections"
"""Of a run: what `subcam data corrections` keeps there, and every run in this folder takes."""

NO_CORRECTIONS = "none"
"""In the place of a folder: also those in the run's folder are left out."""


def _corrections_digest(folder: Path) -> str:
    return NO_CORRECTIONS if str(folder) == NO_CORRECTIONS else _masks_digest(folder)


@dataclass(frozen=True, kw_only=True)
class CorrectionSettings(Settings):
    """Masks that people corrected.

    Attributes:
        folder: a folder of masks that people corrected, as `subcam data corrections` writes it; else those in the run's
            own folder, if any, which "none" leaves out. A network learns from them in the place of the pseudo masks,
            and images that are held out are scored against them.
    """

    folder: Annotated[str, tyro.conf.arg(name="corrections", prefix_name=False, metavar="DIR|none")] = field(
        default="", metadata=by_content(_corrections_digest)
    )

    @property
    def named(self) -> str:
        """The folder that is named; "" where none is, or none is to be taken."""
        return "" if self.folder == NO_CORRECTIONS else self.folder
